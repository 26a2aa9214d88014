"""The displaced texts of main.cf: the latest, complete, each under its cycle's number."""

from __future__ import annotations

import os
import re
import stat
from typing import Final

from pf_agent.files.linux import type_of
from pf_agent.files.whole import half_written, read_ours, write_whole

DISPLACED: Final = "displaced"
DISPLACED_COUNT: Final = 200
DISPLACED_BYTES: Final = 50 * 1024 * 1024

_NAME = re.compile(r"(\d{8,12})(?:\.(\d+))?\.main\.cf")


def path_of(folder: str, cycle: int, again: str = "") -> str:
    """Return where the text of a cycle is kept; `again` tells the others of that cycle apart."""
    return os.path.join(folder, f"{cycle:08d}{again}.main.cf")


class DisplacedTexts:
    """The texts in `folder`: the latest `most_texts`, and of those at most `most_bytes`."""

    def __init__(
        self, folder: str, most_texts: int = DISPLACED_COUNT, most_bytes: int = DISPLACED_BYTES
    ) -> None:
        self._folder = folder
        self._most_texts = most_texts
        self._most_bytes = most_bytes

    def keep(self, cycle: int, text: bytes) -> str:
        """Keep `text` and return its path; the oldest are removed. Raises HostError."""
        path = self._path(cycle)
        again = 0
        while type_of(path) or _is_blocked(path):
            if type_of(path) == stat.S_IFREG and read_ours(path) == text:
                return path  # a crash came between keeping it and removing the original
            again += 1
            path = self._path(cycle, f".{again}")
        write_whole(path, text, 0o600, durable=True)
        self._prune(os.path.basename(path))
        return path

    def of(self, cycle: int) -> bytes | None:
        """Return the text that the cycle replaced, the first of several; None if none is kept."""
        return read_ours(self._path(cycle))

    def newest_cycle(self) -> int:
        """Return the highest cycle that has a text here; 0 for none."""
        matches = map(_NAME.fullmatch, os.listdir(self._folder))
        return max((int(match[1]) for match in matches if match is not None), default=0)

    def _path(self, cycle: int, again: str = "") -> str:
        return path_of(self._folder, cycle, again)

    def _prune(self, newest: str) -> None:
        """Remove the oldest texts.

        By their cycles, and `newest` never: if the clock was set back, the date would make the text
        just written the oldest.
        """
        # Anything else there is not ours: a directory, or a link to another place.
        files = [
            entry for entry in os.scandir(self._folder) if entry.is_file(follow_symlinks=False)
        ]
        entries = [entry for entry in files if entry.name.endswith(".main.cf")]
        entries.sort(key=lambda entry: (entry.name == newest, _rank(entry.name)), reverse=True)
        for stray in files:
            if stray.name.endswith(".new"):  # of a crash in another cycle; ours was renamed
                os.unlink(stray.path)
        total = 0
        for rank, entry in enumerate(entries):
            total += entry.stat().st_size
            if rank >= self._most_texts or (rank > 0 and total > self._most_bytes):
                os.unlink(entry.path)


def _is_blocked(path: str) -> bool:
    """Whether a directory has the file's temporary name."""
    return type_of(half_written(path)) == stat.S_IFDIR


def _rank(name: str) -> tuple[int, int]:
    """Return a text's cycle, and which of that cycle's texts it is; any other name sorts first."""
    match = _NAME.fullmatch(name)
    return (-1, 0) if match is None else (int(match[1]), int(match[2] or 0))
