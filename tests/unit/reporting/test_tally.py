"""What is counted from the agent's records, and how it stands."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from pf_agent import names
from pf_agent.model import (
    Drift,
    DriftKind,
    Event,
    Exposure,
    Phase,
    Record,
    Status,
    Suspension,
)
from pf_agent.reporting.exposition import text_of
from pf_agent.reporting.tally import MOST_PARAMETERS, OTHER, Tally
from pf_agent.words.fields import drift_fields, exposure_fields

NOW = 1_800_000_000.0
STATUS = Status(Phase.IN_SYNC, NOW - 60, parameters=21, version="1.2.3")


def drifted(parameter: str, instance: str = "") -> Record:
    drift = Drift(parameter, DriftKind.CHANGED, "yes", "no", 3)
    fields = drift_fields(drift)
    if instance:
        fields[names.FIELD_INSTANCE] = instance
    return Record(Event.DRIFT_DETECTED, "words", 7, fields)


def at(event: Event, exposure: Exposure) -> Record:
    return Record(event, "words", 7, dict(exposure_fields(exposure)))


def values(tally: Tally, status: Status = STATUS, now: float = NOW) -> dict[str, float]:
    """Every series, by its name and labels as the text has them."""
    text = text_of(tally.families(status, {"-": "0123456789abcdef"}, now))
    found = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in found}


def test_everything_that_is_asked_for_is_there_from_the_start() -> None:
    found = values(Tally())
    instance = 'postfix_instance="-"'
    assert found["pf_agent_up"] == 1
    assert found['pf_agent_build_info{version="1.2.3"}'] == 1
    assert found["pf_agent_heartbeat_timestamp_seconds"] == NOW
    assert found[f"pf_agent_in_sync{{{instance}}}"] == 1
    assert found[f"pf_agent_desired_parameters{{{instance}}}"] == 21
    assert found[f'pf_agent_desired_state_info{{{instance},digest="0123456789abcdef"}}'] == 1
    for name in ("corrections", "activations", "contests", "exposure_seconds"):
        assert found[f"pf_agent_{name}_total{{{instance}}}"] == 0
    for event in ("correction-failed", "activation-failed", "rolled-back", "config-rejected"):
        assert found[f'pf_agent_failures_total{{{instance},event="{event}"}}'] == 0


def test_drift_is_counted_by_parameter_and_instance() -> None:
    tally = Tally()
    for record in (drifted("mynetworks"), drifted("mynetworks"), drifted(""), drifted("a", "out")):
        tally.note(record)
    counted = {k: v for k, v in values(tally).items() if k.startswith("pf_agent_drifts_total")}
    assert counted == {
        'pf_agent_drifts_total{postfix_instance="-",parameter="mynetworks"}': 2,
        'pf_agent_drifts_total{postfix_instance="-",parameter="main.cf"}': 1,
        'pf_agent_drifts_total{postfix_instance="out",parameter="a"}': 1,
    }


def test_tables_are_counted_and_those_that_are_out_of_date_named() -> None:
    tally = Tally()
    assert values(tally)['pf_agent_stale_tables{postfix_instance="-"}'] == 0
    for event in (Event.TABLE_REBUILT, Event.TABLE_STALE):
        tally.note(Record(event, "words", fields={names.FIELD_PATH: "/t"}))
    other = replace(STATUS, stale={'/t"\n': "odd"})
    found = values(
        tally, replace(STATUS, stale={"/t": "odd", "/u": "odd"}, instances={"out": other})
    )
    assert found['pf_agent_table_rebuilds_total{postfix_instance="-"}'] == 1
    assert found['pf_agent_failures_total{postfix_instance="-",event="table-stale"}'] == 1
    assert found['pf_agent_stale_tables{postfix_instance="-"}'] == 2
    assert found['pf_agent_stale_tables{postfix_instance="out"}'] == 1
    assert found['pf_agent_table_stale{postfix_instance="-",table="/u"}'] == 1
    assert found['pf_agent_table_stale{postfix_instance="out",table="/t\\"\\n"}'] == 1


def test_made_up_names_do_not_make_series_without_end() -> None:
    tally = Tally()
    for number in range(MOST_PARAMETERS + 50):
        tally.note(drifted(f"made_up_{number}"))
    counted = {k: v for k, v in values(tally).items() if k.startswith("pf_agent_drifts_total")}
    assert len(counted) == MOST_PARAMETERS + 1
    assert counted[f'pf_agent_drifts_total{{postfix_instance="-",parameter="{OTHER}"}}'] == 50


def test_a_cycle_from_the_write_to_the_greeting() -> None:
    tally = Tally()
    exposure = Exposure(NOW, NOW + 0.01)
    tally.note(at(Event.DRIFT_DETECTED, exposure))
    corrected = replace(exposure, corrected_at=NOW + 0.04)
    tally.note(at(Event.DRIFT_CORRECTED, corrected))
    activating = replace(STATUS, phase=Phase.ACTIVATING)
    found = values(tally, activating, NOW + 1)
    assert found['pf_agent_in_sync{postfix_instance="-"}'] == 0
    assert found['pf_agent_exposure_seconds_total{postfix_instance="-"}'] == pytest.approx(1)
    assert found['pf_agent_last_correction_seconds{postfix_instance="-"}'] == pytest.approx(0.04)
    tally.note(at(Event.ACTIVATED, replace(corrected, activated_at=NOW + 2.5)))
    found = values(tally, now=NOW + 100)
    assert found['pf_agent_in_sync{postfix_instance="-"}'] == 1
    assert found['pf_agent_corrections_total{postfix_instance="-"}'] == 1
    assert found['pf_agent_activations_total{postfix_instance="-"}'] == 1
    assert found['pf_agent_exposure_seconds_total{postfix_instance="-"}'] == pytest.approx(2.5)
    assert found['pf_agent_last_service_seconds{postfix_instance="-"}'] == pytest.approx(2.5)
    assert found['pf_agent_correction_seconds_count{postfix_instance="-"}'] == 1
    assert found['pf_agent_correction_seconds_sum{postfix_instance="-"}'] == pytest.approx(0.04)
    assert found['pf_agent_service_seconds_bucket{postfix_instance="-",le="1.0"}'] == 0
    assert found['pf_agent_service_seconds_bucket{postfix_instance="-",le="2.5"}'] == 1


def test_two_drifts_before_one_restart_are_one_exposure() -> None:
    tally = Tally()
    tally.note(at(Event.DRIFT_DETECTED, Exposure(NOW, NOW)))
    tally.note(at(Event.DRIFT_DETECTED, Exposure(NOW + 5, NOW + 5)))
    tally.note(at(Event.ACTIVATED, Exposure(NOW + 5, NOW + 5, NOW + 5, NOW + 8)))
    found = values(tally, now=NOW + 60)
    assert found['pf_agent_exposure_seconds_total{postfix_instance="-"}'] == pytest.approx(8)


def test_drift_that_is_only_observed_is_exposure_until_it_is_gone() -> None:
    tally = Tally()
    tally.note(at(Event.DRIFT_DETECTED, Exposure(NOW, NOW)))
    observing = replace(STATUS, phase=Phase.OBSERVING, detail="drift: mynetworks")
    series = 'pf_agent_exposure_seconds_total{postfix_instance="-"}'
    assert values(tally, observing, NOW + 30)[series] == pytest.approx(30)
    peace = replace(observing, detail="in sync")
    found = values(tally, peace, NOW + 40)
    assert found['pf_agent_in_sync{postfix_instance="-"}'] == 1
    assert found[series] == pytest.approx(40)
    assert values(tally, peace, NOW + 90)[series] == pytest.approx(40)


def test_a_clock_that_is_set_back_takes_nothing_away() -> None:
    tally = Tally()
    tally.note(at(Event.DRIFT_DETECTED, Exposure(NOW, NOW)))
    tally.note(at(Event.ACTIVATED, Exposure(NOW, NOW, NOW - 50, NOW - 40)))
    found = values(tally)
    assert found['pf_agent_exposure_seconds_total{postfix_instance="-"}'] == 0
    assert found['pf_agent_service_seconds_sum{postfix_instance="-"}'] == 0
    tally.note(at(Event.DRIFT_DETECTED, Exposure(NOW, NOW)))
    series = 'pf_agent_exposure_seconds_total{postfix_instance="-"}'
    activating = replace(STATUS, phase=Phase.ACTIVATING)
    shown = [values(tally, activating, NOW + after)[series] for after in (30, -3600, 10, 50)]
    assert shown == [30, 30, 30, 50]


@pytest.mark.parametrize("phase", list(Phase))
def test_one_phase_at_a_time(phase: Phase) -> None:
    found = values(Tally(), replace(STATUS, phase=phase))
    phases = {k: v for k, v in found.items() if k.startswith("pf_agent_phase{")}
    assert len(phases) == len(Phase)
    assert [k for k, v in phases.items() if v] == [
        f'pf_agent_phase{{postfix_instance="-",phase="{phase.value}"}}'
    ]


@pytest.mark.parametrize("phase", [Phase.SUSPENDED, Phase.CONTESTED])
def test_where_the_phase_does_not_say_it_the_last_drift_does(phase: Phase) -> None:
    tally = Tally()
    status = replace(STATUS, phase=phase)
    series = 'pf_agent_in_sync{postfix_instance="-"}'
    assert values(tally, status)[series] == 1
    tally.note(at(Event.DRIFT_DETECTED, Exposure(NOW, NOW)))
    assert values(tally, status)[series] == 0
    tally.note(at(Event.ACTIVATED, Exposure(NOW, NOW, NOW, NOW + 1)))
    assert values(tally, status)[series] == 1


@pytest.mark.parametrize("phase", [Phase.FAILING, Phase.STOPPED, Phase.STALLED])
def test_a_postfix_that_does_not_serve_is_not_in_sync(phase: Phase) -> None:
    found = values(Tally(), replace(STATUS, phase=phase, detail="why"))
    assert found['pf_agent_in_sync{postfix_instance="-"}'] == 0


def test_suspension_and_problems() -> None:
    suspension = Suspension(NOW, None, "root", "upgrade")
    status = replace(STATUS, suspension=suspension, problems=("a", "b"))
    found = values(Tally(), status)
    assert found["pf_agent_suspended"] == 1
    assert found["pf_agent_configuration_problems"] == 2


@pytest.mark.parametrize(
    "event",
    [
        *(Event.CORRECTION_FAILED, Event.ACTIVATION_FAILED),
        *(Event.ROLLED_BACK, Event.CONFIG_REJECTED),
    ],
)
def test_failures_by_event(event: Event) -> None:
    tally = Tally()
    tally.note(Record(event, "words", fields={names.FIELD_REASON: "why"}))
    failures = {k: v for k, v in values(tally).items() if "_failures_total" in k}
    assert [k for k, v in failures.items() if v] == [
        f'pf_agent_failures_total{{postfix_instance="-",event="{event.value}"}}'
    ]


def test_other_instances_stand_for_themselves() -> None:
    status = replace(STATUS, instances={"out": Status(Phase.STALLED, NOW)})
    found = values(Tally(), status)
    assert found['pf_agent_in_sync{postfix_instance="-"}'] == 1
    assert found['pf_agent_in_sync{postfix_instance="out"}'] == 0
    assert found['pf_agent_phase{postfix_instance="out",phase="stalled"}'] == 1


def test_the_last_words_are_that_nobody_looks() -> None:
    text = text_of(Tally().last_words("1.2.3"))
    assert re.findall(r"^pf_agent_\S+ \d+$", text, flags=re.MULTILINE) == [
        "pf_agent_up 0",
        'pf_agent_build_info{version="1.2.3"} 1',
    ]
