"""When to restart and to try again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_agent.model import Window
from pf_agent.pacing import (
    RESTART_APART_SECONDS,
    RESTARTS_A_MINUTE,
    SECOND_RESTART_SECONDS,
    Backoff,
    opens_in,
    recent_restarts,
    restart_allowed_at,
)


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
    for first, second in zip(restarts, restarts[1:], strict=False):
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
