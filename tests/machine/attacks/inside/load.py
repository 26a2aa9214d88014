"""Load: processes, memory, watches, full folders; each within bounds of its own."""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import time
from contextlib import suppress

from .ground import MARK, Steps, Won

_MOST_PROCESSES = 300
_SPINNING = 6
_MEMORY = 256 << 20
_MOST_FILLED = 64 << 20
_WATCHED = ("/etc/postfix", "/etc/pf-agent", "/run/pf-agent", "/etc", "/var/lib/dpkg")
_ALL_EVENTS = 0xFFF


def processes(won: Won) -> Steps:
    """Forks up to 300 processes; six of them work as hard as they can."""
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (_MOST_PROCESSES, hard))
    children: list[int] = []
    try:
        while True:
            with suppress(OSError):
                while len(children) < _MOST_PROCESSES:
                    pid = os.fork()
                    if pid == 0:
                        signal.alarm(200)
                        while len(children) < _SPINNING:
                            pass
                        signal.pause()
                        os._exit(0)
                    children.append(pid)
            yield
            time.sleep(0.05)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def memory(won: Won) -> Steps:
    """Takes 256 MiB, and writes to all of it again and again."""
    taken = bytearray(_MEMORY)
    while True:
        for at in range(0, _MEMORY, 4096):
            taken[at] = (taken[at] + 1) % 256
            if at % (16 << 20) == 0:
                yield
        time.sleep(0.05)


def _filled(folder: str) -> Steps:
    path = f"{folder}/{MARK}-filler"
    try:
        with open(path, "wb", buffering=0) as file:
            written = 0
            while True:
                with suppress(OSError):
                    while written < _MOST_FILLED:
                        written += file.write(b"\0" * 65536)
                yield
                time.sleep(0.05)
    finally:
        os.unlink(path)


def full_tmp(won: Won) -> Steps:
    """Fills /tmp to its last byte."""
    return _filled("/tmp")


def full_run_lock(won: Won) -> Steps:
    """Fills /run/lock to its last byte."""
    return _filled("/run/lock")


def full_var_tmp(won: Won) -> Steps:
    """Fills /var/tmp to its last byte."""
    return _filled("/var/tmp")


def watches(won: Won) -> Steps:
    """Watches the agent's folders by all the inotify instances of one user, and reads nothing."""
    libc = ctypes.CDLL(None, use_errno=True)
    handles: list[int] = []
    while True:
        for _ in range(20):
            handle = libc.inotify_init1(os.O_NONBLOCK)
            if handle >= 0:
                handles.append(handle)
                for folder in _WATCHED:
                    libc.inotify_add_watch(handle, folder.encode(), _ALL_EVENTS)
        yield
        time.sleep(0.05)


def descriptors(won: Won) -> Steps:
    """Opens as many files, pipes and polls as one process may, and keeps them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))
    kept: list[object] = []
    while True:
        with suppress(OSError):
            while True:
                kept.append(os.pipe())
                kept.append(select.epoll())
        yield
        time.sleep(0.05)
