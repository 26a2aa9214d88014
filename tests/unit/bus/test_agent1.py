"""The parts of bus.py and authority.py that need no bus; tests/machine/inside_bus.py proves all."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from pf_agent import names
from pf_agent.bus.agent1 import (
    ACTIONS,
    INTERFACE,
    NAME,
    DriftSignals,
    properties,
    refused_suspension,
)
from pf_agent.bus.authority import name_of, without_polkit
from pf_agent.model import Event, LastDrift, Phase, Record, Status, Suspension
from tests.checkout import CHECKOUT

UNITS = CHECKOUT / "units"
DESCRIBED = ET.fromstring(INTERFACE)[0]
NOW = 1_000_000.5


def described(kind: str) -> set[str]:
    return {element.attrib["name"] for element in DESCRIBED.findall(kind)}


def detected(cycle: int, parameter: str, **fields: str) -> Record:
    found = {names.FIELD_PARAMETER: parameter, names.FIELD_KIND: "changed", **fields}
    return Record(Event.DRIFT_DETECTED, "", cycle, found)


class TestProperties:
    def test_each_described_property_has_a_value_and_none_besides(self) -> None:
        assert properties(Status(Phase.STARTING, NOW), NOW).keys() == described("property")

    def test_all_can_only_be_read(self) -> None:
        assert {p.attrib["access"] for p in DESCRIBED.findall("property")} == {"read"}

    def test_at_the_start_there_is_nothing_yet(self) -> None:
        shown = properties(Status(Phase.STARTING, NOW), NOW)
        assert shown["Phase"] == "starting"
        assert not shown["InSync"]
        assert not shown["Suspended"]
        assert shown["SuspendedUntil"] == shown["LastCycle"] == shown["NextLook"] == 0
        assert shown["LastDriftAt"] == 0
        assert shown["LastDrift"] == shown["Problems"] == []
        assert shown["StaleTables"] == {}

    def test_what_a_status_holds_is_shown(self) -> None:
        last = LastDrift(41, NOW - 60, ("mydomain", "inet_interfaces"))
        stale = {"/t\x1b": "/t\x1b:2: odd"}
        status = Status(Phase.IN_SYNC, NOW, 12, last=last, next_look=NOW + 300, stale=stale)
        shown = properties(status, NOW)
        assert shown["InSync"]
        assert shown["Summary"].startswith("in sync: 12 parameters")
        assert (shown["LastCycle"], shown["Parameters"]) == (41, 12)
        assert shown["LastDrift"] == ["mydomain", "inet_interfaces"]
        assert shown["LastDriftAt"] == int(NOW - 60)
        assert shown["NextLook"] == 1_000_300
        assert shown["Instances"] == {"-": "in-sync"}
        assert shown["StaleTables"] == {"/t\\x1b": "/t\\x1b:2: odd"}

    def test_one_instance_that_is_not_in_sync_is_enough(self) -> None:
        inner = {"postfix-out": Status(Phase.STALLED, NOW)}
        shown = properties(Status(Phase.IN_SYNC, NOW, instances=inner), NOW)
        assert not shown["InSync"]
        assert shown["Instances"] == {"-": "in-sync", "postfix-out": "stalled"}

    @pytest.mark.parametrize(("until", "shown"), [(None, 0), (1_003_600.9, 1_003_600)])
    def test_a_suspension_is_shown_with_its_end(self, until: float | None, shown: int) -> None:
        suspension = Suspension(NOW, until, "anna", "work")
        found = properties(Status(Phase.SUSPENDED, NOW, suspension=suspension), NOW)
        assert found["Suspended"]
        assert found["SuspendedUntil"] == shown


class TestDriftSignals:
    def test_a_drift_is_told_with_its_values(self) -> None:
        record = detected(
            7, "mydomain", **{names.FIELD_EXPECTED: "a.example", names.FIELD_ACTUAL: "b.example"}
        )
        assert DriftSignals().of(record) == (
            "DriftDetected",
            (7, "-", "mydomain", "changed", "a.example", "b.example"),
        )

    def test_the_arguments_are_as_many_as_described(self) -> None:
        signals = DriftSignals()
        records = (detected(1, "mydomain"), Record(Event.DRIFT_CORRECTED, "", 1))
        told = dict(filter(None, map(signals.of, records)))
        assert told.keys() == described("signal")
        for name, arguments in told.items():
            assert len(arguments) == len(DESCRIBED.findall(f"signal[@name='{name}']/arg"))

    def test_the_record_that_sums_up_and_other_events_make_no_signal(self) -> None:
        signals = DriftSignals()
        for event in Event:
            if event is not Event.DRIFT_CORRECTED:
                assert signals.of(Record(event, "", 7, {names.FIELD_DIFF: "-a\n+b"})) is None

    def test_a_correction_names_what_drifted_in_its_cycle(self) -> None:
        signals = DriftSignals()
        signals.of(detected(6, "myorigin"))
        for parameter in ("mydomain", "", "mydomain"):
            signals.of(detected(7, parameter))
        kept = {names.FIELD_DISPLACED: "/var/lib/a\n/var/lib/b"}
        told = signals.of(Record(Event.DRIFT_CORRECTED, "", 7, kept))
        paths = ["/var/lib/a", "/var/lib/b"]
        assert told == ("DriftCorrected", (7, "-", ["mydomain", "main.cf"], paths))
        late = signals.of(Record(Event.DRIFT_CORRECTED, "", 8, {}))
        assert late == ("DriftCorrected", (8, "-", [], []))

    def test_instances_are_kept_apart(self) -> None:
        signals = DriftSignals()
        out = {names.FIELD_INSTANCE: "postfix-out"}
        signals.of(detected(7, "mydomain"))
        signals.of(detected(7, "myorigin", **out))
        told = signals.of(Record(Event.DRIFT_CORRECTED, "", 7, out))
        assert told == ("DriftCorrected", (7, "postfix-out", ["myorigin"], []))

    @pytest.mark.parametrize("value", ["\udcff", "a\0b", "x" * 100_000])
    def test_whatever_stood_in_main_cf_can_be_sent(self, value: str) -> None:
        told = DriftSignals().of(detected(7, "mydomain", **{names.FIELD_ACTUAL: value}))
        assert told is not None
        sent = told[1][-1].encode()
        assert b"\0" not in sent
        assert len(sent) < 5000


class TestSuspendArguments:
    def test_a_week_with_a_reason_and_no_end_are_taken(self) -> None:
        assert refused_suspension(7 * 86400, "new disks") == ""
        assert refused_suspension(0, "") == ""

    def test_more_than_a_year_or_a_novel_is_refused_in_words(self) -> None:
        assert "more than a year" in refused_suspension(2**64 - 1, "")
        assert "1001 characters" in refused_suspension(60, "x" * 1001)


class TestWords:
    def test_who_asks_is_named_by_number_and_name(self) -> None:
        assert name_of(0) == "uid 0 (root)"
        assert name_of(3_999_999_999) == "uid 3999999999"

    def test_where_polkit_is_missing_the_line_says_so_and_the_way_out(self) -> None:
        words = without_polkit("uid 1000 (anna)", ACTIONS["Resume"], "no such service")
        assert words.endswith("(no such service); call as root")
        assert "\n" not in words


class TestPolicies:
    def test_polkit_knows_each_action_that_is_asked_for(self) -> None:
        policy = ET.parse(UNITS / "org.pfagent.policy")
        assert {a.attrib["id"] for a in policy.iter("action")} == set(ACTIONS.values())
        assert described("method") == ACTIONS.keys()

    def test_polkit_asks_for_an_administrator_and_remembers_him(self) -> None:
        policy = ET.parse(UNITS / "org.pfagent.policy")
        for action in policy.iter("action"):
            allowed = {rule.tag: rule.text for rule in action[2]}
            assert allowed == dict.fromkeys(
                ("allow_any", "allow_inactive", "allow_active"), "auth_admin_keep"
            )

    def test_only_root_may_own_the_name(self) -> None:
        policy = ET.parse(UNITS / f"{NAME}.conf")
        owners = [rule for rule in policy.iter("policy") if rule.find("allow[@own]") is not None]
        assert [rule.attrib for rule in owners] == [{"user": "root"}]
