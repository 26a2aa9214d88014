"""Indexed tables are looked after as alias databases are, and have records of their own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

import pytest

from pf_agent import names
from pf_agent.activation.databases import Databases
from pf_agent.activation.table_database import Postmap
from pf_agent.files.linux import stamp
from pf_agent.maincf.aliases import Built
from pf_agent.maincf.indexed import Table, indexed_in
from pf_agent.model import Event, Reason, Trigger
from tests.fakes import FakeClock, Records

LONG_AGO = 1_600_000_000


class World:
    """A table, and what `becomes` of it when it is built."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "t"
        self.table = Table("hash", str(self.path))
        self.records, self.clock = Records(), FakeClock()
        self.posted: SimpleQueue[Trigger] = SimpleQueue()
        self.becomes = Built(self.table.source, "", ("/t:1: odd",), False, 1, 2, 0.004)
        self.built = 0
        self.tables = Databases(
            Postmap(lambda text: indexed_in(text, b"", "/"), self.build, lambda _path: False),
            self.posted.put,
            self.records,
            lambda _doubts: None,
            stamp,
            at_once,
            self.clock,
        )
        self.write(LONG_AGO)
        self.tables.follow(f"x_maps = {self.table.said}\n".encode())

    def write(self, at: float | None = None) -> None:
        self.path.write_text(f"a b{self.built}\n")
        if at is not None:
            os.utime(self.path, (at, at))

    def build(self, table: Table) -> Built:
        assert table == self.table
        self.built += 1
        if not self.becomes.trouble:
            index = Path(table.source.database)
            index.write_text("made")
            at = self.path.stat().st_mtime_ns
            os.utime(index, ns=(at, at))
        return self.becomes

    def look(self) -> bool:
        stale = self.tables.stale()
        if stale:
            assert self.tables.rebuild(stale).worked() is not None
        return bool(stale)


def at_once(name: str, run: Callable[[], None]) -> None:
    assert name == "postmap"
    run()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_table_without_an_index_is_built_once_and_on_record(world: World) -> None:
    assert world.look()
    assert world.posted.get_nowait().reason is Reason.POSTMAP
    (record,) = world.records.of(Event.TABLE_REBUILT)
    assert record.message == (
        f"{world.path} changed; its index was rebuilt in 4 ms, entries: 1 before, 2 now; /t:1: odd"
    )
    assert record.fields == {
        names.FIELD_PATH: str(world.path),
        names.FIELD_ENTRIES_BEFORE: "1",
        names.FIELD_ENTRIES: "2",
        names.FIELD_SECONDS: "0.004",
        names.FIELD_WARNINGS: "/t:1: odd",
    }
    assert not world.look()
    world.write()
    assert world.look()
    assert world.built == 2


def test_what_only_its_source_can_mend_waits_for_that(world: World) -> None:
    world.becomes = Built(world.table.source, f"{world.path}:1: bad", is_final=True)
    assert world.look()
    (record,) = world.records.of(Event.TABLE_STALE)
    assert record.fields[names.FIELD_PATH] == str(world.path)
    assert world.tables.troubles == {str(world.path): f"{world.path}:1: bad"}
    assert world.tables.patience() is None
    assert not world.look()
    world.becomes = Built(world.table.source, seconds=0.1)
    world.write()
    assert world.look()
    assert not world.tables.troubles


def test_what_may_mend_itself_is_tried_again(world: World) -> None:
    world.becomes = Built(world.table.source, "no space")
    assert world.look()
    assert world.tables.patience() == 10.0
    world.clock.now += 11
    assert world.tables.is_due()
    world.becomes = Built(world.table.source, seconds=0.1)
    assert world.look()
    assert world.tables.patience() is None


def test_who_is_asked_to_tries_again_and_tells_again(world: World) -> None:
    world.becomes = Built(world.table.source, "bad", is_final=True)
    assert world.look()
    world.tables.try_again()
    assert not world.tables.troubles
    assert world.look()
    assert len(world.records.of(Event.TABLE_STALE)) == 2


def test_a_person_who_runs_postmap_ends_the_trouble(world: World) -> None:
    world.becomes = Built(world.table.source, "bad", is_final=True)
    assert world.look()
    Path(world.table.source.database).write_text("by hand")
    assert not world.look()
    assert not world.tables.troubles
    (record,) = world.records.of(Event.TABLE_REBUILT)
    assert "another process has since run it" in record.message
