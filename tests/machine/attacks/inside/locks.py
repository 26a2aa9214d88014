"""Locks and leases on files that the attacker may only read, and on its own."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from contextlib import ExitStack, suppress

from .ground import HOME, Steps, Won, forbidden, open_and_close

MAIN_CF = "/etc/postfix/main.cf"
_READABLE = (
    *(MAIN_CF, f"{MAIN_CF}.tmp", "/etc/postfix/master.cf", "/etc/aliases", "/etc/postfix"),
    *("/etc/pf-agent/desired.toml", "/etc/pf-agent/agent.toml", "/etc/pf-agent/desired.d"),
    *("/etc/pf-agent", "/run/pf-agent", "/run/pf-agent/status.json", "/usr/bin/pf-agent", "/etc"),
    *("/run/pf-agent/drifts.json", "/run/pf-agent/lock", "/var/lib/dpkg/status", "/var/lib/dpkg"),
    *("/var/spool/postfix", "/var/spool/postfix/pid/master.pid"),
)
_SHARED = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)


def _held(paths: tuple[str, ...]) -> Steps:
    """Hold every lock that the kernel gives a reader; of a file that was exchanged, the new one."""
    handles: dict[str, int] = {}
    locked: set[str] = set()
    try:
        while True:
            for path in paths:
                with suppress(OSError):
                    _lock(path, handles)
                    locked.add(path)
            assert locked, f"none of {' '.join(paths)} can be locked"
            yield
            time.sleep(0.002)
    finally:
        for handle in handles.values():
            os.close(handle)


def _lock(path: str, handles: dict[str, int]) -> None:
    held = handles.get(path)
    if held is None or not os.path.samestat(os.fstat(held), os.stat(path)):
        handles[path] = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        if held is not None:
            os.close(held)
        with suppress(OSError):
            fcntl.fcntl(handles[path], fcntl.F_SETLK, _SHARED)
    fcntl.flock(handles[path], fcntl.LOCK_EX | fcntl.LOCK_NB)


def flocks(won: Won) -> Steps:
    """Locks main.cf and all else that it may open: flock(2) asks for no right to write."""
    return _held(_READABLE)


def flock_on_the_aliases(won: Won) -> Steps:
    """Locks the database of the aliases, which newaliases and local(8) wait for."""
    return _held(("/etc/aliases.db",))


def dpkgs_locks(won: Won) -> Steps:
    """Tries the locks of dpkg and apt, so that the agent would wait for their end."""
    paths = [f"/var/lib/dpkg/{name}" for name in ("lock", "lock-frontend")]
    paths += ["/var/lib/apt/lists/lock", "/var/cache/apt/archives/lock"]
    while True:
        for path in paths:
            for flags in (os.O_RDONLY, os.O_RDWR):
                forbidden(won, f"opened {path}", open_and_close, path, flags)
        yield
        time.sleep(0.05)


def leases(won: Won) -> Steps:
    """Takes leases: on root's files, which it may not, and on its own, whose openers then wait."""
    own = [f"{HOME}/{name}" for name in ("table", "table.db", "list", "aliases", "aliases.db")]
    with ExitStack() as stack:
        for path in (MAIN_CF, "/etc/aliases", "/etc/pf-agent/desired.toml"):
            with open(path, "rb") as file:
                asked = (file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
                forbidden(won, f"a lease on {path}", fcntl.fcntl, *asked)
        while True:
            for path in own:
                with suppress(OSError):
                    handle = os.open(path, os.O_RDWR | os.O_NONBLOCK)
                    stack.callback(os.close, handle)
                    fcntl.fcntl(handle, fcntl.F_SETSIG, 23)  # SIGURG, which ends nobody
                    fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            yield
            time.sleep(1)


def open_for_ever(won: Won) -> Steps:
    """Opens main.cf 500 times, each new one as well, and reads it over and over."""
    handles: list[int] = []
    try:
        while True:
            with suppress(OSError):
                handles.append(os.open(MAIN_CF, os.O_RDONLY))
            if len(handles) > 500:
                os.close(handles.pop(0))
            for handle in handles[-20:]:
                os.pread(handle, 1 << 16, 0)
            yield
    finally:
        for handle in handles:
            os.close(handle)
