"""What was kept as JSON, read back: what each reader takes, and how it refuses the rest."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from pf_agent.config.readback import (
    Members,
    array_of,
    count_of,
    duration_of,
    moment_of,
    or_none,
    table_of,
    text_of,
    texts_of,
    truth_of,
)

END = 253_402_300_799.0
STRANGERS: list[object] = [None, True, 0, -1, 1.5, math.nan, math.inf, 10**400, "x", [], [1], {}]

TAKES: list[tuple[Callable[[Any], object], list[object]]] = [
    (text_of, ["x"]),
    (texts_of, [[]]),
    (truth_of, [True]),
    (count_of, [0]),
    (moment_of, [0, 1.5]),
    (duration_of, [0, -1, 1.5]),
    (or_none(text_of), [None, "x"]),
    (lambda value: array_of(value, count_of), [[], [1]]),
    (Members, [{}]),
    (lambda value: Members(value, ("a",)), []),
]


@pytest.mark.parametrize(("reader", "good"), TAKES)
def test_a_reader_takes_what_it_means_and_refuses_the_rest(
    reader: Callable[[Any], object], good: list[object]
) -> None:
    taken, refusals = [], []
    for stranger in STRANGERS:
        try:
            reader(stranger)
        except ValueError as error:
            refusals.append(str(error))
        else:
            taken.append(stranger)
    assert all(refusal and refusal.isprintable() for refusal in refusals)
    # Of what JSON can say: true is no 1 here.
    assert json.dumps(taken) == json.dumps(good)


@pytest.mark.parametrize(("reader", "most"), [(moment_of, END), (duration_of, END)])
def test_no_moment_lies_beyond_the_end_of_time(
    reader: Callable[[object], float], most: float
) -> None:
    assert reader(most) == most
    with pytest.raises(ValueError, match="it is not a duration"):
        reader(most + 1)


def test_an_integer_is_a_moment_too() -> None:
    assert isinstance(moment_of(5), float)


def test_nobody_has_counted_to_more() -> None:
    assert count_of(10**12 - 1) == 10**12 - 1
    with pytest.raises(ValueError, match="it is not a count"):
        count_of(10**12)


def test_what_is_refused_is_named_with_the_way_to_it() -> None:
    found = Members({"outer": {"a\n": {"inner": 5}}})

    def inner(_name: str, value: object) -> str:
        return Members(value).get("inner", text_of)

    with pytest.raises(ValueError, match=r"^outer: 'a\\n': inner: it is not a string$"):
        found.get("outer", lambda value: table_of(value, inner))
    with pytest.raises(ValueError, match=r"^there is no other$"):
        found.get("other", or_none(text_of))


def test_a_table_is_read_with_its_names() -> None:
    read = table_of({"a": "x", "b": "y"}, lambda name, value: name + text_of(value))
    assert read == {"a": "ax", "b": "by"}
    with pytest.raises(ValueError, match="it is not an object"):
        table_of([], lambda name, _value: name)


def test_only_the_members_that_should_be_there_may_be() -> None:
    assert Members({"a": "1", "b": "2"}, ("b", "a")).get("b", text_of) == "2"
    for wrong in ({"a": "1"}, {"a": "1", "b": "2", "c": "3"}):
        with pytest.raises(ValueError, match="unexpected members"):
            Members(wrong, ("a", "b"))
