"""Moments and spans as journalctl takes them; systemd itself is asked on a machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_agent.cli.arguments import with_signs
from pf_agent.cli.moments import moment_of, span_of

NOW = datetime(2026, 1, 31, 14, 33, 20, tzinfo=timezone.utc).timestamp()
HOUR = 3600.0
DAY = 24 * HOUR


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An hour before UTC in winter."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("2h 30min", 2.5 * HOUR),
        ("2h30m", 2.5 * HOUR),
        ("1 day", DAY),
        ("1h30", HOUR + 30),
        ("5day20s", 5 * DAY + 20),
        ("1.5h", 1.5 * HOUR),
        (".5min", 30),
        ("300ms20s 5day", 5 * DAY + 20.3),
        ("250us", 0.00025),
        ("1y 12month", 365.25 * DAY + 12 * 30.4375 * DAY),
        ("3M", 3 * 30.4375 * DAY),
        ("2 weeks", 14 * DAY),
        ("0", 0),
    ],
)
def test_a_span(text: str, seconds: float) -> None:
    assert span_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", " ", "x", "2x", "-1", "+1", "h", "1,5h", "1 h x", "infinity", "1e3", "9" * 16]
)
def test_what_is_no_span(text: str) -> None:
    assert span_of(text) is None


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("now", "2026-01-31 15:33:20"),
        ("today", "2026-01-31 00:00:00"),
        ("yesterday", "2026-01-30 00:00:00"),
        ("tomorrow", "2026-02-01 00:00:00"),
        ("today UTC", "2026-01-31 01:00:00"),
        ("2 hours ago", "2026-01-31 13:33:20"),
        ("-1h30min", "2026-01-31 14:03:20"),
        ("+3 days", "2026-02-03 15:33:20"),
        ("1 day left", "2026-02-01 15:33:20"),
        ("2h", "2026-01-31 13:33:20"),
        ("7d", "2026-01-24 15:33:20"),
        ("2026-01-31", "2026-01-31 00:00:00"),
        ("26-1-3", "2026-01-03 00:00:00"),
        ("2026-01-31 14:30", "2026-01-31 14:30:00"),
        (" 2026-01-31  14:30:05 ", "2026-01-31 14:30:05"),
        ("2026-01-31T14:30:05", "2026-01-31 14:30:05"),
        ("2026-01-31 14:30:05 UTC", "2026-01-31 15:30:05"),
        ("2026-01-31T14:30:05Z", "2026-01-31 15:30:05"),
        ("Sat 2026-01-31 14:30", "2026-01-31 14:30:00"),
        ("saturday 2026-01-31", "2026-01-31 00:00:00"),
        ("14:30", "2026-01-31 14:30:00"),
        ("14:30:05", "2026-01-31 14:30:05"),
        ("@1769817600", "2026-01-31 01:00:00"),
        ("2026-07-01 12:00", "2026-07-01 12:00:00"),
    ],
)
def test_a_moment(text: str, local: str) -> None:
    found = moment_of(text, NOW)
    assert found is not None
    assert time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found)) == local


def test_parts_of_a_second() -> None:
    assert moment_of("@1769817600.5", NOW) == 1769817600.5
    assert moment_of("2026-01-31 14:30:05.25", NOW) == NOW - HOUR - 195 + 0.25


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "ago", "-", "+", "@", "@x", "Sat", "UTC", "noon", "2026", "2026-01"),
        *("2026-13-01", "2026-02-30", "25:00", "12:61", "2026-01-31 14", "2026-01-3114:30"),
        *("Fri 2026-01-31", "2026-01-31T", "yesterday 14:30", "-1h -2h", "1" * 20 + "-01-01"),
    ],
)
def test_what_is_no_moment(text: str) -> None:
    assert moment_of(text, NOW) is None


@given(st.text(st.sampled_from("0123456789-:@.+ TZahdmnosuwy\u00b2\x1b"), max_size=24))
def test_whatever_is_written_is_a_number_or_nothing(text: str) -> None:
    for found in (moment_of(text, NOW), span_of(text)):
        assert found is None or isinstance(found, float)


def test_a_time_that_begins_with_a_minus_is_no_option() -> None:
    assert with_signs(["history", "--since", "-1h30min"]) == ["history", "--since=-1h30min"]
    for words in (
        ["history", "--since", "--json"],
        ["--since"],
        ["x", "-1h"],
        ["--since=-1h", "3"],
    ):
        assert with_signs(words) == words
