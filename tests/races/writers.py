"""Every way of saving a file, by writers that know at each moment which text they took away.

A writer that replaces the file does it by an exchange, so that what stood there is in his hand. Who
writes in place reads, through the same descriptor, what he is about to overwrite; one at a time
does so (the pen). Plain programs can do neither: while one of them runs, no other writer may.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import FileIO
from typing import IO

from tests.races.texts import FIRST, LAST, Base, Form, digest

_AT_FDCWD, _NOREPLACE, _EXCHANGE = -100, 1, 2
_libc = ctypes.CDLL(None, use_errno=True)

_COOL_SECONDS = 3
# No vi among them: it writes nothing where the file changes while it reads, and says so to nobody.
# Shell scripts: $1 is the file, $2 a finished text.
_KNOWN = {
    "mv": 'mv "$2" "$1"',
    "cp": 'cp "$2" "$1"',
    "cat >": 'cat "$2" > "$1"',
    "rm and cp": 'rm "$1"; cp "$2" "$1"',
}
# Those that put one whole text in another's place, and nothing else.
_WHOLE_WAYS = {"exchange": 30, "link": 10, "mv": 2, "sed -i": 2}
_ALL_WAYS = {
    **{"exchange": 20, "away": 15, "away, linked": 10, "backup": 10, "link": 10},
    **{"truncate": 20, "overwrite": 10, "append": 10, "part": 10, "slow": 1, "hard link": 10},
    **dict.fromkeys([*_KNOWN, "sed -i", "tee -a"], 1),
}
_POSTCONF = "postconf -e"


def ways(form: Form, is_whole: bool) -> dict[str, int]:
    """Return the ways of saving such a file, each with its share."""
    found = _WHOLE_WAYS if is_whole else _ALL_WAYS
    return {**found, _POSTCONF: found["sed -i"]} if form.is_main_cf else found


def _edits(form: Form, number: int) -> dict[str, str]:
    """Return the shell scripts of the programs that edit what they find; $1 is the file."""
    first, last = (f"{(form.sign + mark).decode()} = n" for mark in (FIRST, LAST))
    drift, begins = form.drift(number).decode(), form.begins.decode()
    marks = ";".join(f"s|^{mark}.*|{mark}{number}|" for mark in (first, last))
    return {
        "sed -i": f"sed -i -E '{marks};s|^{begins}.*|{drift}|' \"$1\"",
        _POSTCONF: f"postconf -e '{first}{number}' '{last}{number}' '{drift}'",
        "tee -a": f"echo '{drift}' | tee -a \"$1\" > /dev/null",
    }


def renameat2(source: str, target: str, flags: int) -> None:
    names = os.fsencode(source), os.fsencode(target)
    if _libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), target)


@contextmanager
def held(lock: int, operation: int) -> Iterator[None]:
    fcntl.flock(lock, operation)
    try:
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)


@dataclass
class Writer:
    """One of several that run at once. `folder` is a scratch folder on the file's file system,
    `log` is on a tmpfs."""

    path: str
    base: Base
    index: int
    folder: str
    log: IO[str]
    pauses: random.Random
    hand: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._calm, self._pen = (
            os.open(f"{self.folder}/{name}", os.O_RDWR | os.O_CREAT) for name in ("calm", "pen")
        )
        self._serial = 0

    def run(self, numbers: range, ways: dict[str, int], pause: float) -> None:
        """Write each number once; wait `pause` seconds between two, on the average."""
        choices = self.pauses.choices(list(ways), list(ways.values()), k=len(numbers))
        for number, way in zip(numbers, choices, strict=True):
            self._write(number, way)
            self._empty_hand(fcntl.LOCK_NB)
            time.sleep(self.pauses.random() * 2 * pause)
        self._empty_hand()

    def _write(self, number: int, way: str) -> None:
        edits = _edits(self.base.form, number)
        if script := {**_KNOWN, **edits}.get(way):
            with held(self._calm, fcntl.LOCK_EX):
                written = self._by_program(number, way, script)
        else:
            ways: dict[str, Callable[[int], str]] = {
                "exchange": self._exchange,
                "link": self._exchange_link,
                "away": self._away,
                "away, linked": self._away_linked,
                "backup": self._backup,
                "hard link": self._hard_link,
            }
            with held(self._calm, fcntl.LOCK_SH):
                written = ways[way](number) if way in ways else self._in_place(number, way)
        self._note(wrote=number, way=way, digest=written)

    def _note(self, **fields: object) -> None:
        self.log.write(json.dumps(fields) + "\n")

    def _took(self, text: bytes) -> None:
        """This writer, and not the agent, has taken that text away."""
        self._note(took=self.base.form.number_of(text), digest=digest(text))

    # --- replacing ----------------------------------------------------------------------------

    def _new(self, number: int) -> str:
        path = f"{self.path}.{self.index}.new"
        with open(path, "wb") as file:
            file.write(self.base.version(number))
        # Else each program of Postfix that reads it would wait two seconds first.
        cool = time.time() - _COOL_SECONDS
        os.utime(path, (cool, cool))
        return path

    def _exchange(self, number: int) -> str:
        self._place(self._new(number))
        return digest(self.base.version(number))

    def _exchange_link(self, number: int) -> str:
        new = self._new(number)
        os.link(new, f"{new}.link")
        os.unlink(new)
        self._place(f"{new}.link")
        return digest(self.base.version(number))

    def _place(self, new: str) -> None:
        while True:
            try:
                renameat2(new, self.path, _EXCHANGE)
                break
            except FileNotFoundError:
                with suppress(FileExistsError):
                    renameat2(new, self.path, _NOREPLACE)
                    return
        self._take(new)

    def _take(self, path: str) -> None:
        self._serial += 1
        mine = f"{self.folder}/hand-{self.index}-{self._serial}"
        with suppress(FileNotFoundError):
            os.rename(path, mine)
            self.hand.append(mine)

    def _empty_hand(self, blocking: int = 0) -> None:
        """Read what was taken, at a moment when nobody can be writing to it any more."""
        with suppress(BlockingIOError), held(self._pen, fcntl.LOCK_EX | blocking):
            for path in self.hand:
                with open(path, "rb") as file:
                    self._took(file.read())
                os.unlink(path)
            self.hand.clear()

    def _away(self, number: int) -> str:
        new = self._new(number)
        self._take(self.path)
        self._place(new)
        return digest(self.base.version(number))

    def _away_linked(self, number: int) -> str:
        new = self._new(number)
        self._take(self.path)
        try:
            os.link(new, self.path)
        except FileExistsError:
            self._place(new)
        else:
            os.unlink(new)
        return digest(self.base.version(number))

    def _backup(self, number: int) -> str:
        self._take(self.path)
        return self._in_place(number, "truncate", os.O_CREAT)

    # --- in place -----------------------------------------------------------------------------

    def _in_place(self, number: int, way: str, create: int = 0, path: str = "") -> str:
        with held(self._pen, fcntl.LOCK_EX):
            try:
                handle = os.open(path or self.path, os.O_RDWR | create, 0o644)
            except FileNotFoundError:  # another writer has just taken it away
                return self._exchange(number)
            with FileIO(handle, "r+") as file:
                before = file.readall()
                self._took(before)
                self._alter(file, before, number, way)
                file.seek(0)
                return digest(file.readall())

    def _alter(self, file: FileIO, before: bytes, number: int, way: str) -> None:
        text = self.base.version(number)
        drift, span = self.base.form.drift(number), self.base.form.last_drift(before)
        if way == "part" and span is not None and span[1] - span[0] >= len(drift):
            file.seek(span[0])
            file.write(drift.ljust(span[1] - span[0]))
        elif way == "append":
            end = b"" if before.endswith(b"\n") or not before else b"\n"
            file.seek(0, os.SEEK_END)
            file.write(end + drift + b"\n")
        elif way == "overwrite":
            file.seek(0)
            file.write(text)
            file.truncate()
        else:
            file.truncate(0)
            file.seek(0)
            for part in text[: len(text) // 2], text[len(text) // 2 :]:
                if way == "slow":
                    time.sleep(self.pauses.random() * 0.5)
                file.write(part)

    def _hard_link(self, number: int) -> str:
        other = f"{self.path}.{self.index}.other"
        try:
            os.link(self.path, other)
        except FileNotFoundError:
            return self._exchange(number)
        written = self._in_place(number, "overwrite", path=other)
        # Where it is the file no more, his own link is what keeps the text.
        is_the_file = False
        with suppress(FileNotFoundError):
            is_the_file = os.path.samefile(other, self.path)
        if is_the_file:
            os.unlink(other)
        else:
            self._take(other)
        return written

    # --- programs -----------------------------------------------------------------------------

    def _by_program(self, number: int, way: str, script: str) -> str | None:
        """What it wrote, where that is known beforehand: else the number must do."""
        new = self._new(number)
        with open(self.path, "rb") as file:
            self._took(file.read())
        done = subprocess.run(
            ["sh", "-c", script, "sh", self.path, new], stderr=subprocess.PIPE, check=False
        )
        if done.returncode:
            self._note(flaw=f"{way}: {done.stderr.decode(errors='replace')}")
        with suppress(FileNotFoundError):
            os.unlink(new)
        return digest(self.base.version(number)) if way in _KNOWN else None
