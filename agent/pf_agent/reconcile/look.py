"""One look at one main.cf: what it is held against, what it may do, and what is only looked at.

What a look does about drift is `reconcile.py`'s.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from pf_agent.model import (
    ActualState,
    DesiredState,
    Drift,
    Emit,
    Event,
    Outcome,
    Record,
    Result,
)
from pf_agent.reconcile.plan import Plan, plan
from pf_agent.reconcile.ports import Host, Policy, Store
from pf_agent.reconcile.refusal import refusal
from pf_agent.reconcile.wishes import applied, differing, unsaid, unserved, withdrawn
from pf_agent.words import sentences
from pf_agent.words.fields import drift_fields

# Somebody could hide what he did behind records that the journal drops for their number
# (RateLimitBurst= in journald.conf(5)).
MOST_RECORDS = 1000

_GLANCES = 20
_GLANCE_SECONDS = 0.005


@dataclass(frozen=True)
class Look:
    """What one look works with. Drift that `last` left standing is not put on record again."""

    host: Host
    desired: DesiredState
    policy: Policy
    store: Store
    emit: Emit
    last: Outcome | None = None

    def plan(self, actual: ActualState) -> Plan:
        """Compare `actual` with what is desired, and work out the right text. Raises HostError."""
        return self.plan_from(actual, self.store.last_good())

    def plan_from(self, actual: ActualState, last_good: bytes | None) -> Plan:
        """The same, where another text is the newest good one. Raises HostError."""
        return plan(self.host, self.desired, actual, last_good, self.policy.own)

    def refusal(self, text: bytes) -> str:
        """Return why Postfix would not run with `text`, "" where it would. Raises HostError."""
        return refusal(self.desired, self.policy.judge(text), self._newly_asked())

    def _newly_asked(self) -> frozenset[str]:
        """Return what the state served with did not ask so, and does not run so already."""
        served, ran_with = self.store.wishes().served, self.store.ran_with()
        if served is None:
            return frozenset()
        return differing(served, self.desired) & unsaid(self.desired.settings, ran_with)

    def closed(self) -> ActualState:
        """Read main.cf; who has it open gets the moment that postconf needs from rename to close.

        Raises HostError.
        """
        actual = self.host.read()
        for _ in range(_GLANCES):
            if not actual.is_open:
                break
            time.sleep(_GLANCE_SECONDS)
            actual = self.host.read()
        return actual

    def is_left(self) -> bool:
        """Whether an earlier exchange left something that is to be taken up."""
        host = self.host
        return not host.is_alone() and (host.late() is not None or host.is_cut_off())

    def at_rest(self, found: Plan) -> Outcome | None:
        """Return the outcome of a look that must change nothing; None where it must."""
        return None if found.drift else self.report(found, self._in_sync(found))

    def report(self, found: Plan, outcome: Outcome) -> Outcome:
        """Put on record, once, what stands there that nobody asked for and is left alone.

        Returns the outcome with it.
        """
        known = {(d.parameter, d.actual) for d in (self.last.reported if self.last else ())}
        new = [drift for drift in found.reported if (drift.parameter, drift.actual) not in known]
        number = self.store.next_cycle() if new else None
        for drift in new[:MOST_RECORDS]:
            text = f"{sentences.drift_sentence(drift)}; it is only reported"
            self.emit(Record(Event.DRIFT_DETECTED, text, number, drift_fields(drift)))
        return replace(outcome, reported=found.reported)

    def cycle_on_record(self, drift: tuple[Drift, ...]) -> int | None:
        """Return the cycle that put this same drift on record and left it standing."""
        last = self.last
        if last is None or last.result not in (Result.OBSERVED, Result.REJECTED, Result.FAILED):
            return None
        return last.cycle if last.drift == drift else None

    def _is_served(self, text: bytes) -> bool:
        ran_with = self.store.ran_with()
        is_known = self.store.pending() is None and ran_with is not None
        return is_known and not unserved(self.desired, text, ran_with or b"")

    def _in_sync(self, found: Plan) -> Outcome:
        """Nothing drifted: main.cf says what is desired, whoever made it say so."""
        text = found.candidate
        policy, store = self.policy, self.store
        wishes = store.wishes()
        is_new = not self.desired.says_the_same(wishes.applied) and not wishes.rejects(self.desired)
        # Who only observes has left in main.cf what is still to go back.
        if policy.own and is_new and not withdrawn(wishes, self.desired):
            new = applied(wishes, self.desired, text)
            # Where nothing is under way and Postfix runs with all of it, it serves with it by now:
            # what is asked for no more shall not come back with the next wish that is rejected.
            store.keep_wishes(new.once_served() if self._is_served(text) else new)
        keeps = policy.own and not policy.observe_only
        if keeps and store.pending() is None and text != store.last_good():
            refused = refusal(self.desired, policy.judge(text))
            if refused:
                return Outcome(Result.IN_SYNC, f"but Postfix would not run: {refused}")
        if found.reported:
            others = sentences.listed(sentences.drifted_names(found.reported))
            return Outcome(Result.IN_SYNC, f"but main.cf also sets {others}")
        return Outcome(Result.IN_SYNC, "")
