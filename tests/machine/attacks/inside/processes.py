"""Processes: names of others, signals, ptrace(2), and the command itself."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress

from .ground import MARK, Steps, Won, forbidden, open_and_close

_PR_SET_NAME = 15
_PTRACE_ATTACH = 16
_PTRACE_SEIZE = 0x4206
_COMMAND = "/usr/bin/pf-agent"
_NAMES = ("postfix", "master", "dpkg", "apt-get", "pf-agent", "postconf", "a\nPF_AGENT_EVENT=x")


def _of_the_agent() -> Iterator[int]:
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            with open(f"/proc/{name}/cmdline", "rb") as file:
                words = file.read()
            is_its = b"pf-agent" in words or b"pf_agent" in words
            if is_its and os.stat(f"/proc/{name}").st_uid == 0:
                yield int(name)


def _read(path: str) -> None:
    with open(path, "rb") as file:
        file.read(1)


def names_of_others(won: Won) -> Steps:
    """Runs under the names of Postfix, dpkg, apt and the agent, with their command lines."""
    libc = ctypes.CDLL(None)
    children = []
    try:
        for name in _NAMES:
            pid = os.fork()
            if pid == 0:
                libc.prctl(_PR_SET_NAME, name.encode())
                os.execv("/bin/sleep", [f"/usr/sbin/{name}", "240"])
            children.append(pid)
        number = 0
        while True:
            libc.prctl(_PR_SET_NAME, _NAMES[number % len(_NAMES)].encode())
            number += 1
            yield
            time.sleep(0.01)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def signals(won: Won) -> Steps:
    """Sends the agent's processes signals, and traces them."""
    libc = ctypes.CDLL(None, use_errno=True)
    while True:
        for pid in _of_the_agent():
            for number in (signal.SIGHUP, signal.SIGSTOP, signal.SIGTERM, signal.SIGKILL):
                forbidden(won, f"signal {number} to the agent", os.kill, pid, number)
            for request in (_PTRACE_ATTACH, _PTRACE_SEIZE):
                if libc.ptrace(request, pid, None, None) == 0:
                    won("it traces the agent")
            for name in ("mem", "environ", "maps", "stack", "fd/0", "auxv"):
                forbidden(won, f"read {name} of the agent", _read, f"/proc/{pid}/{name}")
            for name in ("oom_score_adj", "comm", "coredump_filter", "clear_refs"):
                path = f"/proc/{pid}/{name}"
                forbidden(won, f"opened {name} of the agent", open_and_close, path, os.O_WRONLY)
            limited = (pid, resource.RLIMIT_NOFILE, (10, 10))
            forbidden(won, "limited the agent", resource.prlimit, *limited)
            forbidden(won, "moved the agent", os.sched_setaffinity, pid, {0})
            forbidden(won, "slowed the agent", os.setpriority, os.PRIO_PROCESS, pid, 19)
        yield
        time.sleep(0.1)


def commands(won: Won) -> Steps:
    """Gives every order that the command has, with an environment of its own making."""
    environment = {
        **{"PATH": "/tmp", "PYTHONPATH": f"/var/tmp/{MARK}", "LD_PRELOAD": f"/var/tmp/{MARK}.so"},
        **{"LANG": "x" * 5000, "LC_ALL": f"{MARK}/../..", "PF_AGENT_CONFIG": "/var/tmp", "TZ": "/"},
        **{"NOTIFY_SOCKET": "/var/tmp/x", "JOURNAL_STREAM": "1:1", "LISTEN_FDS": "9"},
        **{"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/var/tmp/x", "COLUMNS": "-1", "PAGER": "/tmp/x"},
    }
    orders = (
        ("apply",),
        ("suspend",),
        ("resume",),
        ("set", "mynetworks=0.0.0.0/0"),
        ("adopt", "mynetworks"),
        ("restore", "1"),
        ("init",),
        ("run",),
    )
    while True:
        for order in orders:
            for given in (environment, None):
                done = subprocess.run(
                    [_COMMAND, *order],
                    env=given,
                    cwd="/var/tmp",
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    timeout=60,
                    check=False,
                )
                if done.returncode == 0:
                    won(f"pf-agent {' '.join(order)} ended well: {done.stdout[-200:]!r}")
                if done.returncode < 0 or not done.stdout:
                    won(f"pf-agent {' '.join(order)} ended with {done.returncode}, unsaid why")
                if b"Traceback" in done.stdout:
                    won(f"pf-agent {' '.join(order)} has a traceback: {done.stdout[-500:]!r}")
        yield


def notifications(won: Won) -> Steps:
    """Tells systemd, in the agent's name, that it stops, and to feed no watchdog (sd_notify(3))."""
    texts = (b"STOPPING=1", b"WATCHDOG=trigger", b"STATUS=" + MARK.encode(), b"MAINPID=1")
    while True:
        for text in texts:
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
                link.sendto(text, "/run/systemd/notify")
        yield
        time.sleep(0.05)
