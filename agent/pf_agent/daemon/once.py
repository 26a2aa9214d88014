"""`pf-agent apply`: one cycle by hand, with its activation, with or without the daemon running.

Both take the same locks. The process that corrects leaves the marker; the one that holds the
activation lock restarts Postfix, and the other waits for the marker to go.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue

from pf_agent import names
from pf_agent.activation import pacing
from pf_agent.activation.inquiry import ask_port
from pf_agent.activation.ports import Others, Turn
from pf_agent.bus.systemd import Systemd
from pf_agent.config.desired import by_instance, main_cf_of
from pf_agent.daemon.document import Owner, texts_of
from pf_agent.daemon.documents_once import DocumentsOnce
from pf_agent.daemon.parts import Told, parts_of
from pf_agent.daemon.progress import Progress, Waiting
from pf_agent.daemon.shared import opens_in
from pf_agent.daemon.started import Started
from pf_agent.daemon.tables_once import TablesOnce
from pf_agent.daemon.telling import emit_in_life, emit_of
from pf_agent.errors import HostError
from pf_agent.files import configuration
from pf_agent.files.locks import REPLACING
from pf_agent.files.status_file import read_status
from pf_agent.files.store import FileStore
from pf_agent.model import (
    Activated,
    AgentOptions,
    Applied,
    DesiredState,
    Heard,
    Mode,
    NotUp,
    Outcome,
    Phase,
    Record,
    Result,
    Status,
    Trigger,
)
from pf_agent.postfix.at_hand import AtHand
from pf_agent.reconcile.ports import Policy
from pf_agent.reconcile.suspension import in_force
from pf_agent.reporting.journal import Journal, console_of
from pf_agent.words import sentences
from pf_agent.words.sentences import duration
from pf_agent.words.status import status_from_dict

_ACTIVATION_SECONDS = 300.0
# For a journal that did not take all records at once.
_RECORDS_SECONDS = 2.0
_FORCE = "`pf-agent apply --force` corrects it anyway"
_LEFT = "the restart of Postfix is left to pf-agent.service"


@dataclass(frozen=True)
class Wanted:
    """How to do it: whether Postfix is activated, and its tables built; whether it is `awaited`.

    `is_forced`: even in observe mode or while suspended.
    """

    activate: bool = True
    awaited: bool = True
    is_forced: bool = False


def apply_to_host(wanted: Wanted) -> list[Applied]:
    """Look once at the main.cf of each of the host's instances, and activate it.

    An instance that is itself suspended is left alone, and reported as failed. Raises ConfigError
    and HostError.
    """
    desired = by_instance(configuration.load_desired(names.CONFIG_DIRECTORY))
    options = configuration.load_options(names.CONFIG_DIRECTORY)
    if not wanted.is_forced:
        _require_leave(options)
    progress = Progress(sys.stderr)
    journal = Journal(console_of(sys.stderr) if sys.stderr.isatty() else None)

    def emit(record: Record) -> None:
        progress.clear()
        journal.emit(record)

    def note(text: str) -> None:
        progress.clear()
        journal.note(text)

    mailbox: SimpleQueue[Trigger] = SimpleQueue()
    systemd = Systemd(mailbox.put)
    keeper = FileStore(names.STATE_DIRECTORY, names.RUN_DIRECTORY)
    told = Told(mailbox.put, emit_in_life(keeper, emit), note)
    try:
        return [
            _Application(name, state, options, systemd, told).run(wanted, mailbox, progress)
            for name, state in desired.items()
        ]
    finally:
        progress.clear()
        systemd.close()
        journal.settle(_RECORDS_SECONDS)


def _require_leave(options: AgentOptions) -> None:
    """Raise HostError if main.cf is to be left alone."""
    state = FileStore(names.STATE_DIRECTORY, names.RUN_DIRECTORY)
    suspension = in_force(state.suspended, time.time())
    why = "agent.toml sets mode = observe" if options.mode is Mode.OBSERVE else ""
    if suspension is not None:
        why = f"suspended {sentences.suspension_sentence(suspension)}"
    if why:
        raise HostError(f"{names.MAIN_CF}: {why}; {_FORCE}")


class _Application:
    """One instance by hand: the same parts as in the daemon, without its loop."""

    def __init__(
        self, name: str, asked: DesiredState, options: AgentOptions, systemd: Systemd, told: Told
    ) -> None:
        main_cf = main_cf_of(name, asked)
        self._name = name
        self._asked = asked
        self._options = options
        self._told = told
        self._emit = emit_of(name, told.emit)
        self._state = FileStore.of_instance(name, names.STATE_DIRECTORY, names.RUN_DIRECTORY)
        self._postfix = AtHand(os.path.dirname(main_cf), self._state.run_directory)
        owner = Owner(main_cf, self._state, self._postfix, self._emit)
        self._others = DocumentsOnce(owner, told.note)
        self._started = Started(self._others.started, self._state)
        others = Others(self._started.managed, self._started.note_served)
        self._parts = parts_of(name, main_cf, self._state, self._postfix, systemd, told, others)

    def run(self, wanted: Wanted, mailbox: SimpleQueue[Trigger], progress: Progress) -> Applied:
        """Run one cycle, with its activation to the end. Raises HostError."""
        alone = in_force(self._state.suspended_alone, time.time())
        if alone is not None and not wanted.is_forced:
            why = f"suspended {sentences.suspension_sentence(alone)}; {_FORCE}"
            return Applied(self._name, Outcome(Result.OBSERVED, ""), why)
        for moved in self._state.prepare():
            self._told.note(moved)
        self._state.tidy()
        self._postfix.tidy()
        policy = Policy(judge=self._parts.judge, before=self._heard_before())
        with self._state.lock():
            # The person who runs it wants it tried, whatever happened to it before.
            self._parts.in_force.try_again()
            outcome = self._look(policy)
        desired = self._parts.in_force.desired(self._asked)
        main_cfs = texts_of(self._parts.host.read().text, desired)
        others = self._others.correct(self._asked.documents, main_cfs)
        self._started.mark()
        # Before Postfix starts: a table that it cannot open has it defer mail.
        tables = self._tables(wanted.activate)
        failure = ""
        if wanted.activate and outcome.result is not Result.REJECTED:
            if wanted.awaited:
                failure = self._follow(mailbox, progress)
                progress.clear()
            elif self._state.pending() is not None:
                failure = self._unattended()
                left = f"{outcome.summary or 'in sync'}; {_LEFT}{self._when()}"
                outcome = outcome if failure else replace(outcome, summary=left)
        if wanted.activate:
            tables.rebuild(self._parts.host.read().text or b"", of_others=True)
        others |= self._others.taken_back()
        refused = self._parts.in_force.rejected(self._asked)
        failure = failure or (refused.reason if refused else "")
        return Applied(self._name, outcome, failure, tables.rebuilt, tables.stale, others)

    def _tables(self, is_to_build: bool) -> TablesOnce:
        main_cf = self._parts.host.path
        lock = os.path.join(names.RUN_DIRECTORY, REPLACING)
        tables = TablesOnce(main_cf, self._options.tables, self._postfix, self._emit, lock)
        if is_to_build:
            tables.rebuild(self._parts.host.read().text or b"")
        return tables

    def _look(self, policy: Policy) -> Outcome:
        outcome = self._parts.in_force.cycle(self._asked, policy)
        desired = self._parts.in_force.desired(self._asked)
        if outcome.result is Result.IN_SYNC and desired and self._state.pending() is None:
            text = self._parts.host.read().text
            found = self._parts.in_force.find_unserved(desired, text)
            if found:
                self._parts.in_force.mark_unserved(found, time.time())
        return outcome

    def _heard_before(self) -> Heard | None:
        """Return what the port says before a wish; None if that cannot be known."""
        wished = self._parts.in_force.is_new(self._asked)
        actual = self._parts.host.read()
        if not wished or not self._parts.in_force.is_only_wished(self._asked, actual):
            return None
        try:
            return ask_port(self._postfix)
        except HostError:
            return None

    def _turn(self) -> Turn:
        drifts = pacing.contest(self._state.drifts(), time.time())
        return Turn(
            way=self._options.way,
            apart=drifts.apart if drifts else 0.0,
            opens_in=opens_in(self._options.window),
        )

    def _unattended(self) -> str:
        """Return why nothing will restart Postfix, "" if the daemon will."""
        daemon = self._daemon()
        way = "`pf-agent apply` without --wait=no does it"
        if daemon is None:
            return f"Postfix is not restarted: pf-agent.service is not running; {way}"
        if daemon.phase in (Phase.OBSERVING, Phase.SUSPENDED):
            return f"Postfix is not restarted: pf-agent.service only observes; {way}"
        return ""

    def _when(self) -> str:
        closed = opens_in(self._options.window)
        return f", when the window opens, {_in(closed)}" if closed else ""

    def _daemon(self) -> Status | None:
        """Return the daemon's status of this instance; None if none runs, or nothing is known."""
        with suppress(HostError, ValueError):
            found = read_status(names.RUN_DIRECTORY)
            whole = None if found is None else status_from_dict(found)
            if whole is None or self._name == names.DEFAULT_INSTANCE:
                return whole
            return whole.instances.get(self._name)
        return None

    def _follow(self, mailbox: SimpleQueue[Trigger], progress: Progress) -> str:
        """Follow the activation to its end, ours or the daemon's; return why it failed."""
        activation, state = self._parts.activation, self._state
        self._parts.aliases.follow(self._parts.host.read().text or b"")
        deadline = time.monotonic() + _ACTIVATION_SECONDS
        prefix = "" if self._name == names.DEFAULT_INSTANCE else f"{self._name}: "
        while state.pending() is not None:
            turn = self._turn()
            end = activation.advance(turn)
            if isinstance(end, NotUp) and self._is_mended(end):
                activation.forget()
                continue  # the start with the former state is still to come
            if activation.memory.failure or activation.memory.left:
                return activation.memory.failure or activation.memory.left
            if turn.opens_in and not activation.is_under_way():
                return f"Postfix is not restarted before the window opens, {_in(turn.opens_in)}"
            waiting, now = self._waiting(turn), time.time()
            what = f"{prefix}{waiting.sentence(now)}"
            if time.monotonic() > deadline:
                waited = f"{_ACTIVATION_SECONDS:.0f} s"
                return f"Postfix did not run with it within {waited}: {what}; see `pf-agent status`"
            if not isinstance(end, Activated):
                progress.tell(what, waiting.seconds(now))
            patience = min(activation.patience() or 0.0, 1.0)
            with suppress(Empty):
                mailbox.get(timeout=patience)
        if self._daemon() is None:
            self._build_the_rest(mailbox)
        return ""

    def _build_the_rest(self, mailbox: SimpleQueue[Trigger]) -> None:
        """Build the alias databases that the restart did not wait for."""
        aliases = self._parts.aliases
        apart = aliases.apart(aliases.stale())
        rebuilds = [aliases.rebuild(stale, of_others=of) for of, stale in apart.items()]
        for rebuild in rebuilds:
            while rebuild.worked() is None:
                with suppress(Empty):
                    mailbox.get(timeout=1.0)

    def _waiting(self, turn: Turn) -> Waiting:
        activation, daemon = self._parts.activation, self._daemon()
        return Waiting(
            activation.is_elsewhere(),
            activation.is_under_way(),
            turn.apart > 0,
            activation.patience() or 0.0,
            None if daemon is None else daemon.restart_due,
            activation.memory.awaited,
        )

    def _is_mended(self, end: NotUp) -> bool:
        policy = Policy(judge=self._parts.judge)
        return self._started.mend(end) or self._parts.in_force.ended(end, policy)


def _in(seconds: float) -> str:
    return f"in {duration(seconds)}"
