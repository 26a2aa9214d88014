"""The end of Postfix's own log, for the record of a start that failed.

It is looked for where Postfix logs: in the journal, and in its own file where `maillog_file` names
one (postconf(5), MAILLOG_README). With a file, what the programs say themselves is in it; what
postfix(1) prints on its way (Debian 13) and what systemd says is in the journal all the same. Where
master.cf lacks postlogd(8), nothing starts, and the reason ("missing 'postlog' service in
master.cf") is in the file on Debian 12 and in the journal on 13. On 12, a value that no program can
run with is told in neither: the judge says it.

The daemon has it read by errands_unit.py: python3-systemd and libsystemd, once loaded, would stay
in its memory for good.
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
from pf_agent.words.sentences import printable

_LOG_CHARACTERS = 400
# Of a busy server's log, what is looked at.
_MOST_ENTRIES = 2000
_MOST_FILE_BYTES = 1 << 18
_SYNC_SECONDS = 2.0
_SYSTEMD_PID = 1
# syslog(3)
_MAIL_FACILITY = 2
_INFO = 6
_WARNING = 4
_BAD_WORD = re.compile(r"\b(?:fatal|panic|error|warning): ")
# How a program says that it ends (util/msg.c); postfix-script says it through postlog(1).
_ENDING = re.compile(r"^(?:\S+: )*(?:fatal|panic): ")
# What Postfix says as it is stopped is of the start before. Of the signal that master sends to the
# processes that it started, it says that it is fatal where there are none left (master_sig.c).
_LAST_WORDS = re.compile(
    r"^(?:terminating on signal |stopping the Postfix mail system|fatal: master_sigdeath: )"
)
# What anybody may start: a user must not be able to say that Postfix is broken.
_ANYBODYS = re.compile(r"/(?:sendmail|postdrop|postqueue|newaliases|mailq)$")
# "Nov  8 21:03:39 mail postfix/smtpd[1430]: connect from ..." (util/msg_logger.c)
_FILE_LINE = re.compile(r"(\w{3} +\d+ \d\d:\d\d:\d\d) \S+ (\S+?)(?:\[\d+\])?: (.*)")
# A line that seems to be of tomorrow is of last year: the file names no year.
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
        """Postfix logs its fatal errors as critical, and what it prints as systemd catches it as
        info. So the words count, too (syslog(3), msg_syslog.c).
        """
        return self.priority <= _WARNING or bool(_BAD_WORD.search(self.text))

    @property
    def tells_why_a_program_ended(self) -> bool:
        """Whether it is of this start, and of a program that not everybody may run."""
        is_old = _LAST_WORDS.match(self.text)
        return bool(_ENDING.match(self.text)) and not is_old and not _ANYBODYS.search(self.program)

    @property
    def is_a_stop(self) -> bool:
        """Whether systemd says that a unit of Postfix's has stopped."""
        return self.program == "systemd" and self.text.startswith("Stopped ")

    def __str__(self) -> str:
        return printable(f"{self.program}: {self.text}"[:_LOG_CHARACTERS])


def log_tail(units: Sequence[str], since: float, log: MailLog, most: int = 10) -> tuple[str, ...]:
    """Return the last lines that Postfix and systemd logged of `units`, oldest first.

    Of those since a moment (seconds since the epoch); where there are more than `most`, what is
    wrong comes before what is not. () where nothing can be read.
    """
    found = _lines(units, since, log)[::-1]
    bad = [row for row, line in enumerate(found) if line.is_bad][:most]
    rest = [row for row in range(len(found)) if row not in set(bad)]
    rows = sorted([*bad, *rest[: most - len(bad)]], reverse=True)
    return tuple(str(found[row]) for row in rows)


def fatal_lines(
    units: Sequence[str], since: float, log: MailLog, most: int = 10
) -> tuple[str, ...]:
    """Return the first lines since a moment in which a program of Postfix said why it ended.

    Where Postfix was stopped since, only those after that. Not those of the commands that every
    user may run, and none that somebody else logged.
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
    """What was logged since a moment, oldest first; nothing that a user logged."""
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
                for field in ("_SYSTEMD_UNIT", "UNIT"):  # its own lines, systemd's lines on it
                    reader.add_match(**{field: unit})
                    reader.add_disjunction()
            # A program that had ended when journald looked is of no unit any more.
            reader.add_match(SYSLOG_FACILITY=_MAIL_FACILITY)
            found = [_line_of(e) for e in _newest(reader, since) if _is_of(units, e)]
    except (ImportError, OSError):
        return []
    return found[::-1]


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
    unit = _unit_of(entry)
    is_postfix = str(entry.get("SYSLOG_IDENTIFIER", "")).startswith("postfix")
    return unit in units or (unit is None and is_postfix)


def _unit_of(entry: Mapping[str, Any]) -> str | None:
    """The unit that an entry is of: UNIT= is systemd's word, and anybody's who is not systemd."""
    if (entry.get("_PID"), entry.get("_UID")) == (_SYSTEMD_PID, 0) and "UNIT" in entry:
        return str(entry["UNIT"])
    found = entry.get("_SYSTEMD_UNIT")
    return None if found is None else str(found)


def synchronize() -> None:
    """Have journald take in what was sent to it so far, as `journalctl --sync` does."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as varlink:
        varlink.settimeout(_SYNC_SECONDS)
        varlink.connect("/run/systemd/journal/io.systemd.journal")
        varlink.sendall(b'{"method":"io.systemd.Journal.Synchronize"}\0')
        varlink.recv(4096)


def _line_of(entry: Mapping[str, Any]) -> _Line:
    """An entry that is of a unit of Postfix's is as good as root's, whoever the program ran as.

    A user's own program has the mail facility for the asking, but not the unit, and _UID= is the
    kernel's word (systemd.journal-fields(7)).
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
    """The lines of this instance at the end of its file, where it has one.

    They tell whole seconds, and count as of the end of theirs: what systemd says of a start comes
    before what the programs say that it starts. Thus the last words of those before would come
    after it, too, and are left out.
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
    """The last lines of a file; none of what is no file, or is a link to one.

    It lies where others may write, and a FIFO would hold us up.
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
    """When that was, by the clock of this host: the newest year that is not ahead of now."""
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
