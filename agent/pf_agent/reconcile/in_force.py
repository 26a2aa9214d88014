"""What one main.cf must say now: a cycle with it, and its fate once Postfix was started.

The daemon and `apply` share this, and the state on disk, under the agent's lock: what one of them
rejects, the other no longer enforces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from pf_agent.errors import HostError
from pf_agent.maincf.things import things_in
from pf_agent.model import (
    ActualState,
    DesiredState,
    Emit,
    Exposure,
    NotUp,
    Outcome,
    PendingActivation,
    Rejected,
    Result,
    Standing,
    Wishes,
)
from pf_agent.reconcile import wishes
from pf_agent.reconcile.look import Look
from pf_agent.reconcile.plan import plan
from pf_agent.reconcile.ports import Host, Policy, Store
from pf_agent.reconcile.reconcile import reconcile
from pf_agent.reconcile.rollback import Rollback
from pf_agent.words import sentences


@dataclass(frozen=True)
class Refused:
    """A text that main.cf must not become, and the values in it that are newly asked for."""

    text: bytes
    values: tuple[str, ...]


@dataclass
class InForce:
    """The desired state of one instance. `is_there` tells whether a file or address exists."""

    host: Host
    store: Store
    emit: Emit
    is_there: Callable[[str], bool]

    def desired(self, asked: DesiredState | None) -> DesiredState | None:
        """Return what is enforced if the files ask for `asked`; None if nothing is."""
        return wishes.in_force(self.store.wishes(), asked)

    def rejected(self, asked: DesiredState | None) -> Rejected | None:
        """Return why what the files ask for is not in force, None if it is."""
        known = self.store.wishes()
        return known.rejected if known.rejects(asked) else None

    def is_new(self, asked: DesiredState | None) -> bool:
        """Tell whether main.cf has not been made to say it yet."""
        known = self.store.wishes()
        desired = wishes.in_force(known, asked)
        return desired is not None and not desired.says_the_same(known.applied)

    def is_only_wished(self, asked: DesiredState, actual: ActualState) -> bool:
        """Tell whether main.cf differs only in what is newly asked for. Raises HostError."""
        known = self.store.wishes()
        desired = wishes.in_force(known, asked)
        if desired is None:
            return False
        drift = plan(self.host, desired, actual, self.store.last_good()).drift
        found = wishes.marked(drift, known, desired, self.store.pending())
        return bool(found) and all(drift.is_wished for drift in found)

    def cycle(
        self,
        asked: DesiredState,
        policy: Policy,
        last: Outcome | None = None,
        actual: ActualState | None = None,
    ) -> Outcome:
        """Run one cycle; if Postfix refuses what is newly asked for, one with the state before it.

        If the very first desired state did not serve, main.cf is only observed. To be called under
        the agent's lock. Raises HostError.
        """
        if self._has_gone_back(asked, policy):
            actual = None  # main.cf has changed since the caller read it
        known = self.store.wishes()
        desired = wishes.in_force(known, asked)
        if desired is None:
            return reconcile(self._look(asked, replace(policy, observe_only=True), last), actual)
        outcome = reconcile(self._look(desired, policy, last), actual)
        is_new = not desired.says_the_same(known.served)
        if outcome.result is not Result.REJECTED or known.served is None or not is_new:
            return outcome
        changed = tuple(sorted(wishes.differing(known.served, desired)))
        reason = outcome.summary + _beside(desired, changed, outcome.summary)
        refused = Rejected(desired, reason, changed, is_judged=True)
        if known.before:
            # An earlier wish that was applied but never served goes back together with this one.
            self._rollback(policy, outcome.summary).take_back_with_another()
        self.store.keep_wishes(wishes.rejected(self.store.wishes(), refused))
        return self.cycle(asked, policy)

    def _look(self, desired: DesiredState, policy: Policy, last: Outcome | None = None) -> Look:
        return Look(self.host, desired, policy, self.store, self.emit, last)

    def _has_gone_back(self, asked: DesiredState, policy: Policy) -> bool:
        """Revert what is no longer asked for, and what a crash left of a rejected wish.

        Return whether main.cf may have changed. Raises HostError.
        """
        known = self.store.wishes()
        is_cut_off = wishes.is_cut_off(known) and not policy.observe_only
        if is_cut_off:
            self._rollback(policy, "the rollback was interrupted").take_back()
            known = self.store.wishes()
        if known.rejected is not None and not known.rejects(asked):
            self.try_again()  # the files ask for something else, and may ask for it again
            known = self.store.wishes()
        desired = wishes.in_force(known, asked)
        if policy.observe_only or desired is None or not wishes.withdrawn(known, desired):
            return is_cut_off
        self._rollback(policy, "it is no longer asked for").withdraw(desired)
        return True

    def _rollback(self, policy: Policy, reason: str) -> Rollback:
        not_up = NotUp(self.store.pending(), Standing.REJECTED, reason, self.host.read().text)
        return Rollback(self.host, policy, self.store, self.emit, not_up)

    def ended(self, not_up: NotUp, policy: Policy) -> bool:
        """Revert what is to blame for `not_up`; False if nothing is. Raises HostError."""
        rollback = Rollback(self.host, policy, self.store, self.emit, not_up)
        with self.store.lock():
            if not_up.standing is Standing.REJECTED:
                return rollback.take_back(self._missing(not_up)) or rollback.rescue()
            return not_up.standing is Standing.DOWN and rollback.rescue()

    def _missing(self, not_up: NotUp) -> Sequence[str]:
        """Return what the wish names and does not exist."""
        applied = self.store.wishes().applied
        asked = {} if applied is None or not_up.pending is None else applied.settings
        values = [asked[name] for name in (not_up.pending or _NONE).wished if name in asked]
        return [thing for thing in things_in(values) if self._looked_for(thing) is False]

    def _looked_for(self, thing: str) -> bool | None:
        """Tell whether it exists; None if that cannot be told."""
        with suppress(HostError):
            return self.is_there(thing)
        return None

    def reconsider(self, asked: DesiredState | None, policy: Policy) -> bool:
        """Put a rejected state in force again if what it was refused for exists by now.

        Return whether it does. Raises HostError.
        """
        refused = self.rejected(asked)
        if refused is None:
            return False
        if refused.is_judged:
            look = self._look(refused.says, policy)
            is_right = not look.refusal(look.plan(self.host.read()).candidate)
        else:
            is_right = any(map(self._looked_for, refused.missing))
        if is_right:
            self.try_again()
        return is_right

    def refused(self, asked: DesiredState, last: Outcome) -> Refused | None:
        """Return what of `asked` is not in force; None if all is. Raises HostError.

        `last` is the outcome of the last cycle with it: a first state is refused each time.
        """
        if self.rejected(asked) is None and last.result is not Result.REJECTED:
            return None
        new = wishes.differing(self.store.wishes().served, asked)
        values = tuple(asked.settings[name] for name in sorted(new) if name in asked.settings)
        text = self._look(asked, Policy(observe_only=True)).plan(self.host.read()).candidate
        return Refused(text, values)

    def try_again(self) -> None:
        """Put the rejected state in force again, on request. Raises HostError."""
        self.store.keep_wishes(self.store.wishes().tried_again())

    def forget(self) -> None:
        """Forget all wishes: nothing is asked for any more. Raises HostError.

        Whatever is asked for later is new, and would go back to what main.cf says at that time.
        """
        with self.store.lock():
            self.store.keep_wishes(Wishes())

    def find_unserved(self, desired: DesiredState, text: bytes | None) -> tuple[str, ...]:
        """Return the managed parameters for which main.cf differs from what Postfix runs with."""
        served = self.store.ran_with()
        return () if served is None or text is None else wishes.unserved(desired, text, served)

    def mark_unserved(self, parameters: Sequence[str], now: float) -> None:
        """Have Postfix started with main.cf as it is. Raises HostError."""
        number = self.store.next_cycle()
        marker = PendingActivation(number, tuple(parameters), Exposure(now, now, now))
        wished = wishes.wished_of(self.store.wishes(), parameters)
        self.store.mark_pending(replace(marker, wished=wished))


def _beside(desired: DesiredState, changed: Sequence[str], said: str) -> str:
    """Return what else is asked for and waits because of the reported fault, with its places."""
    places = desired.provenance
    others = [f"{n} ({places[n]})" if n in places else n for n in changed if n not in said]
    return f"; not in force until then: {sentences.listed(others, _MOST_SHOWN)}" if others else ""


_MOST_SHOWN = 10
_NONE = PendingActivation(0, (), Exposure(0.0, 0.0))
