"""What history shows of tables, put together from records, whole or in part."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pf_agent import names
from pf_agent.activation.table_database import Postmap
from pf_agent.maincf.aliases import Built, Source
from pf_agent.model import Event
from pf_agent.words import history, sentences
from pf_agent.words.history import Entry
from pf_agent.words.rebuilds import rebuild_dict, rebuild_lines, rebuilds

SOURCE = Source("/etc/postfix/t", "/etc/postfix/t.db")
ODD = ("/etc/postfix/t:2: no value after the key", "and 3 more")


def recorded(built: Built) -> Entry:
    """The record that the agent makes of it, as it is read back."""
    craft = Postmap(lambda _text: (), lambda _table: built, lambda _path: False)
    record = craft.failed(built, None) if built.trouble else next(iter(craft.built([built], "x")))
    return entry(record.event, record.fields, message=record.message)


def entry(event: Event, fields: Mapping[str, str], at: float = 0.0, message: str = ".") -> Entry:
    return Entry(at, event, message, fields)


def test_a_rebuild_has_its_file_its_entries_and_what_is_odd() -> None:
    (past,) = rebuilds([recorded(Built(SOURCE, "", ODD, False, 1, 2, 0.0042))])
    assert (past.path, past.before, past.after, past.warnings) == (SOURCE.path, 1, 2, ODD)
    found = rebuild_dict(past)
    assert (found["cycle"], found["by"], found["outcome"]) == (None, None, "rebuilt")
    assert found["table"] == {
        "path": SOURCE.path,
        "entries_before": 1,
        "entries": 2,
        "seconds": 0.004,
        "warnings": list(ODD),
    }
    assert found["records"] == [past.message]


def test_an_index_that_stayed_names_the_lines_that_are_why() -> None:
    why = f"{'; '.join(ODD)}; the old index stays; fix the file"
    (past,) = rebuilds([recorded(Built(SOURCE, why, ODD, is_final=True))])
    found = rebuild_dict(past)
    assert (found["outcome"], found["records"]) == ("stale", [why])
    assert found["table"]["warnings"] == list(ODD)
    assert found["table"]["entries"] is None


def test_a_rebuild_is_no_cycle() -> None:
    life = {names.FIELD_LIFE: "a1b2c3", names.FIELD_PATH: "/t"}
    assert history.cycles([entry(Event.TABLE_REBUILT, life)]) == []
    assert rebuilds([entry(Event.DRIFT_CORRECTED, {names.FIELD_CYCLE: "1"})]) == []


def test_the_newest_are_lines() -> None:
    entries = [entry(Event.TABLE_REBUILT, {}, at, f"{at}\x1b") for at in range(30)]
    past = rebuilds(reversed(entries))
    lines = rebuild_lines(past, None)
    assert len(lines) == 20
    assert lines[-1] == f"{sentences.day(29)}  29\\x1b"
    assert rebuild_lines(past, 3) == lines[-3:]
    assert len(rebuild_lines(past, 25)) == 25
    assert rebuild_lines([], None) == []


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "\u00b2", "9" * 40, "nan", "1e3"])
def test_a_field_without_a_number_has_none(text: str) -> None:
    fields = {names.FIELD_ENTRIES: text, names.FIELD_ENTRIES_BEFORE: text, names.FIELD_SECONDS: "x"}
    (past,) = rebuilds([entry(Event.TABLE_REBUILT, fields)])
    assert (past.before, past.after, past.seconds) == (None, None, None)


def test_a_hostile_name_is_made_printable() -> None:
    fields = {names.FIELD_PATH: "/t\x1b[2J", names.FIELD_INSTANCE: "out"}
    (past,) = rebuilds([entry(Event.TABLE_STALE, fields)])
    found = rebuild_dict(past)
    assert (found["table"]["path"], found["instance"]) == ("/t\\x1b[2J", "out")
