"""How many calls a user has, by a clock that is handed in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pf_agent.bus.allowance import Allowance, Bucket

ANNA, BERTA = 1_000, 1_001


def taken(allowance: Allowance, uid: int, now: float, calls: int = 1_000) -> int:
    return sum(allowance.takes_call(uid, now) for _ in range(calls))


def test_a_bucket_fills_with_time_and_not_beyond_its_brim() -> None:
    bucket = Bucket(2, 10, 0, 100)
    assert [bucket.fill(now) for now in (100, 101, 104, 900)] == [0, 2, 8, 10]


def test_a_clock_that_stands_still_or_goes_back_brings_nothing() -> None:
    bucket = Bucket(2, 10, 3, 100)
    assert [bucket.fill(now) for now in (100, 50, 100)] == [3, 3, 3]


def test_one_user_has_a_few_calls_at_once_and_then_so_many_a_second() -> None:
    allowance = Allowance(0)
    assert [taken(allowance, ANNA, now) for now in (0, 0, 1, 3, 1_000)] == [60, 0, 20, 40, 60]


def test_one_user_leaves_the_others_theirs() -> None:
    allowance = Allowance(0)
    taken(allowance, ANNA, 0)
    assert taken(allowance, BERTA, 0) == 60


@given(st.lists(st.tuples(st.integers(1, 5_000), st.floats(0, 0.2)), max_size=400))
def test_all_together_have_no_more_than_their_bound_whoever_they_are(
    calls: list[tuple[int, float]],
) -> None:
    allowance, now, sum_of_all = Allowance(0), 0.0, 0
    for uid, pause in calls:
        now += pause
        sum_of_all += taken(allowance, uid, now, 30)
    assert sum_of_all <= 120 + 60 * now


def test_what_is_refused_for_all_costs_the_one_nothing() -> None:
    allowance = Allowance(0)
    for uid in range(2):
        taken(allowance, uid, 0)
    assert taken(allowance, ANNA, 0) == 0
    assert taken(allowance, ANNA, 1) == 60


def test_a_refusal_is_told_a_few_times_and_then_once_a_second() -> None:
    allowance = Allowance(0)
    told = [sum(allowance.takes_refusal(ANNA, now) for _ in range(99)) for now in (0, 0, 2)]
    assert told == [10, 0, 2]
    assert allowance.takes_refusal(BERTA, 2)
