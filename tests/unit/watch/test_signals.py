"""Signals become triggers, whatever the main thread is at. Each test is a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.package import AGENT

# The main thread waits for the mailbox without an end, as a quiet daemon does; a signal that came
# just before the wait began must wake it all the same.
PROGRAM = """
import os, signal, sys
from queue import SimpleQueue
from pf_agent.watch import signals
mailbox = SimpleQueue()
signals.listen(mailbox.put)
for name in sys.argv[1:]:
    for _ in range(200):
        os.kill(os.getpid(), getattr(signal, name))
        trigger = mailbox.get()
        assert trigger.detail == name, trigger
    print(trigger.reason.value, trigger.detail)
"""

LOST_WAKE_UP = """
import os, signal, subprocess, sys
from queue import SimpleQueue
from pf_agent.watch import signals
mailbox = SimpleQueue()
signals.listen(mailbox.put)
for _ in range(500):
    # Another process sends it: it may arrive at any point of the way into get().
    sender = subprocess.Popen(["/bin/sh", "-c", f"kill -HUP {os.getpid()}"])
    mailbox.get()
    sender.wait()
print("all heard")
"""


def run(program: str, *arguments: str) -> str:
    command = [sys.executable, "-c", program, *arguments]
    env = {**os.environ, "PYTHONPATH": AGENT}
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 0
    return done.stdout


def test_each_signal_has_its_reason() -> None:
    assert run(PROGRAM, "SIGHUP", "SIGTERM", "SIGINT") == (
        "reload SIGHUP\nstop SIGTERM\nstop SIGINT\n"
    )


def test_no_wake_up_is_lost() -> None:
    assert run(LOST_WAKE_UP) == "all heard\n"


def test_what_python_is_not_told_of_ends_nothing() -> None:
    """A signal that is none of ours keeps its own action."""
    program = PROGRAM.replace("print(trigger", "signal.raise_signal(signal.SIGCHLD); print(trigger")
    assert run(program, "SIGHUP") == "reload SIGHUP\n"
