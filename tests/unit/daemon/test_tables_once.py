"""Indexed tables in one go, as `apply` has them: built, kept where they are bad, only told of."""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path

import pytest

from pf_agent.daemon.tables_once import TablesOnce
from pf_agent.errors import HostError
from pf_agent.files.linux import stamp
from pf_agent.maincf.indexed import Draft
from pf_agent.model import Event, OnWarning, TableRules
from tests.fakes import Records

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a table must be root's")

RULES = TableRules()


class World:
    """Two tables, and a Postfix that warns of, or cannot build, the sources that say so."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.records = folder, Records()
        self.text = f"a_maps = hash:{self.at('one')}, hash:{self.at('two')}\n".encode()
        for name in ("one", "two"):
            self.at(name).write_text(name)

    def at(self, name: str) -> Path:
        return self.folder / name

    def table(self, database: str, _rule: OnWarning) -> tuple[Draft, FileIO | None]:
        source = Path(database.removesuffix(".db"))
        said, seen = source.read_text(), stamp(str(source))
        assert seen is not None
        if said == "hangs":
            raise HostError("/run/x: no answer")
        made = self.at("made")
        made.write_text(said)
        remarks = (f"{source}:1: odd",) if said == "bad" else ()
        return Draft("", len(remarks), remarks, 0, 1, seen), FileIO(str(made))

    def once(self, rules: TableRules = RULES) -> TablesOnce:
        main_cf, lock = str(self.at("main.cf")), str(self.at("tables.lock"))
        return TablesOnce(main_cf, rules, self, self.records, lock)

    def rebuilt(self, rules: TableRules = RULES) -> TablesOnce:
        once = self.once(rules)
        once.rebuild(self.text)
        return once


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_what_is_stale_is_built_and_on_record(world: World) -> None:
    once = world.rebuilt()
    assert world.at("one.db").read_text() == "one"
    assert list(once.rebuilt) == [str(world.at("one")), str(world.at("two"))]
    assert not once.stale
    records = world.records.of(Event.TABLE_REBUILT)
    assert [record.message for record in records] == list(once.rebuilt.values())
    assert not world.rebuilt().rebuilt, "it is up to date"


def test_what_postfix_warns_of_stays_and_the_others_are_built(world: World) -> None:
    world.at("one").write_text("bad")
    once = world.rebuilt()
    assert list(once.rebuilt) == [str(world.at("two"))]
    why = f"{world.at('one')}:1: odd; there is no index; fix the file"
    assert once.stale == {str(world.at("one")): why}
    (record,) = world.records.of(Event.TABLE_STALE)
    assert record.message == why
    once = world.rebuilt(TableRules(on_warning=OnWarning.BUILD))
    assert list(once.rebuilt) == [str(world.at("one"))]


def test_what_cannot_be_built_is_tried_once(world: World) -> None:
    world.at("one").write_text("hangs")
    assert world.rebuilt().stale == {
        str(world.at("one")): f"{world.at('one')}: /run/x: no answer; there is no index"
    }
    assert len(world.records.of(Event.TABLE_STALE)) == 1


def test_a_table_of_master_cf_is_built_and_one_to_ignore_is_not(world: World) -> None:
    world.text = b""
    option = f"-o a_maps=hash:{world.at('one')},hash:{world.at('two')}"
    world.at("master.cf").write_text(f"smtp inet n - y - - smtpd\n  {option}\n")
    once = world.rebuilt(TableRules(ignore=("*/two",)))
    assert list(once.rebuilt) == [str(world.at("one"))]
    assert not world.rebuilt(TableRules(rebuild=False)).rebuilt


def test_what_would_be_built_is_told_and_not_built(world: World) -> None:
    due = world.once().due(world.text)
    assert list(due) == [str(world.at(name)) for name in ("one", "two")]
    would = f"{world.at('one')}: its index is out of date and would be rebuilt"
    assert due[str(world.at("one"))].startswith(would)
    assert not world.at("one.db").exists()
    assert world.records == []
    world.rebuilt()
    assert world.once().due(world.text) == {}


def test_what_is_not_roots_is_built_too(world: World) -> None:
    """By a call of its own, after the restart, which waits for root's only."""
    os.chown(world.at("two"), 20815, 20816)
    once = world.rebuilt()
    assert list(once.rebuilt) == [str(world.at("one"))]
    once.rebuild(world.text, of_others=True)
    assert set(once.rebuilt) == {str(world.at(name)) for name in ("one", "two")}
