"""Whole files: what is read and what is not, and what a write leaves where it fails."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pf_agent.errors import HostError
from pf_agent.files import whole
from pf_agent.files.whole import Unfit, opened, read_whole, remove, write_whole

TEXT = b"a\xff\0\r\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "file"


@pytest.fixture(autouse=True)
def folder(file: Path) -> Path:
    file.parent.mkdir()
    return file.parent


def handles() -> int:
    return len(os.listdir("/proc/self/fd"))


def huge(path: str) -> None:
    with open(path, "wb") as file:
        file.truncate(1 << 40)


# --- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [b"", TEXT, b"x" * 200_000])
def test_a_file_is_read_whole(file: Path, text: bytes) -> None:
    file.write_bytes(text)
    assert read_whole(str(file)) == text


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, huge], ids=["a FIFO", "a directory", "huge"])
def test_what_cannot_be_read_whole_is_refused_and_closed(
    file: Path, make: Callable[[str], None]
) -> None:
    make(str(file))
    before = handles()
    with pytest.raises(Unfit):
        read_whole(str(file))
    assert handles() == before


def test_a_link_is_followed_only_where_that_is_asked_for(file: Path) -> None:
    target = file.with_name("target")
    target.write_bytes(TEXT)
    file.symlink_to(target)
    with pytest.raises(OSError, match="symbolic links") as caught:
        read_whole(str(file))
    assert caught.value.errno == errno.ELOOP
    assert read_whole(str(file), is_followed=True) == TEXT


def test_a_file_is_closed_however_its_use_ends(file: Path) -> None:
    file.write_bytes(TEXT)
    before = handles()
    with pytest.raises(ZeroDivisionError), opened(str(file)) as used:
        divmod(used.handle, 0)
    assert handles() == before


# --- writing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_is_written_whole_with_its_mode(file: Path, mode: int, durable: bool) -> None:
    half_written = Path(whole.half_written(str(file)))
    half_written.write_bytes(b"of a crash")
    before, umask = handles(), os.umask(0o077)
    try:
        write_whole(str(file), TEXT, mode, durable)
    finally:
        os.umask(umask)
    assert file.read_bytes() == TEXT
    assert stat.S_IMODE(file.stat().st_mode) == mode
    assert list(file.parent.iterdir()) == [file]
    assert handles() == before


@pytest.mark.parametrize("is_half_written", [True, False])
def test_a_link_is_replaced_and_its_target_left_alone(file: Path, is_half_written: bool) -> None:
    target = file.with_name("target")
    target.write_bytes(b"another's")
    link = Path(whole.half_written(str(file))) if is_half_written else file
    link.symlink_to(target)
    write_whole(str(file), TEXT, 0o600, durable=False)
    assert not file.is_symlink()
    assert (file.read_bytes(), target.read_bytes()) == (TEXT, b"another's")


def synced(monkeypatch: pytest.MonkeyPatch, then: Callable[[], None]) -> list[str]:
    """The kinds of what is synced from now on; `then` is called before each."""
    sync, seen = os.fsync, []

    def look(handle: int) -> None:
        then()
        is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        seen.append("folder" if is_folder else "file")
        sync(handle)

    monkeypatch.setattr(os, "fsync", look)
    return seen


def test_what_is_to_last_is_synced_before_it_has_its_name_and_then_the_name(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named: list[bool] = []
    seen = synced(monkeypatch, lambda: named.append(file.exists()))
    write_whole(str(file), TEXT, 0o600, durable=False)
    assert seen == []
    file.unlink()
    write_whole(str(file), TEXT, 0o600, durable=True)
    assert (seen, named) == (["file", "folder"], [False, True])


def test_a_file_gets_into_the_folder_that_was_opened(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody puts another folder there in the middle of it."""

    def move_away() -> None:
        if file.parent.exists():
            file.parent.rename(tmp_path / "moved")

    synced(monkeypatch, move_away)
    write_whole(str(file), TEXT, 0o600, durable=True)
    assert (tmp_path / "moved" / file.name).read_bytes() == TEXT


def test_a_write_that_fails_leaves_what_was_there_and_nothing_beside(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int, _data: memoryview) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file.write_bytes(b"before")
    before = handles()
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(HostError) as caught:
        write_whole(str(file), TEXT, 0o600, durable=True)
    assert str(caught.value) == (
        f"{file}: No space left on device; free space or fix the directory"
    )
    assert file.read_bytes() == b"before"
    assert list(file.parent.iterdir()) == [file]
    assert handles() == before


def test_a_folder_that_is_not_there_is_an_error(file: Path) -> None:
    file.parent.rmdir()
    with pytest.raises(HostError, match="directory; free space or fix the directory"):
        write_whole(str(file), TEXT, 0o600, durable=False)


def test_a_file_is_removed_and_one_that_is_not_there_is_no_error(file: Path) -> None:
    file.write_bytes(TEXT)
    for _ in range(2):
        remove(str(file))
        assert not file.exists()
    file.mkdir()
    with pytest.raises(HostError, match=f"{file}: .*; fix the directory"):
        remove(str(file))
