"""A draft of an index: built in private, counted, and told of without a word of its source.

The programs are stand-ins that say what Postfix 3.7 and 3.10 were seen to say; the real ones are
run by tests/machine/test_tables.py.
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

import pytest

from pf_agent.errors import HostError
from pf_agent.maincf.indexed import Draft, Table
from pf_agent.model import OnWarning
from pf_agent.postfix.postmap import draft, tried

POSTMAP = """#!/bin/sh
# -c DIRECTORY [-s] TYPE:PATH
[ "$1" = -c ] && [ -e "$2/main.cf" ] || exit 1
if [ "$3" = -s ]; then exec cat "${4#*:}.db"; fi
path="${3#*:}"
case "$3" in
lmdb:*|*dbm:*) echo "postmap: fatal: unsupported map type: ${3%%:*}" >&2; exit 1;;
esac
warned="$path, line 2: expected format: key whitespace value"
grep -q hush "$path" && echo "postmap: warning: $warned" >&2
grep -q fatal "$path" && { echo "postmap: fatal: $path: bad: \\"hush\\"" >&2; exit 1; }
grep " " "$path" > "$path.db"
exit 0
"""


class World:
    def __init__(self, folder: Path) -> None:
        self.etc, self.programs = folder / "etc", folder / "sbin"
        self.private = folder / "private"
        for made in (self.etc, self.programs, self.private):
            made.mkdir()
        for name in ("postmap", "postalias"):
            (self.programs / name).write_text(POSTMAP)
            (self.programs / name).chmod(0o755)
        self.main_cf("hash", "t")
        self.source = self.etc / "t"

    def main_cf(self, kind: str, name: str) -> None:
        (self.etc / "main.cf").write_text(f"x_maps = {kind}:$config_directory/{name}\n")

    def draft(self, end: str = "db") -> tuple[Draft, bytes | None]:
        places = (str(self.programs), str(self.private))
        found, index = draft(str(self.etc), f"{self.source}.{end}", OnWarning.KEEP, *places)
        if index is None:
            return found, None
        with index:
            return found, index.read()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_index_comes_open_and_the_old_one_stays(world: World) -> None:
    world.source.write_text("a b\nc d\n")
    old = Path(f"{world.source}.db")
    old.write_text("a b\n")
    found, index = world.draft()
    assert (found.trouble, found.warnings, found.before, found.after) == ("", 0, 1, 2)
    assert index == b"a b\nc d\n"
    assert old.read_text() == "a b\n"
    assert found.seen.size == 8
    assert found.seen.inode == world.source.stat().st_ino


def test_entries_of_cdb_are_counted_where_postfix_cannot_list_them(world: World) -> None:
    """As Postfix 3.7 does not; the header is what it made of three entries."""
    world.main_cf("cdb", "t")
    world.source.write_text("a b\n")
    slots = [0] * 512
    slots[1] = slots[11] = 2
    slots[511] = 2
    made = world.programs / "made"
    made.write_bytes(struct.pack("<512I", *slots))
    world.programs.joinpath("postmap").write_text(
        f'#!/bin/sh\n[ "$3" != -s ] || exit 1\ncp {made} "${{3#*:}}.cdb"\n'
    )
    Path(f"{world.source}.cdb").write_bytes(b"no header")
    found, _ = world.draft("cdb")
    assert (found.before, found.after) == (None, 3)


def test_nothing_private_stays(world: World) -> None:
    world.source.write_text("a b\n")
    world.draft()
    assert os.listdir(world.private) == []


def test_a_warning_has_the_place_of_the_real_source(world: World) -> None:
    world.source.write_text("a b\nhush\n10.0.0.0/8 x\n")
    found, _ = world.draft()
    assert found.warnings == 1
    assert found.remarks[0] == f"{world.source}:2: no value after the key"
    assert found.remarks[1].startswith(f"{world.source}:3: a network never matches")
    assert "hush" not in repr(found)


def test_an_error_is_told_without_what_it_quotes(world: World) -> None:
    world.source.write_text("fatal hush\n")
    found, index = world.draft()
    assert index is None
    assert found.trouble == f"{world.source}: bad; fix it"


def try_text(world: World, script: str) -> Draft:
    """Try a text with a postmap that is this script."""
    (world.programs / "postmap").write_text(f"#!/bin/sh\n{script}\n")
    table = Table("hash", str(world.source))
    return tried(str(world.etc), table, b"a b\n", str(world.programs), str(world.private))


@pytest.mark.parametrize(
    ("words", "way_out"),
    [
        ("flush database /tmp/t.db: Input/output error", "check the disk"),
        ("open database /tmp/t.db: No space left on device", "make room"),
        ("open database /tmp/t.db: Read-only file system", "make its file system writable"),
        ("open /etc/postfix/main.cf: Too many open files", "see LimitNOFILE= in systemd.exec(5)"),
    ],
)
def test_a_text_is_not_blamed_for_the_disk(world: World, words: str, way_out: str) -> None:
    fact = words.rpartition(": ")[2]
    told = f"{world.source}: postmap in /tmp: {fact}; {way_out}"
    with pytest.raises(HostError, match=f"^{re.escape(told)}$"):
        try_text(world, f"echo 'postmap: fatal: {words}' >&2; exit 1")
    assert os.listdir(world.private) == []


def test_a_text_is_blamed_for_what_it_alone_makes_fail(world: World) -> None:
    fatal = "put database /tmp/t.db: Invalid argument"
    found = try_text(world, f"echo 'postmap: fatal: {fatal}' >&2; exit 1")
    assert found.trouble.endswith("Invalid argument; fix it")
    crashes = '[ ! -s "${3#*:}" ] || kill -SEGV $$'
    assert "SIGSEGV" in try_text(world, crashes).trouble


def test_a_text_is_not_blamed_for_a_postmap_that_always_crashes(world: World) -> None:
    with pytest.raises(HostError, match="SIGSEGV; reinstall postfix"):
        try_text(world, "kill -SEGV $$")


@pytest.mark.parametrize(
    ("kind", "end", "way_out"),
    [
        ("lmdb", "lmdb", "install postfix-lmdb"),
        ("dbm", "pag", "use one of `postconf -m`"),
        ("sdbm", "pag", "use one of `postconf -m`"),
    ],
)
def test_a_type_that_is_not_installed_is_named_with_the_way_out(
    world: World, kind: str, end: str, way_out: str
) -> None:
    world.main_cf(kind, "t")
    world.source.write_text("a b\n")
    found, _ = world.draft(end)
    assert found.trouble == f"{world.source}: Postfix has no table type {kind}; {way_out}"


def test_where_postfix_has_a_type_of_two_files_they_are_not_replaced(world: World) -> None:
    world.main_cf("dbm", "t")
    world.source.write_text("a b\n")
    program = world.programs / "postmap"
    program.write_text("#!/bin/sh\nexit 0\n")
    found, index = world.draft("pag")
    assert "two files" in found.trouble
    assert found.trouble.endswith("; run postmap")
    assert index is None


def test_what_is_not_named_is_not_built(world: World) -> None:
    with pytest.raises(HostError, match="no such table"):
        draft(str(world.etc), "/etc/shadow.db", OnWarning.KEEP, str(world.programs))


@pytest.mark.parametrize("make", ["nothing", "mkfifo", "mkdir"])
def test_what_is_no_file_holds_nothing_up(world: World, make: str) -> None:
    if make == "mkfifo":
        os.mkfifo(world.source)
    elif make == "mkdir":
        world.source.mkdir()
    found, index = world.draft()
    assert index is None
    assert found.trouble.startswith(f"{world.source}: ")
