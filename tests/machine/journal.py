"""A machine's journal as it grows: one journalctl follows it, and nothing is read twice.

Running journalctl for each look took most of the CPU time of tests that wait for a record.
"""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.machine.nspawn import Machine

_SHOW = ("journalctl", "--quiet", "--all", "--output=json")
_SECONDS = 30.0
_LOST_SECONDS = 5.0
# Where a journal file's header has the ID of its sequence, and the number of its latest entry
# (JOURNAL_FILE_FORMAT.md).
_ROW = slice(72, 88)
_NEWEST = slice(160, 168)


class JournalError(Exception):
    """journald, or the journalctl that follows it, gave no answer."""


class Journal:
    """All entries of a machine's journal, oldest first; begun anew after a reboot."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._leader = 0
        self._following: subprocess.Popen[bytes] | None = None
        self._partial = b""
        self._entries: list[dict[str, Any]] = []
        self._places: dict[str, int] = {}
        self._newest: dict[str, int] = {}

    def entries(self, since: str = "") -> list[dict[str, Any]]:
        """Return what came after the entry with this cursor, and was sent before this call.

        Raises JournalError if journald does not answer, KeyError for an unknown cursor.
        """
        self._catch_up()
        return self._entries[self._places[since] + 1 if since else 0 :]

    def cursor(self) -> str:
        """Return the latest entry's cursor."""
        self._catch_up()
        return str(self._entries[-1]["__CURSOR"])

    def close(self) -> None:
        """Stop following: a machine that shuts itself down would wait for journalctl."""
        following, self._following = self._following, None
        if following is not None:
            assert following.stdout is not None
            for child in _children(following.pid):
                os.kill(child, signal.SIGKILL)
            following.wait()
            following.stdout.close()

    def _catch_up(self) -> None:
        if self._leader != self._machine.leader or self._following is None:
            self._begin()
        self._synchronize()
        wanted = self._written()  # what comes later is not waited for: it may be a flood
        deadline, anew = time.monotonic() + _SECONDS, time.monotonic() + _LOST_SECONDS
        while any(self._newest.get(row, 0) < number for row, number in wanted.items()):
            known = len(self._entries)
            if time.monotonic() > deadline or not self._read():
                raise JournalError("journalctl does not follow the journal")
            if len(self._entries) > known:  # however slowly, it does
                deadline, anew = time.monotonic() + _SECONDS, time.monotonic() + _LOST_SECONDS
            elif time.monotonic() > anew:
                # When the journal moves between /run and /var, a follower may lose it, and what
                # was waited for has other numbers.
                self._begin()
                wanted, anew = self._written(), deadline

    def _begin(self) -> None:
        self.close()
        self._leader = self._machine.leader
        self._partial, self._entries, self._places, self._newest = b"", [], {}, {}
        # A follower sees nothing of an earlier boot.
        for line in self._machine.run(_SHOW).stdout.splitlines():
            self._take(json.loads(line))
        self._following = self._machine.start(
            [*_SHOW, "--follow", "--no-tail", f"--after-cursor={self._entries[-1]['__CURSOR']}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._following.stdout is not None
        os.set_blocking(self._following.stdout.fileno(), False)

    def _synchronize(self) -> None:
        """Have journald process all that was sent to it: its SIGRTMIN+1, handled after that.

        Like `journalctl --sync`, but without running a program. systemd-journald.service(8).
        """
        begun = time.monotonic()
        asked = 0
        while self._synchronized() < begun:
            if time.monotonic() - begun > _SECONDS:
                raise JournalError("journald does not run, or does not take in what was sent to it")
            if not _is_journald(asked):  # the one that was asked may have ended, too
                asked = next(filter(_is_journald, _children(self._leader)), 0)
                if asked:
                    with suppress(ProcessLookupError):
                        os.kill(asked, signal.SIGRTMIN + 1)
            time.sleep(0.002)

    def _synchronized(self) -> float:
        """Return when it last did, by the monotonic clock."""
        try:
            return int(self._machine.peek("/run/systemd/journal/synced")[1]) / 1e6
        except FileNotFoundError:
            return 0.0

    def _written(self) -> dict[str, int]:
        """Return the number of the latest entry of each sequence."""
        found: dict[str, int] = {}
        for folder in ("var", "run"):
            for path in self._logs(folder).glob("*/system.journal"):
                with open(path, "rb") as file:
                    head = file.read(_NEWEST.stop)
                (newest,) = struct.unpack("<Q", head[_NEWEST])
                row = head[_ROW].hex()
                found[row] = max(newest, found.get(row, 0))
        return found

    def _logs(self, folder: str) -> Path:
        return self._machine.files / folder / "log/journal"

    def _read(self) -> bool:
        """Read what was printed, within a tenth of a second; False if the output has ended."""
        assert self._following is not None
        assert self._following.stdout is not None
        pipe = self._following.stdout.fileno()
        if not select.select([pipe], [], [], 0.1)[0]:
            return True
        data = os.read(pipe, 1 << 20)
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._take(json.loads(line))
        return bool(data)

    def _take(self, entry: dict[str, Any]) -> None:
        cursor = str(entry["__CURSOR"])
        fields = dict(field.split("=", 1) for field in cursor.split(";"))
        self._places[cursor] = len(self._entries)
        self._newest[fields["s"]] = int(fields["i"], 16)
        self._entries.append(entry)


def _is_journald(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text() == "systemd-journal\n"
    return False


def _children(pid: int) -> list[int]:
    return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
