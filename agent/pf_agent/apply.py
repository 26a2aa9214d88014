"""`pf-agent apply`: one cycle by hand, and its activation to the end, beside the daemon or without.

Both take the same locks. Whichever corrects leaves the marker; whichever holds the activation lock
restarts Postfix, and the other waits for the marker to go.
"""

from __future__ import annotations

import os
import sys
import time
from queue import Empty, SimpleQueue

from pf_agent import configuration, names, rollback
from pf_agent.activation import Activation, NotUp
from pf_agent.alias_database import AliasDatabase
from pf_agent.aliases import alias_file
from pf_agent.desired import by_instance, main_cf_of
from pf_agent.exchange import MainCfFile
from pf_agent.instance import emit_of, unit_of
from pf_agent.journal import Journal, console_of
from pf_agent.model import AgentOptions, Applied, DesiredState, Outcome, Result, Trigger
from pf_agent.pacing import RESTARTS_A_MINUTE
from pf_agent.plan import Judge, Policy
from pf_agent.postfix import Postfix
from pf_agent.postfix_log import log_tail
from pf_agent.reconcile import reconcile
from pf_agent.state import State
from pf_agent.systemd import Systemd

_ACTIVATION_SECONDS = 300.0


def apply_to_host(activate: bool) -> list[Applied]:
    """Look once at the main.cf of each of the host's instances, and see it activated.

    Raises ConfigError and HostError.
    """
    desired = by_instance(configuration.load_desired(names.CONFIG_DIRECTORY))
    options = configuration.load_options(names.CONFIG_DIRECTORY)
    journal = Journal(console_of(sys.stderr) if sys.stderr.isatty() else None)
    mailbox: SimpleQueue[Trigger] = SimpleQueue()
    systemd = Systemd(mailbox.put)
    try:
        return [
            _Application(name, state, options, systemd, journal, mailbox).run(activate)
            for name, state in desired.items()
        ]
    finally:
        systemd.close()


class _Application:
    """One instance by hand: the same parts as the daemon's, without its loop."""

    def __init__(
        self,
        name: str,
        desired: DesiredState,
        options: AgentOptions,
        systemd: Systemd,
        journal: Journal,
        mailbox: SimpleQueue[Trigger],
    ) -> None:
        main_cf = main_cf_of(name, desired)
        self._name = name
        self._desired = desired
        self._mailbox = mailbox
        self._journal = journal
        self._emit = emit_of(name, journal.emit)
        self._host = MainCfFile(main_cf)
        self._state = State.of_instance(name, names.STATE_DIRECTORY, names.RUN_DIRECTORY)
        self._postfix = Postfix(os.path.dirname(main_cf), self._state.run_directory)
        self._policy = Policy(judge=Judge(self._postfix.judge))
        self._activation = Activation(
            systemd,
            self._postfix,
            AliasDatabase(self._postfix, mailbox.put, self._emit, journal.note),
            self._state,
            mailbox.put,
            self._emit,
            alias_file=lambda: alias_file(self._text() or b""),
            unit=unit_of(name),
            text=self._text,
            way=lambda: options.way,
        )

    def run(self, activate: bool) -> Applied:
        """One cycle, and its activation to the end. Raises HostError."""
        for moved in self._state.prepare():
            self._journal.note(moved)
        self._state.tidy()
        self._postfix.tidy()
        with self._state.lock():
            outcome = self._look()
        failure = ""
        if activate and outcome.result is not Result.REJECTED:
            failure = self._follow()
        return Applied(self._name, outcome, failure)

    def _look(self) -> Outcome:
        return reconcile(self._host, self._desired, self._policy, self._state, self._emit)

    def _text(self) -> bytes | None:
        return self._host.read().text

    def _follow(self) -> str:
        """Take the activation to its end, ours or the daemon's; return why it failed."""
        activation, state = self._activation, self._state
        deadline = time.monotonic() + _ACTIVATION_SECONDS
        if sys.stderr.isatty() and state.pending() is not None:
            most = f"at most {RESTARTS_A_MINUTE} restarts a minute"
            print(f"waiting for Postfix to run with it ({most})", file=sys.stderr)
        brought_back = ""
        while state.pending() is not None:
            end = activation.advance()
            if isinstance(end, NotUp) and self._roll_back(end):
                # The restart with the old text is still to come: its failure is another one.
                tried = state.rolled_back()
                brought_back = "" if tried is None else rollback.rolled_back_sentence(tried)
                activation.failure = ""
            if activation.failure:
                return "; ".join(filter(None, (activation.failure, brought_back)))
            if time.monotonic() > deadline:
                return f"no end after {_ACTIVATION_SECONDS:.0f} s; see `pf-agent status`"
            patience = min(activation.patience() or 0.0, 1.0)
            try:
                self._mailbox.get(timeout=patience)
            except Empty:
                continue
        return brought_back

    def _roll_back(self, not_up: NotUp) -> bool:
        log = log_tail(not_up.units, not_up.since)
        with self._state.lock():
            is_back = rollback.roll_back(
                self._host, self._policy, self._state, self._emit, not_up, log
            )
            if is_back:
                self._look()  # the first look after it notes what was tried in vain
            return is_back
