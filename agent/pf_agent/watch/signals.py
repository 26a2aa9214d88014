"""SIGTERM, SIGINT and SIGHUP -> triggers in the mailbox.

Not through a handler that posts: a signal that arrives between Python's last check of its flags and
the main thread's wait for the mailbox does not interrupt that wait, and the stop would only be
noticed after it. The C handler writes to a socket at once (signal.set_wakeup_fd), and a thread
reads it.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable

from pf_agent.model import Reason, Trigger

_REASONS = {
    signal.SIGTERM: Reason.STOP,
    signal.SIGINT: Reason.STOP,
    signal.SIGHUP: Reason.RELOAD,
}


def listen(post: Callable[[Trigger], None]) -> None:
    """Post a trigger for each signal from now on. To be called once, in the main thread."""
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.detach(), warn_on_full_buffer=False)
    for number in _REASONS:
        signal.signal(number, _noted)

    def run() -> None:
        for number in iter(lambda: receiver.recv(1), b""):
            signal_number = signal.Signals(number[0])
            if signal_number in _REASONS:
                post(Trigger(_REASONS[signal_number], signal_number.name))

    threading.Thread(target=run, name="signals", daemon=True).start()


def _noted(_number: int, _frame: object) -> None:
    """Do nothing: Python only installs its C handler for a signal that has a Python handler."""
