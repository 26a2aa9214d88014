"""Records: native fields to the journal, readable lines to a console, through structlog.

structlog's processors are our own: Ubuntu 22.04's structlog 20.1 lacks most of today's.

No reader can hold up the agent: what the journal or the console does not take at once waits in a
backlog, in order, and what exceeds that is counted and reported.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, TextIO

import structlog

from pf_agent import names
from pf_agent.model import Event, Record
from pf_agent.reporting.backlog import Backlog, Letter
from pf_agent.reporting.native import TRACEBACK, field, send_record
from pf_agent.words.outgoing import PROCESS
from pf_agent.words.sentences import printable

_ID = "8f1c2a6e5d0b4c07a3f19e6b7d2c45"
MESSAGE_IDS: Mapping[Event, str] = {
    Event.STARTED: f"{_ID}10",
    Event.DRIFT_DETECTED: f"{_ID}11",
    Event.DRIFT_CORRECTED: f"{_ID}12",
    Event.ACTIVATED: f"{_ID}13",
    Event.ACTIVATION_FAILED: f"{_ID}14",
    Event.ROLLED_BACK: f"{_ID}15",
    Event.CONFIG_REJECTED: f"{_ID}16",
    Event.CONTESTED: f"{_ID}17",
    Event.SUSPENDED: f"{_ID}18",
    Event.RESUMED: f"{_ID}19",
    Event.STOPPED: f"{_ID}1a",
    Event.CORRECTION_FAILED: f"{_ID}1b",
    Event.REFERENCE_ABSENT: f"{_ID}1c",
    Event.ADOPTED: f"{_ID}1d",
    Event.SET: f"{_ID}1e",
    Event.UNSET: f"{_ID}1f",
    Event.RESTORED: f"{_ID}20",
    Event.INITIALIZED: f"{_ID}21",
    Event.TABLE_REBUILT: f"{_ID}22",
    Event.TABLE_STALE: f"{_ID}23",
}

# structlog's method for each event; the journal's PRIORITY= follows from it (syslog(3)).
_LEVELS = {
    Event.STARTED: "info",
    Event.DRIFT_DETECTED: "warning",
    Event.DRIFT_CORRECTED: "warning",
    Event.CORRECTION_FAILED: "error",
    Event.ACTIVATED: "info",
    Event.ACTIVATION_FAILED: "error",
    Event.ROLLED_BACK: "error",
    Event.CONFIG_REJECTED: "error",
    Event.REFERENCE_ABSENT: "warning",
    Event.TABLE_REBUILT: "info",
    Event.TABLE_STALE: "error",
    Event.CONTESTED: "error",
    Event.SUSPENDED: "info",
    Event.RESUMED: "info",
    Event.STOPPED: "info",
    Event.ADOPTED: "info",
    Event.SET: "info",
    Event.UNSET: "info",
    Event.RESTORED: "info",
    Event.INITIALIZED: "info",
}
_PRIORITIES = {"info": 6, "warning": 4, "error": 3}

# What a writable pipe takes without waiting (pipe(7), PIPE_BUF).
_PIECE = select.PIPE_BUF
_PAUSE_SECONDS = 0.02


class Journal:
    """Where records go: the journal, and the console if a person is watching.

    From any thread; it waits for neither of the two.
    """

    def __init__(self, console: TextIO | None = None, place: str = names.JOURNAL_SOCKET) -> None:
        """`console` gets a readable line for each record; None if there is only the journal.

        journald listens at `place`.
        """
        self._sinks = _Sinks(console, place)
        self._log = structlog.wrap_logger(
            self._sinks,
            processors=[_with_level, _told, _as_fields],
            wrapper_class=_Levels,
        )

    def emit(self, record: Record) -> None:
        """Send one record. Never raises: a failing outlet is reported on stderr and skipped."""
        fields = {names.FIELD_EVENT: record.event.value, "MESSAGE_ID": MESSAGE_IDS[record.event]}
        if record.cycle is not None:
            fields[names.FIELD_CYCLE] = str(record.cycle)
        fields.update(record.fields)
        self._log.send(_LEVELS[record.event], record.message, **fields)

    def note(self, message: str) -> None:
        """Send a remark that is not an event: what was repaired or skipped."""
        self._log.send("warning", message)

    def fault(self, message: str, error: BaseException) -> None:
        """Send an error of ours, with its traceback."""
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        self._log.send("error", f"{message}: {error!r}", **{TRACEBACK: "".join(lines)})

    def catch_up(self) -> bool:
        """Send what could not be sent before; return whether nothing waits any more."""
        return self._sinks.catch_up()

    def settle(self, seconds: float) -> None:
        """Give what waits this much time before the process ends; report losses on stderr."""
        deadline = time.monotonic() + seconds
        while not self.catch_up():
            if time.monotonic() >= deadline:
                self._sinks.give_up()
                return
            time.sleep(_PAUSE_SECONDS)


def console_of(stream: TextIO) -> TextIO | None:
    """Return `stream`, or None if systemd connects it to the journal already.

    A record sent natively must not appear again as a bare line (systemd.exec(5), $JOURNAL_STREAM).
    """
    try:
        opened = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return stream
    tied = os.environ.get("JOURNAL_STREAM") == f"{opened.st_dev}:{opened.st_ino}"
    return None if tied else stream


class _Levels(structlog.BoundLoggerBase):
    """The one method through which structlog's processors run."""

    def send(self, level: str, message: str, **fields: str) -> None:
        self._proxy_to_logger("send", message, level=level, **fields)


class _Sinks:
    """The journal's socket and the console; the agent goes on if either fails or hangs."""

    def __init__(self, console: TextIO | None, place: str) -> None:
        self._console = console
        self._place = place
        self._turn = threading.Lock()  # never held while waiting
        self._records = Backlog(self._record, _lost_record)
        self._lines = Backlog(self._show, lambda count: Letter(_lost_line(count).encode()))

    def send(self, fields: list[bytes], line: str) -> None:
        with self._turn:
            if self._console is not None:
                for piece in _pieces(f"{line}\n"):
                    self._lines.put(piece)
            self._records.put(Letter(b"".join(fields), line))

    def catch_up(self) -> bool:
        with self._turn:
            return self._lines.flush() & self._records.flush()

    def give_up(self) -> None:
        with self._turn:
            if self._records:
                _complain(_lost_line(len(self._records)))

    def _record(self, letter: Letter) -> bool:
        try:
            send_record(letter.data, self._place)
        except BlockingIOError:
            return False
        except OSError as error:
            why = error.strerror or error
            if self._console is None:
                _complain(f"{letter.line} (the journal did not accept it: {why})\n")
        return True

    def _show(self, letter: Letter) -> bool:
        assert self._console is not None
        return _print(letter.data.decode(), self._console)


def _complain(line: str) -> None:
    """Write to our stderr, with the level (sd-daemon(3)), as much as it takes at once."""
    all(_print(piece.data.decode(), sys.stderr) for piece in _pieces(f"<3>{line}"))


def _lost_line(count: int) -> str:
    return f"{names.PROGRAM}: {_lost(count)}\n"


def _lost(count: int) -> str:
    records = "1 record was" if count == 1 else f"{count} records were"
    return f"{records} lost: journald was too slow; see `systemctl status systemd-journald`"


def _lost_record(count: int) -> Letter:
    fields = {"MESSAGE": _lost(count), "SYSLOG_IDENTIFIER": names.PROGRAM, "PRIORITY": "3"}
    return Letter(b"".join(field(*each) for each in fields.items()), _lost_line(count).rstrip())


def _pieces(line: str) -> Iterator[Letter]:
    """Yield a line in pieces that a pipe takes whole, without splitting a character."""
    size = _PIECE // 4
    for start in range(0, len(line), size):
        yield Letter(line[start : start + size].encode("utf-8", "backslashreplace"))


def _print(text: str, stream: TextIO) -> bool:
    """Print `text`, small enough to be taken at once or not at all; return whether it was.

    Text for a terminal that has gone away counts as taken: nobody is left to read it.
    """
    try:
        if not _takes(stream):
            return False
        print(text, end="", file=stream, flush=True)
    except (OSError, ValueError):
        return True
    return True


def _takes(stream: TextIO) -> bool:
    """Whether a write would not wait for a pipe's reader, or for a terminal stopped by Ctrl-S."""
    try:
        handle = stream.fileno()
    except OSError:
        return True  # in memory
    room = select.poll()
    room.register(handle, select.POLLOUT)
    return bool(room.poll(0))


def _with_level(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    event["PRIORITY"] = str(_PRIORITIES[event.pop("level")])
    return event


def _told(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return PROCESS.fields(event)


def _as_fields(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> tuple[tuple[()], dict[str, Any]]:
    """Turn structlog's event into native fields and a line for a console."""
    message = str(event.pop("event"))
    fields = [field("MESSAGE", message), field("SYSLOG_IDENTIFIER", names.PROGRAM)]
    fields += [field(name, value) for name, value in event.items()]
    kind = event.get(names.FIELD_EVENT, "note")
    line = f"{names.PROGRAM}: {kind}: {printable(message)}"
    for more in event.get(TRACEBACK, "").splitlines():
        line += f"\n{printable(more)}"
    return (), {"fields": fields, "line": line}
