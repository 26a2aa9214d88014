"""What is kept of another document than main.cf: in its own place, in the same count of cycles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pf_agent.files.cycles import CYCLE
from pf_agent.files.served_states import served_of_all
from pf_agent.files.store import FileStore
from pf_agent.model import DesiredState, DocumentKind, Rejected, Wishes

NAME = "hash:/etc/postfix/transport"
ALIASES = "hash:/etc/aliases"


def lose(_text: bytes | None) -> None:
    """What is told of each text."""


@pytest.fixture
def outer(tmp_path: Path) -> FileStore:
    store = FileStore(str(tmp_path / "lib"), str(tmp_path / "run"))
    store.prepare()
    return store


def inner_of(outer: FileStore, name: str = NAME) -> FileStore:
    store = outer.of_document(name, lose)
    store.prepare()
    return store


def test_each_has_its_own_place_and_its_name_comes_back(outer: FileStore) -> None:
    names = [NAME, ALIASES, "hash:/etc/postfix/a%2fb", "lmdb:/ä/.."]
    for name in names:
        inner_of(outer, name).keep_last_good(name.encode())
    assert outer.documents() == tuple(sorted(names))
    assert [inner_of(outer, n).last_good() for n in names] == [n.encode() for n in names]
    assert outer.last_good() is None


def test_cycles_are_counted_with_those_of_main_cf(outer: FileStore) -> None:
    inner = inner_of(outer)
    assert [outer.next_cycle(), inner.next_cycle(), outer.next_cycle()] == [1, 2, 3]
    assert inner.life() == outer.life() != ""


def test_a_lost_counter_gives_no_number_of_a_document_twice(outer: FileStore) -> None:
    for store, number in ((inner_of(outer), 41), (inner_of(outer, ALIASES), 57)):
        store.keep_displaced(number, b"x y\n")
    Path(outer.directory, CYCLE).unlink(missing_ok=True)
    again = FileStore(outer.directory, outer.run_directory)
    assert inner_of(again).next_cycle() == 58


def test_that_of_an_instance_counts_too(outer: FileStore) -> None:
    instance = FileStore.of_instance("out", outer.directory, outer.run_directory)
    instance.prepare()
    inner_of(instance).keep_displaced(99, b"x y\n")
    Path(outer.directory, CYCLE).unlink(missing_ok=True)
    assert FileStore(outer.directory, outer.run_directory).next_cycle() == 100


@pytest.mark.parametrize("kind", [DocumentKind.TABLE, DocumentKind.ALIASES])
def test_wishes_come_back_with_their_kind(outer: FileStore, kind: DocumentKind) -> None:
    desired = DesiredState({"a": "b"}, frozenset({"c"}), kind=kind)
    line = "c: d\n" if kind is DocumentKind.ALIASES else "c d\n"
    kept = Wishes(desired, desired, {"c": line}, Rejected(desired, "no", ("a",)))
    inner_of(outer).keep_wishes(kept)
    assert inner_of(outer).wishes() == kept


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"served": 5}', '{"served": {"kind": "other"}}', "[" * 100_000]
)
def test_damaged_wishes_are_none(outer: FileStore, damage: str) -> None:
    inner = inner_of(outer)
    Path(inner.directory, "wishes.json").write_text(damage)
    assert inner.wishes() == Wishes()


def test_a_kept_entry_that_postfix_could_not_read_is_none(outer: FileStore) -> None:
    desired = DesiredState({"a": "b"}, frozenset(), kind=DocumentKind.TABLE)
    inner = inner_of(outer)
    inner.keep_wishes(Wishes(desired, desired))
    path = Path(inner.directory, "wishes.json")
    found = json.loads(path.read_text())
    found["served"]["settings"] = {"a b": "c"}
    path.write_text(json.dumps(found))
    assert FileStore.wishes(inner_of(outer)) == Wishes()


def test_what_is_in_force_after_a_start_with_a_faulty_file(outer: FileStore) -> None:
    main_cf = DesiredState({"biff": "no"}, frozenset())
    table = DesiredState({"a": "b"}, frozenset(), kind=DocumentKind.TABLE)
    outer.keep_wishes(Wishes(main_cf, main_cf))
    inner_of(outer).keep_wishes(Wishes(table, table))
    inner_of(outer, ALIASES).keep_wishes(Wishes())
    inner_of(outer, "no table").keep_wishes(Wishes(table, table))
    found = served_of_all(outer.directory, outer.run_directory)
    assert found["-"].documents == {NAME: table}
