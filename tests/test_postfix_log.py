"""The end of Postfix's log: what of it is told. That journald finds it is proved on a machine."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from pf_agent.postfix_log import log_tail
from tests.fakes import FakeLog


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> FakeLog:
    found = FakeLog()
    monkeypatch.setitem(sys.modules, "systemd", SimpleNamespace(journal=found))
    return found


def test_the_tail_is_what_was_logged_since_the_oldest_first(log: FakeLog) -> None:
    log.add(99, "before")
    log.add(100, "one")
    log.add(101.5, "two")
    assert log_tail(["postfix.service"], 100.0) == ("postfix/master: one", "postfix/master: two")


def test_of_a_long_tail_what_is_wrong_is_in_it(log: FakeLog) -> None:
    wrong = {3: ("fatal: bind", 6), 5: ("bad", 3), 9: ("x: warning: that", 6)}
    for at in range(50):
        log.add(at, *wrong.get(at, (f"line {at}", 6)))
    lines = [line.partition(": ")[2] for line in log_tail(["postfix.service"], 0.0, most=5)]
    assert lines == ["fatal: bind", "bad", "x: warning: that", "line 48", "line 49"]


def test_of_much_that_is_wrong_the_newest_is_in_it(log: FakeLog) -> None:
    for at in range(50):
        log.add(at, f"fatal: {at}")
    assert log_tail(["postfix.service"], 0.0, most=2) == (
        "postfix/master: fatal: 48",
        "postfix/master: fatal: 49",
    )


def test_other_programs_of_the_mail_facility_are_left_out(log: FakeLog) -> None:
    log.add(1, "fatal: it", SYSLOG_IDENTIFIER="postfix/smtpd")
    log.add(2, "hello", SYSLOG_IDENTIFIER="opendkim")
    for found in log.entries:
        del found["_SYSTEMD_UNIT"]
    assert log_tail(["postfix.service"], 0.0) == ("postfix/smtpd: fatal: it",)


def test_programs_of_other_units_are_left_out(log: FakeLog) -> None:
    """They have the mail facility, too: a filter, another instance, what pf-agent itself runs."""
    for number, name in enumerate(("opendkim", "postfix-out/master", "postfix/postconf")):
        unit = f"{number}.service"
        log.add(1, "fatal: no", SYSLOG_IDENTIFIER=name, _SYSTEMD_UNIT=unit)
    log.add(2, "Failed", SYSLOG_IDENTIFIER="systemd", UNIT="postfix.service")
    log.entries[-1]["_SYSTEMD_UNIT"] = "init.scope"
    assert log_tail(["postfix.service"], 0.0) == ("systemd: Failed",)


def test_a_line_steers_no_terminal_and_has_an_end(log: FakeLog) -> None:
    log.add(1, b"caf\xe9 \x1b[2J")
    log.add(2, "x" * 10_000)
    first, second = log_tail(["postfix.service"], 0.0)
    assert first == "postfix/master: caf\ufffd \\x1b[2J"
    assert len(second) == 400


def test_a_journal_that_cannot_be_read_is_no_reason_to_stop(
    log: FakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.fault = OSError(13, "Permission denied")
    assert log_tail(["postfix.service"], 0.0) == ()
    monkeypatch.setitem(sys.modules, "systemd", None)
    assert log_tail(["postfix.service"], 0.0) == ()
