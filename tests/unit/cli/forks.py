"""The command run in forks of one process that has loaded it: most of a run is to load it.

A fork has the rest of a process of its own: its namespaces, its streams, its end. pytest's own
process is not the one that forks, since it may have threads. test_main.py holds of each verb that
a fork does what a process that begins from nothing does.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from pf_agent.cli import (
    main,
    verbs_act,
    verbs_adopt,
    verbs_look,
    verbs_past,
    verbs_status,
    verbs_wish,
)
from tests.checkout import CHECKOUT

# So that a fork need not.
LOADED = (verbs_act, verbs_adopt, verbs_look, verbs_past, verbs_status, verbs_wish)
# sched.h; os.unshare is Python 3.12's.
_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000


class Forks:
    """The process, which is told what to run and answers with the exit code, a line each."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        paths = os.pathsep.join([environment["PYTHONPATH"], str(CHECKOUT)])
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from tests.unit.cli.forks import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={**environment, "PYTHONPATH": paths},
        )

    def run(self, mount: str, folder: Path, words: Sequence[str]) -> tuple[int, str, str]:
        """Return code, output and complaints of a run, once sh has made the mounts for it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as err:
            order = [mount, str(folder), list(words), out.name, err.name]
            print(json.dumps(order), file=self._process.stdin, flush=True)
            code = int(self._process.stdout.readline())
            return code, out.read().decode(), err.read().decode()

    def close(self) -> None:
        """No more runs."""
        self._process.communicate()


def serve() -> None:
    """Run one order after the other, until the input ends."""
    gc.freeze()  # no fork need visit, and so copy, what is loaded
    while line := sys.stdin.readline():
        child = os.fork()
        if child == 0:
            _run(*json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _run(mount: str, folder: str, words: Sequence[str], out: str, err: str) -> NoReturn:
    for descriptor, path in enumerate((os.devnull, out, err)):
        os.dup2(os.open(path, os.O_RDWR), descriptor)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)  # the old one has read ahead
    _unshare()
    subprocess.run(["sh", "-c", mount, folder], check=True)
    sys.argv[1:] = words
    main.entry()


def _unshare() -> None:
    """Enter a mount namespace of our own, as root of a user namespace where we are not root."""
    user, group = os.geteuid(), os.getegid()
    flags = _CLONE_NEWNS | (_CLONE_NEWUSER if user else 0)
    if ctypes.CDLL(None, use_errno=True).unshare(flags) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    if user:
        # user_namespaces(7): without the first, no group may be mapped.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
