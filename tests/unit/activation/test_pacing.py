"""When to restart and to try again."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_agent.activation.pacing import (
    RESTART_APART_SECONDS,
    RESTARTS_A_MINUTE,
    SECOND_RESTART_SECONDS,
    Backoff,
    contest,
    noted,
    opens_in,
    recent_restarts,
    remembered_restarts,
    restart_allowed_at,
    wish_allowed_at,
)
from pf_agent.model import Contest, Window


@given(st.lists(st.floats(6, 120), min_size=3, max_size=40))
def test_while_it_goes_on_restarts_never_come_closer(pauses: list[float]) -> None:
    drifts, now, before = drifted(0.0), 0.0, 0.0
    for pause in pauses:
        now += pause
        drifts = noted(drifts, ["mynetworks"], now)
        found = contest(drifts, now)
        apart = found.apart if found else 0.0
        assert before <= apart <= 300
        before = apart
    assert before >= 10


@given(st.lists(st.floats(-1e5, 1e5), max_size=30), st.floats(0, 1e4))
def test_a_contest_ends_in_peace(moments: list[float], now: float) -> None:
    """Whatever was noted, by a clock that ran ahead or in any order."""
    assert contest({"mynetworks": moments}, now + 3 * 3600 + 1e5) is None


@pytest.mark.parametrize(
    ("restarts", "allowed"),
    [
        pytest.param([], 1000.0, id="never restarted"),
        pytest.param([990.0], 1000.0, id="far enough apart"),
        pytest.param([998.0], 1001.0, id="too soon"),
        pytest.param([996.0], 1000.0, id="a second one, a little later"),
        pytest.param([980.0, 994.0], 1004.0, id="too soon for a third"),
        pytest.param([950.0, 970.0], 1000.0, id="two in a minute"),
        pytest.param([941.0, 960.0, 980.0], 1001.0, id="three in a minute"),
        pytest.param([950.0, 970.0, 999.0], 1010.0, id="the later of both limits"),
        pytest.param([940.0, 960.0, 980.0], 1000.0, id="the first is a minute old"),
        pytest.param([980.0, 941.0, 960.0], 1001.0, id="in any order"),
        pytest.param([970.0, 970.0, 970.0, 995.0], 1005.0, id="noted more than once"),
        pytest.param([1001.0, 5000.0], 1000.0, id="of a clock that ran ahead"),
        pytest.param([944.0, 945.0, 950.0, 960.0, 980.0], 1010.0, id="more than the budget"),
    ],
)
def test_when_a_restart_is_allowed(restarts: list[float], allowed: float) -> None:
    assert restart_allowed_at(restarts, now=1000.0) == allowed


def test_the_restarts_that_count() -> None:
    assert recent_restarts([1000.0, 940.0, 940.5, 1000.5, 960.0], 1000.0) == (940.5, 960.0, 1000.0)


@given(st.lists(st.floats(0, 30), max_size=60))
def test_whoever_keeps_to_it_stays_within_the_budget(pauses: list[float]) -> None:
    now, restarts = 1000.0, list[float]()
    for pause in pauses:
        now += pause
        allowed = restart_allowed_at(recent_restarts(restarts, now), now)
        assert now <= allowed <= now + 60.0
        if allowed == now:
            restarts.append(now)
    for first, second in itertools.pairwise(restarts):
        assert second - first >= SECOND_RESTART_SECONDS - 1e-6
    for first, third in zip(restarts, restarts[2:], strict=False):
        assert third - first >= RESTART_APART_SECONDS - 1e-6
    for first, fourth in zip(restarts, restarts[RESTARTS_A_MINUTE:], strict=False):
        assert fourth - first >= 60.0 - 1e-6


@given(st.lists(st.floats(0, 2000), max_size=10), st.floats(0, 2000))
def test_what_is_allowed_then_is_allowed_when_then_has_come(
    restarts: list[float], now: float
) -> None:
    # A breath later: the sum of two floats may miss the end of the minute by one bit.
    then = restart_allowed_at([moment for moment in restarts if moment <= now], now) + 1e-6
    assert restart_allowed_at([moment for moment in restarts if moment <= now], then) == then


def test_the_budget_stays_below_that_of_systemd() -> None:
    # 5 starts within 10 s: DefaultStartLimitBurst=, DefaultStartLimitIntervalSec=.
    assert RESTARTS_A_MINUTE < 5
    assert SECOND_RESTART_SECONDS + 4 * RESTART_APART_SECONDS > 10


def test_backoff_doubles_up_to_its_most_and_begins_again_when_reset() -> None:
    backoff = Backoff(first=1.0, most=300.0)
    waits = [backoff.grow() for _ in range(11)]
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    backoff.reset()
    assert [backoff.grow(), backoff.grow()] == [1, 2]


def test_each_backoff_waits_on_its_own_account() -> None:
    one, other = Backoff(), Backoff()
    one.grow()
    assert one.grow() == 2 * other.grow()


# --- the window -----------------------------------------------------------------------------------

NIGHT = Window(2 * 3600.0, 4 * 3600.0)
OVER_MIDNIGHT = Window(23 * 3600.0, 1 * 3600.0)


@pytest.mark.parametrize(
    ("window", "second", "wait"),
    [
        (None, 0.0, 0.0),
        (NIGHT, 7200.0, 0.0),
        (NIGHT, 14399.0, 0.0),
        (NIGHT, 14400.0, 79200.0),
        (NIGHT, 7199.0, 1.0),
        (OVER_MIDNIGHT, 82800.0, 0.0),
        (OVER_MIDNIGHT, 0.0, 0.0),
        (OVER_MIDNIGHT, 3600.0, 79200.0),
        (OVER_MIDNIGHT, 82799.0, 1.0),
    ],
)
def test_how_long_until_the_window_opens(window: Window | None, second: float, wait: float) -> None:
    assert opens_in(window, second) == wait


@given(
    st.builds(Window, st.integers(0, 86399), st.integers(0, 86399)).filter(
        lambda window: window.opens != window.closes
    ),
    st.integers(0, 86399),
)
def test_after_the_wait_the_window_is_open(window: Window, second: int) -> None:
    wait = opens_in(window, second)
    assert 0 <= wait < 86400
    assert opens_in(window, (second + wait) % 86400) == 0


# --- contest --------------------------------------------------------------------------------------


def drifted(*moments: float, name: str = "mynetworks") -> dict[str, tuple[float, ...]]:
    drifts: dict[str, tuple[float, ...]] = {}
    for moment in moments:
        drifts = noted(drifts, [name], moment)
    return drifts


def test_a_few_changes_are_no_contest() -> None:
    assert contest({}, 1000.0) is None
    assert contest(drifted(100, 200, 300), 300.0) is None


def test_the_fourth_change_is_one() -> None:
    found = contest(drifted(100, 200, 300, 400), 400.0)
    assert found == Contest(("mynetworks",), 4, 100.0, 10.0)


def test_a_storm_counts_once() -> None:
    storm = [100 + number / 100 for number in range(200)]
    assert drifted(*storm) == {"mynetworks": (100.0,)}
    assert contest(drifted(*storm), 102.0) is None


def test_a_storm_that_goes_on_counts_every_five_seconds() -> None:
    assert drifted(*range(100, 116)) == {"mynetworks": (100, 105, 110, 115)}


@pytest.mark.parametrize(
    ("times", "apart"), [(4, 10), (5, 20), (6, 40), (7, 80), (8, 160), (9, 300), (360, 300)]
)
def test_the_more_often_the_further_apart_are_restarts(times: int, apart: float) -> None:
    moments = [30.0 * number for number in range(times)]
    found = contest(drifted(*moments), moments[-1])
    assert found is not None
    assert (found.count, found.apart) == (times, apart)


def test_the_most_contested_comes_first_and_counts() -> None:
    drifts = drifted(0, 10)
    for moment in (20, 30, 40, 50):
        drifts = noted(drifts, ["relayhost", "mynetworks"], moment)
    drifts = noted(drifts, ["myorigin"], 60)
    assert contest(drifts, 60.0) == Contest(("mynetworks", "relayhost"), 6, 0.0, 40.0)


def test_it_is_over_after_ten_minutes_of_peace() -> None:
    drifts = drifted(0, 30, 60, 90)
    assert contest(drifts, 90.0 + 600) is not None
    assert contest(drifts, 90.0 + 601) is None


def test_who_comes_by_every_half_hour_is_not_gone_after_ten_minutes() -> None:
    drifts = drifted(0, 1800, 3600, 5400)
    assert contest(drifts, 5400.0 + 3600) is not None
    assert contest(drifts, 5400.0 + 3601) is None


def test_what_is_three_hours_old_counts_no_more() -> None:
    drifts = drifted(0, 3500, 7000, 10_500)
    assert contest(drifts, 10_500.0) is not None
    assert drifted(0, 3500, 7000, 10_900) == {"mynetworks": (3500, 7000, 10_900)}
    assert contest(drifted(0, 3500, 7000, 10_900), 10_900.0) is None


def test_after_one_that_is_over_a_new_one_begins_from_nothing() -> None:
    drifts = drifted(0, 30, 60, 90, 90 + 700)
    assert drifts == {"mynetworks": (790,)}
    assert contest(drifts, 790.0) is None


def test_moments_of_a_clock_that_ran_ahead_are_dropped() -> None:
    drifts = drifted(5000, 6000, 7000, 8000)
    assert contest(drifts, 100.0) is None
    assert noted(drifts, ["mynetworks"], 100.0) == {"mynetworks": (100.0,)}


def test_names_and_moments_are_bounded() -> None:
    drifts: dict[str, tuple[float, ...]] = {}
    for number in range(1000):
        drifts = noted(drifts, [f"name{number}", "often"], 10.0 * number)
    assert len(drifts) == 50
    assert len(drifts["often"]) == 400
    assert "name999" in drifts


@given(st.lists(st.floats(0, 30_000), max_size=40).map(sorted), st.floats(0, 4000))
def test_a_contest_of_any_history_keeps_its_promises(moments: list[float], later: float) -> None:
    drifts, now = drifted(*moments), (moments[-1] if moments else 0.0) + later
    found = contest(drifts, now)
    if found is not None:
        assert 4 <= found.count <= len(moments)
        assert 10 <= found.apart <= 300
        assert now - 3 * 3600 < found.since <= moments[-1]


@pytest.mark.parametrize(
    ("restarts", "allowed"),
    [([], 1000), ([900.0], 1060), ([760.0, 900.0], 1060), ([800.0], 1000), ([995.0], 1155)],
)
def test_while_contested_restarts_are_further_apart(restarts: list[float], allowed: float) -> None:
    assert restart_allowed_at(restarts, 1000.0, apart=160.0) == allowed


def test_a_restart_is_remembered_for_as_long_as_the_next_can_be_put_off() -> None:
    assert remembered_restarts([699.0, 701.0, 999.0, 1001.0], 1000.0) == (701.0, 999.0)


# --- what a person asks for -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wished", "wait"),
    [
        pytest.param([], 0, id="the first"),
        pytest.param([99], 2, id="the second soon"),
        pytest.param([40, 60, 80, 99], 2, id="the fifth no later"),
        pytest.param([99, 40], 2, id="in any order"),
        pytest.param([97], 0, id="long enough ago"),
        pytest.param([5], 0, id="of a minute ago"),
        pytest.param([101], 0, id="of a clock that ran ahead"),
    ],
)
def test_a_wish_waits_for_the_one_before_it_alone(wished: list[float], wait: float) -> None:
    assert wish_allowed_at(wished, 100.0) == 100.0 + wait
