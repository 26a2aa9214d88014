"""One Postfix instance: its main.cf looked at, corrected and activated, and how it stands.

The daemon has one for each instance of the desired state. Each keeps its own files below the
agent's folders, its own marker, and fails and recovers by itself.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from pf_agent import names
from pf_agent.activation.pacing import Backoff
from pf_agent.activation.ports import Turn
from pf_agent.daemon.alias_files import AliasFiles
from pf_agent.daemon.before_wish import BeforeWish
from pf_agent.daemon.drifts import Drifts
from pf_agent.daemon.named_things import NamedThings
from pf_agent.daemon.parts import Told, emit_of, parts_of
from pf_agent.daemon.saving import Saving
from pf_agent.daemon.shared import Shared, opens_in
from pf_agent.errors import HostError, PfAgentError
from pf_agent.files.store import FileStore
from pf_agent.maincf.values import takes_a_reload
from pf_agent.model import (
    Activated,
    ActualState,
    DesiredState,
    Event,
    NotUp,
    Outcome,
    Phase,
    Reason,
    Record,
    Rejected,
    Result,
    Standing,
    Status,
)
from pf_agent.reconcile.plan import CorrectionFailed
from pf_agent.reconcile.ports import Policy
from pf_agent.words import sentences
from pf_agent.words.phase import Facts, phase_of

# How soon to look again where main.cf is being saved, and where a writer still has the old one.
_AGAIN_SECONDS = 0.05
_AWAITED_SECONDS = 0.5
# And where it could not be told how things stand.
_UNKNOWN_SECONDS = 5.0
# What was rejected is tried again when it may work by now, and that is seen by looking.
_RECONSIDER_SECONDS = 30.0
# Its owner may write a table as often as he likes, and each look asks postconf.
_NAMED_SECONDS = 1.0
# Somebody wrote main.cf: what is not needed to see what he wrote waits for another look.
URGENT = frozenset({Reason.MAIN_CF, Reason.MAIN_CF_OPEN})
_LOOKS_AT_ALIASES = frozenset({Reason.START, Reason.TIMER, Reason.RELOAD, Reason.ALIASES})
# Somebody else may have started, reloaded or stopped Postfix.
_DOUBTS_POSTFIX = frozenset({Reason.START, Reason.TIMER, Reason.RELOAD, Reason.JOB})


# A file or an address that was refused may be there by now.
_MAY_BE_THERE_NOW = frozenset({Reason.RELOAD, Reason.NAMED})


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
        self._aliases = parts.aliases
        self._alias_files = AliasFiles(name, parts.host, parts.aliases, shared)
        self._named = NamedThings(name, main_cf, postfix, self._emit, shared)
        self._before = BeforeWish(name, postfix, parts.activation, parts.in_force, shared)
        self._drifts = Drifts(state, self._emit, shared)
        self._saving = Saving()
        self._in_sync_at: float | None = None
        self._in_sync_text: bytes | None = None
        self._unserved: tuple[str, ...] = ()  # what Postfix runs with is another value of these
        self._reconsider_at = 0.0
        self._named_at = 0.0
        self._backoff = Backoff()
        self._next_look = 0.0
        self._failure = ""
        self._outcome = Outcome(Result.IN_SYNC, "")
        self._status = Status(Phase.STARTING, time.time())

    def patience(self) -> float:
        """Seconds until a look or a step of the activation is due, whatever comes."""
        due = [self._next_look - time.monotonic()]
        if self.rejected() is not None:
            due.append(self._reconsider_at - time.monotonic())
        if self._is_settled() or self._outcome.result is Result.OBSERVED:
            steps = (self._activation.patience(), self._alias_files.patience())
            due += [step for step in steps if step is not None]
        return min(due)

    def turn(self, reasons: set[Reason]) -> None:
        """Look if there is a reason to, and take the activation a step on. Never raises."""
        if time.monotonic() >= self._next_look:
            reasons = reasons | {Reason.TIMER}
        reasons = self._spaced(reasons)
        if reasons & _DOUBTS_POSTFIX:
            self._activation.doubt()
        try:
            is_due = time.monotonic() >= self._reconsider_at or bool(reasons & _MAY_BE_THERE_NOW)
            if is_due and self.rejected() is not None:
                reasons = reasons | self._reconsider()
            if reasons:
                self._look(reasons)
            if self._may_act() or self._shared.may_only_observe():
                self._advance()
            self._alias_files.turn(bool(reasons & _LOOKS_AT_ALIASES))
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

    def _spaced(self, reasons: set[Reason]) -> set[Reason]:
        """Put off a look for the sake of a table that somebody writes again and again."""
        now = time.monotonic()
        if reasons != {Reason.NAMED} or now >= self._named_at + _NAMED_SECONDS:
            self._named_at = now if Reason.NAMED in reasons else self._named_at
            return reasons
        due = self._named_at + _NAMED_SECONDS
        self._next_look = min(self._next_look, due)
        self._reconsider_at = min(self._reconsider_at, due)
        return set()

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
            if self._state.pending() is not None:  # a power cut may have cut newaliases off, too
                self._aliases.distrust()
        options = self._shared.configuration.options
        asked, settle = self._shared.asked(self.name), options.settle_seconds
        self._next_look = time.monotonic() + options.look_every_seconds
        with self._state.lock():
            actual = self._host.read()
            if Reason.START not in reasons and self._saving.is_under_way(actual, settle):
                self._next_look = time.monotonic() + _AGAIN_SECONDS
            elif asked is not None and self._before.is_awaited(asked, actual):
                self._next_look = self._before.answer_by
            elif asked is not None:
                policy = self._policy()
                self._outcome = self._in_force.cycle(asked, policy, self._outcome, actual)
                self._drifts.note(self._outcome)
                self._unserved = ()
                if self._outcome.result is Result.IN_SYNC:
                    self._note_in_sync(actual)
                    if not is_urgent:
                        self._named.look(actual.text or b"")
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
            before=self._before.heard,
            in_sync_at=self._in_sync_at,
        )

    def _reconsider(self) -> set[Reason]:
        """What was refused may have been right too early: a file or an address was not there."""
        self._reconsider_at = time.monotonic() + _RECONSIDER_SECONDS
        self._judge.forget()
        asked = self._shared.asked(self.name)
        with self._state.lock():
            is_right = self._in_force.reconsider(asked, Policy(judge=self._judge))
        return {Reason.CONFIGURATION} if is_right else set()

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
            apart=self._drifts.apart(),
            opens_in=opens_in(options.window),
        )

    def _advance(self) -> None:
        turn = self._turn()
        end = self._activation.advance(turn)
        if isinstance(end, NotUp) and turn.may_act:
            self._mend(end)
        elif isinstance(end, Activated):
            if end.pending is not None:
                self._drifts.note_activated(end.pending, end.at)
            self._look({Reason.NAMED})  # what was only waiting for Postfix to serve
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
            last=self._drifts.last,
            absent=self._named.absent,
            next_look=now + self._next_look - time.monotonic(),
        )
        return self._status

    def desired(self) -> DesiredState | None:
        """Return the desired state in force; None where there is none, or it cannot be told."""
        with suppress(HostError):
            return self._in_force.desired(self._shared.asked(self.name))
        return None

    def rejected(self) -> Rejected | None:
        """Return what the files ask for and is not in force, and why; None where nothing is, or
        that cannot be told."""
        with suppress(HostError):
            return self._in_force.rejected(self._shared.asked(self.name))
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
                contest=self._drifts.contest,
                aliases_trouble=self._aliases.trouble,
                absent=self._named.absent,
            )
        )

    def _is_pending(self) -> bool:
        """Whether Postfix is still to be made to obey, or is asked before a wish comes true."""
        is_unserved = bool(self._unserved) and not self._shared.may_only_observe()
        return is_unserved or self._before.is_asked() or self._state.pending() is not None

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
