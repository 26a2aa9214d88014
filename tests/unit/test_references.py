"""The table of values and what real Postfix does with each: it is whole, and rightly judged."""

from __future__ import annotations

import json
import re
import struct
from collections import Counter
from typing import Any

import pytest

from tests.references.cases import BASE_CASE, TRUTH, Case, is_proven, load, master_cf, verdict
from tests.references.sink import dns_answer

CASES = load()
SERVED = {"connect": "220", "ehlo": "250", "tls": "", "relay": "454 4.7.1", "mail": "250 2.1.0"}
SERVED |= {"rcpt": "250 2.1.5", "data": "354", "end": "250 2.0.0"}
DEBIAN = """\
# service type
smtp      inet  n       -       y       -       -       smtpd
#  -o nothing
smtp      unix  -       -       y       -       -       smtp
relay     unix  -       -       y       -       -       smtp
        -o syslog_name=postfix/$service_name
"""


def seen(message: str = "delivered", **stranger: str) -> dict[str, Any]:
    inside = {**SERVED, "relay": "250 2.1.5"}
    met = {"inside": inside, "stranger": {**SERVED, **stranger}}
    return {"started": True, "alive": True, "message": message, "said": [], **met}


def truth() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(TRUTH.read_text(encoding="utf-8"))
    return found


def test_there_are_at_least_two_hundred_and_no_name_stands_twice() -> None:
    assert len(CASES) >= 200
    assert not [name for name, count in Counter(c.name for c in CASES).items() if count > 1]
    # Nothing to learn from the same files twice.
    same = Counter(repr((c.settings, c.options, c.master, c.without, c.to)) for c in CASES)
    assert not [files for files, count in same.items() if count > 1]


def test_each_case_has_been_tried_on_each_postfix() -> None:
    found = truth()
    assert list(found) == [case.name for case in CASES]
    assert {tuple(by) for by in found.values()} == {("3.10", "3.7")}


def test_each_verdict_is_what_was_seen() -> None:
    found = truth()
    for case in CASES:
        for version, of in found[case.name].items():
            assert of["verdict"] == verdict(case, of, found[case.than][version]), case.name


def test_right_values_are_as_many_as_wrong_ones() -> None:
    count = Counter(of["verdict"] for by in truth().values() for of in by.values())
    assert 0.4 < count["well"] / count.total() < 0.7
    assert count["lame"] > 100
    assert count["down"] > 10


def test_what_matches_nothing_is_shown_to_match_nothing() -> None:
    found = truth()
    for case in CASES:
        for version, of in found[case.name].items():
            assert not case.silent or is_proven(of, found[case.than][version]), case.name


def test_what_is_compared_with_is_there() -> None:
    assert {case.than for case in CASES} <= {case.name for case in CASES}
    assert all(case.silent for case in CASES if case.than != BASE_CASE)


@pytest.mark.parametrize(
    ("what", "word"),
    [
        (seen(), "well"),
        (seen(rcpt="554 5.7.1", data="", end=""), "well"),
        (seen(rcpt="450 4.7.25", data="", end=""), "well"),
        (seen(message="bounced by error"), "well"),
        (seen(message="bounced by local"), "lame"),
        (seen(rcpt="451 4.3.5", data="", end=""), "lame"),
        (seen(end="451 4.3.0"), "lame"),
        (seen(ehlo="none", mail="none", rcpt="none"), "lame"),
        (seen(connect="none", ehlo="none"), "lame"),
        (seen(message="deferred"), "lame"),
        (seen(message="waiting"), "lame"),
        (seen(tls="454 4.7.0"), "lame"),
        (seen(mail="451 4.7.1", rcpt="503 5.5.1", data="", end=""), "lame"),
        ({**seen(connect="none"), "inside": {**SERVED, "connect": "none"}}, "down"),
        ({**seen(connect="421 4.3.2"), "inside": {**SERVED, "connect": "none"}}, "down"),
        ({"started": False, "alive": False, "message": "none", "said": []}, "down"),
    ],
)
def test_the_word_for_it(what: dict[str, Any], word: str) -> None:
    assert verdict(Case("x", "y"), what, seen()) == word


@pytest.mark.parametrize(
    ("case", "word"),
    [
        (Case("x", "y", {"smtpd_tls_security_level": "may"}), "lame"),
        (Case("x", "y", options=("smtpd_tls_security_level=encrypt",)), "lame"),
        (Case("x", "y", {"smtpd_tls_security_level": "none"}), "well"),
    ],
)
def test_who_wants_tls_must_get_it(case: Case, word: str) -> None:
    assert verdict(case, seen(), seen()) == word
    secure = {**SERVED, "tls": "TLSv1.3"}
    assert verdict(case, {**seen(), "inside": secure, "stranger": secure}, seen()) == "well"


def test_a_silent_value_is_lame_only_where_it_shows() -> None:
    case = Case("x", "y", silent=True)
    assert verdict(case, seen(), seen()) == "well"
    assert verdict(case, seen(relay="250 2.1.5"), seen()) == "lame"


def test_master_cf_is_changed_where_a_case_says_so() -> None:
    case = Case("x", "y", options=("{ a = b c }",), master=("own unix - - y - - smtp",))
    lines = master_cf(DEBIAN, case).splitlines()
    assert lines[2] == "  -o { a = b c }"
    assert re.match("own unix", lines[-1])
    assert len(lines) == len(DEBIAN.splitlines()) + 2
    assert master_cf(DEBIAN, Case("x", "y")) == DEBIAN


def test_a_service_goes_with_its_options() -> None:
    kept = master_cf(DEBIAN, Case("x", "y", without=("relay unix",))).splitlines()
    assert kept == DEBIAN.splitlines()[:-2]


@pytest.mark.parametrize(
    ("name", "kind", "flags", "answers"),
    [
        ("Mail.Example.NET", 1, 0x8580, 1),
        ("example.org", 28, 0x8580, 0),
        ("zen.spamhaus.org", 1, 0x8583, 0),
        ("notexample.org", 1, 0x8583, 0),
    ],
)
def test_the_name_server_knows_some_names(name: str, kind: int, flags: int, answers: int) -> None:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    question = labels + b"\0" + struct.pack("!HH", kind, 1)
    asked = b"id" + struct.pack("!HHHHH", 0x0100, 1, 0, 0, 0) + question
    answer = dns_answer(asked)
    assert answer[:2] == b"id"
    assert struct.unpack("!HHH", answer[2:8]) == (flags, 1, answers)
    assert answer[12 : 12 + len(question)] == question
    assert answer.endswith(bytes([192, 0, 2, 80])) == bool(answers)
