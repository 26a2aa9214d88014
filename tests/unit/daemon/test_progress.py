"""What `apply` says while it waits."""

from __future__ import annotations

import io

import pytest

from pf_agent.daemon.progress import Progress, Waiting

NOW = 1_000.0


class Terminal(io.StringIO):
    """A stream that is one."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("waiting", "sentence", "seconds"),
    [
        (Waiting(), "Postfix is restarted", 0.0),
        (
            Waiting(patience=18.2),
            "Postfix is restarted in 18 s (at most 3 restarts a minute)",
            18.2,
        ),
        (
            Waiting(patience=150.0, is_contested=True),
            "Postfix is restarted in 2 min (something keeps changing main.cf)",
            150.0,
        ),
        (
            Waiting(is_under_way=True, patience=1.0),
            "Postfix is being restarted, and is asked whether it serves",
            0.0,
        ),
        (Waiting(is_elsewhere=True, patience=1.0), "pf-agent.service restarts Postfix", 0.0),
        (
            Waiting(is_elsewhere=True, due=NOW + 7300),
            "pf-agent.service restarts Postfix in 2 h",
            7300.0,
        ),
        (
            Waiting(awaited="Postfix start is waiting for dpkg", patience=1.0),
            "Postfix start is waiting for dpkg",
            1.0,
        ),
        (Waiting(is_elsewhere=True, due=NOW - 5), "pf-agent.service restarts Postfix", 0.0),
    ],
)
def test_what_is_waited_for(waiting: Waiting, sentence: str, seconds: float) -> None:
    assert waiting.sentence(NOW) == sentence
    assert waiting.seconds(NOW) == seconds


def test_on_a_terminal_one_line_is_renewed_and_gone_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    progress = Progress(stream)
    progress.clear()
    assert stream.getvalue() == ""
    progress.tell("a", 0.0)
    progress.tell("b\x1b" + "c" * 40, 0.0)
    progress.clear()
    progress.clear()
    lines = stream.getvalue().split("\r\x1b[K")
    assert lines[:2] == ["", "pf-agent: waiting: a"]
    assert lines[2].startswith("pf-agent: waiting: b\\x1bcc")
    assert len(lines[2]) == 39
    assert lines[3:] == [""]


def test_elsewhere_a_long_wait_is_told_once() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    progress.tell("a", 9.9)
    assert stream.getvalue() == ""
    for seconds in (20.0, 19.0):
        progress.tell("b", seconds)
    progress.clear()
    assert stream.getvalue() == "pf-agent: waiting: b\n"
