"""Suspend and resume: what is written down, what is followed, what is put on record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pf_agent import names
from pf_agent.files.store import FileStore
from pf_agent.model import Event, Suspension
from pf_agent.reconcile.suspension import followed, resume, suspend
from pf_agent.words import sentences
from tests.fakes import Records

NOW = 1_000.0
FOUND = Suspension(NOW, NOW + 60, "anna", "moving the queue")


@pytest.fixture
def state(tmp_path: Path) -> FileStore:
    state = FileStore(str(tmp_path / "lib"), str(tmp_path / "run"))
    state.prepare()
    return state


def test_nothing_written_is_nothing_to_follow(state: FileStore) -> None:
    records = Records()
    assert followed(state.suspended, records, None, NOW) is None
    assert records == []


def test_what_is_written_is_followed_and_recorded_once(state: FileStore) -> None:
    records = Records()
    state.suspended.keep_suspension(FOUND)
    assert followed(state.suspended, records, None, NOW) == FOUND
    assert followed(state.suspended, records, FOUND, NOW + 59) == FOUND
    (record,) = records
    assert record.event is Event.SUSPENDED
    assert record.message.startswith("suspended by anna until ")
    assert record.message.endswith(": moving the queue")
    assert record.fields == {names.FIELD_REASON: "moving the queue", names.FIELD_BY: "anna"}


def test_who_suspends_it_for_how_long_is_kept(state: FileStore) -> None:
    assert suspend(state.suspended, "anna", NOW, 60, "moving the queue") == FOUND
    assert state.suspended.suspension() == FOUND
    state.suspended.forget_suspension()
    assert suspend(state.suspended, "anna", NOW) == Suspension(NOW, None, "anna", "")
    assert state.suspended.suspension() == Suspension(NOW, None, "anna", "")


def test_a_second_one_says_what_it_replaces_and_so_does_the_record(state: FileStore) -> None:
    records = Records()
    first = suspend(state.suspended, "anna", NOW, 60, "moving the queue")
    assert first.replaces == ""
    second = suspend(state.suspended, "bert", NOW + 10)
    assert second.replaces == sentences.suspension_sentence(first)
    assert followed(state.suspended, records, first, NOW + 10) == second
    assert [record.message for record in records] == [
        f"suspended by bert until resumed (replaces the one {second.replaces})"
    ]
    # The first one was over by then.
    assert suspend(state.suspended, "carl", NOW + 20, 5).replaces != ""
    assert suspend(state.suspended, "carl", NOW + 25).replaces == ""


def test_it_outlives_the_process(state: FileStore) -> None:
    state.suspended.keep_suspension(FOUND)
    again = FileStore(state.directory, state.run_directory)
    assert followed(again.suspended, Records(), None, NOW + 1) == FOUND


def test_it_ends_by_itself(state: FileStore) -> None:
    records = Records()
    state.suspended.keep_suspension(FOUND)
    assert followed(state.suspended, records, FOUND, NOW + 60) is None
    assert [record.message for record in records] == ["resumed by itself: the time is up"]
    assert state.suspended.suspension() is None
    assert followed(state.suspended, records, None, NOW + 61) is None
    assert len(records) == 1


def test_it_does_not_last_longer_where_the_clock_is_set_back(state: FileStore) -> None:
    records = Records()
    state.suspended.keep_suspension(FOUND)
    assert followed(state.suspended, records, FOUND, NOW - 0.9) == FOUND
    shorter = followed(state.suspended, records, FOUND, NOW - 900)
    assert shorter == replace(FOUND, since=NOW - 900, until=NOW - 840)
    assert followed(state.suspended, records, shorter, NOW - 841) == shorter
    assert followed(state.suspended, records, shorter, NOW - 840) is None
    assert [record.event for record in records] == [Event.SUSPENDED, Event.RESUMED]


def test_one_without_an_end_lasts_where_the_clock_is_set_back(state: FileStore) -> None:
    endless = replace(FOUND, until=None)
    state.suspended.keep_suspension(endless)
    assert followed(state.suspended, Records(), endless, NOW - 900) == endless


def test_somebody_ends_it_and_is_named(state: FileStore) -> None:
    records = Records()
    state.suspended.keep_suspension(FOUND)
    assert resume(state.suspended, "bert", NOW + 10)
    assert followed(state.suspended, records, FOUND, NOW + 10) is None
    assert [record.event for record in records] == [Event.RESUMED]
    assert records[0].message == "resumed by bert"
    assert not resume(state.suspended, "bert", NOW + 11)


def test_without_an_end_it_lasts(state: FileStore) -> None:
    endless = replace(FOUND, until=None)
    state.suspended.keep_suspension(endless)
    records = Records()
    assert followed(state.suspended, records, None, NOW + 1e9) == endless
    assert "until resumed" in records[0].message


def test_one_that_is_over_cannot_be_ended_again(state: FileStore) -> None:
    state.suspended.keep_suspension(FOUND)
    assert not resume(state.suspended, "bert", NOW + 60)


def test_what_was_written_down_and_is_gone_is_an_end_too(state: FileStore) -> None:
    records = Records()
    assert followed(state.suspended, records, FOUND, NOW) is None
    assert records[0].message == "resumed: its record on disk is gone"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"since": "x"}'])
def test_a_damaged_note_suspends_nothing(state: FileStore, text: str) -> None:
    Path(state.directory, "suspension.json").write_text(text)
    assert followed(state.suspended, Records(), None, NOW) is None
