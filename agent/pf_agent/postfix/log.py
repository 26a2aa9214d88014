"""The end of Postfix's own log, for the record of a failed start.

It is read from where Postfix logs: the journal, and its own file if `maillog_file` names one
(postconf(5), MAILLOG_README). With a file, the messages of the programs are in it; what postfix(1)
prints while starting (Debian 13) and what systemd says is in the journal all the same. If master.cf
lacks postlogd(8), nothing starts, and the reason ("missing 'postlog' service in master.cf") is in
the file on Debian 12 and in the journal on 13. On 12, a value that no program can run with is
logged in neither: the judge reports it.

For the daemon errands_unit.py reads it: python3-systemd and libsystemd, once loaded, would stay in
its memory for good.
"""

from __future__ import annotations

import os
import pwd
import re
import socket
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from pf_agent.model import MailLog
from pf_agent.words.outgoing import PROCESS
from pf_agent.words.sentences import printable

_LOG_CHARACTERS = 400
# How much of a busy server's log is searched.
_MOST_ENTRIES = 2000
_MOST_FILE_BYTES = 1 << 18
_SYNC_SECONDS = 2.0
_SYSTEMD_PID = 1
# syslog(3)
_MAIL_FACILITY = 2
_INFO = 6
_WARNING = 4
_BAD_WORD = re.compile(r"\b(?:fatal|panic|error|warning): ")
# How a program says that it exits (util/msg.c); postfix-script says it through postlog(1).
_ENDING = re.compile(r"^(?:\S+: )*(?:fatal|panic): ")
# What Postfix says while it is stopped belongs to the start before. When master signals the
# processes that it started and none are left, it logs that as fatal (master_sig.c).
_LAST_WORDS = re.compile(
    r"^(?:terminating on signal |stopping the Postfix mail system|fatal: master_sigdeath: )"
)
# Commands that any user may start: a user must not be able to claim that Postfix is broken.
_ANYBODYS = re.compile(r"/(?:sendmail|postdrop|postqueue|newaliases|mailq)$")
# "Nov  8 21:03:39 mail postfix/smtpd[1430]: connect from ..." (util/msg_logger.c)
_FILE_LINE = re.compile(r"(\w{3} +\d+ \d\d:\d\d:\d\d) \S+ (\S+?)(?:\[\d+\])?: (.*)")
# A line that seems to be from tomorrow is from last year: the file has no years.
_AHEAD_SECONDS = 86_400.0
_ALMOST_A_SECOND = 0.999999


class _Line(NamedTuple):
    """A line of the log; `at` in seconds since the epoch."""

    at: float
    program: str
    text: str
    priority: int = _INFO
    uid: int = 0

    @property
    def is_bad(self) -> bool:
        """Whether it reports a fault, by its priority or its words.

        Postfix logs fatal errors as critical; systemd logs what Postfix prints as info, so the
        words count too (syslog(3), msg_syslog.c).
        """
        return self.priority <= _WARNING or bool(_BAD_WORD.search(self.text))

    @property
    def tells_why_a_program_ended(self) -> bool:
        """Whether it belongs to this start, and to a program that not every user may run."""
        is_old = _LAST_WORDS.match(self.text)
        return bool(_ENDING.match(self.text)) and not is_old and not _ANYBODYS.search(self.program)

    @property
    def is_a_stop(self) -> bool:
        """Whether systemd says here that a unit of Postfix's has stopped."""
        return self.program == "systemd" and self.text.startswith("Stopped ")

    def __str__(self) -> str:
        return printable(PROCESS.text(f"{self.program}: {self.text}")[:_LOG_CHARACTERS])


def log_tail(units: Sequence[str], since: float, log: MailLog, most: int = 10) -> tuple[str, ...]:
    """Return the last lines that Postfix and systemd logged about `units`, oldest first.

    Only lines from `since` on (seconds since the epoch); if there are more than `most`, errors take
    precedence. () if nothing can be read.
    """
    found = _lines(units, since, log)[::-1]
    bad = [row for row, line in enumerate(found) if line.is_bad][:most]
    rest = [row for row in range(len(found)) if row not in set(bad)]
    rows = sorted([*bad, *rest[: most - len(bad)]], reverse=True)
    return tuple(str(found[row]) for row in rows)


def fatal_lines(
    units: Sequence[str], since: float, log: MailLog, most: int = 10
) -> tuple[str, ...]:
    """Return the first lines, from `since` on, in which a program of Postfix said why it exited.

    If Postfix was stopped in between, only lines after that. No lines of the commands that every
    user may run, and none that another program logged.
    """
    lines = _lines(units, since, log)
    begun = max((line.at for line in lines if line.is_a_stop), default=since)
    found = [line for line in lines if line.at >= begun and line.tells_why_a_program_ended]
    return tuple(map(str, found[:most]))


def _uids(owner: str) -> Sequence[int]:
    try:
        return (0, pwd.getpwnam(owner).pw_uid)
    except KeyError:
        return (0,)


def _lines(units: Sequence[str], since: float, log: MailLog) -> list[_Line]:
    """Return what was logged from `since` on, oldest first; nothing logged by a user."""
    trusted = _uids(log.owner)
    found = [*_of_journal(units, since), *_of_file(log, since)]
    return sorted((line for line in found if line.uid in trusted), key=lambda line: line.at)


# --- the journal ----------------------------------------------------------------------------------


def _of_journal(units: Sequence[str], since: float) -> list[_Line]:
    try:
        from systemd import journal

        synchronize()
        with journal.Reader() as reader:
            for unit in units:
                for field in ("_SYSTEMD_UNIT", "UNIT"):  # its lines, systemd's lines about it
                    reader.add_match(**{field: unit})
                    reader.add_disjunction()
            # A program that had exited before journald looked is not assigned to a unit.
            reader.add_match(SYSLOG_FACILITY=_MAIL_FACILITY)
            found = [_line_of(e) for e in _newest(reader, since) if _is_of(units, e)]
    except (ImportError, OSError):
        return []
    return found[::-1]


def _newest(reader: Any, since: float) -> Iterator[Mapping[str, Any]]:
    """Yield the entries from `since` on, newest first."""
    reader.seek_tail()
    for _ in range(_MOST_ENTRIES):
        entry = reader.get_previous()
        if not entry or entry["__REALTIME_TIMESTAMP"].timestamp() < since:
            return
        yield entry


def _is_of(units: Sequence[str], entry: Mapping[str, Any]) -> bool:
    """Whether the entry is from these units: filters and other instances log as mail, too."""
    unit = _unit_of(entry)
    is_postfix = str(entry.get("SYSLOG_IDENTIFIER", "")).startswith("postfix")
    return unit in units or (unit is None and is_postfix)


def _unit_of(entry: Mapping[str, Any]) -> str | None:
    """Return the unit of an entry. UNIT= counts from systemd only: any process may set it."""
    if (entry.get("_PID"), entry.get("_UID")) == (_SYSTEMD_PID, 0) and "UNIT" in entry:
        return str(entry["UNIT"])
    found = entry.get("_SYSTEMD_UNIT")
    return None if found is None else str(found)


def synchronize() -> None:
    """Have journald process all that was sent to it so far, as `journalctl --sync` does."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as varlink:
        varlink.settimeout(_SYNC_SECONDS)
        varlink.connect("/run/systemd/journal/io.systemd.journal")
        varlink.sendall(b'{"method":"io.systemd.Journal.Synchronize"}\0')
        varlink.recv(4096)


def _line_of(entry: Mapping[str, Any]) -> _Line:
    """Return a journal entry as a line. One from Postfix's units counts as root's.

    It does so whatever user the program ran as: a user's own program can use the mail facility, but
    cannot be in the unit, and _UID= is set by the kernel (systemd.journal-fields(7)).
    """
    message = entry.get("MESSAGE", "")
    text = message.decode("utf-8", "replace") if isinstance(message, bytes) else str(message)
    is_of_no_unit = _unit_of(entry) is None
    return _Line(
        entry["__REALTIME_TIMESTAMP"].timestamp(),
        str(entry.get("SYSLOG_IDENTIFIER", "")),
        text,
        int(entry.get("PRIORITY", _INFO)),
        int(entry.get("_UID", 0)) if is_of_no_unit else 0,
    )


# --- Postfix's own file ---------------------------------------------------------------------------


def _of_file(log: MailLog, since: float) -> list[_Line]:
    """Return this instance's lines at the end of its log file, if it has one.

    Their times are whole seconds, and are taken as the end of that second: what systemd says about
    a start then comes before what the started programs say. The last words of the processes before
    would come after it, too, and are left out.
    """
    now = time.time()
    found = []
    for line in _end_of(log.path):
        if not (parts := _FILE_LINE.fullmatch(line)):
            continue
        at, program = _moment(parts[1], now), parts[2]
        is_its = program == log.name or program.startswith(f"{log.name}/")
        if is_its and at is not None and at >= int(since) and not _LAST_WORDS.match(parts[3]):
            found.append(_Line(at + _ALMOST_A_SECOND, program, parts[3]))
    return found[-_MOST_ENTRIES:]


def _end_of(path: str) -> Iterable[str]:
    """Return the last lines of a file; none if it is not a regular file, or a link to one.

    It is in a place where others may write, and a FIFO would block us.
    """
    if not path:
        return []
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
    try:
        handle = os.open(path, flags)
    except OSError:
        return []
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            return []
        start = max(found.st_size - _MOST_FILE_BYTES, 0)
        data = os.pread(handle, _MOST_FILE_BYTES, start)
    except OSError:
        return []
    finally:
        os.close(handle)
    if start:
        data = data.partition(b"\n")[2]
    return data.decode("utf-8", "replace").split("\n")


def _moment(stamp: str, now: float) -> float | None:
    """Return the time of a stamp on this host's clock: in the latest year not ahead of `now`."""
    year = time.localtime(now).tm_year
    for written in (year + 1, year, year - 1):
        try:
            parsed = time.strptime(f"{written} {stamp}", "%Y %b %d %H:%M:%S")
            at = time.mktime((*parsed[:8], -1))
        except (ValueError, OverflowError):
            continue
        if at <= now + _AHEAD_SECONDS:
            return at
    return None
