"""The agent is killed at some system calls of all its work; tests/campaigns/crash.py: at all."""

from __future__ import annotations

import platform
from collections.abc import Callable

import pytest

from tests.machine import tracer
from tests.machine.crashing import NEVER, Crashes, Point
from tests.machine.nspawn import Machine
from tests.machine.points import spread
from tests.machine.subjects import SUBJECTS

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        platform.machine() != tracer.MACHINE,
        reason=f"the tracer knows {tracer.MACHINE}'s calls alone",
    ),
]


# The exchange of main.cf comes soon: so few calls are before it in any case.
_BEGINNING = 10


@pytest.fixture(scope="module")
def crashes(agent_machine: Machine) -> Crashes:
    return Crashes(agent_machine)


def killed(
    way: Callable[[int], Point | list[list[str]]], times: int
) -> tuple[list[Point], list[str]]:
    """The points of so many kills, one as it begins, one in each part; and the faults there."""
    calls = way(NEVER)
    assert isinstance(calls, list)

    def at(number: int) -> Point | int:
        found = way(number)
        return found if isinstance(found, Point) else len(found)

    points = spread(at, min(len(calls), _BEGINNING), 1)
    points += spread(at, len(calls), times - 1)
    return points, [f"{point}: {fault}" for point in points for fault in point.faults]


def test_killed_while_it_corrects(crashes: Crashes) -> None:
    points, faults = killed(crashes.correction, 6)
    assert faults == []
    assert len(points) >= 5
    assert {point.was_right for point in points} == {False, True}


def test_what_runs_postfixs_programs_is_killed(crashes: Crashes) -> None:
    points, faults = killed(crashes.errand, 4)
    assert faults == []
    assert len(points) >= 3


def test_killed_while_it_takes_up_a_crash(crashes: Crashes) -> None:
    points, faults = killed(crashes.take_up, 3)
    assert faults == []
    assert len(points) >= 2


def test_the_power_is_cut(crashes: Crashes) -> None:
    points, faults = killed(crashes.power_cut, 2)
    assert faults == []
    assert points


def test_apply_is_killed(crashes: Crashes) -> None:
    points, faults = killed(crashes.apply, 4)
    crashes.rest()
    assert faults == []
    assert len(points) >= 3
    assert {point.was_right for point in points} == {False, True}


def test_the_journal_tells_of_each_of_them(crashes: Crashes) -> None:
    counts, faults = crashes.recorded()
    assert faults == []
    assert counts["activated 1 times"] > len(crashes.points) / 2


@pytest.mark.parametrize("file", ["master.cf", "table"])
def test_killed_while_it_corrects_another_file(agent_machine: Machine, file: str) -> None:
    crashes = Crashes(agent_machine, SUBJECTS[file])
    points, faults = killed(crashes.correction, 3)
    assert faults == []
    assert len(points) >= 2
    assert crashes.recorded()[1] == []
