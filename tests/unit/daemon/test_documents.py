"""The documents of an instance from turn to turn: each by itself, and none without a reason."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import cast

import pytest

from pf_agent.daemon.documents import Documents
from pf_agent.daemon.shared import Shared
from pf_agent.files.exchange import MainCfFile
from pf_agent.files.store import FileStore
from pf_agent.maincf.indexed import Draft, Table
from pf_agent.model import (
    AgentOptions,
    DesiredState,
    DocumentKind,
    Event,
    Outcome,
    Reason,
    Trigger,
    Wishes,
)
from pf_agent.postfix.errands import Errands
from tests.fakes import Records

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a table must be root's")

MAIN_CF = b"transport_maps = hash:/x\n"
IN_FORCE = DesiredState({"biff": "no"}, frozenset())
SECRET = "anna:Pl4nted-61-xK9"


class World:
    """A main.cf, a state, and a Postfix that takes every text."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.records = folder, Records()
        self.main_cf = folder / "main.cf"
        self.main_cf.write_bytes(MAIN_CF)
        self.state = FileStore(str(folder / "lib"), str(folder / "run"))
        self.state.prepare()
        self.wanted: dict[str, DesiredState] | None = {}
        self.watched: tuple[str, ...] = ()
        self.notes: list[str] = []
        self.observes = False
        self.options = AgentOptions()
        self.mailbox: SimpleQueue[Trigger] = SimpleQueue()
        self.noted: list[Outcome] = []
        self.documents = self.begun()

    def begun(self) -> Documents:
        """The daemon starts."""
        shared = SimpleNamespace(
            configuration=self,
            watch=self,
            journal=self,
            writers=self,
            asked=lambda _instance: self.asked(),
            may_only_observe=lambda _instance: self.observes,
            post=self.mailbox.put,
        )
        host, errands = MainCfFile(str(self.main_cf)), cast(Errands, self)
        ours = (host, self.state, errands, self.records)
        return Documents("-", *ours, cast(Shared, shared), self.noted.append)

    def asked(self) -> DesiredState | None:
        if self.wanted is None:
            return None
        return DesiredState({}, frozenset(), documents=self.wanted)

    def follow(self, _path: str) -> None:
        """Nobody tells what writes it."""

    def fields(self, _path: str, _written_at: float) -> Mapping[str, str]:
        return {}

    def follow_documents(self, _instance: str, paths: tuple[str, ...]) -> str:
        self.watched = paths
        return ""

    def note(self, text: str) -> None:
        self.notes.append(text)

    def try_source(self, _table: Table, text: bytes) -> Draft:
        return Draft("poison; fix it" if b"poison" in text else "")

    def is_there(self, _thing: str) -> bool:
        return True

    def table(self, name: str = "t", text: str = "a\tb\n") -> Path:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o644)
        return path

    def want(self, path: Path, **settings: str) -> None:
        desired = DesiredState(settings, frozenset(), kind=DocumentKind.TABLE)
        self.wanted = {**(self.wanted or {}), f"hash:{path}": desired}

    def turn(
        self,
        reason: Reason = Reason.DOCUMENT,
        settled: bytes | None = MAIN_CF,
        in_force: DesiredState | None = IN_FORCE,
    ) -> None:
        """One turn of the loop, and those that follow until each text was tried."""
        self.documents.turn({reason}, settled, lambda: in_force)
        self.documents.follow()
        while self.have_tried():
            self.documents.turn({self.mailbox.get().reason}, settled, lambda: in_force)

    def have_tried(self) -> bool:
        """Wait for what is being tried; tell whether the loop was woken."""
        for thread in threading.enumerate():
            if thread.name == "try a text":
                thread.join()
        return not self.mailbox.empty()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_each_is_corrected_and_watched_under_its_own_name(world: World) -> None:
    table, link = world.table(), world.folder / "link"
    link.symlink_to(world.table("target"))
    world.want(table, a="c")
    world.want(link, a="d")
    world.turn(Reason.START)
    assert (table.read_text(), link.read_text()) == ("a\tc\n", "a\td\n")
    assert link.is_symlink()
    assert world.watched == (str(table), str(link))
    assert world.documents.troubles() == {f"hash:{table}": "", f"hash:{link}": ""}
    assert world.documents.patience() is None


def test_a_source_is_awaited_until_it_is_seen_to_be_right(world: World) -> None:
    table = world.table()
    world.want(table, a="c")
    path, documents = str(table), world.documents
    documents.turn({Reason.START}, MAIN_CF, lambda: IN_FORCE)
    assert documents.awaits(path)  # the text is being tried
    assert world.have_tried()
    documents.turn({world.mailbox.get().reason}, MAIN_CF, lambda: IN_FORCE)
    assert table.read_text() == "a\tc\n"
    assert documents.awaits(path)  # it was corrected a moment ago
    world.turn()
    assert not documents.awaits(path)
    table.write_text("a\tb\n")
    assert documents.awaits(path)
    assert not documents.awaits(str(world.table("other")))


@pytest.mark.parametrize("why", ["observes", "refused", "not ours"])
def test_a_source_that_is_not_to_be_corrected_is_not_awaited(world: World, why: str) -> None:
    table = world.table()
    world.want(table, a="poison" if why == "refused" else "c")
    world.observes = why == "observes"
    if why == "not ours":
        os.chown(table, 65534, 65534)
    world.turn(Reason.START)
    assert table.read_text() == "a\tb\n"
    assert not world.documents.awaits(str(table))


def test_what_a_crash_left_in_its_store_is_removed_once(world: World) -> None:
    table = world.table()
    world.want(table, a="c")
    world.turn(Reason.START)
    left = Path(world.state.of_document(f"hash:{table}", print).directory) / ".pending.json.new"
    left.touch()
    world.turn()
    assert left.exists()  # it may be another process's
    world.documents = world.begun()
    world.turn(Reason.START)
    assert not left.exists()


def test_none_holds_up_another(world: World) -> None:
    theirs, refused, right = (world.table(name) for name in ("theirs", "refused", "right"))
    os.chown(theirs, 65534, 65534)
    world.want(theirs, a="c")
    world.want(refused, a="poison")
    world.want(right, a="c")
    world.turn(Reason.START)
    assert [p.read_text() for p in (theirs, refused, right)] == ["a\tb\n", "a\tb\n", "a\tc\n"]
    troubles = world.documents.troubles()
    assert "belongs to uid 65534" in troubles[f"hash:{theirs}"]
    assert "poison" in troubles[f"hash:{refused}"]
    assert troubles[f"hash:{right}"] == ""
    failed = world.records.of(Event.CORRECTION_FAILED)
    world.turn()
    assert world.records.of(Event.CORRECTION_FAILED) == failed != []
    os.chown(theirs, 0, 0)
    world.turn()
    assert theirs.read_text() == "a\tc\n"


def test_main_cf_being_written_is_no_reason_unless_it_says_something_else(world: World) -> None:
    table = world.table()
    world.want(table, a="c")
    world.turn(Reason.START)
    table.write_text("a\ttheirs\n")
    world.turn(Reason.MAIN_CF)
    assert table.read_text() == "a\ttheirs\n"
    world.turn(Reason.MAIN_CF, MAIN_CF + b"biff = yes\n")
    assert table.read_text() == "a\tc\n"


def test_a_first_main_cf_is_the_one_that_is_there(world: World) -> None:
    aliases = world.table("aliases", "a: b\n")
    world.main_cf.write_text(f"alias_maps = hash:{aliases}\n")
    world.want(aliases, a="c")
    world.turn(Reason.START, None, None)
    assert aliases.read_text() == "a: c\n"


@pytest.mark.parametrize("text", ["", None])
def test_without_a_main_cf_a_file_of_aliases_is_not_taken_for_a_table(
    world: World, text: str | None
) -> None:
    aliases = world.table("aliases", "a: b\n")
    world.main_cf.unlink()
    if text is not None:
        world.main_cf.write_text(text)
    world.want(aliases, a="c")
    world.turn(Reason.START, None)
    assert aliases.read_text() == "a: b\n"
    assert "it decides what is in" in world.documents.troubles()[f"hash:{aliases}"]
    world.turn(Reason.MAIN_CF, f"alias_maps = hash:{aliases}\n".encode())
    assert aliases.read_text() == "a: c\n"


def test_what_becomes_a_file_of_aliases_waits_for_main_cf(world: World) -> None:
    aliases = world.table("aliases", "a: b\n")
    world.want(aliases, a="c")
    in_force = DesiredState({"alias_maps": f"hash:{aliases}"}, frozenset())
    world.turn(Reason.CONFIGURATION, MAIN_CF, in_force)
    assert aliases.read_text() == "a: b\n"
    world.turn(Reason.MAIN_CF, f"alias_maps = hash:{aliases}\n".encode(), in_force)
    assert aliases.read_text() == "a: c\n"


def test_a_table_of_passwords_is_secret_before_main_cf_names_it(world: World) -> None:
    table = world.table(text=f"a {SECRET}\n")
    world.want(table, a="other:Pl4nted-62-xK9")
    in_force = DesiredState({"smtp_sasl_password_maps": f"hash:{table}"}, frozenset())
    world.turn(Reason.CONFIGURATION, MAIN_CF, in_force)
    told = "".join(f"{each.message} {dict(each.fields)}" for each in world.records)
    assert "Pl4nted" not in told
    assert table.stat().st_mode & 0o077 == 0
    assert world.noted == [], "its keys are in no status that every user reads"
    world.want(world.table("public"), a="other")
    world.turn(Reason.CONFIGURATION, MAIN_CF, in_force)
    assert len(world.noted) == 1


def test_one_that_is_desired_no_more_is_forgotten_and_stays(world: World) -> None:
    table = world.table()
    world.want(table, a="c")
    world.turn(Reason.START)
    kept = world.state.of_document(f"hash:{table}", lambda _text: None)
    assert kept.wishes() != Wishes()
    world.wanted = {}
    world.turn(Reason.CONFIGURATION)
    assert (kept.wishes(), table.read_text(), world.watched) == (Wishes(), "a\tc\n", ())


def test_so_is_one_that_was_dropped_while_the_daemon_did_not_run(world: World) -> None:
    tables = [world.table("one"), world.table("two")]
    for table in tables:
        world.want(table, a="c")
    world.turn(Reason.START)
    kept = [world.state.of_document(f"hash:{t}", lambda _text: None) for t in tables]
    world.wanted = None  # there is no valid configuration
    world.documents = world.begun()
    world.turn(Reason.START)
    assert Wishes() not in [each.wishes() for each in kept]
    world.wanted = {}
    world.want(tables[0], a="c")
    world.turn(Reason.CONFIGURATION)
    assert [each.wishes() == Wishes() for each in kept] == [False, True]


def test_a_contest_without_end_is_spaced(world: World) -> None:
    table = world.table()
    world.want(table, a="c")
    world.turn(Reason.START)
    name, count = f"hash:{table}", 0
    while not world.documents.troubles()[name]:
        table.write_text("a\ttheirs\n")
        world.turn()
        count += 1
        assert count < 100
    assert table.read_text() == "a\ttheirs\n"
    assert "another program keeps changing it" in world.documents.troubles()[name]
    patience = world.documents.patience()
    assert patience is not None
    assert 0 < patience <= 1
    world.turn()
    (record,) = world.records.of(Event.CONTESTED)
    assert record.fields["PF_AGENT_TABLE"] == name


def test_one_that_was_closed_and_is_deleted_comes_back_closed(world: World) -> None:
    table = world.table()
    table.chmod(0o640)
    world.want(table, a="b")
    world.turn(Reason.START)
    table.unlink()
    while not table.exists():
        world.turn()
    assert table.stat().st_mode & 0o777 == 0o640
