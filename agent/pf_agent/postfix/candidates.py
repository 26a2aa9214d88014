"""Candidates: texts of main.cf that lie in a private folder of their own while they are judged."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from pf_agent.errors import HostError
from pf_agent.maincf.document import COOL_SECONDS, decoded

_PREFIX = "judge-"
_MOST_MASTER_CF = 1 << 20  # Debian's has 7 kB


class Candidates:
    """Those for the main.cf in `directory`; they lie below `run_directory`."""

    def __init__(self, directory: str, run_directory: str) -> None:
        self._directory = directory
        self._run_directory = run_directory

    @contextmanager
    def holding(self, text: bytes) -> Iterator[tuple[str, str]]:
        """Yield a private folder with `text` for main.cf; and the text of master.cf.

        /run is small, and anybody's program may fill it. The drift must not stand for that.
        Raises HostError.
        """
        with ExitStack() as stack:
            try:
                found = stack.enter_context(self._filled(text, self._run_directory))
            except OSError:
                try:
                    found = stack.enter_context(self._filled(text, None))
                except OSError as error:
                    place = f"{self._run_directory}, and {tempfile.gettempdir()}"
                    raise HostError(f"{place}: {error.strerror}; free space") from error
            yield found

    @contextmanager
    def _filled(self, text: bytes, place: str | None) -> Iterator[tuple[str, str]]:
        prefix = f"{_PREFIX}{os.getpid()}-"
        folder = tempfile.mkdtemp(prefix=prefix, dir=place)
        try:
            candidate = os.path.join(folder, "main.cf")
            with open(candidate, "wb") as file:
                file.write(text)
            cool = time.time() - COOL_SECONDS
            os.utime(candidate, (cool, cool))
            # Names made of a service's name (smtp_destination_...) are known by master.cf alone.
            master = _read(os.path.join(self._directory, "master.cf"))
            if master is not None:
                with open(os.path.join(folder, "master.cf"), "wb") as file:
                    file.write(master)
            yield folder, decoded(master or b"")
        finally:
            for _ in range(2):  # where one call fails, the next may not; systemd removes the rest
                shutil.rmtree(folder, ignore_errors=True)

    def tidy(self) -> None:
        """Remove the candidates that a crash left: whose process is no more, or has our pid.

        Call it before the first judgement. Raises HostError.
        """
        try:
            for name in os.listdir(self._run_directory):
                pid = name.removeprefix(_PREFIX).partition("-")[0]
                is_candidate = name.startswith(_PREFIX) and pid.isdecimal()
                if is_candidate and (pid == str(os.getpid()) or not os.path.exists(f"/proc/{pid}")):
                    _remove(os.path.join(self._run_directory, name))
        except OSError as error:
            raise HostError(f"{error.filename}: {error.strerror}; mend the folder") from error


def _read(path: str) -> bytes | None:
    """Return a file's bytes; None where there is none, or what no Postfix program could run with.

    A FIFO would hold us up until somebody writes to it, an endless file take our memory.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST_MASTER_CF:
            return None
        leads_elsewhere = found.st_nlink > 1 or os.path.islink(path)
        if leads_elsewhere and not found.st_mode & stat.S_IROTH:
            return None  # what Postfix says of it goes on record
        return os.read(handle, _MOST_MASTER_CF)
    finally:
        os.close(handle)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
