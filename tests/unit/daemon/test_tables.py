"""Indexed tables from turn to turn: found, watched, built, kept where they are bad; or none."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from io import FileIO
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import cast

import pytest

import pf_agent
from pf_agent.daemon.saving import is_being_written
from pf_agent.daemon.shared import Shared
from pf_agent.daemon.tables import Tables
from pf_agent.errors import HostError
from pf_agent.files.exchange import MainCfFile
from pf_agent.files.linux import stamp
from pf_agent.maincf.indexed import Draft
from pf_agent.model import AgentOptions, Event, OnWarning, Reason, TableRules, Trigger
from pf_agent.postfix.errands import Errands
from tests.fakes import Records

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a table must be root's")


class World:
    """A main.cf, and a Postfix whose index is what its source is.

    `warns`: what it warns of in every source; `trouble`: why it builds none; `owner`: as whom it
    builds, if not simply as root. While it builds, the agent may be suspended. An index that
    `holds_up` names is not built before its event.
    """

    def __init__(self, folder: Path) -> None:
        self.main_cf, self.source = folder / "main.cf", folder / "transport"
        self.index = folder / "transport.db"
        self.records = Records()
        self.posted: SimpleQueue[Trigger] = SimpleQueue()
        self.watched: tuple[str, ...] = ()
        self.options = AgentOptions()
        self.observes = False
        self.warns, self.trouble = "", ""
        self.is_suspended_meanwhile = False
        self.holds_up: dict[str, threading.Event] = {}
        self.owner: tuple[int, int] | None = None
        self.is_put = False
        shared = SimpleNamespace(
            configuration=self,
            watch=self,
            journal=self,
            post=self.posted.put,
            may_only_observe=lambda _instance: self.observes,
            tables_lock=str(folder / "tables.lock"),
            retry_seconds=10.0,
        )
        host, errands = MainCfFile(str(self.main_cf)), cast(Errands, self)
        self.awaited: set[str] = set()  # sources whose entries are to be compared first
        self.tables = Tables(
            "-", host, errands, self.records, cast(Shared, shared), self.awaited.__contains__
        )
        self.main_cf.write_text(f"transport_maps = hash:{self.source}\n")

    def follow_tables(self, _instance: str, paths: tuple[str, ...]) -> str:
        self.watched = paths
        return ""

    def table(self, database: str, rule: OnWarning) -> tuple[Draft, FileIO | None]:
        assert rule is self.options.tables.on_warning
        if database in self.holds_up:
            assert self.holds_up[database].wait(60)
        if self.trouble:
            raise HostError(self.trouble)
        self.observes |= self.is_suspended_meanwhile
        source = Path(database.removesuffix(".db"))
        seen = stamp(str(source))
        assert seen is not None
        made = self.index if self.is_put else source.with_name("made")
        made.write_text(source.read_text())
        remarks = (f"{source}:1: {self.warns}",) if self.warns else ()
        draft = Draft("", len(remarks), remarks, 0, 1, seen, self.owner, self.is_put)
        return draft, None if self.is_put else FileIO(str(made))

    def turn(self, reason: Reason = Reason.NAMED) -> None:
        self.tables.turn({reason}, self.main_cf.read_bytes())

    def build(self, reason: Reason = Reason.NAMED) -> None:
        """A turn, and the one after what it began to build."""
        self.turn(reason)
        assert self.posted.get(timeout=60).reason is Reason.POSTMAP
        self.turn(Reason.POSTMAP)

    def rules(self, rules: TableRules) -> None:
        self.options = replace(self.options, tables=rules)


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.source.write_text("one\n")
    return world


def test_what_has_no_index_gets_one_and_is_watched(world: World) -> None:
    world.build(Reason.START)
    assert world.index.read_text() == "one\n"
    assert world.watched == (str(world.source), str(world.index))
    assert not world.tables.stale
    assert world.records.events() == [Event.TABLE_REBUILT]
    world.turn(Reason.TIMER)
    assert world.posted.empty()


def test_a_source_that_changed_is_built_again(world: World) -> None:
    world.build(Reason.START)
    world.source.write_text("two\n")
    world.build()
    assert world.index.read_text() == "two\n"


def test_a_source_whose_entries_are_to_be_compared_waits_for_that(world: World) -> None:
    world.build(Reason.START)
    world.source.write_text("two\n")
    world.awaited.add(str(world.source))
    for _ in range(2):
        world.turn()
        assert world.posted.empty()
        assert world.index.read_text() == "one\n"
    world.awaited.clear()
    world.build()
    assert world.index.read_text() == "two\n"


def test_a_table_that_main_cf_names_since_is_built_at_once(world: World) -> None:
    named = world.main_cf.read_text()
    world.main_cf.write_text("mynetworks = 127.0.0.0/8\n")
    world.turn(Reason.START)
    assert world.posted.empty()
    world.main_cf.write_text(named)
    world.build(Reason.MAIN_CF)
    assert world.index.read_text() == "one\n"
    world.main_cf.write_text("mynetworks = 127.0.0.0/8\n")
    world.turn(Reason.MAIN_CF)
    assert world.watched == ()


def test_what_is_wrong_is_not_forgotten_while_main_cf_drifts(world: World) -> None:
    world.build(Reason.START)
    world.warns = "no value after the key"
    world.source.write_text("two\n")
    world.build()
    stale, settled = world.tables.stale, world.main_cf.read_bytes()
    assert stale
    world.main_cf.write_text("transport_maps = hash:/etc/postfix/another\n")
    world.tables.turn({Reason.NAMED}, settled)
    assert world.tables.stale == stale
    assert world.watched == (str(world.source), str(world.index))


def test_a_table_of_master_cf_is_built(world: World) -> None:
    world.main_cf.write_text("")
    world.turn(Reason.START)
    service = "smtp inet n - y - - smtpd"
    (world.main_cf.parent / "master.cf").write_text(
        f"{service}\n  -o smtpd_sender_login_maps=hash:{world.source}\n"
    )
    world.build()
    assert world.index.read_text() == "one\n"


def test_what_postfix_warns_of_keeps_the_old_index(world: World) -> None:
    world.build(Reason.START)
    world.source.write_text("two\n")
    world.warns = "no value after the key"
    world.build()
    assert world.index.read_text() == "one\n"
    why = f"{world.source}:1: no value after the key; the old index stays; fix the file"
    assert world.tables.stale == {str(world.source): why}
    (record,) = world.records.of(Event.TABLE_STALE)
    assert record.message == why
    world.turn(Reason.TIMER)
    world.main_cf.write_text(f"{world.main_cf.read_text()}biff = no\n")
    world.turn(Reason.MAIN_CF)
    assert world.posted.empty(), "it waits for its source"
    world.warns = ""
    world.source.write_text("three\n")
    world.build()
    assert world.index.read_text() == "three\n"
    assert not world.tables.stale


def test_who_wants_it_built_all_the_same_gets_it(world: World) -> None:
    world.warns = "no value after the key"
    world.build(Reason.START)
    assert not world.index.exists()
    assert "there is no index" in world.tables.stale[str(world.source)]
    world.rules(TableRules(on_warning=OnWarning.BUILD))
    world.build(Reason.RELOAD)
    assert world.index.read_text() == "one\n"
    (record,) = world.records.of(Event.TABLE_REBUILT)
    assert "no value after the key" in record.message


def test_where_nobody_answers_it_is_tried_again(world: World) -> None:
    world.trouble = "/run/x: no answer"
    world.build(Reason.START)
    why = f"{world.source}: /run/x: no answer; there is no index"
    assert world.tables.stale == {str(world.source): why}
    patience = world.tables.patience()
    assert patience is not None
    assert 0 < patience <= 10


def test_who_only_observes_tells_once_and_builds_nothing(world: World) -> None:
    world.observes = True
    for _ in range(3):
        world.turn(Reason.TIMER)
    assert world.posted.empty()
    assert not world.index.exists()
    assert "only observes" in world.tables.stale[str(world.source)]
    assert world.records.events() == [Event.TABLE_STALE]
    world.observes = False
    world.build(Reason.TIMER)
    assert not world.tables.stale


def test_what_is_built_when_the_agent_is_suspended_is_not_put_in_place(world: World) -> None:
    world.build(Reason.START)
    world.source.write_text("two\n")
    world.is_suspended_meanwhile = True
    world.build()
    assert world.index.read_text() == "one\n"
    assert "only observes" in world.tables.stale[str(world.source)]


def test_what_is_built_as_somebody_else_is_his(world: World) -> None:
    os.chown(world.source, 20815, 20816)
    world.owner = (20815, 20816)
    world.build(Reason.START)
    made = world.index.stat()
    assert (made.st_uid, made.st_gid) == world.owner
    assert not world.tables.stale
    os.chown(world.index, 0, 0)
    world.source.write_text("two\n")
    world.build()
    assert world.index.read_text() == "one\n"
    (told,) = world.tables.stale.values()
    assert "it belongs to uid 0, but the table is built as uid 20815" in told


def test_what_is_in_place_already_is_on_record(world: World) -> None:
    world.is_put = True
    world.build(Reason.START)
    assert world.index.read_text() == "one\n"
    assert world.records.events() == [Event.TABLE_REBUILT]


def test_a_file_of_somebody_else_holds_up_nothing_of_roots(world: World) -> None:
    his = world.source.with_name("his")
    his.write_text("three\n")
    os.chown(his, 20815, 20816)
    with world.main_cf.open("a") as main_cf:
        main_cf.write(f"virtual_alias_maps = hash:{his}\n")
    held = world.holds_up[f"{his}.db"] = threading.Event()
    world.build(Reason.START)
    assert world.index.read_text() == "one\n"
    world.source.write_text("two\n")
    world.build()
    assert world.index.read_text() == "two\n"
    assert not Path(f"{his}.db").exists()
    held.set()
    assert world.posted.get(timeout=60).reason is Reason.POSTMAP
    world.turn(Reason.POSTMAP)
    assert Path(f"{his}.db").read_text() == "three\n"


def test_what_is_still_being_written_is_not_built_by_half(world: World) -> None:
    world.build(Reason.START)
    with world.source.open("a") as writing:
        for line in ("two\n", "three\n"):
            writing.write(line)
            writing.flush()
            world.turn(Reason.TIMER)
            assert world.posted.empty()
            patience = world.tables.patience()
            assert patience is not None
            assert patience <= 1
    world.build()
    assert world.index.read_text() == "one\ntwo\nthree\n"
    assert world.tables.patience() is None


def test_what_is_only_kept_open_is_built(world: World) -> None:
    with world.source.open("a") as writing:
        os.utime(world.source, (0, 0))
        assert not is_being_written(str(world.source), now=time.time() + 60)
        assert is_being_written(str(world.source), now=time.time())
        writing.write("")


@pytest.mark.parametrize("rules", [TableRules(rebuild=False), TableRules(ignore=("*/transport",))])
def test_what_is_not_wanted_is_neither_watched_nor_built(world: World, rules: TableRules) -> None:
    world.rules(rules)
    world.turn(Reason.START)
    assert world.posted.empty()
    assert world.watched == ()
    assert not world.tables.stale


def test_who_names_no_table_has_nothing_loaded_or_watched(tmp_path: Path) -> None:
    """In a process of its own: others have loaded it here."""
    code = """
import sys
from pathlib import Path
from tests.unit.daemon.test_tables import Reason, World
world = World(Path(sys.argv[1]))
world.main_cf.write_text("alias_maps = hash:/etc/aliases\\n")
world.turn(Reason.START)
assert world.watched == () and world.tables.patience() is None and not world.tables.stale
print(*sys.modules)
world.main_cf.write_text("transport_maps = hash:/nope/transport\\n")
world.turn(Reason.START)
print(*sys.modules)
"""
    root = Path(pf_agent.__file__).parents[1]
    here = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": f"{root}:{here}"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    before, after = (set(line.split()) for line in done.stdout.splitlines())
    late = {"daemon.table_files", "activation.table_database", "files.indexes"}
    loaded = {f"pf_agent.{module}" for module in late}
    assert not before & loaded
    assert after >= loaded
    assert "pf_agent.maincf.table_text" not in after
