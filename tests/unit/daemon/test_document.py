"""One document as the daemon and `apply` manage it, on a real file and a real state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from pf_agent.daemon.document import Document, Owner, document_of
from pf_agent.files.store import FileStore
from pf_agent.maincf.indexed import Draft, Table
from pf_agent.model import (
    DesiredState,
    DocumentKind,
    Event,
    Judgement,
    Outcome,
    Place,
    Result,
    Unmanaged,
)
from pf_agent.reconcile.ports import Policy
from tests.fakes import Records

MAIN_CF = b"transport_maps = hash:/x\n"
GOOD = b"# kept\na\tb\n"


@dataclass
class Tried:
    """Postfix's programs: they refuse what has `poison` in it."""

    tables: list[Table] = field(default_factory=list)
    meanwhile: Callable[[], None] = lambda: None

    def try_source(self, table: Table, text: bytes) -> Draft:
        self.tables.append(table)
        return Draft("poison; fix it" if b"poison" in text else "")

    def judge_services(self, text: bytes, served: Sequence[bytes] = ()) -> Judgement:
        return Judgement("poison; fix it" if b"poison" in text else "")

    def is_there(self, thing: str) -> bool:
        return True


class World:
    """A table beside a main.cf that is only said to be there."""

    def __init__(self, folder: Path) -> None:
        self.table = folder / "t"
        self.table.write_bytes(GOOD)
        self.name = f"hash:{self.table}"
        state = FileStore(str(folder / "lib"), str(folder / "run"))
        state.prepare()
        self.records, self.postfix = Records(), Tried()
        self.owner = Owner(str(folder / "main.cf"), state, self.postfix, self.records)

    def document(self, settings: dict[str, str], main_cf: bytes = MAIN_CF) -> Document:
        places = {name: Place("x.toml", 1) for name in settings}
        desired = DesiredState(settings, frozenset(), provenance=places, kind=DocumentKind.TABLE)
        found = document_of(self.name, desired, self.owner, [main_cf])
        found.state.prepare()
        return found

    def cycle(self, document: Document, observe_only: bool = False) -> Outcome:
        policy = Policy(observe_only, judge=document.judge)
        return document.cycle(policy, None, document.host.read())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_once_corrected_it_is_in_use_and_good(world: World) -> None:
    document = world.document({"a": "c"})
    assert world.cycle(document).result is Result.CORRECTED
    assert world.table.read_bytes() == b"# kept\na\tc\n"
    assert document.state.pending() is None
    assert document.state.last_good() == b"# kept\na\tc\n"
    served = document.state.wishes().served
    assert served is not None
    assert served.settings == {"a": "c"}
    assert world.cycle(document).result is Result.IN_SYNC


def test_what_is_written_right_after_a_correction_is_not_taken_for_good(world: World) -> None:
    document = world.document({"a": "c"})

    def emit(record: object) -> None:
        if getattr(record, "event", None) is Event.DRIFT_CORRECTED:
            world.table.write_bytes(b"a\ttheirs\n")

    document.in_force.emit = emit
    assert world.cycle(document).result is Result.CORRECTED
    assert document.state.last_good() is None
    assert world.table.read_bytes() == b"a\ttheirs\n"


def test_a_refused_wish_leaves_what_was_served_in_force(world: World) -> None:
    assert world.cycle(world.document({"a": "b"})).result is Result.IN_SYNC
    refused = world.document({"a": "poison"})
    outcome = world.cycle(refused)
    assert world.table.read_bytes() == GOOD
    assert "poison" in refused.trouble(outcome)
    world.table.write_bytes(b"# kept\na\ttheirs\n")
    assert world.cycle(refused).result is Result.CORRECTED
    assert world.table.read_bytes() == GOOD


def test_a_faulty_entry_leaves_what_was_served_in_force(world: World) -> None:
    assert world.cycle(world.document({"a": "b"})).result is Result.IN_SYNC
    faulty = world.document({"a b": "x", "a": "c"})
    assert faulty.asked is None
    world.table.write_bytes(b"# kept\na\ttheirs\n")
    outcome = world.cycle(faulty)
    assert world.table.read_bytes() == GOOD
    assert faulty.trouble(outcome).startswith("x.toml:1: a b: whitespace ends a key")


def test_a_first_wish_that_is_faulty_changes_nothing(world: World) -> None:
    faulty = world.document({"a b": "x"})
    assert world.cycle(faulty).result is Result.REJECTED
    assert world.table.read_bytes() == GOOD


def test_where_it_only_observes_nothing_is_changed(world: World) -> None:
    document = world.document({"a": "c"})
    outcome = world.cycle(document, observe_only=True)
    assert outcome.result is Result.OBSERVED
    assert "a" in document.trouble(outcome)
    assert world.table.read_bytes() == GOOD


def test_aliases_are_tried_by_postalias_and_a_texthash_as_a_hash(world: World) -> None:
    main_cf = f"alias_maps = {world.name}\n".encode()
    world.table.write_bytes(b"a: b\n")
    assert world.cycle(world.document({"a": "c"}, main_cf)).result is Result.CORRECTED
    assert world.table.read_bytes() == b"a: c\n"
    world.name = f"texthash:{world.table}"
    world.table.write_bytes(GOOD)
    world.cycle(world.document({"a": "c"}))
    tried = {(table.kind, table.is_of_aliases) for table in world.postfix.tables}
    assert tried == {("hash", True), ("hash", False)}


def test_a_change_of_its_mode_has_it_managed_anew(world: World) -> None:
    before = world.document({"a": "b"})
    assert before.is_as(world.document({"a": "b"}))
    assert not before.is_as(world.document({"a": "c"}))
    world.table.chmod(0o600)
    assert not before.is_as(world.document({"a": "b"}))


def test_what_is_only_reported_is_told_as_such(world: World) -> None:
    document = world.document({"x": "y"})
    wanted = replace(document.wanted, settings={}, unmanaged=Unmanaged.REPORT)
    document = replace(document, wanted=wanted)
    outcome = world.cycle(document)
    assert document.trouble(outcome) == f"{world.name} also sets a"
