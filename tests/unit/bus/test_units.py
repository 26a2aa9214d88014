"""A unit's standing and its news, from properties as systemd 252 and 257 were seen to send them."""

from __future__ import annotations

from typing import Any

import pytest

from pf_agent.bus.units import Changes, default_instance_of, holders_of, path_of, state_of
from pf_agent.model import UnitPhase

UNIT = "postfix@-.service"
JOB = "/org/freedesktop/systemd1/job/200"
FIRST, SECOND = [1] * 16, [2] * 16


def properties(**more: Any) -> dict[str, Any]:
    usual = {
        "ActiveState": "active",
        "Result": "success",
        "InvocationID": FIRST,
        "StateChangeTimestamp": 1_795_899_265_369_681,
        "InactiveExitTimestamp": 1_795_899_264_700_000,
        "Job": (0, "/"),
        "UnitFileState": "enabled-runtime",
        "ConditionResult": True,
        "ConditionTimestamp": 1_795_899_265_364_631,
        "Type": "forking",
        "ConsistsOf": [],
        "Wants": [],
    }
    return {**usual, **more}


class TestState:
    def test_all_of_it(self) -> None:
        state = state_of(UNIT, properties())
        assert (state.name, state.phase, state.result) == (UNIT, UnitPhase.UP, "success")
        assert state.invocation == "01" * 16
        assert state.changed_at == pytest.approx(1_795_899_265.369681)
        assert (state.has_job, state.may_start, state.is_met) == (False, True, True)

    def test_a_job(self) -> None:
        job = (7, "/org/freedesktop/systemd1/job/7")
        assert state_of(UNIT, properties(Job=job)).has_job

    @pytest.mark.parametrize("word", ["enabled", "enabled-runtime", "static", "generated", ""])
    def test_it_may_start(self, word: str) -> None:
        assert state_of(UNIT, properties(UnitFileState=word)).may_start

    @pytest.mark.parametrize("word", ["disabled", "masked", "masked-runtime"])
    def test_somebody_does_not_want_it(self, word: str) -> None:
        assert not state_of(UNIT, properties(UnitFileState=word)).may_start

    def test_a_condition_that_was_not_met(self) -> None:
        assert not state_of(UNIT, properties(ConditionResult=False)).is_met

    def test_a_unit_that_was_never_tried_asked_for_nothing(self) -> None:
        never = properties(ConditionResult=False, ConditionTimestamp=0, StateChangeTimestamp=0)
        state = state_of(UNIT, {**never, "ActiveState": "inactive", "InvocationID": []})
        assert state.is_met
        assert (state.invocation, state.changed_at) == ("", 0.0)


class TestHolders:
    """What the two units say of one another on each release, masked or not."""

    @pytest.mark.parametrize(
        "more",
        [
            {"Type": "oneshot", "Wants": [UNIT], "ConsistsOf": [UNIT]},
            {"Type": "oneshot", "Wants": [], "ConsistsOf": [UNIT]},
            # The holder is masked: it is no part of anything any more.
            {"Type": "oneshot", "Wants": [UNIT], "ConsistsOf": []},
            # The umbrella is: it has no type.
            {"Type": "", "Wants": [UNIT], "ConsistsOf": [UNIT]},
        ],
    )
    def test_an_umbrella(self, more: dict[str, Any]) -> None:
        assert holders_of("postfix.service", properties(**more)) == (UNIT,)

    @pytest.mark.parametrize(
        "more", [{"ConsistsOf": [UNIT]}, {"Type": "", "ConsistsOf": [UNIT]}, {"Wants": ["a.slice"]}]
    )
    def test_a_unit_that_holds_master_itself(self, more: dict[str, Any]) -> None:
        assert holders_of("postfix.service", properties(**more)) == ()

    def test_the_units_of_other_instances_are_looked_after_by_themselves(self) -> None:
        """What fails in one is not another's trouble."""
        names = ["postfix@b.service", UNIT, "postfix@-.socket", "opendkim.service"]
        assert default_instance_of("postfix.service", names) == (UNIT,)
        assert default_instance_of("post.service", names) == ()
        assert default_instance_of("postfix.service", names[:1]) == ()


@pytest.mark.parametrize(
    ("unit", "path"),
    [
        ("postfix.service", "postfix_2eservice"),
        ("postfix@-.service", "postfix_40_2d_2eservice"),
        ("postfix@postfix-out.service", "postfix_40postfix_2dout_2eservice"),
        ("9p.service", "_39p_2eservice"),
        ("a_b\\x2d9.service", "a_5fb_5cx2d9_2eservice"),
    ],
)
def test_where_a_unit_is_on_the_bus(unit: str, path: str) -> None:
    assert path_of(unit) == f"/org/freedesktop/systemd1/unit/{path}"


class Told:
    """The states that are news, of those that a unit went through."""

    def __init__(self) -> None:
        self.changes = Changes()
        self.changes.is_news(UNIT, properties())

    def __call__(self, *steps: dict[str, Any]) -> list[str]:
        return [
            str(step["ActiveState"])
            for step in steps
            if self.changes.is_news(UNIT, properties(**step))
        ]


def step(state: str, at: int, job: int = 0, invocation: list[int] = FIRST) -> dict[str, Any]:
    found = {"ActiveState": state, "StateChangeTimestamp": at, "InvocationID": invocation}
    return {**found, "Job": (job, f"/org/freedesktop/systemd1/job/{job}")}


RESTART = (
    step("active", 1, 200),
    step("deactivating", 2, 200),
    step("inactive", 3, 200),
    step("inactive", 3, 200, SECOND),
    step("activating", 4, 200, SECOND),
    step("active", 5, 200, SECOND),
    step("active", 5, 0, SECOND),
)


class TestChanges:
    def test_the_restart_of_others_is_told_when_it_is_over(self) -> None:
        assert Told()(*RESTART) == ["active"]

    def test_so_is_their_reload(self) -> None:
        assert Told()(step("reloading", 2, 201), step("active", 3, 201), step("active", 3)) == [
            "active"
        ]

    def test_so_is_their_stop(self) -> None:
        assert Told()(step("deactivating", 2, 202), step("inactive", 3)) == ["inactive"]

    def test_a_master_that_dies_is_told_at_once_and_at_the_end(self) -> None:
        assert Told()(step("deactivating", 2), step("failed", 3)) == ["deactivating", "failed"]

    def test_a_start_for_nothing_is_not_told(self) -> None:
        told = Told()
        told(step("active", 5))
        assert told(step("active", 5, 314), step("active", 5), step("active", 5)) == []

    def test_our_own_job_is_told_by_its_end_alone(self) -> None:
        told = Told()
        assert told(*RESTART[:-1]) == []
        told.changes.ended(UNIT, JOB, "done")
        assert told(RESTART[-1]) == []
        assert told(step("deactivating", 9)) == ["deactivating"]

    def test_the_next_job_of_others_is_told_also_where_a_signal_after_ours_was_missed(self) -> None:
        told = Told()
        told.changes.ended(UNIT, JOB, "done")
        assert told(step("active", 1, 201), step("active", 5, 0, SECOND)) == ["active"]

    def test_a_death_right_after_our_own_job_is_told(self) -> None:
        told = Told()
        told(*RESTART[:-1])
        told.changes.ended(UNIT, JOB, "done")
        assert told(step("deactivating", 6, 0, SECOND)) == ["deactivating"]

    def test_a_stop_of_others_that_ended_our_job_is_told(self) -> None:
        told = Told()
        told(*RESTART[:-1])
        told.changes.ended(UNIT, JOB, "canceled")
        assert told(step("deactivating", 2, 7), step("inactive", 3)) == ["inactive"]

    def test_after_signals_that_were_missed_the_next_is_told(self) -> None:
        told = Told()
        told(step("active", 5))
        told.changes.forget()
        assert told(step("active", 5)) == ["active"]
