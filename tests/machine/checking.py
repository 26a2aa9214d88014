"""Checks that run inside a machine: those of a module inside_*.py, one by one."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from tests.checkout import CHECKOUT
from tests.machine.inside_checks import END
from tests.machine.nspawn import Machine

_FOLDER = "/root/inside"
_HERE = Path(__file__).parent
_SECONDS = 240.0
_END_SECONDS = 30.0


def checks_in(module: str) -> list[str]:
    """Return the names of a module's checks, in their order."""
    lines = (_HERE / f"{module}.py").read_text().splitlines()
    return [line.split()[1].partition("(")[0] for line in lines if line.startswith("def check_")]


class Checks:
    """A module's checks in a machine, where one process runs them when asked."""

    def __init__(self, running: subprocess.Popen[bytes], complaints: IO[bytes]) -> None:
        self._running, self._complaints = running, complaints

    def run(self, name: str) -> str:
        """Run one; return what it printed. It has passed if `ok   NAME` is in it."""
        asked, told = self._running.stdin, self._running.stdout
        assert asked is not None
        assert told is not None
        asked.write(f"{name}\n".encode())
        asked.flush()
        printed, deadline = b"", time.monotonic() + _SECONDS
        while not printed.endswith(f"{END}\n".encode()):
            is_told = select.select([told], [], [], max(0.0, deadline - time.monotonic()))[0]
            new = os.read(told.fileno(), 1 << 16) if is_told else b""
            text = printed.decode("utf-8", "replace")
            assert new, f"{name} did not end\n{text}{self.complaints()}"
            printed += new
        return printed.decode("utf-8", "replace")

    def complaints(self) -> str:
        """Return what is on their standard error until now."""
        file = self._complaints.fileno()
        return os.pread(file, os.fstat(file).st_size, 0).decode("utf-8", "replace")

    def close(self) -> None:
        """End the process: a machine that shuts itself down would wait for it."""
        assert self._running.stdin is not None
        self._running.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._running.wait(_END_SECONDS)
        self._running.kill()


@contextmanager
def checks(machine: Machine, module: str, others: Sequence[str] = ()) -> Iterator[Checks]:
    """Have a machine run the checks of a module, which imports the others."""
    modules = [_HERE / f"{name}.py" for name in (module, "inside_checks", *others)]
    machine.copy_in([CHECKOUT / "agent"], _FOLDER)
    machine.copy_in(modules, f"{_FOLDER}/tests/machine")
    paths = f"PYTHONPATH={_FOLDER}/agent:{_FOLDER}"
    python = ["env", paths, "PYTHONDONTWRITEBYTECODE=1", "python3"]
    with tempfile.TemporaryFile() as complaints:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": complaints}
        command = [*python, "-m", f"tests.machine.{module}"]
        with machine.start(command, bufsize=0, **pipes) as running:
            inside = Checks(running, complaints)
            try:
                yield inside
            finally:
                inside.close()
