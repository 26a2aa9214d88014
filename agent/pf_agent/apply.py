"""`pf-agent apply`: one cycle by hand, and its activation to the end, beside the daemon or without.

Both take the same locks. Whichever corrects leaves the marker; whichever holds the activation lock
restarts Postfix, and the other waits for the marker to go.
"""

from __future__ import annotations

import os
import sys
import time
from queue import Empty, SimpleQueue

from pf_agent import configuration, names
from pf_agent.activation import Activation
from pf_agent.exchange import MainCfFile
from pf_agent.journal import Journal, console_of
from pf_agent.model import Outcome, Result, Trigger
from pf_agent.pacing import RESTARTS_A_MINUTE
from pf_agent.plan import Judge, Policy
from pf_agent.postfix import Postfix, alias_file
from pf_agent.reconcile import reconcile
from pf_agent.state import State
from pf_agent.systemd import Systemd

_ACTIVATION_SECONDS = 300.0


def apply_to_host(activate: bool) -> tuple[Outcome, str]:
    """Look once at the host's own main.cf; return the outcome, and why its activation failed.

    Raises ConfigError and HostError.
    """
    desired = configuration.load_desired(names.CONFIG_DIRECTORY)
    state = State(names.STATE_DIRECTORY, names.RUN_DIRECTORY)
    state.prepare()
    journal = Journal(console_of(sys.stderr) if sys.stderr.isatty() else None)
    postfix = Postfix(os.path.dirname(names.MAIN_CF), names.RUN_DIRECTORY)
    host = MainCfFile(names.MAIN_CF)
    with state.lock():
        policy = Policy(judge=Judge(postfix.judge))
        outcome = reconcile(host, desired, policy, state, journal.emit)
    if not activate or outcome.result is Result.REJECTED:
        return outcome, ""
    mailbox: SimpleQueue[Trigger] = SimpleQueue()
    systemd = Systemd(mailbox.put)
    activation = Activation(
        systemd,
        postfix,
        state,
        mailbox.put,
        journal.emit,
        alias_file=lambda: alias_file(host.read().text or b""),
    )
    try:
        return outcome, _follow(activation, state, mailbox)
    finally:
        systemd.close()


def _follow(activation: Activation, state: State, mailbox: SimpleQueue[Trigger]) -> str:
    """Take the activation to its end, ours or the daemon's; return why it failed."""
    deadline = time.monotonic() + _ACTIVATION_SECONDS
    if sys.stderr.isatty() and state.pending() is not None:
        most = f"at most {RESTARTS_A_MINUTE} restarts a minute"
        print(f"waiting for Postfix to run with it ({most})", file=sys.stderr)
    while state.pending() is not None:
        activation.advance()
        if activation.failure:
            return activation.failure
        if time.monotonic() > deadline:
            return f"no end after {_ACTIVATION_SECONDS:.0f} s; see `pf-agent status`"
        patience = min(activation.patience() or 0.0, 1.0)
        try:
            mailbox.get(timeout=patience)
        except Empty:
            continue
    return ""
