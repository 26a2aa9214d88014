"""Cycles put together from records, whole or in part."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_agent import names
from pf_agent.cli.arguments import parser
from pf_agent.model import Drift, DriftKind, Event
from pf_agent.words import history, keeping
from pf_agent.words.fields import drift_dict, drift_fields
from pf_agent.words.history import CycleName, Entry, cycles, last_drift_of

DRIFT = {
    names.FIELD_CYCLE: "17",
    names.FIELD_PARAMETER: "mynetworks",
    names.FIELD_KIND: "changed",
    names.FIELD_WRITER: "sed",
}
SUM = {names.FIELD_CYCLE: "17", names.FIELD_DIFF: "--- a\n+++ b\n"}
CORRECTED = {
    **SUM,
    names.FIELD_WRITTEN_AT: "2026-01-31T03:12:00.000Z",
    names.FIELD_CORRECTED_AT: "2026-01-31T03:12:00.008Z",
    names.FIELD_DISPLACED: "/var/lib/pf-agent/displaced/00000017.main.cf",
}
ACTIVATED = {
    names.FIELD_CYCLE: "17",
    names.FIELD_WRITTEN_AT: "2026-01-31T03:12:00.000Z",
    names.FIELD_CORRECTED_AT: "2026-01-31T03:12:00.008Z",
    names.FIELD_ACTIVATED_AT: "2026-01-31T03:12:00.708Z",
}


def entry(event: Event, fields: Mapping[str, str], at: float = 0.0) -> Entry:
    return Entry(at, event, f"{event.value}.", fields)


WHOLE = [
    entry(Event.DRIFT_DETECTED, DRIFT, 1),
    entry(Event.DRIFT_DETECTED, SUM, 1),
    entry(Event.DRIFT_CORRECTED, CORRECTED, 2),
    entry(Event.ACTIVATED, ACTIVATED, 3),
]


def test_a_cycle_is_put_together_from_its_records() -> None:
    (past,) = cycles(WHOLE)
    assert (past.cycle, past.at, past.instance) == (17, 1, "-")
    assert past.parameters == ("mynetworks",)
    assert past.writer == "sed"
    assert past.corrected_seconds is not None
    assert past.up_seconds is not None
    assert round(past.corrected_seconds, 3) == 0.008
    assert round(past.up_seconds, 3) == 0.7
    assert past.outcome == "activated"
    assert past.diff == "--- a\n+++ b\n"
    assert past.displaced == ("/var/lib/pf-agent/displaced/00000017.main.cf",)
    assert len(past.messages) == 4


def test_what_the_journal_no_longer_has_is_a_gap_and_no_error() -> None:
    for lost in range(len(WHOLE)):
        (past,) = cycles(WHOLE[:lost] + WHOLE[lost + 1 :])
        assert past.cycle == 17
    (past,) = cycles(WHOLE[3:])
    assert past.parameters == ()
    assert past.diff == ""


def test_the_last_word_is_the_outcome() -> None:
    rolled_back = entry(Event.ROLLED_BACK, {names.FIELD_CYCLE: "17"}, 9)
    assert cycles([*WHOLE[:3], rolled_back])[0].outcome == "rolled back"
    assert cycles(WHOLE[:2])[0].outcome == "observed"


def test_a_rollback_is_told_as_one_though_postfix_runs_with_it() -> None:
    def told(event: Event, at: float, **fields: str) -> Entry:
        return entry(event, {names.FIELD_CYCLE: "18", **fields}, at)

    taken_back = [
        told(Event.ROLLED_BACK, 1, **{names.FIELD_PARAMETER: "inet_interfaces"}),
        told(Event.ROLLED_BACK, 2),
    ]
    served, failed = told(Event.ACTIVATED, 3), told(Event.ACTIVATION_FAILED, 3)
    (past,) = cycles([*taken_back, served])
    assert (past.parameters, past.outcome) == (("inet_interfaces",), "rolled back")
    assert keeping.keepable(past.drift) == ()
    assert last_drift_of("inet_interfaces", [past]) is None
    (past,) = cycles([*taken_back, failed])
    assert past.outcome == "Postfix failed"


def test_each_instance_counts_for_itself() -> None:
    other = {**DRIFT, names.FIELD_INSTANCE: "out", names.FIELD_PARAMETER: "relayhost"}
    found = cycles([*WHOLE, entry(Event.DRIFT_DETECTED, other, 0.5)])
    assert [(past.instance, past.parameters) for past in found] == [
        ("out", ("relayhost",)),
        ("-", ("mynetworks",)),
    ]


def in_life(life: str, number: int, at: float, instance: str = "-") -> Entry:
    fields = {**DRIFT, names.FIELD_CYCLE: str(number), names.FIELD_INSTANCE: instance}
    return entry(Event.DRIFT_DETECTED, {**fields, names.FIELD_LIFE: life} if life else fields, at)


OLD, NEW = "a1b2c3", "000009"
# Two lives and what the version before left, which told none.
LIVES = cycles(
    [
        *(in_life("", number, number) for number in (1, 2)),
        *(in_life(OLD, number, 10 + number) for number in (1, 2, 3)),
        *(in_life(NEW, number, 20 + number) for number in (1, 2)),
    ]
)


def test_each_life_counts_for_itself_and_only_the_newest_goes_without_its_name() -> None:
    names_of = [history.name_of(each, LIVES) for each in LIVES]
    assert names_of == ["0/1", "0/2", "a1b2c3/1", "a1b2c3/2", "a1b2c3/3", "1", "2"]
    assert [history.cycle_dict(each, "1")["life"] for each in LIVES[1:6:2]] == [None, OLD, NEW]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("1", [("", 1), (OLD, 1), (NEW, 1)]),
        ("3", [(OLD, 3)]),
        ("4", []),
        ("a1b2c3/1", [(OLD, 1)]),
        ("000009/3", []),
        ("0/2", [("", 2)]),
    ],
)
def test_a_number_names_the_cycles_of_all_lives_and_a_life_with_it_one(
    name: str, found: list[tuple[str, int]]
) -> None:
    asked = CycleName.parse(name)
    assert str(asked) == name
    assert [(each.life, each.cycle) for each in history.named(LIVES, asked)] == found


@pytest.mark.parametrize("name", ["", "x", "1/", "/1", "a1b2c3", "A1B2C3/1", "0/0/1", "-1", "²"])
def test_what_names_no_cycle_is_refused_with_the_way_to_write_it(name: str) -> None:
    with pytest.raises(ValueError, match="write 17, or a1b2c3/17"):
        CycleName.parse(name)


def test_a_file_that_drifted_itself_is_named_as_such() -> None:
    fields = {names.FIELD_CYCLE: "1", names.FIELD_KIND: "absent-file"}
    (past,) = cycles([entry(Event.DRIFT_DETECTED, fields)])
    assert past.parameters == ("main.cf",)
    assert (past.writer, past.login) == ("", "unknown")
    assert history.written_by(past) == "-"


def test_the_login_is_named_beside_the_process() -> None:
    (past,) = cycles([entry(Event.DRIFT_DETECTED, {**DRIFT, names.FIELD_LOGIN: "anna"})])
    assert history.written_by(past) == "sed (anna)"
    assert "sed (anna)" in history.cycle_row("17", past)


def test_a_process_with_a_name_of_control_characters() -> None:
    (past,) = cycles([entry(Event.DRIFT_DETECTED, {**DRIFT, names.FIELD_WRITER: "\x1b[2Jsed"})])
    assert history.written_by(past) == "\\x1b[2Jsed"


def test_the_last_drift_of_a_parameter() -> None:
    later = {**DRIFT, names.FIELD_CYCLE: "18"}
    past = cycles([*WHOLE, entry(Event.DRIFT_DETECTED, later, 5)])
    found = last_drift_of("mynetworks", past)
    assert found is not None
    assert found.cycle == 18
    assert last_drift_of("relayhost", past) is None


def test_a_change_of_the_desired_state_is_no_drift_and_nothing_wrote_it() -> None:
    fields = {**DRIFT, **SUM, names.FIELD_WISHED: "yes"}
    del fields[names.FIELD_WRITER]
    asked = entry(Event.DRIFT_DETECTED, fields, 1)
    past = cycles([asked, *WHOLE[2:]])
    assert history.cycle_row("17", past[0])[2:] == ("mynetworks", "-", "-", "activated")
    assert last_drift_of("mynetworks", past) is None


def keep(*drift: Mapping[str, str], name: str = "17", **more: str) -> str:
    """The command that keeps what a corrected cycle with these differences undid."""
    base = {names.FIELD_CYCLE: "17", names.FIELD_KIND: "changed", **more}
    entries = [entry(Event.DRIFT_DETECTED, {**base, **each}, 1) for each in drift]
    (past,) = cycles([*entries, entry(Event.DRIFT_CORRECTED, {**CORRECTED, **more}, 2)])
    return history.keep_command(past, name)


def of(parameter: str, kind: str = "changed", **more: str) -> dict[str, str]:
    return {names.FIELD_PARAMETER: parameter, names.FIELD_KIND: kind, **more}


def test_the_command_that_keeps_a_change() -> None:
    start = "pf-agent adopt --cycle 17"
    assert keep(of("mynetworks")) == f"{start} mynetworks"
    assert keep(of("b", "missing"), of("a", "unwanted"), of("b")) == f"{start} b a"
    assert keep(of("a", "unmanaged")) == f"{start} a"
    assert keep(*map(of, "abcde")) == start, "all that drifted"
    out = keep(of("a"), **{names.FIELD_INSTANCE: "out"})
    assert out == "pf-agent adopt --instance out --cycle 17 a"
    assert keep(of("$(reboot)"), of("--json"), of("a;b")) == f"{start} '$(reboot)' 'a;b'"


@pytest.mark.parametrize(
    "drift",
    [
        [of("", "mode")],
        [of("a", "duplicated")],
        [of("a", **{names.FIELD_WISHED: "yes"})],
        [of("", "absent-file"), of("a")],
        [of("a b")],
        [of("a", "of a later version")],
    ],
)
def test_where_nothing_can_be_kept_there_is_no_command(drift: list[dict[str, str]]) -> None:
    assert keep(*drift) == ""


def test_a_text_of_before_a_purge_is_gone() -> None:
    assert keep(of("a"), name="a1b2c3/17") == ""


def test_what_was_only_observed_is_adopted_from_main_cf() -> None:
    (past,) = cycles([entry(Event.DRIFT_DETECTED, DRIFT)])
    assert history.keep_command(past, "17") == "pf-agent adopt mynetworks"
    refused = entry(Event.CONFIG_REJECTED, {names.FIELD_CYCLE: "17"})
    (past,) = cycles([entry(Event.DRIFT_DETECTED, DRIFT), refused])
    assert history.keep_command(past, "17") == ""


def test_each_difference_is_given_back_as_it_was_recorded() -> None:
    drift = Drift("a", DriftKind.CHANGED, "1", "2", 12)
    wished = Drift("b", DriftKind.MISSING, "x\ty", None, None, is_wished=True)
    secret = Drift("c_password", DriftKind.UNWANTED, None, "hunter22", 3)
    records = [{**drift_fields(each), names.FIELD_CYCLE: "1"} for each in (drift, wished, secret)]
    (past,) = cycles([entry(Event.DRIFT_DETECTED, fields) for fields in records])
    assert past.drift[:2] == (drift, wished)
    found = history.cycle_dict(past, "1")["drift"]
    assert found == [drift_dict(each) for each in (drift, wished, secret)]
    assert found[2]["actual"] == "(hidden)"


def test_a_cycle_is_a_row() -> None:
    row = history.cycle_row("17", cycles(WHOLE)[0])
    assert row[0] == "17"
    assert row[2:] == ("mynetworks", "sed", "8 ms", "activated")


def test_the_command_that_keeps_an_entry_is_one_that_can_be_given() -> None:
    """argparse takes the words of a list from one place only."""
    of = {names.FIELD_TABLE: "hash:/etc/postfix/transport", names.FIELD_KEY: "example.org"}
    command = keep(of)
    assert command == "pf-agent adopt --cycle 17 hash:/etc/postfix/transport example.org"
    given = parser().parse_args(shlex.split(command)[1:])
    assert given.parameters == ["hash:/etc/postfix/transport", "example.org"]


def test_the_command_that_keeps_a_part_of_master_cf_names_the_part() -> None:
    command = keep({names.FIELD_PARAMETER: "submission/inet/chroot"})
    assert command == "pf-agent adopt --cycle 17 submission/inet/chroot"


@pytest.mark.parametrize(
    ("drift", "what"),
    [
        ({names.FIELD_KEY: "example.org", names.FIELD_KIND: "changed"}, "transport: example.org"),
        ({names.FIELD_KIND: "absent-file"}, "transport"),
    ],
)
def test_the_row_of_a_cycle_of_a_table_begins_with_its_file(
    drift: Mapping[str, str], what: str
) -> None:
    fields = {**SUM, names.FIELD_TABLE: "hash:/etc/postfix/transport", **drift}
    (past,) = cycles([entry(Event.DRIFT_DETECTED, fields)])
    assert history.cycle_row("17", past)[2] == what


@given(
    st.lists(
        st.builds(
            Entry,
            st.floats(0, 1e9),
            st.sampled_from(Event),
            st.text(max_size=5),
            st.dictionaries(
                st.sampled_from(
                    sorted({*DRIFT, *ACTIVATED, *CORRECTED, names.FIELD_LIFE, names.FIELD_INSTANCE})
                ),
                st.text(max_size=8) | st.sampled_from(["1", "2026-01-31T03:12:00.000Z", "²"]),
            ),
        ),
        max_size=8,
    )
)
def test_whatever_somebody_wrote_into_the_fields_is_read(entries: list[Entry]) -> None:
    found = cycles(entries)
    for past in found:
        name = history.name_of(past, found)
        assert history.cycle_dict(past, name)["cycle"] == past.cycle
        assert past in history.named(found, CycleName.parse(name))
        assert len(history.cycle_row(name, past)) == len(history.HEADINGS)


def test_a_cycle_of_master_cf_says_so_and_keeps_its_parts() -> None:
    fields = {**DRIFT, names.FIELD_PARAMETER: "submission/inet/chroot"}
    (past,) = cycles([entry(Event.DRIFT_DETECTED, fields), entry(Event.DRIFT_CORRECTED, CORRECTED)])
    assert (past.document, past.parameters) == ("master.cf", ("submission/inet/chroot",))
    assert history.cycle_row("17", past)[2] == "master.cf: submission/inet/chroot"
    command = "pf-agent adopt --cycle 17 submission/inet/chroot"
    assert history.keep_command(past, "17") == command
    given = parser().parse_args(shlex.split(command)[1:])
    assert given.parameters == ["submission/inet/chroot"]


def test_a_cycle_that_brought_master_cf_back_is_not_of_main_cf() -> None:
    gone = Drift("", DriftKind.ABSENT_FILE, "the last good text", "none", document="master.cf")
    fields = {names.FIELD_CYCLE: "17", **drift_fields(gone)}
    (past,) = cycles([entry(Event.DRIFT_DETECTED, fields), entry(Event.DRIFT_CORRECTED, CORRECTED)])
    assert past.document == "master.cf"
    assert history.cycle_row("17", past)[2] == "master.cf"
