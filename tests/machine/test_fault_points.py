"""Some system calls of a correction fail; tests/campaigns/faults.py: all, with each error."""

from __future__ import annotations

import platform
import random

import pytest

from tests.machine import tracer
from tests.machine.faulting import FaultPoint, Faults
from tests.machine.injector import ERRORS
from tests.machine.nspawn import Machine
from tests.machine.points import spread
from tests.machine.subjects import SUBJECTS

pytestmark = [
    pytest.mark.long,
    pytest.mark.quiet,  # what takes long without a word is a fault
    pytest.mark.skipif(
        platform.machine() != tracer.MACHINE,
        reason=f"the tracer knows {tracer.MACHINE}'s calls alone",
    ),
]

# Of each error, so many points.
_POINTS = dict.fromkeys(ERRORS, 2) | {"EIO": 3, "EACCES": 3}


@pytest.fixture(scope="module")
def faults(agent_machine: Machine) -> Faults:
    return Faults(agent_machine)


def bad(points: list[FaultPoint]) -> list[str]:
    return [f"{point}: {fault}" for point in points for fault in point.faults]


@pytest.mark.parametrize("error", ERRORS)
def test_one_call_fails(faults: Faults, error: str) -> None:
    calls = faults.calls(error)
    times = _POINTS[error]

    def at(number: int) -> FaultPoint | int:
        return faults.fail(error, number) or len(faults.calls(error))

    points = spread(at, len(calls), times)
    assert len(points) >= times - 1
    assert bad(points) == []
    assert not any(point.restarts for point in points)


@pytest.mark.parametrize(("error", "call"), [("ENOSPC", ""), ("EIO", "fsync")])
def test_calls_fail_for_a_while(faults: Faults, error: str, call: str) -> None:
    point = faults.fail(error, 1, 1.5, call)
    assert point is not None
    assert bad([point]) == []
    assert point.failed > 1


def test_the_journal_tells_of_each_of_them(faults: Faults) -> None:
    counts, mistold = faults.recorded()
    assert mistold == []
    assert counts["activated"] >= len(faults.points)
    assert counts["correction-failed"] > 0


@pytest.mark.parametrize("file", ["master.cf", "table"])
def test_one_call_fails_for_another_file(agent_machine: Machine, file: str) -> None:
    faults = Faults(agent_machine, SUBJECTS[file])
    points = []
    for error in ("EIO", "ENOSPC"):
        point = faults.fail(error, random.randint(1, len(faults.calls(error)) // 2))
        points += [point] if point is not None else []
    assert points
    assert bad(points) == []
    assert faults.recorded()[1] == []


def test_a_disk_that_fails_postmap_is_no_verdict_on_a_table(agent_machine: Machine) -> None:
    """The text is in order, with what others wrote into it: the last good one is not due."""
    faults = Faults(agent_machine, SUBJECTS["table"])
    numbers = [
        number
        for number, (_, who, _) in enumerate(faults.calls("EIO", "fdatasync"), 1)
        if who == "postmap"
    ]
    point = faults.fail("EIO", numbers[0], call="fdatasync")
    assert point is not None
    assert point.who == "postmap"
    assert bad([point]) == []
