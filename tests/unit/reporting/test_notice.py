"""Which records start the unit that tells somebody, and under which name."""

from __future__ import annotations

import re

import pytest

from pf_agent import names
from pf_agent.errors import HostError
from pf_agent.model import Event, Record
from pf_agent.reporting.notice import Notice, notice_unit
from tests.checkout import CHECKOUT

TEMPLATE = "pf-agent-notify@.service"
TOLD = [
    *(Event.DRIFT_DETECTED, Event.CONTESTED, Event.CORRECTION_FAILED, Event.ACTIVATION_FAILED),
    *(Event.ROLLED_BACK, Event.CONFIG_REJECTED, Event.TABLE_STALE),
]


@pytest.fixture
def started() -> list[str]:
    return []


@pytest.fixture
def notice(started: list[str]) -> Notice:
    return Notice(TEMPLATE, started.append)


@pytest.mark.parametrize("event", list(Event))
def test_drift_stall_and_contest_start_it(event: Event, notice: Notice, started: list[str]) -> None:
    notice.note(Record(event, "words", 12))
    assert started == (["pf-agent-notify@12.service"] if event in TOLD else [])


def test_a_cycle_with_many_parameters_starts_it_once(notice: Notice, started: list[str]) -> None:
    for name in ("mynetworks", "relayhost"):
        fields = {names.FIELD_PARAMETER: name}
        notice.note(Record(Event.DRIFT_DETECTED, f"{name} has changed", 3, fields))
    notice.note(Record(Event.DRIFT_DETECTED, "drift: mynetworks, relayhost", 3))
    notice.note(Record(Event.CONTESTED, "contested", 3))
    notice.note(Record(Event.DRIFT_DETECTED, "drift: mynetworks", 4))
    assert started == [f"pf-agent-notify@{cycle}.service" for cycle in (3, 3, 4)]


def test_a_failure_that_repeats_itself_is_told_of_once(notice: Notice, started: list[str]) -> None:
    for message in ("postfix.service is failed", "postfix.service is failed", "no banner"):
        notice.note(Record(Event.ACTIVATION_FAILED, message, 5))
    notice.note(Record(Event.ACTIVATION_FAILED, "no banner", 6))
    assert started == [f"pf-agent-notify@{cycle}.service" for cycle in (5, 5, 6)]


def test_the_mail_to_root_knows_the_same_events() -> None:
    script = (CHECKOUT / "units/mail-root").read_text(encoding="utf-8")
    (worth,) = re.findall(r"^worth='(.*)'$", script, re.MULTILINE)
    assert {event for event in Event if re.fullmatch(worth, event.value)} == set(TOLD)


def test_a_table_is_told_of_again_for_another_line(notice: Notice, started: list[str]) -> None:
    for line in (2, 2, 3):
        notice.note(Record(Event.TABLE_STALE, f"/t:{line}: no value after the key"))
    assert started == ["pf-agent-notify@0.service"] * 2


def test_what_has_no_cycle(notice: Notice, started: list[str]) -> None:
    notice.note(Record(Event.CONFIG_REJECTED, "desired.toml:3: a fault"))
    assert started == ["pf-agent-notify@0.service"]


def test_the_cycles_of_other_instances_are_their_own(notice: Notice, started: list[str]) -> None:
    notice.note(Record(Event.DRIFT_DETECTED, "words", 5))
    fields = {names.FIELD_INSTANCE: "postfix-out"}
    notice.note(Record(Event.DRIFT_DETECTED, "words", 5, fields))
    assert started == ["pf-agent-notify@5.service", "pf-agent-notify@postfix-out:5.service"]


def test_a_notice_unit_ones_own() -> None:
    assert notice_unit("page-me@.service", "-", 7) == "page-me@7.service"


def test_a_unit_that_cannot_be_started_is_told_of_by_the_caller() -> None:
    def start(unit: str) -> None:
        raise HostError(f"start of {unit}: systemd has no such unit")

    with pytest.raises(HostError, match="no such unit"):
        Notice(TEMPLATE, start).note(Record(Event.DRIFT_DETECTED, "words", 1))
