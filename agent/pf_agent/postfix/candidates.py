"""Candidates: texts of main.cf, each in a private directory of its own while it is judged."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from pf_agent.errors import HostError
from pf_agent.maincf.document import COOL_SECONDS
from pf_agent.maincf.master_cf import MasterCf
from pf_agent.words.outgoing import PROCESS

_PREFIX = "judge-"
_MOST_MASTER_CF = 1 << 20  # Debian's is 7 kB


class Candidates:
    """The candidates for the main.cf in `directory`; they are kept below `run_directory`."""

    def __init__(self, directory: str, run_directory: str) -> None:
        self._directory = directory
        self._master_cf = os.path.join(directory, "master.cf")
        self._run_directory = run_directory

    @contextmanager
    def holding(self, text: bytes, master: bytes | None = None) -> Iterator[tuple[str, bytes]]:
        """Yield a private directory with `text` as its main.cf; and the text of master.cf.

        That is `master`, or the host's own.

        /run is small, and any program may fill it. A correction must not wait for space there.
        Raises HostError.
        """
        with ExitStack() as stack:
            try:
                found = stack.enter_context(self._filled(text, master, self._run_directory))
            except OSError:
                try:
                    found = stack.enter_context(self._filled(text, master, None))
                except OSError as error:
                    place = f"{self._run_directory}, and {tempfile.gettempdir()}"
                    raise HostError(f"{place}: {error.strerror}; free space") from error
            yield found

    @contextmanager
    def _filled(
        self, text: bytes, master: bytes | None, place: str | None
    ) -> Iterator[tuple[str, bytes]]:
        prefix = f"{_PREFIX}{os.getpid()}-"
        folder = tempfile.mkdtemp(prefix=prefix, dir=place)
        try:
            candidate = os.path.join(folder, "main.cf")
            with open(candidate, "wb") as file:
                file.write(text)
            cool = time.time() - COOL_SECONDS
            os.utime(candidate, (cool, cool))
            # Parameters named after a service (smtp_destination_...) are known from master.cf only.
            master = _read(self._master_cf) if master is None else master
            if master is not None:
                with open(os.path.join(folder, "master.cf"), "wb") as file:
                    file.write(master)
            PROCESS.read_main_cf(text)
            _note_master_cf(master)
            yield folder, master or b""
        finally:
            for _ in range(2):  # a call may fail once; systemd removes the rest
                shutil.rmtree(folder, ignore_errors=True)

    def main_cf(self) -> bytes:
        """Return the host's own main.cf; nothing if there is none that can be used."""
        with suppress(OSError):
            return _read(os.path.join(self._directory, "main.cf")) or b""
        return b""

    def master_cf(self) -> MasterCf:
        """Return the host's own master.cf. Raises HostError, also if Postfix refuses it."""
        try:
            # Wherever it leads: Postfix reads it there, too.
            text = _read(self._master_cf, is_followed=True)
        except OSError as error:
            raise HostError(f"{self._master_cf}: {error.strerror}; fix it") from error
        if text is None:
            fact = "no Postfix program could read it"
            way = "install the package postfix, or put one there"
            raise HostError(f"{self._master_cf}: {fact}; {way}")
        _note_master_cf(text)
        found = MasterCf.parse(text)
        if refused := found.refused():
            line, why = refused[0]
            fault = why.partition(' "')[0]  # not the text, which may be that of another file
            raise HostError(f"{self._master_cf}:{line}: {fault}; correct the line")
        return found

    def note_secrets(self) -> None:
        """Note the secrets in the host's own files, which a program may quote."""
        for name, note in (("main.cf", PROCESS.read_main_cf), ("master.cf", _note_master_cf)):
            with suppress(OSError):
                note(_read(os.path.join(self._directory, name)))

    def tidy(self) -> None:
        """Remove candidates left by a crash: their process is gone, or has our own pid.

        To be called before the first judgement. Raises HostError.
        """
        try:
            for name in os.listdir(self._run_directory):
                pid = name.removeprefix(_PREFIX).partition("-")[0]
                is_candidate = name.startswith(_PREFIX) and pid.isdecimal()
                if is_candidate and (pid == str(os.getpid()) or not os.path.exists(f"/proc/{pid}")):
                    _remove(os.path.join(self._run_directory, name))
        except OSError as error:
            raise HostError(f"{error.filename}: {error.strerror}; fix the directory") from error


def _read(path: str, is_followed: bool = False) -> bytes | None:
    """Return a file's bytes; None if there is none, or none that a Postfix program could use.

    A FIFO would block us until a process writes to it; an endless file would fill our memory. A
    file with another name that not every user may read is returned only if `is_followed`.
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
        if leads_elsewhere and not is_followed and not found.st_mode & stat.S_IROTH:
            return None  # Postfix's own message is recorded instead
        return os.read(handle, _MOST_MASTER_CF)
    finally:
        os.close(handle)


def _note_master_cf(text: bytes | None) -> None:
    PROCESS.read_master_cf(text or b"")


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
