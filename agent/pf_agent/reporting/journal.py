"""Records: native fields to the journal, readable lines to a console, through structlog.

journald's native protocol (systemd.journal-fields(7)) keeps a value with line breaks one value, so
nobody can forge a record by what he writes into main.cf. structlog's processors are our own two,
since Ubuntu 22.04's structlog 20.1 has few of today's.

python3-systemd reads the journal back. Records are written without it: the protocol is a datagram,
and libsystemd with the libraries that it needs would be 1 MiB of the daemon at rest.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import sys
import traceback
from collections.abc import Iterator, Mapping, MutableMapping
from functools import cache
from typing import TYPE_CHECKING, Any, TextIO

import structlog

from pf_agent import names
from pf_agent.errors import HostError
from pf_agent.model import Event, Record
from pf_agent.words.sentences import printable

if TYPE_CHECKING:
    from pf_agent.words.history import Entry

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
    Event.CONTESTED: "error",
    Event.SUSPENDED: "info",
    Event.RESUMED: "info",
    Event.STOPPED: "info",
}
_PRIORITIES = {"info": 6, "warning": 4, "error": 3}

# journalctl -o json prints null for a field of more than 4 KiB unless it is asked for --all; a
# diff is worth that, a value is not.
_VALUE_BYTES = 4000
_DIFF_BYTES = 256 * 1024
_SOCKET = "/run/systemd/journal/socket"
# journald takes no file that somebody can still change.
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_FIELD_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_TRACEBACK = "PF_AGENT_TRACEBACK"


class Journal:
    """Where records go: the journal, and the console where a person is looking."""

    def __init__(self, console: TextIO | None = None, place: str = _SOCKET) -> None:
        """`console` gets a readable line for each record; None where only the journal listens.

        journald listens at `place`.
        """
        self._log = structlog.wrap_logger(
            _Sinks(console, place), processors=[_with_level, _as_fields], wrapper_class=_Levels
        )

    def emit(self, record: Record) -> None:
        """Send one record. Never raises: a sink that fails is told of on stderr, and skipped."""
        fields = {names.FIELD_EVENT: record.event.value, "MESSAGE_ID": MESSAGE_IDS[record.event]}
        if record.cycle is not None:
            fields[names.FIELD_CYCLE] = str(record.cycle)
        fields.update(record.fields)
        self._log.send(_LEVELS[record.event], record.message, **fields)

    def note(self, message: str) -> None:
        """Send a remark that is no event: what was mended on the way, what was skipped."""
        self._log.send("warning", message)

    def fault(self, message: str, error: BaseException) -> None:
        """Send an error of ours, with its traceback."""
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        self._log.send("error", f"{message}: {error!r}", **{_TRACEBACK: "".join(lines)})


def console_of(stream: TextIO) -> TextIO | None:
    """Return `stream`, or None where systemd has tied it to the journal already.

    A record sent natively must not come back as a bare line (systemd.exec(5), $JOURNAL_STREAM).
    """
    try:
        opened = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return stream
    tied = os.environ.get("JOURNAL_STREAM") == f"{opened.st_dev}:{opened.st_ino}"
    return None if tied else stream


def read_back(since: float) -> Iterator[Entry]:
    """Yield our own records since a moment (seconds since the epoch), oldest first.

    Only those that a process of root sent: anybody may write to the journal under our name, and
    journald alone says who did (systemd.journal-fields(7), trusted fields). What the caller may not
    read is not there. Raises HostError where the journal cannot be opened.
    """
    # Here and not above: the daemon sends records, and never reads them back.
    from pf_agent.words.history import Entry

    try:
        from systemd import journal
    except ImportError as error:
        raise HostError(f"the journal: {error}; install python3-systemd") from error
    events = {message_id: event for event, message_id in MESSAGE_IDS.items()}
    try:
        with journal.Reader() as reader:
            for message_id in events:
                reader.add_match(MESSAGE_ID=message_id)
            reader.add_match(_UID="0")
            reader.seek_realtime(since)
            for found in reader:
                fields = {n: str(v) for n, v in found.items() if n.startswith("PF_AGENT_")}
                event = events[found["MESSAGE_ID"].hex]
                at = found["__REALTIME_TIMESTAMP"].timestamp()
                yield Entry(at, event, str(found.get("MESSAGE", "")), fields)
    except OSError as error:
        raise HostError(f"the journal: {error.strerror}; run as root") from error


class _Levels(structlog.BoundLoggerBase):
    """The one method that structlog's processors are run by."""

    def send(self, level: str, message: str, **fields: str) -> None:
        self._proxy_to_logger("send", message, level=level, **fields)


class _Sinks:
    """The journal's socket and the console; neither failing stops the agent."""

    def __init__(self, console: TextIO | None, place: str) -> None:
        self._console = console
        self._place = place

    def send(self, fields: list[bytes], line: str) -> None:
        if self._console is not None:
            _print(line, self._console)
        try:
            _send(b"".join(fields), self._place)
        except OSError as error:
            why = error.strerror or error
            if self._console is None:
                _print(f"<3>{line} (the journal would not take it: {why})", sys.stderr)


@cache
def _link() -> socket.socket:
    """One for the process: tied to no place, it outlives a journald that is restarted."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)


def _send(record: bytes, place: str) -> None:
    """Give journald a record: in a datagram, where that is too long in a sealed file."""
    try:
        _link().sendto(record, place)
    except OSError as error:
        if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
            raise
        handle = os.memfd_create("record", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with open(handle, "wb") as file, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
            file.write(record)
            file.flush()
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
            link.connect(place)  # send_fds of Python before 3.13 takes no address
            socket.send_fds(link, [b""], [file.fileno()])


def _print(line: str, stream: TextIO) -> None:
    try:
        print(line, file=stream, flush=True)
    except (OSError, ValueError):
        return  # the terminal is gone, and there is nobody left to tell


def _with_level(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    event["PRIORITY"] = str(_PRIORITIES[event.pop("level")])
    return event


def _as_fields(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> tuple[tuple[()], dict[str, Any]]:
    """Turn structlog's event into native fields and a line for a console."""
    message = str(event.pop("event"))
    fields = [_field("MESSAGE", message), _field("SYSLOG_IDENTIFIER", names.PROGRAM)]
    fields += [_field(name, value) for name, value in event.items()]
    kind = event.get(names.FIELD_EVENT, "note")
    line = f"{names.PROGRAM}: {kind}: {printable(message)}"
    for more in event.get(_TRACEBACK, "").splitlines():
        line += f"\n{printable(more)}"
    return (), {"fields": fields, "line": line}


def _field(name: str, value: str) -> bytes:
    """One field as journald's native protocol has it (systemd.io/JOURNAL_NATIVE_PROTOCOL).

    Raises ValueError for a name that journald would drop without a word.
    """
    if not _FIELD_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a journal field")
    # Bytes that are not UTF-8 would make journalctl -o json print an array of numbers.
    text = value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    data = text.encode()
    most = _DIFF_BYTES if name in (names.FIELD_DIFF, _TRACEBACK) else _VALUE_BYTES
    if len(data) > most:
        cut = data[:most].decode("utf-8", "ignore")
        data = f"{cut}... ({len(data)} bytes)".encode()
    if b"\n" in data:
        return b"%b\n%b%b\n" % (name.encode(), len(data).to_bytes(8, "little"), data)
    return b"%b=%b\n" % (name.encode(), data)
