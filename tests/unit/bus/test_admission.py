"""Which messages of the bus pass, by values alone: no bus, and a clock that is handed in."""

from __future__ import annotations

import itertools

import pytest

from pf_agent.bus.admission import Admission, most_bytes
from pf_agent.bus.wire import BUS, ERROR, METHOD_CALL, METHOD_RETURN, SIGNAL, Head, Messages

ROOT, ANNA = 0, 1_000
SERIALS = itertools.count(1)


def head(kind: int, sender: str, signature: str = "", flags: int = 0, answers: int = 0) -> Head:
    return Head(kind, flags, next(SERIALS), answers, sender, signature, is_little=True)


class Bench:
    """An Admission, and the bus that it asks who is who."""

    def __init__(self) -> None:
        self.admission = Admission(0)
        self.sent: list[Head] = []

    def send(self, sent: Head, message: bytes = b"message", now: float = 0) -> None:
        self.sent.append(sent)
        self.admission.take(sent, message, now)

    def outward(self) -> list[Head]:
        """What has gone to the bus since the last time."""
        stream = b"".join(self.admission.outward)
        self.admission.outward.clear()
        return [found for found, _ in Messages(lambda _: None).feed(stream)]

    def inward(self) -> list[bytes]:
        """What has passed since the last time."""
        passed = list(self.admission.inward)
        self.admission.inward.clear()
        return passed

    def know(self, sender: str, uid: int) -> None:
        """`sender` is this user, as the bus says when it is asked after a first signal."""
        self.send(head(SIGNAL, sender), b"")
        self.answer(uid)
        assert self.inward() == []

    def answer(self, *uids: int | None) -> None:
        """Answer what was asked, in turn; None: there is no such name any more."""
        for question, uid in zip(self.outward(), uids, strict=True):
            if uid is None:
                error = head(ERROR, BUS, "s", answers=question.serial)
                self.admission.take(error, b"error", 0)
            else:
                told = head(METHOD_RETURN, BUS, "u", answers=question.serial)
                self.admission.take(told, b"told" + uid.to_bytes(4, "little"), 0)


def test_whose_name_it_is_is_asked_once_and_the_order_is_kept() -> None:
    bench = Bench()
    bench.send(head(SIGNAL, ":1.1"), b"one")
    bench.send(head(METHOD_RETURN, ":1.1"), b"two")
    bench.send(head(SIGNAL, ":1.1"), b"three")
    assert bench.inward() == []
    bench.answer(ROOT)
    assert bench.inward() == [b"one", b"two", b"three"]
    bench.send(head(METHOD_CALL, ":1.1"), b"four")
    assert (bench.inward(), bench.outward()) == ([b"four"], [])


def test_the_bus_and_answers_pass_unasked() -> None:
    bench = Bench()
    bench.send(head(SIGNAL, BUS), b"NameAcquired")
    bench.send(head(METHOD_RETURN, BUS, answers=3), b"for GDBus")
    bench.send(head(METHOD_RETURN, ":1.9", answers=4), b"of polkit")
    bench.send(head(ERROR, ":1.9", answers=5), b"of polkit, too")
    assert bench.inward() == [b"NameAcquired", b"for GDBus", b"of polkit", b"of polkit, too"]
    assert bench.outward() == []


def test_who_is_gone_before_it_is_known_is_forgotten() -> None:
    bench = Bench()
    bench.send(head(METHOD_CALL, ":1.8"), b"call")
    bench.send(head(METHOD_RETURN, ":1.8"), b"answer to us")
    bench.answer(None)
    assert (bench.inward(), bench.outward()) == ([b"answer to us"], [])


def test_others_have_a_few_calls_a_few_refusals_and_silence() -> None:
    bench = Bench()
    bench.know(":1.7", ANNA)
    bench.know(":1.1", ROOT)
    for _ in range(1_000):
        bench.send(head(METHOD_CALL, ":1.7"), b"hers")
        bench.send(head(METHOD_CALL, ":1.1"), b"roots")
    assert bench.inward().count(b"hers") == 60
    refused = bench.outward()
    assert [each.kind for each in refused] == [ERROR] * 10
    assert {each.reply_serial for each in refused} < {each.serial for each in bench.sent}


def test_root_is_not_counted() -> None:
    bench = Bench()
    bench.know(":1.1", ROOT)
    for _ in range(5_000):
        bench.send(head(METHOD_CALL, ":1.1", "av"), b"roots")
    assert bench.inward() == [b"roots"] * 5_000


def test_a_new_connection_brings_a_user_no_new_calls() -> None:
    bench = Bench()
    for number in range(500):
        bench.send(head(METHOD_CALL, f":1.{number}"), b"hers")
        bench.answer(ANNA)
        bench.admission.outward.clear()
    assert bench.inward() == [b"hers"] * 60


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (head(SIGNAL, ":1.7"), b"a signal"),
        (head(METHOD_CALL, ":1.7", flags=1), b""),
        (head(METHOD_CALL, ":1.7", "av", flags=1), b"a call of none of ours"),
        (head(9, ":1.7"), b"of no known kind"),
        (head(METHOD_CALL, ""), b"of nobody"),
    ],
)
def test_what_others_have_no_business_to_send_is_dropped(sent: Head, message: bytes) -> None:
    bench = Bench()
    bench.know(":1.7", ANNA)
    bench.send(sent, message)
    assert (bench.inward(), bench.outward()) == ([], [])


@pytest.mark.parametrize(("signature", "message"), [("av", b"call"), ("ts", b"")])
def test_a_call_that_is_none_of_ours_is_refused_in_words(signature: str, message: bytes) -> None:
    bench = Bench()
    bench.know(":1.7", ANNA)
    bench.send(head(METHOD_CALL, ":1.7", signature), message)
    (refused,) = bench.outward()
    assert (refused.kind, refused.reply_serial) == (ERROR, bench.sent[-1].serial)


def test_what_is_held_of_one_and_of_all_is_bounded() -> None:
    bench = Bench()
    for number in range(700):
        for _ in range(100):
            bench.send(head(METHOD_CALL, f":1.{number}", "ts"), bytes(8_000))
    questions = len(bench.outward())
    assert questions == 512
    for serial in range(1 << 31, (1 << 31) + questions):
        told = head(METHOD_RETURN, BUS, "u", answers=serial)
        bench.admission.take(told, ROOT.to_bytes(4, "little"), 0)
    assert 3 << 20 < sum(map(len, bench.inward())) < 5 << 20


def test_the_names_that_are_remembered_are_bounded() -> None:
    bench = Bench()
    for number in range(2_000):
        bench.know(f":1.{number}", ANNA)
    bench.send(head(SIGNAL, ":1.1999"))
    assert bench.outward() == []
    bench.send(head(SIGNAL, ":1.0"))
    assert len(bench.outward()) == 1


def test_whose_name_it_is_can_be_asked_here_too() -> None:
    bench = Bench()
    bench.know(":1.7", ANNA)
    assert [bench.admission.user_of(name) for name in (":1.7", ":1.8")] == [ANNA, None]


def test_only_what_was_asked_for_has_no_bound() -> None:
    assert [most_bytes(kind) for kind in (METHOD_RETURN, ERROR)] == [None, None]
    assert [most_bytes(kind) for kind in (METHOD_CALL, SIGNAL, 0, 5, 255)] == [8192, *[65536] * 4]
