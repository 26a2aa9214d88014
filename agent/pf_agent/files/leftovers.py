"""What an exchange leaves beside main.cf: interrupted, or still being written.

A file of ours has the name under which the new text was prepared, and holds that text or the
displaced one. One that a writer had open during the exchange waits until the writer has closed it,
under a name that tells which text took its place.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress

from pf_agent.files.edit_lock import is_abandoned, lock_path
from pf_agent.files.nature import Nature
from pf_agent.files.regular import RegularFile, read_regular
from pf_agent.files.set_aside import NO_FILE, TOO_LARGE, misfit_at, set_aside
from pf_agent.model import Late

_OURS = "pf-agent-"
_LATE = "late-"


class Leftovers:
    """The files beside the document at `path`."""

    def __init__(self, path: str, nature: Nature) -> None:
        self._path = path
        self._nature = nature
        folder, name = os.path.split(path)
        self._directory = folder or "."
        self._ours_begin, self._late_begin = f".{name}.{_OURS}", f".{name}.{_LATE}"

    def new_name(self) -> str:
        """Return the path of a new file of ours."""
        return os.path.join(self._directory, f"{self._ours_begin}{os.getpid()}-{time.time_ns()}")

    def is_alone(self) -> bool:
        """Tell whether there is nothing for `is_cut_off` or `late`."""
        lock = os.path.basename(lock_path(self._path)) if self._nature.is_locked else ""
        begins = (self._ours_begin, self._late_begin)
        with suppress(OSError):
            names = os.listdir(self._directory)
            return not any(name.startswith(begins) or name == lock for name in names)
        return True

    def is_cut_off(self) -> bool:
        """Tell whether a file of ours was left, or the lock file."""
        return bool(self._ours()) or (self._nature.is_locked and is_abandoned(self._path))

    def take_up(self, keep: Callable[[bytes], None]) -> None:
        """Give `keep` what files of ours hold, and remove them. Raises OSError.

        Anything else was in main.cf's place before an interrupted exchange.
        """
        for path in self._ours():
            if misfit_at(path):
                set_aside(path, self._path, NO_FILE)
                continue
            found = read_regular(path, self._nature) if os.path.isfile(path) else None
            if found is not None and found.text:
                keep(found.text)
            self.drop(path, found)

    def drop(self, path: str, found: RegularFile | None) -> str:
        """Remove a file; move one that is too large to be kept elsewhere, and return where to."""
        if found is not None and found.is_too_large:
            return set_aside(path, self._path, TOO_LARGE)
        os.unlink(path)
        return ""

    def await_writer(self, path: str, instead: bytes) -> None:
        """Let a file of ours wait for its writer; `instead` took its place. Raises OSError."""
        name = f"{self._late_begin}{time.time_ns()}-{_digest(instead)}"
        os.rename(path, os.path.join(self._directory, name))

    def is_awaited(self) -> bool:
        """Tell whether a file is waiting for its writer."""
        return bool(self._late())

    def late(self, stands: Callable[[], bytes | None]) -> Late | None:
        """Return what the writer left, None until it has closed the file. Raises OSError.

        `stands` returns main.cf's current text.
        """
        for path in self._late():
            found = read_regular(path, self._nature)
            if found.text is None:
                self.drop(path, found)
            elif not found.is_open:
                return Late(found.text, path.endswith(_digest(stands() or b"")), path)
        return None

    def _ours(self) -> list[str]:
        with suppress(OSError):
            return sorted(e.path for e in self._beginning(self._ours_begin))
        return []

    def _late(self) -> list[str]:
        with suppress(OSError):
            found = self._beginning(self._late_begin)
            return sorted(e.path for e in found if e.is_file(follow_symlinks=False))
        return []

    def _beginning(self, begin: str) -> list[os.DirEntry[str]]:
        return [entry for entry in os.scandir(self._directory) if entry.name.startswith(begin)]


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:16]
