"""Work beside the loop: its answer, its failure, and who is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

import pytest

from pf_agent.activation.aside import Aside, in_a_thread
from pf_agent.errors import HostError


def test_nobody_waits_for_the_answer_who_does_not_want_to() -> None:
    go, ended = threading.Event(), SimpleQueue[str]()

    def work() -> str:
        go.wait(60)
        return f"by {threading.current_thread().name}"

    aside = Aside("probe", work, lambda: ended.put("told"))
    assert aside.answer() is None
    go.set()
    assert ended.get(timeout=60) == "told"
    assert (aside.answer(), aside.answer()) == ("by probe", "by probe")


@pytest.mark.parametrize("error", [HostError("no postconf"), ZeroDivisionError("ours")])
def test_a_failure_reaches_the_loop(error: Exception) -> None:
    def work() -> str:
        raise error

    told: list[str] = []

    def spawn(name: str, run: Callable[[], None]) -> None:
        run()

    aside = Aside("probe", work, lambda: told.append("told"), spawn)
    assert told == ["told"]
    with pytest.raises(type(error)) as caught:
        aside.answer()
    assert caught.value is error


def test_a_machine_that_grants_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(HostError, match="probe: can't start new thread: not enough memory"):
        in_a_thread("probe", lambda: None)
