"""The end of Postfix's log: what of it is told. That journald finds it is proved on a machine."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from pf_agent.model import MailLog
from pf_agent.postfix.log import fatal_lines, log_tail
from tests.fakes import FakeLog

JOURNAL = MailLog()


def test_the_tail_is_what_was_logged_since_the_oldest_first(log: FakeLog) -> None:
    log.add(99, "before")
    log.add(100, "one")
    log.add(101.5, "two")
    assert log_tail(["postfix.service"], 100.0, JOURNAL) == (
        "postfix/master: one",
        "postfix/master: two",
    )


def test_of_a_long_tail_what_is_wrong_is_in_it(log: FakeLog) -> None:
    wrong = {3: ("fatal: bind", 6), 5: ("bad", 3), 9: ("x: warning: that", 6)}
    for at in range(50):
        log.add(at, *wrong.get(at, (f"line {at}", 6)))
    lines = [
        line.partition(": ")[2] for line in log_tail(["postfix.service"], 0.0, JOURNAL, most=5)
    ]
    assert lines == ["fatal: bind", "bad", "x: warning: that", "line 48", "line 49"]


def test_of_much_that_is_wrong_the_newest_is_in_it(log: FakeLog) -> None:
    for at in range(50):
        log.add(at, f"fatal: {at}")
    assert log_tail(["postfix.service"], 0.0, JOURNAL, most=2) == (
        "postfix/master: fatal: 48",
        "postfix/master: fatal: 49",
    )


def test_other_programs_of_the_mail_facility_are_left_out(log: FakeLog) -> None:
    log.add(1, "fatal: it", SYSLOG_IDENTIFIER="postfix/smtpd")
    log.add(2, "hello", SYSLOG_IDENTIFIER="opendkim")
    for found in log.entries:
        del found["_SYSTEMD_UNIT"]
    assert log_tail(["postfix.service"], 0.0, JOURNAL) == ("postfix/smtpd: fatal: it",)


@pytest.mark.parametrize("pid_and_uid", [(1, 1000), (2000, 1000), (2000, 0)])
def test_nobody_but_systemd_says_of_which_unit_another_line_is(
    log: FakeLog, pid_and_uid: tuple[int, int]
) -> None:
    """Whoever sends a record in the journal's own form chooses UNIT= as well."""
    log.add(1, "fatal: no", SYSLOG_IDENTIFIER="postfix/smtpd", UNIT="postfix.service")
    pid, uid = pid_and_uid
    log.entries[-1] |= {"_SYSTEMD_UNIT": "user@1000.service", "_PID": pid, "_UID": uid}
    assert log_tail(["postfix.service"], 0.0, JOURNAL) == ()
    assert fatal_lines(["postfix.service"], 0.0, JOURNAL) == ()


def test_programs_of_other_units_are_left_out(log: FakeLog) -> None:
    """They have the mail facility, too: a filter, another instance, what pf-agent itself runs."""
    for number, name in enumerate(("opendkim", "postfix-out/master", "postfix/postconf")):
        unit = f"{number}.service"
        log.add(1, "fatal: no", SYSLOG_IDENTIFIER=name, _SYSTEMD_UNIT=unit)
    log.add(2, "Failed", SYSLOG_IDENTIFIER="systemd", UNIT="postfix.service")
    log.entries[-1] |= {"_SYSTEMD_UNIT": "init.scope", "_PID": 1, "_UID": 0}
    assert log_tail(["postfix.service"], 0.0, JOURNAL) == ("systemd: Failed",)


def test_a_line_steers_no_terminal_and_has_an_end(log: FakeLog) -> None:
    log.add(1, b"caf\xe9 \x1b[2J")
    log.add(2, "x" * 10_000)
    first, second = log_tail(["postfix.service"], 0.0, JOURNAL)
    assert first == "postfix/master: caf\ufffd \\x1b[2J"
    assert len(second) == 400


def test_a_journal_that_cannot_be_read_is_no_reason_to_stop(
    log: FakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.fault = OSError(13, "Permission denied")
    assert log_tail(["postfix.service"], 0.0, JOURNAL) == ()
    monkeypatch.setitem(sys.modules, "systemd", None)
    assert log_tail(["postfix.service"], 0.0, JOURNAL) == ()


# --- why a program ended --------------------------------------------------------------------------


def test_what_a_program_ends_with_is_told_the_first_first(log: FakeLog) -> None:
    log.add(1, "fatal: of an earlier start")
    log.add(11, "daemon started")
    log.add(12, "fatal: parameter smtpd_timeout: bad", SYSLOG_IDENTIFIER="postfix/smtpd")
    log.add(13, "warning: process smtpd exit status 1: fatal: quoted")
    log.add(14, "panic: oops")
    log.add(15, "postfix/postlog: fatal: missing 'postlog'", SYSLOG_IDENTIFIER="postfix")
    assert fatal_lines(["postfix.service"], 10.0, JOURNAL) == (
        "postfix/smtpd: fatal: parameter smtpd_timeout: bad",
        "postfix/master: panic: oops",
        "postfix: postfix/postlog: fatal: missing 'postlog'",
    )


def test_what_the_master_before_said_is_not_of_this_start(log: FakeLog) -> None:
    log.add(10, "fatal: of a process that was throttled", SYSLOG_IDENTIFIER="postfix/smtpd")
    log.add(
        11, "Stopped postfix@-.service - ...", SYSLOG_IDENTIFIER="systemd", UNIT="postfix.service"
    )
    log.add(12, "fatal: bind", SYSLOG_IDENTIFIER="postfix/master")
    log.add(13, "fatal: master_sigdeath: kill process group: No such process")
    assert fatal_lines(["postfix.service"], 10.0, JOURNAL) == ("postfix/master: fatal: bind",)


def test_no_user_can_say_that_postfix_ended(log: FakeLog) -> None:
    """`logger -p mail.crit -t postfix/smtpd "fatal: no"` needs no rights."""
    log.add(1, "fatal: I say so", SYSLOG_IDENTIFIER="postfix/smtpd", _UID="1000")
    log.add(2, "fatal: gone before journald looked", SYSLOG_IDENTIFIER="postfix/qmgr", _UID="0")
    for found in log.entries:
        del found["_SYSTEMD_UNIT"]
    assert log_tail(["postfix.service"], 0.0, JOURNAL) == (
        "postfix/qmgr: fatal: gone before journald looked",
    )
    log.add(3, "fatal: usage", SYSLOG_IDENTIFIER="postfix/sendmail")
    assert fatal_lines(["postfix.service"], 0.0, JOURNAL) == (
        "postfix/qmgr: fatal: gone before journald looked",
    )


# --- Postfix's own file ---------------------------------------------------------------------------


def stamped(at: float) -> str:
    return time.strftime("%b %d %H:%M:%S", time.localtime(at))


def test_the_file_is_read_where_there_is_one_and_merged(log: FakeLog, tmp_path: Path) -> None:
    now = float(int(time.time()))
    path = tmp_path / "mail.log"
    path.write_text(
        f"{stamped(now - 60)} mail postfix/master[1]: terminating on signal 15\n"
        f"{stamped(now)} mail postfix/master[2]: daemon started -- version 3.7.11\n"
        f"{stamped(now + 2)} mail postfix/smtpd[3]: fatal: parameter smtpd_timeout: bad\n"
        f"{stamped(now + 2)} mail postfix-out/smtpd[4]: fatal: another one's\n"
        "no line of a log\n"
        "Feb 31 00:00:00 mail postfix/master[2]: no such day\n"
    )
    log.add(now + 1, "Started", SYSLOG_IDENTIFIER="systemd")
    its = MailLog(str(path))
    assert log_tail(["postfix.service"], now + 0.5, its) == (
        "postfix/master: daemon started -- version 3.7.11",
        "systemd: Started",
        "postfix/smtpd: fatal: parameter smtpd_timeout: bad",
    )
    assert fatal_lines(["postfix.service"], now, its) == (
        "postfix/smtpd: fatal: parameter smtpd_timeout: bad",
    )
    assert fatal_lines([], now, MailLog(str(path), "postfix-out")) == (
        "postfix-out/smtpd: fatal: another one's",
    )


def test_a_line_of_the_file_comes_after_the_start_in_its_second(
    log: FakeLog, tmp_path: Path
) -> None:
    now = float(int(time.time()))
    path = tmp_path / "mail.log"
    texts = ("terminating on signal 15", "stopping the Postfix mail system", "fatal: bind")
    path.write_text("".join(f"{stamped(now)} mail postfix/master[1]: {t}\n" for t in texts))
    for at, text in ((0.2, "Stopped it"), (0.3, "Starting it"), (1, "Failed to start it")):
        log.add(now + at, text, SYSLOG_IDENTIFIER="systemd")
    its = MailLog(str(path))
    assert log_tail(["postfix.service"], now, its) == (
        "systemd: Stopped it",
        "systemd: Starting it",
        "postfix/master: fatal: bind",
        "systemd: Failed to start it",
    )
    assert fatal_lines(["postfix.service"], now, its) == ("postfix/master: fatal: bind",)


def test_of_a_large_file_the_end_is_read(log: FakeLog, tmp_path: Path) -> None:
    path = tmp_path / "mail.log"
    line = f"{stamped(time.time())} mail postfix/smtpd[3]: fatal: this"
    with open(path, "wb") as file:
        file.truncate(1 << 33)
        file.seek(0, os.SEEK_END)
        file.write(f"\n{line}\n".encode())
    assert fatal_lines([], 0.0, MailLog(str(path))) == ("postfix/smtpd: fatal: this",)


@pytest.mark.parametrize("kind", ["fifo", "link", "folder", "absent", "/dev/zero", "/dev/stdout"])
def test_what_is_no_file_is_not_read(log: FakeLog, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "mail.log"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        real = tmp_path / "real"
        real.write_text(f"{stamped(time.time())} mail postfix/smtpd[3]: fatal: this\n")
        path.symlink_to(real)
    elif kind == "folder":
        path.mkdir()
    place = kind if kind.startswith("/") else str(path)
    assert fatal_lines([], 0.0, MailLog(place)) == ()


def test_a_line_of_december_is_of_last_year_in_january(
    log: FakeLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_year = time.mktime((2027, 1, 1, 0, 0, 5, 0, 0, -1))
    monkeypatch.setattr(time, "time", lambda: new_year)
    path = tmp_path / "mail.log"
    path.write_text("Dec 31 23:59:58 mail postfix/smtpd[3]: fatal: this\n")
    assert fatal_lines([], new_year - 10, MailLog(str(path))) == ("postfix/smtpd: fatal: this",)
    assert fatal_lines([], new_year - 1, MailLog(str(path))) == ()
