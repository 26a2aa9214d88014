"""Who waits for a call of systemd, and for how long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from pf_agent.bus.calls import Calls
from pf_agent.errors import GaveWay, HostError

WAIT_SECONDS = 60.0


class Hanging:
    """A systemd that does not answer until it is let go, and counts what it was asked."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()
        self.may_end = threading.Event()
        self.times = 0

    def __call__(self) -> int:
        self.times += 1
        self.has_begun.set()
        assert self.may_end.wait(WAIT_SECONDS)
        return self.times


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    hanging = Hanging()
    yield hanging
    hanging.may_end.set()


class Answers(list[int]):
    """What the acting thread is answered, in a thread of the test's."""

    def __init__(self, ask: Callable[[], int]) -> None:
        self._thread = threading.Thread(target=lambda: self.append(ask()))
        self._thread.start()

    def wait(self) -> int:
        self._thread.join(WAIT_SECONDS)
        return self[0]


def nobody() -> bool:
    return False


def test_an_answer_is_returned_and_what_fails_says_why() -> None:
    calls = Calls(nobody)
    assert calls.ask("one", lambda: 1) == 1
    assert calls.tell(lambda: 2) == 2
    with pytest.raises(RuntimeError, match="refused"):
        calls.ask("one", lambda: refuse("refused"))
    with pytest.raises(RuntimeError, match="refused too"):
        calls.tell(lambda: refuse("refused too"))
    calls.close(lambda: None)


def refuse(*words: str) -> int:
    raise RuntimeError(*words)


def test_it_is_waited_for_no_longer_where_something_was_there_before(hanging: Hanging) -> None:
    with pytest.raises(GaveWay):
        Calls(lambda: True).ask("one", hanging)


def test_it_is_waited_for_no_longer_where_something_comes_meanwhile(hanging: Hanging) -> None:
    calls = Calls(nobody)

    def come() -> None:
        hanging.has_begun.wait(WAIT_SECONDS)
        calls.give_way()

    coming = threading.Thread(target=come)
    coming.start()
    with pytest.raises(GaveWay):
        calls.ask("one", hanging)
    coming.join()


def test_what_came_before_the_last_question_is_no_reason(hanging: Hanging) -> None:
    calls = Calls(nobody)
    calls.give_way()  # nobody waits
    answers = Answers(lambda: calls.ask("one", hanging))
    assert hanging.has_begun.wait(WAIT_SECONDS)
    hanging.may_end.set()
    assert answers.wait() == 1


def test_an_answer_that_is_there_is_taken_whoever_waits() -> None:
    calls = Calls(lambda: True)
    assert [calls.ask("one", lambda: 1) for _ in range(3)] == [1, 1, 1]
    calls.close(lambda: None)


def test_who_asks_the_same_again_waits_for_the_answer_to_the_first(hanging: Hanging) -> None:
    is_awaited = True
    calls = Calls(lambda: is_awaited)
    for _ in range(5):
        with pytest.raises(GaveWay):
            calls.ask("one", hanging)
    is_awaited = False
    answers = Answers(lambda: calls.ask("one", hanging))
    hanging.may_end.set()
    assert answers.wait() == 1
    assert calls.ask("one", hanging) == 2, "an answer of before is not used again"


def test_what_is_told_is_told_each_time_and_gives_no_way(hanging: Hanging) -> None:
    calls = Calls(lambda: True)
    told = [Answers(lambda: calls.tell(hanging)) for _ in range(2)]
    assert hanging.has_begun.wait(WAIT_SECONDS)
    with pytest.raises(GaveWay):
        calls.ask("one", lambda: 1)
    hanging.may_end.set()
    assert sorted(each.wait() for each in told) == [1, 2]


def test_the_last_call_comes_after_the_others_and_is_waited_for() -> None:
    made: list[str] = []
    before = set(threading.enumerate())
    calls = Calls(nobody)
    calls.ask("one", lambda: made.append("asked"))
    calls.close(lambda: made.append("hung up"))
    assert made == ["asked", "hung up"]
    calls.ask("one", lambda: made.append("asked again"))
    calls.close(lambda: None)
    assert made[2:] == ["asked again"]
    assert set(threading.enumerate()) <= before


def test_the_end_waits_for_no_answer(hanging: Hanging) -> None:
    calls, made = Calls(lambda: True), list[str]()
    with pytest.raises(GaveWay):
        calls.ask("one", hanging)
    calls.close(lambda: made.append("hung up"))
    assert made == []


def test_who_is_used_again_after_a_close_that_hung_has_the_one_thread(hanging: Hanging) -> None:
    before = set(threading.enumerate())
    calls, made = Calls(lambda: True), list[str]()
    with pytest.raises(GaveWay):
        calls.ask("one", hanging)
    (caller,) = set(threading.enumerate()) - before
    calls.close(lambda: made.append("hung up"))
    with pytest.raises(GaveWay):
        calls.ask("two", lambda: made.append("asked again"))
    assert set(threading.enumerate()) - before == {caller}
    hanging.may_end.set()
    calls.tell(lambda: made.append("told"))
    assert made == ["hung up", "asked again", "told"]
    calls.close(lambda: None)
    assert set(threading.enumerate()) <= before


def test_where_no_thread_can_be_had_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(nobody)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", lambda _: refuse("can't start new thread"))
        with pytest.raises(HostError, match="cannot call systemd"):
            calls.ask("one", lambda: 1)
    assert calls.ask("one", lambda: 1) == 1
    calls.close(lambda: None)
