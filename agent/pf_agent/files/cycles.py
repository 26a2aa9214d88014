"""Cycle numbers: one sequence for all instances and processes, in a life that has a name.

A life begins with a new state directory and ends when that is removed, for example by a purge. The
journal keeps the records of each, and the numbers start again: the name tells them apart.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress

from pf_agent.config.readback import count_of
from pf_agent.errors import HostError
from pf_agent.files import kept_marker
from pf_agent.files.displaced_texts import DISPLACED, DisplacedTexts
from pf_agent.files.linux import contents, fill
from pf_agent.files.locks import held
from pf_agent.files.whole import host_error, read_ours, write_whole

CYCLE = "cycle"
LIFE = "life"
# Below it each instance but the default one has its directory.
INSTANCES = "instances"
# In an instance's directory, that of each of its documents but main.cf.
DOCUMENTS = "documents"

_DIGITS = 12
_LIFE_BYTES = 3
_LIFE_NAME = re.compile(rb"[0-9a-f]{%d}\n" % (_LIFE_BYTES * 2))


class Cycles:
    """The counter in `directory`, that of the default instance."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._path = os.path.join(directory, CYCLE)
        self._last: int | None = None
        self._life = ""
        self._is_begun = False  # whether the life's name is settled

    def next(self) -> int:
        """Return the number of a new cycle, higher than any that left a trace. Raises HostError.

        Safe between processes: the counter is locked while it is increased.
        """
        with held(self._path) as handle:
            # The counter may be lost or old: it is not synced, and a backup may restore another
            # one.
            last = self._last
            if last is None:  # list them once: 200 names take a tenth of a correction
                last = max(_traces(self._directory), default=0)
            try:
                with suppress(ValueError):
                    last = max(last, count_of(int(contents(handle, _DIGITS, _DIGITS) or b"0")))
                self._last = last + 1
                # Always of the same length, since a damaged counter is as good as lost.
                os.lseek(handle, 0, os.SEEK_SET)
                fill(handle, b"%0*d\n" % (_DIGITS, self._last))
                os.ftruncate(handle, _DIGITS + 1)
            except OSError as error:
                raise host_error(self._path, error) from error
        return self._last

    def life(self) -> str:
        """Return the life's name, six hexadecimal digits; "" if it has none. Raises HostError."""
        if not self._life and not self._is_begun:
            found = read_ours(os.path.join(self._directory, LIFE))
            if found is not None and _LIFE_NAME.fullmatch(found):
                self._life = found.decode("ascii").strip()
        return self._life

    def begin_life(self) -> None:
        """Give a life that has just begun a name. Raises HostError.

        A life with cycles from before names were introduced continues without one: then all of its
        records are treated alike.
        """
        if self._is_begun or self.life():
            return
        with held(self._path):
            # Another process may have been first.
            if not self.life() and not max(_traces(self._directory), default=0):
                name = secrets.token_hex(_LIFE_BYTES)
                path = os.path.join(self._directory, LIFE)
                write_whole(path, f"{name}\n".encode("ascii"), 0o600, durable=True)
                self._life = name
        self._is_begun = True


def _traces(directory: str) -> Iterator[int]:
    """Yield the cycles of all instances of which something is kept.

    Before there was one sequence for all, each instance had a counter in its own directory.
    """
    folders = [directory]
    with suppress(FileNotFoundError):
        inner = os.path.join(directory, INSTANCES)
        folders += [os.path.join(inner, name) for name in os.listdir(inner)]
    for folder in [*folders]:
        with suppress(FileNotFoundError, NotADirectoryError):
            inner = os.path.join(folder, DOCUMENTS)
            folders += [os.path.join(inner, name) for name in os.listdir(inner)]
    for folder in folders:
        with suppress(FileNotFoundError, NotADirectoryError):
            yield DisplacedTexts(os.path.join(folder, DISPLACED)).newest_cycle()
        with suppress(HostError, ValueError):
            yield count_of(int(read_ours(os.path.join(folder, CYCLE)) or b"0"))
        with suppress(HostError, ValueError, RecursionError):
            marker = read_ours(os.path.join(folder, kept_marker.PENDING))
            if marker is not None:
                yield kept_marker.from_json(json.loads(marker)).cycle
