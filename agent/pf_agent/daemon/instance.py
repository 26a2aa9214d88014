"""One Postfix instance: looks at its main.cf, corrects and activates it, and reports its state.

The daemon has one for each instance of the desired state. Each has its own files below the agent's
directories and its own marker, and fails and recovers separately.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pf_agent import names
from pf_agent.activation.pacing import Backoff
from pf_agent.activation.ports import Others, Turn
from pf_agent.daemon.alias_files import AliasFiles
from pf_agent.daemon.before_wish import BeforeWish
from pf_agent.daemon.documents import Documents
from pf_agent.daemon.drifts import Drifts
from pf_agent.daemon.named_things import NamedThings
from pf_agent.daemon.parts import Told, parts_of
from pf_agent.daemon.saving import Saving
from pf_agent.daemon.shared import Shared, opens_in
from pf_agent.daemon.started import Started
from pf_agent.daemon.tables import Tables
from pf_agent.daemon.telling import emit_of
from pf_agent.errors import HostError, PfAgentError
from pf_agent.files.readable import is_for_everybody
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

# How soon to look again while main.cf is being saved, and while a writer has the old one open.
_AGAIN_SECONDS = 0.05
_AWAITED_SECONDS = 0.5
# And if the state could not be determined.
_UNKNOWN_SECONDS = 5.0
# A rejected state is tried again when it may work by now, which only a look can tell.
_RECONSIDER_SECONDS = 30.0
# A table's owner may write it without end, and each look runs postconf.
_NAMED_SECONDS = 1.0
_SAME_SECONDS = 2.0
# main.cf was written: what does not matter for seeing what was written waits for another look.
URGENT = frozenset({Reason.MAIN_CF, Reason.MAIN_CF_OPEN})
_LOOKS_AT_ALIASES = frozenset(
    {
        *(Reason.START, Reason.TIMER, Reason.RELOAD),
        *(Reason.ALIASES, Reason.NEWALIASES, Reason.DOCUMENT),
    }
)
# In the other phases no start is due.
_STARTS_POSTFIX = frozenset({Phase.ACTIVATING, Phase.CONTESTED, Phase.FAILING})
# Other processes may have started, reloaded or stopped Postfix.
_DOUBTS_POSTFIX = frozenset({Reason.START, Reason.TIMER, Reason.RELOAD, Reason.JOB})


# A file or an address whose absence led to a refusal may exist by now.
_MAY_BE_THERE_NOW = frozenset({Reason.RELOAD, Reason.NAMED})


class Instance:
    """One main.cf and the Postfix that uses it."""

    def __init__(self, name: str, main_cf: str, state: FileStore, shared: Shared) -> None:
        self.name = name
        self.main_cf = main_cf
        self._shared = shared
        self._state = state
        self._emit = emit_of(name, shared.emit)
        self._postfix = shared.errands(os.path.dirname(main_cf))
        told = Told(shared.post, shared.emit, shared.journal.note)
        postfix, systemd = self._postfix, shared.systemd
        self._started = Started(lambda: self._documents.started(), state)
        others = Others(self._managed, self._started.note_served)
        parts = parts_of(name, main_cf, state, postfix, systemd, told, others, shared.retry_seconds)
        self._host, self._judge = parts.host, parts.judge
        self._activation, self._in_force = parts.activation, parts.in_force
        self._aliases = parts.aliases
        self._drifts = Drifts(name, state, self._emit, shared)
        note = self._drifts.note
        self._documents = Documents(name, parts.host, state, postfix, self._emit, shared, note)
        awaits = self._documents.awaits
        self._alias_files = AliasFiles(name, parts.host, parts.aliases, shared, awaits)
        self._named = NamedThings(name, main_cf, postfix, self._emit, shared)
        self._tables = Tables(name, parts.host, postfix, self._emit, shared, awaits)
        self._before = BeforeWish(name, postfix, parts.activation, parts.in_force, shared)
        self._saving = Saving()
        self._in_sync_at: float | None = None
        self._in_sync_text: bytes | None = None
        self._settled_text: bytes | None = None  # main.cf as the agent left it
        self._unserved: tuple[str, ...] = ()  # Postfix runs with other values of these
        self._reconsider_at = 0.0
        self._named_at = 0.0
        self._named_due: float | None = None  # when a delayed look is to be made
        self._backoff = Backoff()
        self._next_look = 0.0
        self._failure = ""
        self.is_public = True  # whether every user could read the main.cf that was read
        self._outcome = Outcome(Result.IN_SYNC, "")
        self._status = Status(Phase.STARTING, time.time())

    def patience(self) -> float:
        """Seconds until a look or a step of the activation is due, without any trigger."""
        due = [self._next_look - time.monotonic()]
        if (wait := self._documents.patience()) is not None:
            due.append(wait)
        if self._named_due is not None:
            due.append(self._named_due - time.monotonic())
        if self.rejected() is not None:
            due.append(self._reconsider_at - time.monotonic())
        if self._is_settled() or self._outcome.result is Result.OBSERVED:
            steps = (self._activation, self._alias_files, self._tables)
            waits = (step.patience() for step in steps)
            due += [wait for wait in waits if wait is not None]
        return min(due)

    def turn(self, reasons: set[Reason]) -> None:
        """Look if there is a reason to, and do the activation's next step. Never raises."""
        if time.monotonic() >= self._next_look:
            reasons = reasons | {Reason.TIMER}
        reasons = self._spaced(reasons)
        if reasons & _DOUBTS_POSTFIX:
            self._activation.doubt()
        # main.cf decides what each document is. But where only those have changed, they come first:
        # with a FIFO in place of master.cf, each program that is asked about main.cf would wait.
        looks = [self._look_if_due, self._look_at_documents]
        if not reasons - {Reason.DOCUMENT, Reason.NAMED}:
            looks.reverse()
        for look in looks:
            # Also where main.cf cannot be judged: without master.cf it cannot.
            with self._recorded():
                look(reasons)
        if not self._failure:
            with self._recorded():
                self._go_on(reasons)

    def _look_if_due(self, reasons: set[Reason]) -> None:
        is_due = time.monotonic() >= self._reconsider_at or bool(reasons & _MAY_BE_THERE_NOW)
        if is_due and self.rejected() is not None:
            reasons = reasons | self._reconsider()
        if reasons - {Reason.DOCUMENT}:
            self._look(reasons)

    def _look_at_documents(self, reasons: set[Reason]) -> None:
        self._documents.turn(reasons, self._settled_text, self.desired)

    def _go_on(self, reasons: set[Reason]) -> None:
        if self._may_act() or self._shared.may_only_observe(self.name):
            self._advance()
        self._alias_files.turn(bool(reasons & _LOOKS_AT_ALIASES))
        self._tables.turn(reasons, self._settled_text)
        self._documents.follow()

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        """Record what keeps the work inside from being done; it is tried again later."""
        try:
            yield
        except CorrectionFailed as error:
            self._outcome = error.outcome
            self._fail(str(error))
        except PfAgentError as error:
            self._fail(str(error))
        except OSError as error:  # a system call that is not expected to fail
            place = error.filename or self.main_cf
            self._fail(f"{place}: {error.strerror or error}; check its file system")
        except MemoryError:
            self._fail(f"{self.main_cf}: not enough memory for a look; raise pf-agent's MemoryMax=")
        except Exception as error:  # noqa: BLE001 - the last resort: recorded, then tried again
            self._shared.journal.fault("an internal error of pf-agent", error)
            self._fail(f"an internal error of pf-agent: {error!r}")

    def _spaced(self, reasons: set[Reason]) -> set[Reason]:
        """Delay a look that is only due because a table is written over and over.

        Other looks may come before that, which are not for tables: it is made all the same.
        """
        now = time.monotonic()
        if self._named_due is not None and now >= self._named_due:
            reasons = reasons | {Reason.NAMED}
        if Reason.DOCUMENT in reasons and self._documents.started():
            reasons = reasons | {Reason.NAMED}  # main.cf names services of master.cf
        others = reasons - {Reason.NAMED, Reason.DOCUMENT}
        if Reason.NAMED in reasons and not others and now < self._named_at + _NAMED_SECONDS:
            self._named_due = self._named_at + _NAMED_SECONDS
            return reasons - {Reason.NAMED}
        if Reason.NAMED in reasons:
            self._named_at, self._named_due = now, None
        return reasons

    def leave(self) -> None:
        """Stop managing this instance; main.cf stays as it is."""
        self._shared.watch.unfollow(self.name)
        self._host.lay_no_more()
        self._documents.leave()
        try:
            self._in_force.forget()
        except HostError as error:
            self._shared.journal.note(str(error))

    def judge_ahead(self) -> None:
        """Have the correct text judged before it is needed, so that no drift has to wait for that.

        To be called outside the loop. Raises HostError; a caller that needs the answer asks again.
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
            if self._state.pending() is not None:  # a crash may have interrupted newaliases, too
                self._aliases.distrust()
        options = self._shared.configuration.options
        asked, settle = self._shared.asked(self.name), options.settle_seconds
        self._next_look = time.monotonic() + options.look_every_seconds
        with self._state.lock():
            self._shared.suspensions.follow()
            actual = self._host.read()
            if actual.text is not None:
                is_readable = bool(actual.mode & stat.S_IROTH)
                self.is_public = is_readable and is_for_everybody(self.main_cf)
            if Reason.START not in reasons and self._saving.is_under_way(actual, settle):
                self._next_look = time.monotonic() + _AGAIN_SECONDS
            elif asked is not None and self._before.is_awaited(asked, actual):
                self._next_look = self._before.answer_by
            elif asked is not None:
                policy = self._policy()
                self._outcome = self._in_force.cycle(asked, policy, self._outcome, actual)
                self._drifts.note(self._outcome)
                self._unserved = ()
                if self._outcome.result in (Result.IN_SYNC, Result.OBSERVED):
                    self._settled_text = actual.text
                if self._outcome.result is Result.IN_SYNC:
                    self._note_in_sync(actual)
                if not is_urgent:
                    self._look_for_the_named(asked, actual)
                if self._host.is_awaited():
                    self._next_look = time.monotonic() + _AWAITED_SECONDS
        self._failure = ""
        self._backoff.reset()

    def _look_for_the_named(self, asked: DesiredState, actual: ActualState) -> None:
        refused = self._in_force.refused(asked, self._outcome)
        if self._outcome.result is Result.IN_SYNC:
            self._named.look(actual.text or b"", refused)
        elif refused is not None:
            self._named.await_what_lacks(refused)

    def _managed(self) -> tuple[str, ...]:
        """Return the services of master.cf that Postfix must be seen to serve with."""
        with suppress(HostError):
            return self._started.managed()
        return ()

    def _note_in_sync(self, actual: ActualState) -> None:
        self._in_sync_at = time.time()
        if actual.text != self._in_sync_text:
            self._activation.doubt()  # a change by hand may keep Postfix from serving
        self._in_sync_text = actual.text
        desired = self.desired()
        if desired is not None:
            self._unserved = self._in_force.find_unserved(desired, actual.text)
        if not self._shared.may_only_observe(self.name):
            self._host.lay_ahead(actual)

    def _policy(self) -> Policy:
        self._shared.writers.follow(self.main_cf)
        return Policy(
            self._shared.may_only_observe(self.name),
            judge=self._judge,
            writer=lambda written_at: self._shared.writers.fields(self.main_cf, written_at),
            before=self._before.heard,
            in_sync_at=self._in_sync_at,
        )

    def _reconsider(self) -> set[Reason]:
        """Try a refused state again: a file or an address may have been missing only then."""
        self._reconsider_at = time.monotonic() + _RECONSIDER_SECONDS
        self._judge.forget()
        asked = self._shared.asked(self.name)
        with self._state.lock():
            is_right = self._in_force.reconsider(asked, Policy(judge=self._judge))
        return {Reason.CONFIGURATION} if is_right else set()

    # --- a step of the activation -------------------------------------------------------------

    def _is_settled(self) -> bool:
        """Postfix is not restarted with a main.cf that could not be made right."""
        return self._outcome.result in (Result.IN_SYNC, Result.CORRECTED) and not self._failure

    def _may_act(self) -> bool:
        """Tell whether Postfix may be started and reloaded.

        If the very first desired state was reverted, Postfix is started with what was there before,
        and main.cf is only observed from then on.
        """
        if self._shared.may_only_observe(self.name) or self._failure:
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
        if turn.may_act:
            self._started.mark(self._activation.memory.failure)
        end = self._activation.advance(turn)
        if isinstance(end, NotUp) and turn.may_act:
            self._mend(end)
        elif isinstance(end, Activated):
            if end.pending is not None:
                self._drifts.note_activated(end.pending, end.at)
            self._look({Reason.NAMED})  # what was only waiting for Postfix to serve
        # If it fails for its former values, as with a greeting, asking again would never end.
        if turn.may_act and (self._activation.is_at_rest() or self._activation.is_failing()):
            self._activate_the_unserved()

    def _mend(self, end: NotUp) -> None:
        """Postfix is down: revert what is to blame; if nothing is, start it again."""
        policy = Policy(judge=self._judge)
        if self._started.mend(end):
            self._activation.forget()
            self._look_at_documents({Reason.DOCUMENT})
        elif self._in_force.ended(end, policy):
            self._activation.forget()
            self._look(set())
        elif end.pending is None and end.standing is Standing.DOWN:
            with self._state.lock():
                if self._state.pending() is None:
                    self._in_force.mark_unserved((), time.time())

    def _activate_the_unserved(self) -> None:
        """Mark what main.cf says as desired while Postfix still runs with former values."""
        if not self._unserved or self._outcome.result is not Result.IN_SYNC:
            return
        with self._state.lock():
            text = self._host.read().text
            if self._state.pending() is None and text == self._in_sync_text:
                self._in_force.mark_unserved(self._unserved, time.time())

    def _fail(self, reason: str) -> None:
        """Record a failed look, once, and try again after a while."""
        if reason != self._failure:
            fields = {names.FIELD_REASON: reason}
            self._emit(Record(Event.CORRECTION_FAILED, reason, fields=fields))
        self._failure = reason
        self._next_look = time.monotonic() + self._backoff.grow()

    # --- status -------------------------------------------------------------------------------

    def status(self, now: float) -> Status:
        """Return the state of this instance at `now` (seconds since the epoch)."""
        due = None
        try:
            due = self._restart_due(now)
            phase, detail = self._phase(due)
        except HostError as error:
            phase, detail = Phase.STALLED, str(error)
            # This is the state now, and not until the next look, which may be minutes away.
            self._next_look = min(self._next_look, time.monotonic() + _UNKNOWN_SECONDS)
        desired = self.desired()
        self._status = Status(
            phase,
            self._status.since if phase is self._status.phase else now,
            0 if desired is None else len(desired.parameters()),
            detail,
            last=self._drifts.last,
            absent=self._named.absent,
            stale=self._tables.stale,
            documents=self._documents.troubles(),
            next_look=now + self._next_look - time.monotonic(),
            suspension=self._shared.suspensions.of(self.name),
            restart_due=due,
            awaited=self._activation.memory.awaited if phase in _STARTS_POSTFIX else "",
        )
        return self._status

    def desired(self) -> DesiredState | None:
        """Return the desired state in force; None if there is none, or it cannot be read."""
        with suppress(HostError):
            return self._in_force.desired(self._shared.asked(self.name))
        return None

    def rejected(self) -> Rejected | None:
        """Return what is asked for and not in force, and why; None if nothing is, or if unknown."""
        with suppress(HostError):
            return self._in_force.rejected(self._shared.asked(self.name))
        return None

    def _phase(self, due: float | None) -> tuple[Phase, str]:
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
                due="" if due is None else self._due(due),
                suspension=self._shared.suspensions.of(self.name),
                rejected=self.rejected(),
                contest=self._drifts.contest,
                aliases_trouble=self._aliases.trouble,
                absent=(
                    *sentences.troubles(self._documents.troubles()),
                    *self._tables.stale.values(),
                    *self._named.absent,
                ),
            )
        )

    def _is_pending(self) -> bool:
        """Whether Postfix has yet to be activated, or its port is being asked before a wish."""
        if self._unserved or self._shared.may_only_observe(self.name):
            # The marker stays, for when it may act again, though a person may restart Postfix.
            return bool(self._unserved)
        return self._before.is_asked() or self._state.pending() is not None

    def _due(self, due: float) -> str:
        """Return when a waiting restart comes, and what runs with old values until then."""
        if self._activation.memory.awaited:
            return self._activation.memory.awaited
        pending = self._state.pending()
        stale = [n for n in (pending.parameters if pending else ()) if not takes_a_reload(n)]
        old = f"; until then it runs with the old {sentences.listed(stale)}" if stale else ""
        return f"Postfix restart due after {sentences.clock(due)}{old}"

    def _restart_due(self, now: float) -> float | None:
        """Return when Postfix may be restarted; None if no restart is waiting. Raises HostError."""
        is_held = self._state.pending() is not None and not self._activation.is_under_way()
        if not is_held or self._shared.may_only_observe(self.name):
            return None
        closed = opens_in(self._shared.configuration.options.window)
        wait = max(self._activation.patience() or 0.0, closed)
        if not wait:
            return None
        due, told = now + wait, self._status.restart_due
        # The window counts whole seconds: the same moment must read the same each time.
        return told if told is not None and abs(told - due) < _SAME_SECONDS else due
