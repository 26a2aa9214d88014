"""The end of Postfix's own log, for the record of a start that failed.

The daemon has it read by errands_unit.py: python3-systemd and libsystemd, once loaded, would stay
in its memory for good.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pf_agent.render import printable

_LOG_CHARACTERS = 400
# Of a busy server's log, what is looked at.
_MOST_ENTRIES = 2000
_SYNC_SECONDS = 2.0
# syslog(3)
_MAIL_FACILITY = 2
_WARNING = 4
_BAD_WORD = re.compile(r"\b(?:fatal|panic|error|warning): ")


def log_tail(units: Sequence[str], since: float, most: int = 10) -> tuple[str, ...]:
    """Return the last lines that Postfix and systemd logged of `units`, oldest first.

    Of those since a moment (seconds since the epoch); where there are more than `most`, what is
    wrong comes before what is not. () where the journal cannot be read.
    """
    try:
        from systemd import journal

        _synchronize()
        with journal.Reader() as reader:
            for unit in units:
                for field in ("_SYSTEMD_UNIT", "UNIT"):  # its own lines, systemd's lines on it
                    reader.add_match(**{field: unit})
                    reader.add_disjunction()
            # A program that had ended when journald looked is of no unit any more.
            reader.add_match(SYSLOG_FACILITY=_MAIL_FACILITY)
            found = [entry for entry in _newest(reader, since) if _is_of(units, entry)]
    except (ImportError, OSError):
        return ()
    bad = [row for row, entry in enumerate(found) if _is_bad(entry)][:most]
    rest = [row for row in range(len(found)) if row not in set(bad)]
    rows = sorted([*bad, *rest[: most - len(bad)]], reverse=True)
    return tuple(_line_of(found[row]) for row in rows)


def _newest(reader: Any, since: float) -> Iterator[Mapping[str, Any]]:
    """The newest entries since a moment, the newest first."""
    reader.seek_tail()
    for _ in range(_MOST_ENTRIES):
        entry = reader.get_previous()
        if not entry or entry["__REALTIME_TIMESTAMP"].timestamp() < since:
            return
        yield entry


def _is_of(units: Sequence[str], entry: Mapping[str, Any]) -> bool:
    """Filters and other instances have the mail facility as well, and units of their own."""
    unit = entry.get("UNIT", entry.get("_SYSTEMD_UNIT"))
    is_postfix = str(entry.get("SYSLOG_IDENTIFIER", "")).startswith("postfix")
    return unit in units or (unit is None and is_postfix)


def _synchronize() -> None:
    """Have journald take in what was sent to it so far, as `journalctl --sync` does."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as varlink:
        varlink.settimeout(_SYNC_SECONDS)
        varlink.connect("/run/systemd/journal/io.systemd.journal")
        varlink.sendall(b'{"method":"io.systemd.Journal.Synchronize"}\0')
        varlink.recv(4096)


def _line_of(entry: Mapping[str, Any]) -> str:
    message = entry.get("MESSAGE", "")
    text = message.decode("utf-8", "replace") if isinstance(message, bytes) else str(message)
    return printable(f"{entry.get('SYSLOG_IDENTIFIER', '')}: {text}"[:_LOG_CHARACTERS])


def _is_bad(entry: Mapping[str, Any]) -> bool:
    """Postfix logs its fatal errors as critical, and what it prints as systemd catches it as info.

    So the words count, too (syslog(3), msg_syslog.c).
    """
    return entry.get("PRIORITY", 6) <= _WARNING or bool(
        _BAD_WORD.search(str(entry.get("MESSAGE", "")))
    )
