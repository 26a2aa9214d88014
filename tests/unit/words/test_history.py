"""Cycles put together from records, whole or in part."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from pf_agent import names
from pf_agent.model import Event
from pf_agent.words import history
from pf_agent.words.history import Entry, cycles, last_drift_of

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


def test_each_instance_counts_for_itself() -> None:
    other = {**DRIFT, names.FIELD_INSTANCE: "out", names.FIELD_PARAMETER: "relayhost"}
    found = cycles([*WHOLE, entry(Event.DRIFT_DETECTED, other, 0.5)])
    assert [(past.instance, past.parameters) for past in found] == [
        ("out", ("relayhost",)),
        ("-", ("mynetworks",)),
    ]


def test_a_file_that_drifted_itself_is_named_as_such() -> None:
    fields = {names.FIELD_CYCLE: "1", names.FIELD_KIND: "absent-file"}
    (past,) = cycles([entry(Event.DRIFT_DETECTED, fields)])
    assert past.parameters == ("main.cf",)
    assert (past.writer, past.login) == ("unknown", "unknown")
    assert history.written_by(past) == "unknown"


def test_the_login_is_named_beside_the_process() -> None:
    (past,) = cycles([entry(Event.DRIFT_DETECTED, {**DRIFT, names.FIELD_LOGIN: "anna"})])
    assert history.written_by(past) == "sed (anna)"
    assert "sed (anna)" in history.cycle_row(past)


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


def test_a_cycle_is_a_row() -> None:
    row = history.cycle_row(cycles(WHOLE)[0])
    assert row[0] == "17"
    assert row[2:] == ("mynetworks", "sed", "8 ms", "activated")


@given(
    st.lists(
        st.builds(
            Entry,
            st.floats(0, 1e9),
            st.sampled_from(Event),
            st.text(max_size=5),
            st.dictionaries(
                st.sampled_from(sorted(set(DRIFT) | set(ACTIVATED) | set(CORRECTED))),
                st.text(max_size=8) | st.sampled_from(["1", "2026-01-31T03:12:00.000Z", "²"]),
            ),
        ),
        max_size=8,
    )
)
def test_whatever_somebody_wrote_into_the_fields_is_read(entries: list[Entry]) -> None:
    for past in cycles(entries):
        assert history.cycle_dict(past)["cycle"] == past.cycle
        assert len(history.cycle_row(past)) == len(history.HEADINGS)
