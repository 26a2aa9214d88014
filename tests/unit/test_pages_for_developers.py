"""The pages for who works on it are about the rooms, modules, tests and files that there are."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.checkout import CHECKOUT
from tests.documents import text_of
from tests.unit.test_rules import DECIDES, EFFECTS, GROUND, PACKAGE, PURE, ROOMS, TREES, room_of

PAGE = text_of("docs/architecture.md")
ALL = "all above"
KINDS = {
    **dict.fromkeys(PURE, "pure"),
    **dict.fromkeys(DECIDES, "decides"),
    **dict.fromkeys(EFFECTS, "effects"),
}


def rows(heading: str, page: str = PAGE) -> list[list[str]]:
    """The cells of the table under this heading, without those that name the columns."""
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def allowed(cell: str, above: list[str]) -> frozenset[str]:
    """The rooms that a cell names: "nothing", some of them, or all above it."""
    assert quoted(cell) or cell in ("nothing", ALL)
    return frozenset(above if cell == ALL else quoted(cell))


def test_the_table_has_each_room_and_what_it_may_import() -> None:
    found = [[room.strip("`/"), kind, may] for room, _, kind, may in rows("The rooms")]
    names = [room for room, _, _ in found]
    told = {room: allowed(may, names[:row]) for row, (room, _, may) in enumerate(found)}
    assert told == ROOMS
    assert {room: kind for room, kind, _ in found} == {
        room: KINDS.get(room, "drives") for room in ROOMS
    }


def test_each_room_stands_in_the_picture() -> None:
    picture = PAGE.partition("```text\n")[2].partition("```")[0]
    assert set(ROOMS) <= set(picture.split())


def test_the_modules_are_those_of_the_folders() -> None:
    told = {room.strip("`/"): quoted(modules) for room, modules in rows("The modules")}
    there = {
        room: sorted(
            name.rpartition(".")[2]
            for name in TREES
            if room_of(name) == room and not name.endswith("__init__")
        )
        for room in ROOMS
    }
    assert told == {"ground": sorted(GROUND - {"__init__"}), **there}


@pytest.mark.parametrize("row", rows("You want to change X: go to Y"), ids=lambda row: row[0])
def test_where_to_go_is_there(row: list[str]) -> None:
    _, places, more = row
    named = [word for word in (*quoted(places), *quoted(more)) if re.search(r"[./]", word)]
    assert places
    for path in named:
        assert (PACKAGE / path).exists() or (CHECKOUT / path).exists(), path


def test_there_are_ten_ways_to_go_at_least() -> None:
    assert len(rows("You want to change X: go to Y")) >= 10


def test_each_room_has_its_tests() -> None:
    found = rows("Change a line", text_of("docs/contributing.md"))
    assert [quoted(room) for room, _, _ in found] == [[room] for room in ROOMS]
    for room, unit, machine in found:
        assert quoted(unit) == [f"tests/unit/{quoted(room)[0]}"]
        assert list((CHECKOUT / quoted(unit)[0]).glob("test_*.py"))
        assert machine
        for name in quoted(machine):
            assert (CHECKOUT / "tests" / "machine" / name).is_file(), name


def test_the_tests_have_the_folders_of_the_rooms() -> None:
    tests = CHECKOUT / "tests" / "unit"
    assert {path.parent.name for path in tests.glob("*/test_*.py")} == set(ROOMS)


def test_each_kind_of_test_is_told_of() -> None:
    """Every folder that holds Python is one of them, or one of a kind's."""
    page = (CHECKOUT / "tests" / "README.md").read_text(encoding="utf-8")
    table = page.partition("\n## ")[0]
    told = set(re.findall(r"^\| `([a-z]+)/", table, flags=re.MULTILINE))
    there = {path.parent.name for path in (CHECKOUT / "tests").glob("*/*.py")}
    assert told == there | {"corpus"}


@pytest.mark.parametrize("module", ["tests.machine.demo", "tests.machine.__main__"])
def test_what_a_newcomer_starts_needs_nothing_but_python(module: str) -> None:
    """The README and contributing.md start these with the system's Python, from a checkout."""
    script = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); import {module}"
    command = [sys.executable, "-I", "-S", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
