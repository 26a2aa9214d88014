"""`pf-agent apply`: one cycle by hand, and its activation to the end, beside the daemon or without.

Both take the same locks. Whichever corrects leaves the marker; whichever holds the activation lock
restarts Postfix, and the other waits for the marker to go.
"""

from __future__ import annotations

import os
import sys
import time
from queue import Empty, SimpleQueue

from pf_agent import names
from pf_agent.activation import pacing
from pf_agent.activation.inquiry import ask_port
from pf_agent.activation.pacing import RESTARTS_A_MINUTE
from pf_agent.activation.ports import Turn
from pf_agent.bus.systemd import Systemd
from pf_agent.config.desired import by_instance, main_cf_of
from pf_agent.daemon.parts import Told, parts_of
from pf_agent.daemon.shared import opens_in
from pf_agent.errors import HostError
from pf_agent.files import configuration
from pf_agent.files.store import FileStore
from pf_agent.model import (
    AgentOptions,
    Applied,
    DesiredState,
    Heard,
    Mode,
    NotUp,
    Outcome,
    Result,
    Trigger,
)
from pf_agent.postfix.at_hand import AtHand
from pf_agent.reconcile.ports import Policy
from pf_agent.reporting.journal import Journal, console_of
from pf_agent.words import sentences
from pf_agent.words.sentences import duration

_ACTIVATION_SECONDS = 300.0


def apply_to_host(activate: bool, is_forced: bool) -> list[Applied]:
    """Look once at the main.cf of each of the host's instances, and see it activated.

    While the agent observes or is suspended, only where it `is_forced`. Raises ConfigError and
    HostError.
    """
    desired = by_instance(configuration.load_desired(names.CONFIG_DIRECTORY))
    options = configuration.load_options(names.CONFIG_DIRECTORY)
    if not is_forced:
        _require_leave(options)
    journal = Journal(console_of(sys.stderr) if sys.stderr.isatty() else None)
    mailbox: SimpleQueue[Trigger] = SimpleQueue()
    systemd = Systemd(mailbox.put)
    told = Told(mailbox.put, journal.emit, journal.note)
    try:
        return [
            _Application(name, state, options, systemd, told).run(activate, mailbox)
            for name, state in desired.items()
        ]
    finally:
        systemd.close()


def _require_leave(options: AgentOptions) -> None:
    """Raise HostError where somebody wants main.cf left alone."""
    state = FileStore(names.STATE_DIRECTORY, names.RUN_DIRECTORY)
    suspension = state.suspension()
    why = "agent.toml has the mode observe" if options.mode is Mode.OBSERVE else ""
    if suspension is not None and (suspension.until is None or suspension.until > time.time()):
        why = f"suspended {sentences.suspension_sentence(suspension)}"
    if why:
        raise HostError(
            f"{names.MAIN_CF}: {why}; `pf-agent apply --force` corrects it all the same"
        )


class _Application:
    """One instance by hand: the same parts as the daemon's, without its loop."""

    def __init__(
        self, name: str, asked: DesiredState, options: AgentOptions, systemd: Systemd, told: Told
    ) -> None:
        main_cf = main_cf_of(name, asked)
        self._name = name
        self._asked = asked
        self._options = options
        self._told = told
        self._state = FileStore.of_instance(name, names.STATE_DIRECTORY, names.RUN_DIRECTORY)
        self._postfix = AtHand(os.path.dirname(main_cf), self._state.run_directory)
        self._parts = parts_of(name, main_cf, self._state, self._postfix, systemd, told)

    def run(self, activate: bool, mailbox: SimpleQueue[Trigger]) -> Applied:
        """One cycle, and its activation to the end. Raises HostError."""
        for moved in self._state.prepare():
            self._told.note(moved)
        self._state.tidy()
        self._postfix.tidy()
        policy = Policy(judge=self._parts.judge, before=self._heard_before())
        with self._state.lock():
            # Whoever runs it wants it tried, whatever became of it before.
            self._parts.in_force.try_again()
            outcome = self._look(policy)
        failure = ""
        if activate and outcome.result is not Result.REJECTED:
            failure = self._follow(mailbox)
        refused = self._parts.in_force.rejected(self._asked)
        return Applied(self._name, outcome, failure or (refused.reason if refused else ""))

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
        """What the port says before a wish; None where that cannot be known."""
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

    def _follow(self, mailbox: SimpleQueue[Trigger]) -> str:
        """Take the activation to its end, ours or the daemon's; return why it failed."""
        activation, state = self._parts.activation, self._state
        self._parts.aliases.follow(self._parts.host.read().text or b"")
        deadline = time.monotonic() + _ACTIVATION_SECONDS
        if sys.stderr.isatty() and state.pending() is not None:
            most = f"at most {RESTARTS_A_MINUTE} restarts a minute"
            print(f"waiting for Postfix to run with it ({most})", file=sys.stderr)
        while state.pending() is not None:
            turn = self._turn()
            end = activation.advance(turn)
            if isinstance(end, NotUp) and self._is_mended(end):
                activation.forget()
                continue  # the start with the state before is still to come
            if activation.memory.failure or activation.memory.left:
                return activation.memory.failure or activation.memory.left
            if turn.opens_in and not activation.is_under_way():
                return f"Postfix is not restarted before the window opens, {_in(turn.opens_in)}"
            if time.monotonic() > deadline:
                return f"no end after {_ACTIVATION_SECONDS:.0f} s; see `pf-agent status`"
            patience = min(activation.patience() or 0.0, 1.0)
            try:
                mailbox.get(timeout=patience)
            except Empty:
                continue
        return ""

    def _is_mended(self, end: NotUp) -> bool:
        policy = Policy(judge=self._parts.judge)
        return self._parts.in_force.ended(end, policy)


def _in(seconds: float) -> str:
    return f"in {duration(seconds)}"
