"""The verdicts on the texts of one document: asked for aside, and once for each."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pf_agent.daemon.trials import Trials
from pf_agent.errors import HostError
from pf_agent.model import Fault, Judgement


class Judge:
    """Remembers what it was asked; what is to be asked aside waits for `work`."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.ended = 0
        self.trouble = ""
        self.refusals = 10
        self._waiting: list[Callable[[], None]] = []
        self.trials = Trials(self.ask, self.end, lambda _name, run: self._waiting.append(run))

    def ask(self, text: bytes) -> Judgement:
        self.asked.append(text)
        if self.trouble:
            raise HostError(self.trouble)
        if text not in (b"bad", b"taken") or self.refusals == 0:
            return Judgement()
        self.refusals -= 1
        faults = (Fault("a/inet", "another program listens"),) if text == b"taken" else ()
        return Judgement("refused" if text == b"bad" else "", faults=faults)

    def end(self) -> None:
        self.ended += 1

    def work(self) -> None:
        self._waiting.pop(0)()


@pytest.fixture
def judge() -> Judge:
    return Judge()


def test_a_verdict_is_asked_for_aside_and_once(judge: Judge) -> None:
    assert not judge.trials.is_known(b"a")
    assert not judge.trials.is_known(b"a")
    assert judge.asked == []
    judge.work()
    assert judge.ended == 1
    assert judge.trials.is_known(b"a")
    assert judge.trials(b"a") == Judgement()
    assert judge.asked == [b"a"]


def test_another_text_waits_for_the_one_before(judge: Judge) -> None:
    assert not judge.trials.is_known(b"a")
    assert not judge.trials.is_known(b"b")
    judge.work()
    assert not judge.trials.is_known(b"b")
    judge.work()
    assert judge.trials.is_known(b"b")
    assert judge.trials.is_known(b"a")
    assert judge.asked == [b"a", b"b"]


def test_what_could_not_be_asked_is_said_once_and_asked_again(judge: Judge) -> None:
    judge.trouble = "no such program"
    assert not judge.trials.is_known(b"a")
    judge.work()
    with pytest.raises(HostError, match="no such program"):
        judge.trials.is_known(b"a")
    judge.trouble = ""
    assert not judge.trials.is_known(b"a")
    judge.work()
    assert judge.trials.is_known(b"a")


def test_what_is_not_known_is_asked_for_on_the_spot(judge: Judge) -> None:
    assert judge.trials(b"a") == Judgement()
    assert judge.trials.is_known(b"a")
    assert judge.asked == [b"a"]


@pytest.mark.parametrize("text", [b"bad", b"taken"])
def test_only_a_second_refusal_counts(judge: Judge, text: bytes) -> None:
    """What failed once may have been a program that had no memory."""
    judge.refusals = 1
    assert judge.trials(text) == Judgement()
    assert judge.trials.is_known(text)
    assert judge.asked == [text, text]


def test_a_refusal_is_remembered(judge: Judge) -> None:
    assert judge.trials(b"bad").fatal == "refused"
    assert judge.trials(b"bad").fatal == "refused"
    assert judge.asked == [b"bad", b"bad"]


def test_only_what_was_refused_is_forgotten(judge: Judge) -> None:
    for text in (b"bad", b"taken", b"good"):
        judge.trials(text)
    judge.trials.forget()
    assert judge.trials.is_known(b"good")
    assert not judge.trials.is_known(b"bad")
    judge.work()
    assert judge.trials.is_known(b"bad")
    assert not judge.trials.is_known(b"taken")


def test_only_the_latest_are_remembered(judge: Judge) -> None:
    for number in range(5):
        judge.trials(b"%d" % number)
    assert judge.trials.is_known(b"4")
    assert not judge.trials.is_known(b"0")
