"""One Postfix instance: its main.cf looked at, corrected and activated, and how it stands.

The daemon has one for each instance of the desired state. Each keeps its own files below the
agent's folders, its own marker, and fails and recovers by itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from pf_agent import names, pacing, render
from pf_agent.activation import Activated, Activation, NotUp
from pf_agent.alias_database import AliasDatabase, Rebuild
from pf_agent.aliases import alias_file
from pf_agent.configuration import Configuration
from pf_agent.correction import refusal
from pf_agent.errands import Errands
from pf_agent.errors import HostError, PfAgentError
from pf_agent.exchange import MainCfFile
from pf_agent.journal import Journal
from pf_agent.model import (
    IN_SYNC_DETAIL,
    ActualState,
    DesiredState,
    Event,
    LastDrift,
    Mode,
    Outcome,
    Phase,
    Reason,
    Record,
    Result,
    Status,
    Suspension,
    Trigger,
    Window,
)
from pf_agent.pacing import Backoff, Contest
from pf_agent.plan import CorrectionFailed, Emit, Judge, Policy, plan
from pf_agent.reconcile import reconcile
from pf_agent.rollback import roll_back
from pf_agent.state import State
from pf_agent.systemd import Systemd
from pf_agent.watch import Watch
from pf_agent.writer import Writers

# How soon to look again where main.cf is being saved, and where a writer still has the old one.
_AGAIN_SECONDS = 0.05
_AWAITED_SECONDS = 0.5
# And where it could not be told how things stand.
_UNKNOWN_SECONDS = 5.0
# Somebody wrote main.cf: what is not needed to see what he wrote waits for another look.
URGENT = frozenset({Reason.MAIN_CF, Reason.MAIN_CF_OPEN})
_LOOKS_AT_ALIASES = frozenset({Reason.START, Reason.TIMER, Reason.RELOAD, Reason.ALIASES})


def unit_of(instance: str) -> str:
    """Return the unit to restart: the guide's, or postfix@.service's instance (NEWS.Debian)."""
    if instance == names.DEFAULT_INSTANCE:
        return names.POSTFIX_UNIT
    stem, dot, kind = names.POSTFIX_UNIT.rpartition(".")
    return f"{stem}@{instance}{dot}{kind}"


def emit_of(instance: str, emit: Emit) -> Emit:
    """Return `emit` for an instance: records of another than the default one say which."""
    if instance == names.DEFAULT_INSTANCE:
        return emit

    def emit_named(record: Record) -> None:
        fields = {**record.fields, names.FIELD_INSTANCE: instance}
        emit(replace(record, message=f"{instance}: {record.message}", fields=fields))

    return emit_named


def opens_in(window: Window | None) -> float:
    """Return the seconds until Postfix may be restarted, by this machine's local time."""
    now = time.localtime()
    return pacing.opens_in(window, now.tm_hour * 3600.0 + now.tm_min * 60 + now.tm_sec)


@dataclass(frozen=True)
class Shared:
    """What the instances of one daemon have in common."""

    configuration: Configuration
    systemd: Systemd
    watch: Watch
    writers: Writers
    emit: Emit
    journal: Journal
    post: Callable[[Trigger], None]
    suspension: Callable[[], Suspension | None]
    errands: Callable[[str], Errands]

    def may_only_observe(self) -> bool:
        """Whether main.cf and Postfix are to be left as they are."""
        is_observing = self.configuration.options.mode is Mode.OBSERVE
        return is_observing or self.suspension() is not None


class Instance:
    """One main.cf and the Postfix that obeys it."""

    def __init__(self, name: str, main_cf: str, state: State, shared: Shared) -> None:
        self.name = name
        self.main_cf = main_cf
        self._shared = shared
        self._state = state
        self._emit = emit_of(name, shared.emit)
        self._host = MainCfFile(main_cf)
        self._postfix = shared.errands(os.path.dirname(main_cf))
        self._judge = Judge(self._postfix.judge)
        self._aliases = names.DEFAULT_ALIASES
        self._alias_database = AliasDatabase(
            self._postfix, shared.post, self._emit, shared.journal.note
        )
        self._rebuild: Rebuild | None = None
        shared.watch.follow(name, main_cf, self._aliases)
        self._activation = Activation(
            shared.systemd,
            self._postfix,
            self._alias_database,
            state,
            shared.post,
            self._emit,
            self._postfix.probe,
            alias_file=lambda: self._aliases,
            unit=unit_of(name),
            text=lambda: self._host.read().text,
            way=lambda: shared.configuration.options.way,
            apart=lambda: self._contest.apart if self._contest else 0.0,
            opens_in=lambda: opens_in(shared.configuration.options.window),
        )
        self._contest: Contest | None = None
        self._backoff = Backoff()
        self._next_look = 0.0
        self._failure = ""
        self._saving_since: float | None = None
        self._outcome = Outcome(Result.IN_SYNC, "")
        self._last: LastDrift | None = None
        self._status = Status(Phase.STARTING, time.time())

    def patience(self) -> float:
        """Seconds until a look or a step of the activation is due, whatever comes."""
        due = [self._next_look - time.monotonic()]
        if self._may_activate():
            # While newaliases runs its trigger is waited for, also where the next run would be due.
            again = self._alias_database.patience() if self._rebuild is None else None
            due += [step for step in (self._activation.patience(), again) if step is not None]
        return min(due)

    def turn(self, reasons: set[Reason]) -> None:
        """Look if there is a reason to, and take the activation a step on. Never raises."""
        if time.monotonic() >= self._next_look:
            reasons = reasons | {Reason.TIMER}
        try:
            if reasons:
                self._look(reasons)
            if self._may_activate():
                self._advance()
            if self._rebuild is not None:
                self._end_rebuild(self._rebuild)
            elif self._alias_database.is_due() or reasons & _LOOKS_AT_ALIASES:
                self._look_at_aliases()
        except CorrectionFailed as error:
            self._outcome = error.outcome
            self._fail(str(error))
        except PfAgentError as error:
            self._fail(str(error))
        except OSError as error:  # of a call that none of us expected to fail
            place = error.filename or self.main_cf
            self._fail(f"{place}: {error.strerror or error}; look at its file system")
        except MemoryError:
            self._fail(f"{self.main_cf}: too little memory for a look; raise pf-agent's MemoryMax=")
        except Exception as error:  # noqa: BLE001 - the last catch-all: recorded, then tried again
            self._shared.journal.fault("an error of pf-agent's own", error)
            self._fail(f"an error of pf-agent's own: {error!r}")

    def leave(self) -> None:
        """Look after this instance no more; main.cf stays as it is."""
        self._shared.watch.unfollow(self.name)
        self._host.lay_no_more()

    def judge_ahead(self) -> None:
        """Have the right text judged before it is needed, so that no drift has to wait for that.

        To be called beside the loop. Raises HostError; who needs the answer asks again.
        """
        if self._outcome.result is Result.IN_SYNC:
            self._judge(self._host.read().text or b"")

    # --- a look -------------------------------------------------------------------------------

    def _look(self, reasons: set[Reason]) -> None:
        is_urgent = reasons <= URGENT
        for moved in self._state.prepare(quickly=is_urgent):
            self._shared.journal.note(moved)
        if Reason.START in reasons:
            self._state.tidy()
        if Reason.TIMER in reasons:
            self._reconsider()
        options = self._shared.configuration.options
        desired = self._shared.configuration.desired.get(self.name)
        self._next_look = time.monotonic() + options.look_every_seconds
        with self._state.lock():
            actual = self._host.read()
            if Reason.START not in reasons and self._is_being_saved(actual, options.settle_seconds):
                self._next_look = time.monotonic() + _AGAIN_SECONDS
            elif desired is not None:
                self._note_outcome(self._cycle(desired, self._policy(), actual))
                if self._outcome.result is Result.IN_SYNC and not self._shared.may_only_observe():
                    self._host.lay_ahead(actual)
                if self._host.is_awaited():
                    self._next_look = time.monotonic() + _AWAITED_SECONDS
        self._failure = ""
        self._backoff.reset()

    def _policy(self) -> Policy:
        folder = os.path.dirname(self.main_cf)
        self._shared.writers.follow(folder)
        return Policy(
            self._shared.may_only_observe(),
            judge=self._judge,
            writer=lambda written_at: self._shared.writers.fields(folder, written_at),
        )

    def _reconsider(self) -> None:
        """What Postfix refused may have been right too early: an address that was not up yet."""
        refused = self._shared.configuration.refused(self.name)
        if refused is not None:
            found = plan(self._host, refused, self._host.read(), self._state.last_good())
            if not refusal(refused, self._judge(found.candidate)):
                self._shared.configuration.reconsider(self.name)

    def _is_being_saved(self, actual: ActualState, settle: float) -> bool:
        """Tell whether to give somebody the time to save main.cf, `settle` seconds at most.

        Many editors move the old file away or empty it first, and some write the new one in
        pieces. A look at such an instant would take the half for the whole.
        """
        if actual.text and not actual.is_open:
            self._saving_since = None
            return False
        now = time.monotonic()
        if self._saving_since is None:
            self._saving_since = now
        return now < self._saving_since + settle

    def _cycle(
        self, desired: DesiredState, policy: Policy, actual: ActualState | None = None
    ) -> Outcome:
        """One cycle; where Postfix refuses the desired state, one with the last that it took."""
        outcome = reconcile(
            self._host, desired, policy, self._state, self._emit, self._outcome, actual
        )
        if outcome.result is not Result.REJECTED:
            self._shared.configuration.approve(self.name)
            return outcome
        other = self._shared.configuration.fall_back(self.name, outcome.summary)
        if other is not None:
            return self._cycle(other, policy)
        return outcome

    def _note_outcome(self, outcome: Outcome) -> None:
        self._outcome = outcome
        exposure = outcome.exposure
        self._contest = pacing.contest(self._state.drifts(), time.time())
        if outcome.cycle is None or exposure is None:
            return
        took = None
        if exposure.corrected_at is not None:
            took = max(0.0, exposure.corrected_at - exposure.written_at)  # the clock may be set
        drifted = render.drifted_names(outcome.drift)[: render.MOST_NAMES]
        self._last = LastDrift(outcome.cycle, exposure.seen_at, drifted, took)
        if outcome.result is Result.CORRECTED:
            self._note_contest(outcome.cycle, drifted, exposure.seen_at)

    def _note_contest(self, cycle: int, drifted: tuple[str, ...], at: float) -> None:
        """Where somebody keeps undoing us, say so once, and restart more and more seldom."""
        before = self._contest
        drifts = pacing.noted(self._state.drifts(), drifted, at)
        try:
            self._state.note_drifts(drifts)
        except HostError as error:
            self._shared.journal.note(str(error))  # a contest is noticed a little later
        self._contest = pacing.contest(drifts, time.time())
        if self._contest is not None and before is None:
            text = render.contest_sentence(self._contest)
            fields = {names.FIELD_PARAMETER: ", ".join(self._contest.parameters)}
            self._emit(Record(Event.CONTESTED, text, cycle, fields))

    def _look_at_aliases(self) -> None:
        """Rebuild the alias database where the file changed; that needs no restart."""
        if self._shared.may_only_observe():
            return
        text = self._host.read().text
        self._aliases = alias_file(text or b"")
        moved = self._shared.watch.follow(self.name, self.main_cf, self._aliases)
        if moved:
            self._shared.journal.note(moved)
        is_stale = self._alias_database.trouble or self._postfix.aliases_are_stale(self._aliases)
        if text is None or not is_stale:
            return
        self._rebuild = self._alias_database.rebuild(self._aliases)

    def _end_rebuild(self, rebuild: Rebuild) -> None:
        self._rebuild = None
        had_failed = self._alias_database.trouble
        worked = rebuild.worked()
        if worked is None:
            self._rebuild = rebuild
        elif worked:
            why = "newaliases had failed" if had_failed else f"{rebuild.path} had changed"
            message = f"{why}, newaliases was run"
            self._emit(Record(Event.ACTIVATED, message))
            self._look_at_aliases()  # what changed meanwhile was not looked at

    # --- a step of the activation -------------------------------------------------------------

    def _may_activate(self) -> bool:
        """Postfix is not restarted over a main.cf that was left standing as it should not be.

        Where a text was brought back, that one is what Postfix is to run with.
        """
        settled = self._outcome.result in (Result.IN_SYNC, Result.CORRECTED, Result.ROLLED_BACK)
        return settled and not self._failure and not self._shared.may_only_observe()

    def _advance(self) -> None:
        end = self._activation.advance()
        if isinstance(end, NotUp):
            log = self._postfix.log_tail(end.units, end.since)
            policy = Policy(judge=self._judge)
            with self._state.lock():
                is_back = roll_back(self._host, policy, self._state, self._emit, end, log)
            if is_back:
                self._look(set())
        elif isinstance(end, Activated):
            self._note_activated(end)
            self._look(set())  # the text that Postfix runs with is the last good one

    def _note_activated(self, activated: Activated) -> None:
        pending, exposure = activated.pending, activated.pending.exposure
        if pending.rolled_back:
            return  # that was no correction
        corrected_at = exposure.corrected_at or exposure.seen_at
        self._last = LastDrift(
            pending.cycle,
            exposure.seen_at,
            pending.parameters,
            max(0.0, corrected_at - exposure.written_at),
            max(0.0, activated.at - corrected_at),
        )

    def _fail(self, reason: str) -> None:
        """Put a failed look on record, once, and try again after a while."""
        if reason != self._failure:
            fields = {names.FIELD_REASON: reason}
            self._emit(Record(Event.CORRECTION_FAILED, reason, fields=fields))
        self._failure = reason
        self._next_look = time.monotonic() + self._backoff.grow()

    # --- how it stands ------------------------------------------------------------------------

    def status(self, now: float) -> Status:
        """Return how this instance stands at `now` (seconds since the epoch)."""
        try:
            phase, detail = self._phase()
        except HostError as error:
            phase, detail = Phase.STALLED, str(error)
            # That is how it stands now, and not until the next look, which may be minutes off.
            self._next_look = min(self._next_look, time.monotonic() + _UNKNOWN_SECONDS)
        desired = self._shared.configuration.desired.get(self.name)
        self._status = Status(
            phase,
            self._status.since if phase is self._status.phase else now,
            0 if desired is None else len(desired.parameters()),
            detail,
            last=self._last,
            next_look=now + self._next_look - time.monotonic(),
        )
        return self._status

    def _phase(self) -> tuple[Phase, str]:
        outcome, activation = self._outcome, self._activation
        if self._failure:
            return Phase.STALLED, self._failure
        if self.name not in self._shared.configuration.desired:
            return Phase.OBSERVING, "there never was a good desired state"
        suspension = self._shared.suspension()
        if suspension is not None:
            found = f"; {outcome.summary}" if outcome.summary else ""
            return Phase.SUSPENDED, render.suspension_sentence(suspension) + found
        if outcome.result is Result.OBSERVED:
            return Phase.OBSERVING, outcome.summary
        if outcome.result is Result.REJECTED:
            return Phase.STALLED, outcome.summary
        if activation.failure and not activation.is_under_way():
            how = "runs, which cannot be noted" if activation.is_served() else "is not up"
            trouble = f"Postfix {how} with main.cf as it is: {activation.failure}"
            brought_back = f"; {outcome.summary}" if outcome.result is Result.ROLLED_BACK else ""
            return Phase.STALLED, trouble + brought_back
        if outcome.result is Result.ROLLED_BACK:
            return Phase.STALLED, outcome.summary
        if self._contest is not None:
            return Phase.CONTESTED, render.contest_sentence(self._contest)
        return self._phase_at_peace()

    def _phase_at_peace(self) -> tuple[Phase, str]:
        activation = self._activation
        if self._state.pending() is not None:
            closed = opens_in(self._shared.configuration.options.window)
            due_in = max(activation.patience() or 0.0, closed)
            wait = 0.0 if activation.is_under_way() else due_in
            due = f"not before {render.clock(time.time() + wait)}"
            return Phase.ACTIVATING, due if wait else ""
        if self._shared.configuration.options.mode is Mode.OBSERVE:
            return Phase.OBSERVING, IN_SYNC_DETAIL
        if self._outcome.result is Result.IN_SYNC and self._outcome.summary:
            return Phase.IN_SYNC, self._outcome.summary
        trouble = self._alias_database.trouble
        return Phase.IN_SYNC, f"but the aliases are old: {trouble}" if trouble else ""
