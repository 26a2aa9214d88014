"""One Postfix instance: its main.cf looked at, corrected and activated, and how it stands.

The daemon has one for each instance of the desired state. Each keeps its own files below the
agent's folders, its own marker, and fails and recovers by itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from pf_agent import names
from pf_agent.activation import pacing
from pf_agent.activation.alias_database import RETRY_SECONDS, Rebuild
from pf_agent.activation.aside import Aside
from pf_agent.activation.inquiry import ask_port
from pf_agent.activation.pacing import Backoff
from pf_agent.activation.ports import Turn
from pf_agent.bus.systemd import Systemd
from pf_agent.daemon.parts import Told, emit_of, parts_of
from pf_agent.errors import HostError, PfAgentError
from pf_agent.files.configuration import Configuration
from pf_agent.files.store import FileStore
from pf_agent.maincf.values import takes_a_reload
from pf_agent.model import (
    Activated,
    ActualState,
    Contest,
    DesiredState,
    Emit,
    Event,
    Heard,
    LastDrift,
    Mode,
    NotUp,
    Outcome,
    PendingActivation,
    Phase,
    Reason,
    Record,
    Rejected,
    Result,
    Standing,
    Status,
    Suspension,
    Trigger,
    Window,
)
from pf_agent.postfix.errands import Errands
from pf_agent.reconcile.plan import CorrectionFailed
from pf_agent.reconcile.ports import Policy
from pf_agent.reporting.journal import Journal
from pf_agent.watch.watch import Watch
from pf_agent.watch.writers import Writers
from pf_agent.words import sentences
from pf_agent.words.phase import Facts, phase_of

# How soon to look again where main.cf is being saved, and where a writer still has the old one.
_AGAIN_SECONDS = 0.05
_AWAITED_SECONDS = 0.5
# And where it could not be told how things stand.
_UNKNOWN_SECONDS = 5.0
# What was rejected is tried again when it may work by now, and that is seen by looking.
_RECONSIDER_SECONDS = 30.0
# Somebody wrote main.cf: what is not needed to see what he wrote waits for another look.
URGENT = frozenset({Reason.MAIN_CF, Reason.MAIN_CF_OPEN})
_LOOKS_AT_ALIASES = frozenset({Reason.START, Reason.TIMER, Reason.RELOAD, Reason.ALIASES})
# Somebody else may have started, reloaded or stopped Postfix.
_DOUBTS_POSTFIX = frozenset({Reason.START, Reason.TIMER, Reason.RELOAD, Reason.JOB})


def opens_in(window: Window | None) -> float:
    """Return the seconds until Postfix may be restarted, by this machine's local time."""
    now = time.localtime()
    return pacing.opens_in(window, now.tm_hour * 3600.0 + now.tm_min * 60 + now.tm_sec)


@dataclass(frozen=True)
class Shared:
    """What the instances of one daemon have in common.

    A wish waits for what Postfix's port says before it, and no longer than `ask_seconds`.
    """

    configuration: Configuration
    systemd: Systemd
    watch: Watch
    writers: Writers
    emit: Emit
    journal: Journal
    post: Callable[[Trigger], None]
    suspension: Callable[[], Suspension | None]
    errands: Callable[[str], Errands]
    ask_seconds: float = 2.0
    retry_seconds: float = RETRY_SECONDS  # AliasDatabase's

    def may_only_observe(self) -> bool:
        """Whether main.cf and Postfix are to be left as they are."""
        is_observing = self.configuration.options.mode is Mode.OBSERVE
        return is_observing or self.suspension() is not None


class Instance:
    """One main.cf and the Postfix that obeys it."""

    def __init__(self, name: str, main_cf: str, state: FileStore, shared: Shared) -> None:
        self.name = name
        self.main_cf = main_cf
        self._shared = shared
        self._state = state
        self._emit = emit_of(name, shared.emit)
        self._postfix = shared.errands(os.path.dirname(main_cf))
        told = Told(shared.post, shared.emit, shared.journal.note)
        postfix, systemd = self._postfix, shared.systemd
        parts = parts_of(name, main_cf, state, postfix, systemd, told, shared.retry_seconds)
        self._host, self._judge = parts.host, parts.judge
        self._activation, self._in_force = parts.activation, parts.in_force
        self._alias_database = parts.aliases
        self._rebuild: Rebuild | None = None
        shared.watch.follow(name, main_cf, (names.DEFAULT_ALIASES,))
        self._wish: DesiredState | None = None  # what the port is asked before
        self._asking: Aside[Heard] | None = None
        self._answer_by = 0.0
        self._before: Heard | None = None
        self._in_sync_at: float | None = None
        self._in_sync_text: bytes | None = None
        self._unserved: tuple[str, ...] = ()  # what Postfix runs with is another value of these
        self._reconsider_at = 0.0
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
        if self.rejected() is not None:
            due.append(self._reconsider_at - time.monotonic())
        if self._is_settled() or self._outcome.result is Result.OBSERVED:
            # While newaliases runs its trigger is waited for, also where the next run would be due.
            again = self._alias_database.patience() if self._rebuild is None else None
            due += [step for step in (self._activation.patience(), again) if step is not None]
        return min(due)

    def turn(self, reasons: set[Reason]) -> None:
        """Look if there is a reason to, and take the activation a step on. Never raises."""
        if time.monotonic() >= self._next_look:
            reasons = reasons | {Reason.TIMER}
        if reasons & _DOUBTS_POSTFIX:
            self._activation.doubt()
        try:
            is_due = time.monotonic() >= self._reconsider_at or Reason.RELOAD in reasons
            if is_due and self.rejected() is not None:
                reasons = reasons | self._reconsider()
            if reasons:
                self._look(reasons)
            if self._may_act() or self._shared.may_only_observe():
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
        try:
            self._in_force.forget()
        except HostError as error:
            self._shared.journal.note(str(error))

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
        options = self._shared.configuration.options
        asked = self._shared.configuration.asked.get(self.name)
        self._next_look = time.monotonic() + options.look_every_seconds
        with self._state.lock():
            actual = self._host.read()
            if Reason.START not in reasons and self._is_being_saved(actual, options.settle_seconds):
                self._next_look = time.monotonic() + _AGAIN_SECONDS
            elif asked is not None and self._awaits_answer(asked, actual):
                self._next_look = self._answer_by
            elif asked is not None:
                self._note_outcome(
                    self._in_force.cycle(asked, self._policy(), self._outcome, actual)
                )
                self._unserved = ()
                if self._outcome.result is Result.IN_SYNC:
                    self._note_in_sync(actual)
                if self._host.is_awaited():
                    self._next_look = time.monotonic() + _AWAITED_SECONDS
        self._failure = ""
        self._backoff.reset()

    def _note_in_sync(self, actual: ActualState) -> None:
        self._in_sync_at = time.time()
        if actual.text != self._in_sync_text:
            self._activation.doubt()  # somebody's own change may keep Postfix from serving
        self._in_sync_text = actual.text
        desired = self.desired()
        if desired is not None:
            self._unserved = self._in_force.find_unserved(desired, actual.text)
        if not self._shared.may_only_observe():
            self._host.lay_ahead(actual)

    def _policy(self) -> Policy:
        folder = os.path.dirname(self.main_cf)
        self._shared.writers.follow(folder)
        return Policy(
            self._shared.may_only_observe(),
            judge=self._judge,
            writer=lambda written_at: self._shared.writers.fields(folder, written_at),
            before=self._before,
            in_sync_at=self._in_sync_at,
        )

    def _awaits_answer(self, asked: DesiredState, actual: ActualState) -> bool:
        """Tell whether a wish is to wait for what Postfix's port says before it.

        What the port says after it is held against that. Drift waits for nothing.
        """
        if not self._in_force.is_new(asked) or self._shared.may_only_observe():
            self._wish = self._asking = self._before = None
            return False
        if asked != self._wish:
            self._wish, self._asking, self._before = asked, None, None
            if self._activation.memory.left:  # nobody is there to be asked
                self._before = self._known()
                return False
            if actual.text is None or not self._in_force.is_only_wished(asked, actual):
                return False
            ended = Trigger(Reason.PROBE, instance=self.name)
            self._asking = Aside(
                "ask", lambda: ask_port(self._postfix), lambda: self._shared.post(ended)
            )
            self._answer_by = time.monotonic() + self._shared.ask_seconds
        if self._asking is None:
            return False
        try:
            self._before = self._asking.answer()
        except HostError:
            self._asking = None  # it could not be asked
            return False
        is_in_time = time.monotonic() < self._answer_by
        if self._before is None and not is_in_time:
            self._before = self._known()
        is_to_wait = self._before is None and is_in_time
        if is_to_wait and not self._in_force.is_only_wished(asked, actual):
            is_to_wait = False  # somebody has written main.cf meanwhile
        if not is_to_wait:
            self._asking = None
        return is_to_wait

    def _known(self) -> Heard | None:
        """How Postfix was last found to stand, where its port cannot be asked or takes its time."""
        left = self._activation.memory.left
        if left:
            return Heard(left, greeted=False)
        return Heard() if self._activation.served_last() else None

    def _reconsider(self) -> set[Reason]:
        """What was refused may have been right too early: a file or an address was not there."""
        self._reconsider_at = time.monotonic() + _RECONSIDER_SECONDS
        asked = self._shared.configuration.asked.get(self.name)
        with self._state.lock():
            is_right = self._in_force.reconsider(asked, Policy(judge=self._judge))
        return {Reason.CONFIGURATION} if is_right else set()

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

    def _note_outcome(self, outcome: Outcome) -> None:
        self._outcome = outcome
        exposure = outcome.exposure
        self._contest = pacing.contest(self._state.drifts(), time.time())
        if outcome.cycle is None or exposure is None:
            return
        took = None
        if exposure.corrected_at is not None:
            took = max(0.0, exposure.corrected_at - exposure.written_at)  # the clock may be set
        real = [drift for drift in outcome.drift if not drift.is_wished]
        drifted = sentences.drifted_names(real)[: sentences.MOST_NAMES]
        if not drifted:
            return  # what a person asks for is no drift
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
            text = sentences.contest_sentence(self._contest)
            fields = {names.FIELD_PARAMETER: ", ".join(self._contest.parameters)}
            self._emit(Record(Event.CONTESTED, text, cycle, fields))

    def _look_at_aliases(self) -> None:
        """Rebuild the alias databases whose files changed; that needs no restart."""
        if self._shared.may_only_observe():
            return
        text = self._host.read().text
        if text is None:
            return
        watched = self._alias_database.follow(text)
        moved = self._shared.watch.follow(self.name, self.main_cf, watched)
        if moved:
            self._shared.journal.note(moved)
        stale = self._alias_database.stale()
        if stale:
            self._rebuild = self._alias_database.rebuild(stale)

    def _end_rebuild(self, rebuild: Rebuild) -> None:
        self._rebuild = None
        if rebuild.worked() is None:
            self._rebuild = rebuild
        else:
            self._look_at_aliases()  # what changed meanwhile was not looked at

    # --- a step of the activation -------------------------------------------------------------

    def _is_settled(self) -> bool:
        """Postfix is not restarted over a main.cf that was left standing as it should not be."""
        return self._outcome.result in (Result.IN_SYNC, Result.CORRECTED) and not self._failure

    def _may_act(self) -> bool:
        """Where the first state that was ever asked for was taken back, Postfix is started with
        what was there before, and from then on only looked at."""
        if self._shared.may_only_observe() or self._failure:
            return False
        pending = self._state.pending()
        return self._is_settled() or (pending is not None and pending.rolled_back)

    def _turn(self) -> Turn:
        options = self._shared.configuration.options
        return Turn(
            may_act=self._may_act(),
            is_good=self._is_settled(),
            way=options.way,
            apart=self._contest.apart if self._contest else 0.0,
            opens_in=opens_in(options.window),
        )

    def _advance(self) -> None:
        turn = self._turn()
        end = self._activation.advance(turn)
        if isinstance(end, NotUp) and turn.may_act:
            self._mend(end)
        elif isinstance(end, Activated):
            if end.pending is not None:
                self._note_activated(end.pending, end.at)
            self._look(set())  # what was only waiting for Postfix to serve
        if turn.may_act and self._activation.is_at_rest():
            self._activate_the_unserved()

    def _mend(self, end: NotUp) -> None:
        """Postfix is down: take back what is to blame; where nothing is, start it again."""
        policy = Policy(judge=self._judge)
        if self._in_force.ended(end, policy):
            self._activation.forget()
            self._look(set())
        elif end.pending is None and end.standing is Standing.DOWN:
            with self._state.lock():
                if self._state.pending() is None:
                    self._in_force.mark_unserved((), time.time())

    def _activate_the_unserved(self) -> None:
        """main.cf may say what is desired, and Postfix run with what it said before."""
        if not self._unserved or self._outcome.result is not Result.IN_SYNC:
            return
        with self._state.lock():
            text = self._host.read().text
            if self._state.pending() is None and text == self._in_sync_text:
                self._in_force.mark_unserved(self._unserved, time.time())

    def _note_activated(self, pending: PendingActivation, at: float) -> None:
        exposure = pending.exposure
        if pending.rolled_back or not pending.is_drift():
            return  # that was no correction of drift
        corrected_at = exposure.corrected_at or exposure.seen_at
        self._last = LastDrift(
            pending.cycle,
            exposure.seen_at,
            pending.parameters,
            max(0.0, corrected_at - exposure.written_at),
            max(0.0, at - corrected_at),
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
        desired = self.desired()
        self._status = Status(
            phase,
            self._status.since if phase is self._status.phase else now,
            0 if desired is None else len(desired.parameters()),
            detail,
            last=self._last,
            next_look=now + self._next_look - time.monotonic(),
        )
        return self._status

    def desired(self) -> DesiredState | None:
        """Return the desired state in force; None where there is none, or it cannot be told."""
        with suppress(HostError):
            return self._in_force.desired(self._shared.configuration.asked.get(self.name))
        return None

    def rejected(self) -> Rejected | None:
        """Return what the files ask for and is not in force, and why; None where nothing is, or
        that cannot be told."""
        with suppress(HostError):
            return self._in_force.rejected(self._shared.configuration.asked.get(self.name))
        return None

    def _phase(self) -> tuple[Phase, str]:
        memory, activation = self._activation.memory, self._activation
        return phase_of(
            Facts(
                self._outcome,
                self._shared.configuration.options.mode,
                is_desired=self.desired() is not None,
                look_failure=self._failure,
                failure=memory.failure,
                left=memory.left,
                is_pending=self._is_pending(),
                is_served=activation.is_served(),
                due=self._due(),
                suspension=self._shared.suspension(),
                rejected=self.rejected(),
                contest=self._contest,
                aliases_trouble=self._alias_database.trouble,
            )
        )

    def _is_pending(self) -> bool:
        """Whether Postfix is still to be made to obey, or is asked before a wish comes true."""
        is_unserved = bool(self._unserved) and not self._shared.may_only_observe()
        return is_unserved or self._asking is not None or self._state.pending() is not None

    def _due(self) -> str:
        """When the restart that is held comes, and what runs with old values until then."""
        pending = self._state.pending()
        if pending is None or self._activation.is_under_way():
            return ""
        closed = opens_in(self._shared.configuration.options.window)
        wait = max(self._activation.patience() or 0.0, closed)
        if not wait:
            return ""
        stale = [name for name in pending.parameters if not takes_a_reload(name)]
        old = f"; until then it runs with the old {sentences.listed(stale)}" if stale else ""
        return f"not before {sentences.clock(time.time() + wait)}{old}"
