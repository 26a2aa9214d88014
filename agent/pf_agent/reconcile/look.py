"""One look at one main.cf: what it is compared with, and the looks that change nothing.

reconcile.py decides what a look does about drift.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, replace

from pf_agent.model import (
    ActualState,
    DesiredState,
    Drift,
    DriftKind,
    Emit,
    Event,
    Outcome,
    Record,
    Result,
)
from pf_agent.reconcile.drift import placed, taken_apart
from pf_agent.reconcile.plan import Plan, plan
from pf_agent.reconcile.ports import Host, Policy, Store
from pf_agent.reconcile.refusal import Refusal, refusal, runs_already
from pf_agent.reconcile.wishes import (
    applied,
    differing,
    still_said,
    unsaid,
    unserved,
    withdrawn,
)
from pf_agent.words import sentences
from pf_agent.words.fields import drift_fields

# A change could hide behind records that the journal drops because there are too many
# (RateLimitBurst= in journald.conf(5)).
MOST_RECORDS = 1000

_GLANCES = 20
_GLANCE_SECONDS = 0.005


def _said(drift: Drift) -> Drift:
    return replace(drift, line=None, is_wished=False)


@dataclass(frozen=True)
class Look:
    """What one look works with. Drift that `last` left in place is not recorded again."""

    host: Host
    desired: DesiredState
    policy: Policy
    store: Store
    emit: Emit
    last: Outcome | None = None

    def plan(self, actual: ActualState) -> Plan:
        """Compare `actual` with the desired state, and compute the right text. Raises HostError."""
        return self.plan_from(actual, self.store.last_good())

    def plan_from(self, actual: ActualState, last_good: bytes | None) -> Plan:
        """Do the same with another text as the latest good one. Raises HostError."""
        return plan(self.host, self.desired, actual, last_good)

    def refusal(self, text: bytes) -> Refusal | None:
        """Return why main.cf must not become `text`, None if it may. Raises HostError."""
        return self._refusal(text, self._newly_asked())

    def _refusal(self, text: bytes, new: Collection[str] = ()) -> Refusal | None:
        found = self.policy.judge(text)
        refused = refusal(self.desired, found, new)
        if refused is None or found.fatal:
            return refused
        # Until Postfix was seen to serve, main.cf as it is counts as what it runs with.
        runs = self.store.ran_with() or self.host.read().text
        if runs is None:
            return refused
        return refusal(self.desired, found, new, runs_already(self.policy.judge(runs)))

    def _newly_asked(self) -> frozenset[str]:
        """Return what the served state did not ask for like this, and does not yet run so."""
        served, ran_with = self.store.wishes().served, self.store.ran_with()
        if served is None:
            return frozenset()
        asked = self.desired
        return differing(served, asked) & unsaid(asked.kind, asked.settings, ran_with)

    def closed(self) -> ActualState:
        """Read main.cf; give a writer the moment that postconf needs from rename to close.

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
        """Whether an earlier exchange left something to finish."""
        host = self.host
        return not host.is_alone() and (host.late() is not None or host.is_cut_off())

    def at_rest(self, found: Plan) -> Outcome | None:
        """Return the outcome of a look that must change nothing; None if it must."""
        return None if found.drift else self.report(found, self._in_sync(found))

    def report(self, found: Plan, outcome: Outcome) -> Outcome:
        """Record, once, what is set there, not desired and left alone.

        Return the outcome including it.
        """
        known = {(d.parameter, d.actual) for d in (self.last.reported if self.last else ())}
        new = [drift for drift in found.reported if (drift.parameter, drift.actual) not in known]
        number = self.store.next_cycle() if new else None
        for drift in new[:MOST_RECORDS]:
            text = f"{sentences.drift_sentence(drift)}; it is only reported"
            self.emit(Record(Event.DRIFT_DETECTED, text, number, drift_fields(drift)))
        return replace(outcome, reported=found.reported)

    def note_wish(
        self, text: bytes | None, number: int | None = None, served: bool = False
    ) -> None:
        """Note that main.cf, which said `text`, is made to say what is desired now.

        What it still says although it is no longer asked for is recorded: in the cycle `number`, or
        in a cycle of its own.
        """
        before = self.store.wishes()
        new = applied(before, self.desired, text)
        self.store.keep_wishes(new.once_served() if served else new)
        fresh = {name: value for name, value in new.left.items() if name not in before.left}
        left = still_said(fresh, self.desired, taken_apart(self.desired.kind, text))
        number = self.store.next_cycle() if left and number is None else number
        for each in left[:MOST_RECORDS]:
            drift = Drift(each.name, DriftKind.UNMANAGED, None, each.value, each.line, True)
            (drift,) = placed(self.desired, [drift])
            what = f"{sentences.left_sentence(each, self.desired)} (line {each.line})"
            self.emit(Record(Event.DRIFT_DETECTED, what, number, drift_fields(drift)))

    def cycle_on_record(self, drift: tuple[Drift, ...]) -> int | None:
        """Return the cycle that recorded this same drift and left it in place.

        In observe mode, that is also the cycle for what remains of the drift.
        """
        last = self.last
        if last is None or last.result not in (Result.OBSERVED, Result.REJECTED, Result.FAILED):
            return None
        is_the_rest = last.result is Result.OBSERVED and bool(drift) and not self.news(drift)
        return last.cycle if is_the_rest or last.drift == drift else None

    def news(self, drift: tuple[Drift, ...]) -> tuple[Drift, ...]:
        """Return the part of this drift not yet recorded in observe mode.

        A moved line is not new, nor is a wish for another parameter.
        """
        last = self.last
        if last is None or last.result is not Result.OBSERVED:
            return drift
        known = set(map(_said, last.drift))
        return tuple(each for each in drift if _said(each) not in known)

    def _is_served(self, text: bytes) -> bool:
        ran_with = self.store.ran_with()
        is_known = self.store.pending() is None and ran_with is not None
        return is_known and not unserved(self.desired, text, ran_with or b"")

    def _in_sync(self, found: Plan) -> Outcome:
        """Return the outcome without drift: main.cf says what is desired, whatever wrote it."""
        text = found.candidate
        policy, store = self.policy, self.store
        wishes = store.wishes()
        is_new = not self.desired.says_the_same(wishes.applied) and not wishes.rejects(self.desired)
        # An agent in observe mode leaves in main.cf what would be reverted.
        if policy.own and is_new and not withdrawn(wishes, self.desired):
            # If nothing is in progress and Postfix runs with all of it, it serves with it by now:
            # what is no longer asked for must not come back with the next rejected wish.
            self.note_wish(text, served=self._is_served(text))
        keeps = policy.own and not policy.observe_only
        if keeps and store.pending() is None and text != store.last_good():
            refused = self._refusal(text)
            if refused:
                return Outcome(Result.IN_SYNC, f"but Postfix would not run: {refused.said}")
        if found.reported:
            others = sentences.listed(sentences.drifted_names(found.reported))
            return Outcome(
                Result.IN_SYNC, f"but {self.desired.document or 'main.cf'} also sets {others}"
            )
        return Outcome(Result.IN_SYNC, "")
