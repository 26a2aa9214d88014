"""A new index in the old one's place: at once, dressed as the old one was, dated as its source."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pf_agent.errors import HostError
from pf_agent.files.indexes import put_index
from pf_agent.files.linux import stamp
from pf_agent.maincf.aliases import Source
from pf_agent.model import Stamp

LONG_AGO = 1_600_000_000


class Table:
    """A source, its index, and a new one that is open."""

    def __init__(self, folder: Path) -> None:
        self.text, self.index, self.new = folder / "t", folder / "t.db", folder / "new"
        self.text.write_text("a b\n")
        os.utime(self.text, (LONG_AGO, LONG_AGO))
        self.source = Source(str(self.text), str(self.index))
        self.new.write_bytes(b"new" * 1000)

    def seen(self) -> Stamp:
        found = stamp(self.source.path)
        assert found is not None
        return found

    def put(self, seen: Stamp | None = None) -> bool:
        with self.new.open("rb") as index:
            return put_index(self.source, seen or self.seen(), index.fileno())

    def mode(self) -> int:
        return self.index.stat().st_mode & 0o7777


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path)


def test_who_has_the_old_one_open_reads_on_and_sees_that_it_is_gone(table: Table) -> None:
    table.index.write_bytes(b"old")
    with table.index.open("rb") as old:
        assert table.put()
        assert old.read() == b"old"
        assert os.fstat(old.fileno()).st_nlink == 0
    assert table.index.read_bytes() == table.new.read_bytes()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o666])
def test_mode_and_owner_stay(table: Table, mode: int) -> None:
    table.index.write_bytes(b"old")
    if os.geteuid() == 0:
        os.chown(table.index, 20815, 20816)
    table.index.chmod(mode)
    before = table.index.stat()
    assert table.put()
    after = table.index.stat()
    assert (after.st_uid, after.st_gid, table.mode()) == (before.st_uid, before.st_gid, mode)


@pytest.mark.parametrize(
    ("source", "index"), [(0o600, 0o600), (0o640, 0o640), (0o644, 0o644), (0o666, 0o644)]
)
def test_a_first_index_is_as_readable_as_its_source(table: Table, source: int, index: int) -> None:
    table.text.chmod(source)
    assert table.put()
    assert table.mode() == index


@pytest.mark.parametrize(
    ("source", "before", "after"), [(0o600, 0o644, 0o600), (0o640, 0o644, 0o640)]
)
def test_who_may_no_longer_read_the_source_may_not_read_the_index(
    table: Table, source: int, before: int, after: int
) -> None:
    table.index.write_bytes(b"old")
    table.index.chmod(before)
    table.text.chmod(source)
    assert table.put()
    assert table.mode() == after


def test_it_has_the_date_of_its_source(table: Table) -> None:
    assert table.put()
    assert table.index.stat().st_mtime_ns == table.text.stat().st_mtime_ns


def test_nothing_is_done_where_the_source_has_changed(table: Table) -> None:
    table.index.write_bytes(b"old")
    seen = table.seen()
    table.text.write_text("a c\n")
    assert not table.put(seen)
    assert table.index.read_bytes() == b"old"
    assert sorted(os.listdir(table.text.parent)) == ["new", "t", "t.db"]


def test_what_a_crash_left_is_no_hindrance(table: Table) -> None:
    (table.text.parent / ".t.db.new").write_bytes(b"half")
    assert table.put()
    assert sorted(os.listdir(table.text.parent)) == ["new", "t", "t.db"]


@pytest.mark.parametrize("make", ["mkdir", "symlink"])
def test_what_is_no_index_is_left(table: Table, make: str) -> None:
    if make == "mkdir":
        table.index.mkdir()
    else:
        table.index.symlink_to(table.text)
    with pytest.raises(HostError, match="no regular file"):
        table.put()
    assert table.text.read_text() == "a b\n"


def test_a_full_disk_leaves_the_old_one(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    table.index.write_bytes(b"old")

    def full(*_: object) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "sendfile", full)
    with pytest.raises(HostError, match="No space left"):
        table.put()
    assert table.index.read_bytes() == b"old"
    assert sorted(os.listdir(table.text.parent)) == ["new", "t", "t.db"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
class TestOwners:
    OWNER = (20815, 20816)

    def put(self, table: Table, owner: tuple[int, int]) -> bool:
        with table.new.open("rb") as index:
            return put_index(table.source, table.seen(), index.fileno(), owner)

    def test_a_first_index_is_its_builders(self, table: Table) -> None:
        assert self.put(table, self.OWNER)
        made = table.index.stat()
        assert (made.st_uid, made.st_gid) == self.OWNER

    def test_an_index_of_his_keeps_group_and_mode(self, table: Table) -> None:
        table.index.write_bytes(b"old")
        os.chown(table.index, self.OWNER[0], 20819)
        table.index.chmod(0o640)
        assert self.put(table, self.OWNER)
        made = table.index.stat()
        assert (made.st_uid, made.st_gid, table.mode()) == (self.OWNER[0], 20819, 0o640)

    @pytest.mark.parametrize("uid", [0, 20817])
    def test_an_index_of_another_stays(self, table: Table, uid: int) -> None:
        table.index.write_bytes(b"old")
        os.chown(table.index, uid, 0)
        with pytest.raises(HostError, match=f"it belongs to uid {uid}, but the table"):
            self.put(table, self.OWNER)
        assert table.index.read_bytes() == b"old"
