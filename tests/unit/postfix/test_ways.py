"""As whom a database is built: never as root where somebody else can lead it astray."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pf_agent.postfix.ways import Owner, is_anothers, opened_source, way_of

OWNER = Owner(20815, 20816)
OTHER = Owner(20817, 20818)


@pytest.fixture
def his(tmp_path: Path) -> Path:
    """A folder below which another than root may do as he likes, on a way that is root's."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    folder = tmp_path / "his"
    (folder / "roots").mkdir(parents=True)
    os.chown(folder, *OWNER)
    return folder


def owner_of(path: object) -> Owner | None:
    return way_of(str(path)).owner


def test_what_lies_on_a_way_of_roots_is_roots(his: Path) -> None:
    assert way_of("/etc/aliases") == ("/etc/aliases", None, True)
    assert owner_of("/aliases") is None
    assert not is_anothers("/etc/aliases")


@pytest.mark.parametrize("way", ["aliases", "roots/aliases", "missing/aliases", "roots/../aliases"])
def test_what_lies_below_a_folder_is_his_whose_that_is(his: Path, way: str) -> None:
    found = way_of(f"{his}/{way}")
    assert (found.owner, found.is_roots) == (OWNER, False)


def test_what_lies_deeper_may_be_anybodys(his: Path) -> None:
    (his / "t").write_text("a b")
    os.chown(his / "t", *OTHER)
    assert owner_of(his / "t") == OWNER
    os.chown(his / "t", OWNER.uid, 0)
    assert owner_of(his / "t") == OWNER, "a file of root's group may have been moved there"


def test_a_file_of_his_in_a_folder_of_roots(his: Path, tmp_path: Path) -> None:
    (tmp_path / "t").write_text("a b")
    os.chown(tmp_path / "t", *OWNER)
    assert way_of(f"{tmp_path}/t") == (f"{tmp_path}/t", OWNER, True)
    assert is_anothers(f"{tmp_path}/t")


def test_a_link_is_his_who_can_change_it(his: Path, tmp_path: Path) -> None:
    (his / "out").symlink_to("/etc")
    (tmp_path / "in").symlink_to(his / "roots")
    (tmp_path / "out").symlink_to("/etc")
    assert owner_of(f"{his}/out/aliases") == OWNER
    assert owner_of(f"{tmp_path}/in/aliases") == OWNER
    assert way_of(f"{tmp_path}/out/aliases") == ("/etc/aliases", None, True)
    os.lchown(tmp_path / "out", *OWNER)
    assert owner_of(f"{tmp_path}/out/aliases") == OWNER


def test_a_link_of_roots_to_a_link_of_his_is_his(his: Path, tmp_path: Path) -> None:
    """Where it leads in the end is root's again: only the step between tells whose choice it is."""
    (his / "t").symlink_to("/etc/passwd")
    os.lchown(his / "t", *OWNER)
    (tmp_path / "t").symlink_to(his / "t")
    assert way_of(f"{tmp_path}/t") == (f"{his}/t", OWNER, False)


@pytest.mark.parametrize(
    ("mode", "is_anothers_file", "is_anothers_below"),
    [(0o755, False, False), (0o775, True, True), (0o777, True, True), (0o1777, True, False)],
)
def test_a_folder_that_others_write_to(
    his: Path, tmp_path: Path, mode: int, is_anothers_file: bool, is_anothers_below: bool
) -> None:
    """With the sticky bit, what is there stays; but the index need not be there yet."""
    shared = tmp_path / "shared"
    (shared / "below").mkdir(parents=True)
    for path in (shared / "t", shared / "below/t"):
        path.write_text("a b")
    shared.chmod(mode)
    assert is_anothers(f"{shared}/t") is is_anothers_file
    assert is_anothers(f"{shared}/below/t") is is_anothers_below
    assert owner_of(shared / "t") is None


def test_links_without_end_end(his: Path, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert not way_of(f"{tmp_path}/a").is_roots


def test_a_source_is_opened_without_any_link(his: Path) -> None:
    (his / "roots/t").write_text("a b")
    (his / "folder").symlink_to("roots")
    (his / "t").symlink_to("roots/t")
    with open(opened_source(f"{his}/roots/t"), "rb") as file:
        assert file.read() == b"a b"
    for path, code in ((f"{his}/folder/t", errno.ENOTDIR), (f"{his}/t", errno.ELOOP)):
        with pytest.raises(OSError, match=os.strerror(code)):
            opened_source(path)
    os.mkfifo(his / "fifo")
    os.close(opened_source(f"{his}/fifo"))
