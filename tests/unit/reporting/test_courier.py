"""Work that may hang: nobody waits for it, the newest wins, and what fails is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from pf_agent.errors import HostError
from pf_agent.reporting.courier import Courier

PATIENCE = 30.0


class Bench:
    """A courier whose first work hangs until it is let go on."""

    def __init__(self, most: int = 16) -> None:
        self.said: list[str] = []
        self.done: list[str] = []
        self.goes_on = threading.Event()
        self.courier = Courier("mail", self.said.append, most)

    def hang(self) -> None:
        begun = threading.Event()

        def work() -> None:
            begun.set()
            assert self.goes_on.wait(PATIENCE)
            self.done.append("first")

        self.give("first", work)
        assert begun.wait(PATIENCE)

    def give(self, key: str, work: Callable[[], None] | None = None) -> bool:
        return self.courier.give(key, work or (lambda: self.done.append(key)))

    def end(self) -> None:
        self.goes_on.set()
        assert self.courier.settle(PATIENCE)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.end()


def test_nobody_waits_for_work_that_hangs(bench: Bench) -> None:
    bench.hang()
    assert bench.give("second")
    assert bench.done == []
    assert not bench.courier.settle(0.01)
    bench.end()
    assert bench.done == ["first", "second"]


def test_of_one_key_the_newest_is_done(bench: Bench) -> None:
    bench.hang()
    for number in range(5):
        bench.give("status", partial(bench.done.append, f"status {number}"))
    bench.give("other")
    bench.end()
    assert bench.done == ["first", "status 4", "other"]


def test_what_is_too_much_is_given_up_and_told() -> None:
    bench = Bench(most=2)
    bench.hang()
    for key in "abcde":
        bench.give(key)
    bench.end()
    assert bench.done == ["first", "d", "e"]
    (said,) = bench.said
    assert said.startswith("mail: 3 dropped, ")


def test_what_fails_is_told_and_the_next_is_done(bench: Bench) -> None:
    def refuse() -> None:
        raise HostError("the post office is closed; come back tomorrow")

    def break_down() -> None:
        raise ValueError("a bug")

    bench.hang()
    bench.give("closed", refuse)
    bench.give("bug", break_down)
    bench.give("well")
    bench.end()
    assert bench.done == ["first", "well"]
    assert bench.said[0] == "the post office is closed; come back tomorrow"
    assert bench.said[1] == "mail: ValueError('a bug'); please report this"


def test_where_no_thread_can_be_had_it_is_told_once_and_done_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert not bench.give("a")
        assert not bench.give("b")
    (said,) = bench.said
    assert said.startswith("mail: can't start new thread: ")
    assert bench.done == []
    assert bench.give("c")
    bench.end()
    assert bench.done == ["a", "b", "c"]
