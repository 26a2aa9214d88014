"""A table's source as a document: its owner and mode, its leftovers, and what is refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pf_agent.errors import ConfigError, HostError
from pf_agent.files.exchange import MainCfFile
from pf_agent.files.nature import nature_of
from pf_agent.files.other_documents import OtherDocument, document_on_disk
from pf_agent.model import DesiredState, DocumentKind
from pf_agent.words.outgoing import PROCESS

BEFORE = b"a\tbefore\n"
AFTER = b"a\tafter\n"
SECRET = "anna:Pl4nted-xK9"
PUBLIC = b"transport_maps = hash:/x\n"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def lose(_text: bytes) -> None:
    """A `keep` for tests that ask for something else."""


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def of(path: Path, main_cf: bytes = PUBLIC, before: OtherDocument | None = None) -> OtherDocument:
    desired = DesiredState({"a": SECRET}, frozenset(), kind=DocumentKind.TABLE)
    attributes = None if before is None else before.attributes
    return document_on_disk(f"hash:{path}", desired, "/etc/postfix/main.cf", [main_cf], attributes)


def password_maps(path: Path) -> bytes:
    return f"smtp_sasl_password_maps = hash:{path}\n".encode()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "transport"
    path.write_bytes(BEFORE)
    path.chmod(0o644)
    return path


def put(host: MainCfFile, text: bytes) -> None:
    with host.locked():
        host.exchange(host.read(), text, lose)


def test_no_lock_file_is_made_and_a_foreign_one_is_left_alone(table: Path) -> None:
    lock = table.with_name("transport.tmp")
    lock.write_text("an editor's own")
    host = of(table).host
    put(host, AFTER)
    assert table.read_bytes() == AFTER
    assert lock.read_text() == "an editor's own"
    assert host.is_alone()
    assert {p.name for p in table.parent.iterdir()} == {"transport", "transport.tmp"}


@needs_root
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o600, 0o664 & ~0o020])
def test_owner_and_mode_are_kept(table: Path, mode: int) -> None:
    os.chown(table, 0, 7)
    table.chmod(mode)
    host = of(table).host
    assert host.attributes(host.read()) == (0, 7, mode)
    put(host, AFTER)
    assert (mode_of(table), table.stat().st_gid) == (mode, 7)


@needs_root
def test_one_of_passwords_is_closed(table: Path) -> None:
    main_cf = password_maps(table)
    found = of(table, main_cf)
    assert found.desired.is_secret
    put(found.host, AFTER)
    assert mode_of(table) == 0o600
    table.chmod(0o644)
    os.chown(table, 0, 7)
    host = of(table, main_cf).host
    assert host.attributes(host.read()) == (0, 7, 0o640)
    table.unlink()
    host = of(table, main_cf).host
    put(host, AFTER)
    assert mode_of(table) == 0o600


@needs_root
def test_one_that_was_closed_is_made_anew_as_it_was(table: Path) -> None:
    os.chown(table, 0, 7)
    table.chmod(0o640)
    before = of(table)
    assert before.desired.is_secret, "not every user may see what not every user can read"
    table.unlink()
    again = of(table, before=before)
    assert again.desired.is_secret
    put(again.host, AFTER)
    assert (mode_of(table), table.stat().st_gid) == (0o640, 7)


def test_one_that_never_was_is_for_all_to_read(tmp_path: Path) -> None:
    path = tmp_path / "new"
    found = of(path)
    assert not found.desired.is_secret
    put(found.host, AFTER)
    assert mode_of(path) == 0o644


def test_two_in_one_directory_do_not_take_up_each_others_leftovers(table: Path) -> None:
    longer = table.with_name("transport.pf-agent-x")
    ours, theirs = (MainCfFile(str(p), nature_of(False, lose)) for p in (table, longer))
    left = table.with_name(".transport.pf-agent-1-2")
    left.write_bytes(BEFORE)
    other = table.with_name(".other.pf-agent-1-2")
    other.write_bytes(BEFORE)
    assert ours.is_cut_off()
    assert not theirs.is_cut_off()
    kept: list[bytes] = []
    ours.take_up(kept.append)
    assert kept == [BEFORE]
    assert not left.exists()
    assert other.exists()


def test_its_passwords_are_known_before_anything_is_told(table: Path) -> None:
    PROCESS.forget()
    of(table, password_maps(table))
    assert SECRET not in PROCESS.text(f"quoted {SECRET}")
    table.write_text("b\troot:0ther-xK9\n")
    of(table, password_maps(table)).host.read()
    assert "0ther-xK9" not in PROCESS.text("quoted root:0ther-xK9")
    PROCESS.forget()


def test_without_a_main_cf_nothing_is_decided(table: Path) -> None:
    desired = DesiredState({}, frozenset(), kind=DocumentKind.TABLE)
    with pytest.raises(HostError, match="it decides what is in"):
        document_on_disk(f"hash:{table}", desired, "/etc/postfix/main.cf", [b""])


@needs_root
def test_what_others_could_change_is_refused(tmp_path: Path, table: Path) -> None:
    theirs = tmp_path / "home"
    theirs.mkdir()
    os.chown(theirs, 65534, 65534)
    link = tmp_path / "link"
    link.symlink_to(theirs / "x")
    for path in (theirs / "x", link, Path("/tmp/pf-agent-none")):
        with pytest.raises(ConfigError, match=r"belongs to uid|writable by others"):
            of(path)
    table.chmod(0o666)
    with pytest.raises(ConfigError, match="writable by others"):
        of(table)
    table.chmod(0o644)
    os.chown(table, 65534, 0)
    with pytest.raises(ConfigError, match="belongs to uid 65534"):
        of(table)


@needs_root
def test_no_link_on_the_way_is_another_users(tmp_path: Path, table: Path) -> None:
    """It could lead to another file of root's at any time."""
    theirs = tmp_path / "home"
    theirs.mkdir()
    (theirs / "folder").symlink_to(table.parent)
    (theirs / "file").symlink_to(table)
    ours = tmp_path / "ours"
    ours.symlink_to(theirs / "file")
    os.chown(theirs, 65534, 65534)
    for path in (theirs / "folder" / table.name, theirs / "file", ours):
        with pytest.raises(ConfigError, match="belongs to uid 65534"):
            of(path)
    sticky = tmp_path / "sticky"
    sticky.mkdir()
    (sticky / "link").symlink_to(table)
    sticky.chmod(0o1777)
    with pytest.raises(ConfigError, match="writable by others"):
        of(sticky / "link")


def test_of_a_link_the_target_is_exchanged(table: Path) -> None:
    link = table.with_name("link")
    link.symlink_to(table)
    put(of(link).host, AFTER)
    assert link.is_symlink()
    assert table.read_bytes() == AFTER
