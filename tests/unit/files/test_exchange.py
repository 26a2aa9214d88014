"""main.cf on disk: the contract that the fake keeps too, and what only a real file shows."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from pf_agent.errors import HostError
from pf_agent.files import regular
from pf_agent.files.exchange import MainCfFile
from pf_agent.files.nature import OTHER_MAIN_CF, OWN_MAIN_CF, nature_of
from pf_agent.maincf.document import COOL_SECONDS
from pf_agent.model import ActualState, Displaced, FileKind, Late
from tests.fakes import FakeHost
from tests.package import AGENT

IS_ROOT = os.geteuid() == 0
BEFORE = b"myorigin = before\n"
AFTER = b"myorigin = after\n"

needs_root = pytest.mark.skipif(not IS_ROOT, reason="needs root")


class ContractHost(Protocol):
    """A host, and what somebody else may do to its main.cf."""

    def read(self) -> ActualState: ...
    def read_template(self, path: str) -> bytes: ...
    def exchange(
        self, actual: ActualState, text: bytes, keep: Callable[[bytes], None]
    ) -> Displaced: ...
    def write(self, text: bytes) -> None: ...
    def put_symlink(self, text: bytes | None) -> None: ...
    def remove(self) -> None: ...


class RealHost(MainCfFile):
    """main.cf in a folder of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "main.cf"
        super().__init__(str(self.file), OWN_MAIN_CF if IS_ROOT else OTHER_MAIN_CF)

    def write(self, text: bytes) -> None:
        self.file.write_bytes(text)

    def put_symlink(self, text: bytes | None) -> None:
        target = self.file.with_name("target")
        if text is not None:
            target.write_bytes(text)
        self.file.symlink_to(target.name)

    def remove(self) -> None:
        self.file.unlink()


@pytest.fixture(params=["fake", "real"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> ContractHost:
    return FakeHost() if request.param == "fake" else RealHost(tmp_path)


@pytest.fixture
def real(tmp_path: Path) -> RealHost:
    return RealHost(tmp_path)


def lose(_text: bytes) -> None:
    """A `keep` for tests that ask for something else."""


def left_in(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


# --- the contract: FakeHost and MainCfFile --------------------------------------------------------


def test_read_regular(host: ContractHost) -> None:
    host.write(BEFORE)
    found = host.read()
    assert (found.text, found.kind, found.mode) == (BEFORE, FileKind.REGULAR, 0o644)


def test_read_absent(host: ContractHost) -> None:
    found = host.read()
    assert (found.text, found.kind) == (None, FileKind.ABSENT)


def test_read_symlink_gives_its_target(host: ContractHost) -> None:
    host.put_symlink(BEFORE)
    found = host.read()
    assert (found.text, found.kind) == (BEFORE, FileKind.SYMLINK)


def test_read_dangling_symlink(host: ContractHost) -> None:
    host.put_symlink(None)
    found = host.read()
    assert (found.text, found.kind) == (None, FileKind.SYMLINK)


def test_a_missing_template_is_an_error_of_one_line(host: ContractHost, tmp_path: Path) -> None:
    missing = str(tmp_path / "main.cf.proto")
    with pytest.raises(HostError) as caught:
        host.read_template(missing)
    assert str(caught.value).startswith(f"{missing}: ")
    assert "\n" not in str(caught.value)


def test_exchange_returns_and_keeps_what_it_displaced(host: ContractHost) -> None:
    host.write(BEFORE)
    kept: list[bytes] = []
    assert host.exchange(host.read(), AFTER, kept.append) == Displaced(BEFORE)
    assert host.read().text == AFTER
    assert kept == [BEFORE]


def test_exchange_creates_what_was_absent(host: ContractHost) -> None:
    kept: list[bytes] = []
    assert host.exchange(host.read(), AFTER, kept.append) == Displaced(None)
    assert (host.read().text, host.read().kind) == (AFTER, FileKind.REGULAR)
    assert kept == []


@pytest.mark.parametrize("target", [BEFORE, None], ids=["target", "dangling"])
def test_exchange_puts_a_file_in_a_symlinks_place(host: ContractHost, target: bytes | None) -> None:
    host.put_symlink(target)
    kept: list[bytes] = []
    assert host.exchange(host.read(), AFTER, kept.append) == Displaced(target)
    assert (host.read().text, host.read().kind) == (AFTER, FileKind.REGULAR)
    assert kept == [target] * (target is not None)


def test_who_wrote_after_our_read_is_what_was_displaced(host: ContractHost) -> None:
    host.write(BEFORE)
    actual = host.read()
    host.write(b"relayhost = his\n")
    kept: list[bytes] = []
    assert host.exchange(actual, AFTER, kept.append) == Displaced(b"relayhost = his\n")
    assert host.read().text == AFTER
    assert kept == [b"relayhost = his\n"]


def test_who_deleted_after_our_read_displaced_nothing(host: ContractHost) -> None:
    host.write(BEFORE)
    actual = host.read()
    host.remove()
    assert host.exchange(actual, AFTER, lose) == Displaced(None)
    assert host.read().text == AFTER


def test_who_created_after_our_read_is_what_was_displaced(host: ContractHost) -> None:
    actual = host.read()
    host.write(BEFORE)
    kept: list[bytes] = []
    assert host.exchange(actual, AFTER, kept.append) == Displaced(BEFORE)
    assert kept == [BEFORE]


def test_what_cannot_be_kept_is_not_displaced(host: ContractHost) -> None:
    def full(_text: bytes) -> None:
        raise HostError("/var/lib/pf-agent: no space left on device; free space")

    host.write(BEFORE)
    with pytest.raises(HostError, match="no space left"):
        host.exchange(host.read(), AFTER, full)
    assert host.read().text == BEFORE


# --- the real file --------------------------------------------------------------------------------


def test_what_is_displaced_is_on_disk_while_it_is_kept(real: RealHost) -> None:
    real.write(BEFORE)
    found: list[bytes] = []

    def keep(_text: bytes) -> None:
        found.extend(entry.read_bytes() for entry in real.file.parent.iterdir())

    real.exchange(real.read(), AFTER, keep)
    assert BEFORE in found


def test_an_exchange_that_cannot_be_synced_is_done_all_the_same(
    real: RealHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def failing_disk(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(handle)

    real.write(BEFORE)
    monkeypatch.setattr(os, "fsync", failing_disk)
    displaced = real.exchange(real.read(), AFTER, lose)
    assert displaced.text == BEFORE
    assert displaced.way.endswith("Input/output error")
    assert real.read().text == AFTER


def test_what_cannot_be_removed_is_taken_up_by_the_next_look(
    real: RealHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    real.write(BEFORE)
    with real.locked(), monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        assert real.exchange(real.read(), AFTER, lose).text == BEFORE
    assert real.is_cut_off()
    kept: list[bytes] = []
    with real.locked():
        real.take_up(kept.append)
    assert kept == [BEFORE]
    assert left_in(real.file.parent) == {"main.cf"}


# --- what was laid ahead --------------------------------------------------------------------------


def handles() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def laid(real: RealHost) -> Iterator[RealHost]:
    """BEFORE stands there, and AFTER lies ready: it was main.cf once."""
    before = handles()
    real.write(AFTER)
    real.lay_ahead(real.read())
    real.lay_ahead(real.read())
    assert handles() == before + IS_ROOT
    assert left_in(real.file.parent) == {"main.cf"}
    real.write(BEFORE)
    yield real
    real.lay_no_more()
    assert handles() == before


def texts_synced(real: RealHost, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What main.cf is whenever something is synced from now on."""
    sync, seen = os.fsync, []

    def look(handle: int) -> None:
        seen.append(real.file.read_bytes())
        sync(handle)

    monkeypatch.setattr(os, "fsync", look)
    return seen


@needs_root
def test_what_lies_ready_is_exchanged_before_the_disk_is_waited_for(
    laid: RealHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = texts_synced(laid, monkeypatch)
    assert laid.exchange(laid.read(), AFTER, lose) == Displaced(BEFORE)
    assert set(seen) == {AFTER}
    after = laid.read()
    assert (after.text, after.owner, after.group, after.mode) == (AFTER, 0, 0, 0o644)
    assert not after.is_open
    assert left_in(laid.file.parent) == {"main.cf"}
    assert laid.file.stat().st_mtime <= time.time() - COOL_SECONDS


@needs_root
def test_it_lies_ready_once(laid: RealHost, monkeypatch: pytest.MonkeyPatch) -> None:
    laid.exchange(laid.read(), AFTER, lose)
    laid.write(BEFORE)
    seen = texts_synced(laid, monkeypatch)
    assert laid.exchange(laid.read(), AFTER, lose) == Displaced(BEFORE)
    assert seen[0] == BEFORE
    assert laid.read().text == AFTER


@needs_root
def test_another_text_is_laid_when_it_is_needed(
    laid: RealHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = texts_synced(laid, monkeypatch)
    laid.exchange(laid.read(), b"myorigin = other\n", lose)
    assert seen[0] == BEFORE
    assert laid.read().text == b"myorigin = other\n"


@needs_root
def test_what_lies_ready_without_the_attributes_of_main_cf_is_not_taken(laid: RealHost) -> None:
    try:
        os.setxattr(laid.file, "user.site", b"1")
    except OSError as error:
        pytest.skip(f"this file system has no attributes: {error.strerror}")
    laid.exchange(laid.read(), AFTER, lose)
    assert os.getxattr(laid.file, "user.site") == b"1"
    assert laid.read().text == AFTER


@needs_root
def test_what_lies_ready_and_cannot_be_named_is_laid_again(
    laid: RealHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, failing = os.link, [errno.EXDEV]

    def fail_once(source: str, target: str, *, src_dir_fd: int) -> None:
        if failing:
            raise OSError(failing.pop(), "another file system by now")
        link(source, target, src_dir_fd=src_dir_fd)

    monkeypatch.setattr(os, "link", fail_once)
    assert laid.exchange(laid.read(), AFTER, lose) == Displaced(BEFORE)
    assert not failing
    assert laid.read().text == AFTER


@needs_root
def test_where_nothing_can_lie_ready_nothing_does(
    real: RealHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_given: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    real.write(AFTER)
    before = handles()
    for call in ("fsync", "write", "fchmod"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, refuse)
            real.lay_ahead(real.read())
        assert handles() == before
    real.remove()
    real.lay_ahead(real.read())
    assert handles() == before


def test_the_new_file_has_no_name_before_it_is_whole(
    real: RealHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, seen = os.fsync, []

    def look(handle: int) -> None:
        seen.append(left_in(real.file.parent))
        sync(handle)

    real.write(BEFORE)
    monkeypatch.setattr(os, "fsync", look)
    real.exchange(real.read(), AFTER, lose)
    assert seen[0] == {"main.cf"}


def no_file_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    make = os.open

    def refuse(path: str, flags: int, *more: Any, **named: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), path)
        return make(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", refuse)


def no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    exists = os.path.exists
    monkeypatch.setattr(
        os.path, "exists", lambda path: not path.startswith("/proc/") and exists(path)
    )


@pytest.mark.parametrize("lack", [no_file_without_a_name, no_proc])
def test_where_each_file_must_have_a_name(
    lack: Callable[[pytest.MonkeyPatch], None], real: RealHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    real.write(BEFORE)
    actual = real.read()
    held = len(os.listdir("/proc/self/fd"))
    lack(monkeypatch)
    assert real.exchange(actual, AFTER, lose).text == BEFORE
    assert real.read().text == AFTER
    assert left_in(real.file.parent) == {"main.cf"}
    assert len(os.listdir("/proc/self/fd")) == held


def test_no_file_of_ours_stays(real: RealHost) -> None:
    real.exchange(real.read(), BEFORE, lose)
    real.exchange(real.read(), AFTER, lose)
    assert left_in(real.file.parent) == {"main.cf"}


def test_a_symlinks_target_is_left_alone(real: RealHost) -> None:
    real.put_symlink(BEFORE)
    real.exchange(real.read(), AFTER, lose)
    assert real.file.with_name("target").read_bytes() == BEFORE


def test_another_hard_link_keeps_the_displaced_text(real: RealHost) -> None:
    real.write(BEFORE)
    os.link(real.file, real.file.with_name("other"))
    real.exchange(real.read(), AFTER, lose)
    assert real.file.with_name("other").read_bytes() == BEFORE


def test_a_name_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = MainCfFile("main.cf", OTHER_MAIN_CF)
    file.exchange(file.read(), AFTER, lose)
    assert (tmp_path / "main.cf").read_bytes() == AFTER
    assert left_in(tmp_path) == {"main.cf"}


@needs_root
@pytest.mark.parametrize("is_ready", [True, False])
def test_a_source_is_not_dated_back_or_an_older_index_would_count_as_newer(
    tmp_path: Path, is_ready: bool
) -> None:
    path = tmp_path / "transport"
    path.write_bytes(BEFORE)
    file = MainCfFile(str(path), nature_of(False, lose))
    if is_ready:
        file.lay_ahead(replace(file.read(), text=AFTER))
    began = time.time()
    file.exchange(file.read(), AFTER, lose)
    assert path.read_bytes() == AFTER
    assert path.stat().st_mtime >= began - 0.01  # file times advance in steps


def test_the_new_file_is_dated_back_so_that_postfix_need_not_wait(real: RealHost) -> None:
    earliest = time.time() - COOL_SECONDS
    real.exchange(real.read(), AFTER, lose)
    latest = time.time() - COOL_SECONDS
    assert earliest - 0.001 <= real.file.stat().st_mtime <= latest + 0.001


def test_written_at_is_not_what_a_moved_file_claims(real: RealHost) -> None:
    earliest = time.time() - 1
    elsewhere = real.file.with_name("elsewhere")
    elsewhere.write_bytes(BEFORE)
    os.utime(elsewhere, (1, 1))
    elsewhere.rename(real.file)
    assert real.read().written_at >= earliest


def test_modified_at_is_the_date_that_postfix_looks_at(real: RealHost) -> None:
    real.file.write_bytes(BEFORE)
    os.utime(real.file, (1, 2.5))
    assert real.read().modified_at == 2.5
    real.file.rename(real.file.with_name("elsewhere"))
    assert real.read().modified_at == 0.0


def test_modified_at_is_the_targets_of_a_link(real: RealHost) -> None:
    target = real.file.with_name("elsewhere")
    target.write_bytes(BEFORE)
    os.utime(target, (1, 2.5))
    real.file.unlink(missing_ok=True)
    real.file.symlink_to(target)
    os.utime(real.file, (1, 9.5), follow_symlinks=False)
    assert real.read().modified_at == 2.5


@needs_root
def test_our_own_main_cf_gets_root_and_0644(real: RealHost) -> None:
    os.chown(real.file.parent, 0, 65534)
    real.file.parent.chmod(0o2755)  # new files in it get the folder's group
    real.write(BEFORE)
    os.chown(real.file, 65534, 65534)
    real.file.chmod(0o600)
    assert (real.read().owner, real.read().group, real.read().mode) == (65534, 65534, 0o600)
    real.exchange(real.read(), AFTER, lose)
    assert (real.read().owner, real.read().group, real.read().mode) == (0, 0, 0o644)


def test_a_new_main_cf_is_readable_by_all_whatever_the_umask(real: RealHost) -> None:
    before = os.umask(0o077)
    try:
        real.exchange(real.read(), AFTER, lose)
    finally:
        os.umask(before)
    assert real.read().mode == 0o644


@needs_root
def test_a_file_that_is_not_our_own_keeps_owner_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "main.cf"
    path.write_bytes(BEFORE)
    os.chown(path, 65534, 65533)
    path.chmod(0o640)
    file = MainCfFile(str(path), OTHER_MAIN_CF)
    file.exchange(file.read(), AFTER, lose)
    found = file.read()
    assert (found.text, found.owner, found.group, found.mode) == (AFTER, 65534, 65533, 0o640)


def test_an_extended_attribute_is_kept(real: RealHost) -> None:
    real.write(BEFORE)
    try:
        os.setxattr(real.file, "user.note", b"by hand")
    except OSError as error:
        pytest.skip(f"this file system has no user attributes: {error.strerror}")
    real.exchange(real.read(), AFTER, lose)
    assert os.getxattr(real.file, "user.note") == b"by hand"


def test_an_acl_is_kept(real: RealHost) -> None:
    """The attribute's bytes are those of acl(5), linux/posix_acl_xattr.h."""
    entries = [(1, 6, -1), (2, 4, 65534), (4, 4, -1), (0x10, 4, -1), (0x20, 4, -1)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    real.write(BEFORE)
    try:
        os.setxattr(real.file, "system.posix_acl_access", acl)
    except OSError as error:
        pytest.skip(f"this file system has no ACLs: {error.strerror}")
    real.exchange(real.read(), AFTER, lose)
    assert os.getxattr(real.file, "system.posix_acl_access") == acl
    assert real.read().mode == 0o644


def test_what_a_crash_left_is_seen_and_taken_up(real: RealHost) -> None:
    real.write(AFTER)
    assert not real.is_cut_off()
    assert real.is_alone()
    real.file.with_name(".main.cf.pf-agent-abc").write_bytes(BEFORE)
    assert real.is_cut_off()
    assert not real.is_alone()
    kept: list[bytes] = []
    with real.locked():
        real.take_up(kept.append)
    assert kept == [BEFORE]
    assert not real.is_cut_off()
    assert left_in(real.file.parent) == {"main.cf"}


def test_a_lock_whose_holder_was_killed_is_seen_and_goes(real: RealHost) -> None:
    real.write(BEFORE)
    real.file.with_name("main.cf.tmp").touch()
    assert real.is_cut_off()
    assert not real.is_alone()
    with real.locked():
        assert not real.is_cut_off(), "it is held"
    assert left_in(real.file.parent) == {"main.cf"}


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_lock_is_left_alone(real: RealHost, make: Callable[[Path], None]) -> None:
    real.write(BEFORE)
    make(real.file.with_name("main.cf.tmp"))
    assert not real.is_cut_off()


def test_what_cannot_be_kept_stays_where_it_is(real: RealHost) -> None:
    left = real.file.with_name(".main.cf.pf-agent-abc")
    left.write_bytes(BEFORE)

    def refuse(_text: bytes) -> None:
        raise HostError("no space")

    with pytest.raises(HostError, match="no space"):
        real.take_up(refuse)
    assert left.read_bytes() == BEFORE


# --- what is no file ------------------------------------------------------------------------------


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    """With something in it, which is not to be lost, and an ACL for what is made in it."""
    path.mkdir()
    (path / "inside").write_bytes(SECRET)
    # acl(5): version 2; the owner, the group and all others may do all.
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, 7, 0xFFFFFFFF) for tag in (0x01, 0x04, 0x20)
    )
    with suppress(OSError):
        os.setxattr(path, "system.posix_acl_default", acl)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no devices can be made here")


MISFITS = pytest.mark.parametrize(
    ("make", "called"),
    [(fifo, "a FIFO"), (folder, "a directory"), (unix_socket, "a socket"), (device, "a device")],
    ids=["fifo", "folder", "socket", "device"],
)


def its_stamp(path: Path) -> tuple[int, int]:
    """Which thing stands there, and of which kind."""
    found = path.lstat()
    return found.st_ino, stat.S_IFMT(found.st_mode)


def aside(real: RealHost) -> Path:
    """Where the one thing is that was moved out of the way."""
    (name,) = left_in(real.file.parent) - {"main.cf"}
    assert name.startswith("main.cf.no-file-")
    return real.file.with_name(name)


@needs_root
@MISFITS
def test_what_is_no_file_is_read_as_what_it_is(
    real: RealHost, make: Callable[[Path], None], called: str
) -> None:
    make(real.file)
    found = real.read()
    assert (found.text, found.kind, found.refused) == (None, FileKind.OTHER, f"it is {called}")


def is_asleep(pid: int) -> bool:
    """Whether the process waits for something."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


@needs_root
def test_a_program_that_opened_a_fifo_in_its_place_waits_no_longer(real: RealHost) -> None:
    fifo(real.file)
    with subprocess.Popen(["head", "-c1", real.file], stdout=subprocess.PIPE) as reader:
        try:
            while not is_asleep(reader.pid):
                assert reader.poll() is None
            real.exchange(real.read(), b"a = b\n", lose)
            assert reader.communicate(timeout=60)[0] == b""
        finally:
            reader.kill()


@needs_root
@MISFITS
def test_what_is_no_file_is_moved_aside_and_told(
    real: RealHost, make: Callable[[Path], None], called: str
) -> None:
    make(real.file)
    before = its_stamp(real.file)
    displaced = real.exchange(real.read(), AFTER, lose)
    assert real.read().text == AFTER
    assert real.read().kind is FileKind.REGULAR
    place = aside(real)
    assert displaced == Displaced(None, f"{called} that was there is now {place}")
    assert its_stamp(place) == before
    if make is folder:
        assert (place / "inside").read_bytes() == SECRET


@needs_root
@MISFITS
def test_what_is_put_there_right_before_an_exchange_is_moved_aside(
    real: RealHost, make: Callable[[Path], None], called: str
) -> None:
    real.write(BEFORE)
    actual = real.read()
    real.remove()
    make(real.file)
    before = its_stamp(real.file)
    assert called in real.exchange(actual, AFTER, lose).way
    assert real.read().text == AFTER
    assert its_stamp(aside(real)) == before


@needs_root
@MISFITS
def test_what_cannot_be_moved_aside_is_back_in_its_place(
    real: RealHost, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], called: str
) -> None:
    make(real.file)
    actual, before = real.read(), its_stamp(real.file)

    def refuse(_source: str, _target: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(HostError, match="Input/output error"):
        real.exchange(actual, AFTER, lose)
    assert its_stamp(real.file) == before, called
    assert left_in(real.file.parent) == {"main.cf"}


@needs_root
@MISFITS
def test_where_two_files_cannot_be_exchanged_it_is_moved_aside_first(
    tmp_path: Path, make: Callable[[Path], None], called: str
) -> None:
    def cannot(_source: str, _target: str) -> bool:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    real = RealHost(tmp_path)
    host = MainCfFile(real.path, swap=cannot)
    make(real.file)
    before = its_stamp(real.file)
    displaced = host.exchange(host.read(), AFTER, lose)
    place = aside(real)
    assert displaced.way.startswith(f"{called} that was there is now {place}; renamed over: ")
    assert real.read().text == AFTER
    assert its_stamp(place) == before


@needs_root
@MISFITS
def test_what_a_crash_left_of_it_beside_main_cf_is_moved_aside(
    real: RealHost, make: Callable[[Path], None], called: str
) -> None:
    """The exchange was done, and then came the end: it has a name of ours."""
    real.write(AFTER)
    left = real.file.with_name(".main.cf.pf-agent-abc")
    make(left)
    before = its_stamp(left)
    assert real.is_cut_off(), called
    with real.locked():
        real.take_up(lose)
    assert not real.is_cut_off()
    assert its_stamp(aside(real)) == before


@needs_root
@MISFITS
def test_what_is_no_file_in_place_of_the_lock_keeps_nobody_out(
    real: RealHost, make: Callable[[Path], None], called: str
) -> None:
    real.write(BEFORE)
    make(real.file.with_name("main.cf.tmp"))
    with real.locked():
        assert real.file.with_name("main.cf.tmp").is_file(), called
    assert aside(real).exists()


@MISFITS
def test_of_a_file_that_is_not_our_own_what_is_no_file_is_left_there(
    tmp_path: Path, make: Callable[[Path], None], called: str
) -> None:
    image = tmp_path / "image.cf"
    make(image)
    before, open_before = its_stamp(image), handles()
    host = MainCfFile(str(image), OTHER_MAIN_CF)
    with pytest.raises(HostError, match=f"^{re.escape(str(image))}: .*check what is at") as caught:
        host.read()
    assert "\n" not in str(caught.value), called
    with pytest.raises(HostError):
        host.exchange(ActualState(BEFORE, FileKind.REGULAR), AFTER, lose)
    assert its_stamp(image) == before
    assert left_in(tmp_path) == {"image.cf"}
    assert handles() == open_before


# --- what leads elsewhere, and what is too much ---------------------------------------------------

SECRET = b"root:$y$j9T$secret\n"


def secret(real: RealHost) -> Path:
    """A file of root's beside it that not everybody may read, as /etc/shadow is."""
    path = real.file.with_name("shadow")
    path.write_bytes(SECRET)
    path.chmod(0o640)
    return path


def link_to_a_secret(real: RealHost) -> str:
    real.file.symlink_to(secret(real))
    return "not to a file that every user can read"


def second_name_of_a_secret(real: RealHost) -> str:
    os.link(secret(real), real.file)
    return "a hard link to a file that not every user can read"


def link_of_another(real: RealHost) -> str:
    real.put_symlink(BEFORE)
    os.chown(real.file, 65534, -1, follow_symlinks=False)
    return "owned by uid 65534"


def link_to_a_folder(real: RealHost) -> str:
    real.file.symlink_to("/")
    return "not to a file that every user can read"


@needs_root
@pytest.mark.parametrize(
    "plant",
    [link_to_a_secret, second_name_of_a_secret, link_of_another, link_to_a_folder],
)
def test_what_leads_elsewhere_is_not_read_and_gives_way(
    real: RealHost, plant: Callable[[RealHost], str]
) -> None:
    why = plant(real)
    before = {path.name: path.stat() for path in real.file.parent.glob("[st]*")}
    found = real.read()
    assert found.text is None
    assert why in found.refused
    kept: list[bytes] = []
    assert real.exchange(found, AFTER, kept.append) == Displaced(None)
    assert kept == []
    assert real.read().text == AFTER
    assert left_in(real.file.parent) == {"main.cf", *before}
    for name, then in before.items():
        now = real.file.with_name(name).stat()
        assert (now.st_mode, now.st_uid, now.st_mtime) == (then.st_mode, then.st_uid, then.st_mtime)


def test_a_link_that_leads_round_in_a_circle_gives_way(real: RealHost) -> None:
    real.file.with_name("other").symlink_to("main.cf")
    real.file.symlink_to("other")
    found = real.read()
    assert (found.text, found.kind) == (None, FileKind.SYMLINK)
    real.exchange(found, AFTER, lose)
    assert (real.read().text, real.read().kind) == (AFTER, FileKind.REGULAR)


@needs_root
def test_of_a_file_that_is_not_our_own_its_caller_knows_where_it_leads(tmp_path: Path) -> None:
    real = RealHost(tmp_path)
    link_to_a_secret(real)
    assert MainCfFile(real.path, OTHER_MAIN_CF).read().text == SECRET


@needs_root
@pytest.mark.parametrize("name", [".main.cf.pf-agent-abc", ".main.cf.late-1-abc"])
@pytest.mark.parametrize("plant", [os.symlink, os.link], ids=["link", "second name"])
def test_what_is_planted_as_a_leftover_of_ours_is_not_read_but_removed(
    real: RealHost, name: str, plant: Callable[[Path, Path], None]
) -> None:
    real.write(BEFORE)
    shadow = secret(real)
    plant(shadow, real.file.with_name(name))
    kept: list[bytes] = []
    real.take_up(kept.append)
    assert real.late() is None
    assert kept == []
    if name.startswith(".main.cf.pf") or plant is os.link:
        assert not real.file.with_name(name).is_symlink()
    assert not real.is_awaited()
    assert shadow.read_bytes() == SECRET


def test_a_link_to_a_folder_that_is_planted_as_a_leftover_goes(real: RealHost) -> None:
    real.file.with_name(".main.cf.pf-agent-abc").symlink_to("/")
    assert real.is_cut_off()
    real.take_up(lose)
    assert not real.is_cut_off()


def test_a_link_in_place_of_the_lock_keeps_nobody_out(real: RealHost) -> None:
    real.write(BEFORE)
    outside = real.file.with_name("outside")
    outside.write_bytes(SECRET)
    held = real.file.with_name("main.cf.tmp")
    for target in (outside, Path("nowhere")):
        held.symlink_to(target)
        with real.locked():
            assert not held.is_symlink()
    assert left_in(real.file.parent) == {"main.cf", "outside"}
    assert outside.read_bytes() == SECRET


def test_a_huge_main_cf_is_moved_aside_and_not_read(real: RealHost) -> None:
    with open(real.file, "wb") as huge:
        huge.truncate(1 << 40)
    found = real.read()
    assert found.text is None
    assert found.refused == f"it is larger than {regular.MOST_BYTES} bytes"
    kept: list[bytes] = []
    displaced = real.exchange(found, AFTER, kept.append)
    assert (displaced.text, kept) == (None, [])
    (aside,) = left_in(real.file.parent) - {"main.cf"}
    assert displaced.way == f"what was there is now {real.path.removesuffix('main.cf')}{aside}"
    assert real.file.with_name(aside).stat().st_size == 1 << 40
    assert real.read().text == AFTER


def test_a_main_cf_as_large_as_may_be_is_read(real: RealHost) -> None:
    text = b"#" * regular.MOST_BYTES
    real.write(text)
    assert real.read().text == text


def test_a_huge_leftover_is_moved_aside(real: RealHost) -> None:
    real.write(BEFORE)
    for name in (".main.cf.pf-agent-abc", ".main.cf.late-1-abc"):
        with open(real.file.with_name(name), "wb") as huge:
            huge.truncate(1 << 40)
    real.take_up(lose)
    assert real.late() is None
    assert not real.is_awaited()
    left = left_in(real.file.parent) - {"main.cf"}
    assert len([name for name in left if name.startswith("main.cf.too-large-")]) == 2


def test_a_huge_template_is_an_error_of_one_line(real: RealHost) -> None:
    with open(real.file, "wb") as huge:
        huge.truncate(1 << 40)
    with pytest.raises(HostError, match="it is larger than"):
        real.read_template(real.path)


def test_a_fifo_as_template_does_not_hold_us_up(real: RealHost) -> None:
    template = real.file.with_name("main.cf.proto")
    os.mkfifo(template)
    with pytest.raises(HostError, match="not a regular file"):
        real.read_template(str(template))


def test_the_folder_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "postfix"
    folder.mkdir()
    host = RealHost(folder)
    actual = host.read()
    shutil.rmtree(folder)
    with pytest.raises(HostError, match=str(folder)):
        host.read()
    with pytest.raises(HostError, match=str(folder)):
        host.exchange(actual, AFTER, lose)


# --- Postfix's lock, held by another process ------------------------------------------------------

# As postconf(1) edits: the lock is on the very file that is renamed over main.cf at the end.
EDITOR = """
import fcntl, os, sys
main_cf, text = sys.argv[1:]
with open(main_cf + ".tmp", "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("locked", flush=True)
    sys.stdin.readline()
    file.write(text)
    file.flush()
    os.rename(main_cf + ".tmp", main_cf)
"""


@pytest.fixture
def editor(real: RealHost) -> Iterator[subprocess.Popen[str]]:
    """Another program in the middle of an edit; a line on its stdin lets it finish."""
    command = [sys.executable, "-c", EDITOR, real.path, "relayhost = his\n"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process


def has_open(path: str) -> bool:
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == path:
                return True
        except FileNotFoundError:
            continue
    return False


def is_locked(path: str) -> bool:
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_we_wait_for_postfixs_lock_and_see_what_its_holder_wrote(
    real: RealHost, editor: subprocess.Popen[str]
) -> None:
    real.write(BEFORE)
    actual = real.read()
    found: list[Displaced] = []
    locked: list[bool] = []

    def keep(_text: bytes) -> None:
        locked.append(is_locked(f"{real.path}.tmp"))

    def correct() -> None:
        with real.locked():
            found.append(real.exchange(actual, AFTER, keep))

    ours = threading.Thread(target=correct)
    ours.start()
    while ours.is_alive() and not has_open(f"{real.path}.tmp"):
        time.sleep(0.001)
    editor.communicate("write\n")
    ours.join()
    assert found == [Displaced(b"relayhost = his\n")]
    assert locked == [True], "the lock that we waited for is on main.cf by now"
    assert real.read().text == AFTER
    assert left_in(real.file.parent) == {"main.cf"}


def test_a_lock_that_is_never_freed_is_an_error(
    real: RealHost, editor: subprocess.Popen[str]
) -> None:
    real.write(BEFORE)
    impatient = MainCfFile(real.path, OWN_MAIN_CF if IS_ROOT else OTHER_MAIN_CF, lock_seconds=0.0)
    with pytest.raises(HostError, match=r"locked for 0 s by another"), impatient.locked():
        impatient.exchange(real.read(), AFTER, lose)
    assert real.read().text == BEFORE
    editor.communicate("write\n")
    assert real.read().text == b"relayhost = his\n"


def test_a_lock_that_cannot_be_made_says_what_to_do(real: RealHost) -> None:
    real.write(BEFORE)
    real.file.unlink()
    real.file.parent.rmdir()
    told = pytest.raises(HostError, match="No such file or directory; restore the directory")
    with told, real.locked():
        pytest.fail("there is no folder")


def test_others_wait_for_us(real: RealHost) -> None:
    real.write(BEFORE)
    locked: list[bool] = []
    with real.locked():
        locked.append(is_locked(f"{real.path}.tmp"))
        real.exchange(
            real.read(), AFTER, lambda _text: locked.append(is_locked(f"{real.path}.tmp"))
        )
    assert locked == [True, True]
    assert left_in(real.file.parent) == {"main.cf"}


# --- somebody who has it open for writing ---------------------------------------------------------


@needs_root
def test_a_writer_is_seen_while_he_has_it_open(real: RealHost) -> None:
    real.write(BEFORE)
    assert not real.read().is_open
    with real.file.open("ab"):
        assert real.read().is_open
    assert not real.read().is_open
    with real.file.open("rb"):
        assert not real.read().is_open, "a reader is no writer"


@needs_root
def test_what_he_goes_on_to_write_is_there_once_he_has_closed_it(real: RealHost) -> None:
    real.write(b"")
    kept: list[bytes] = []
    with real.file.open("wb") as his:
        his.write(b"myorigin = ")
        his.flush()
        assert real.exchange(real.read(), AFTER, kept.append) == Displaced(
            b"myorigin = ", is_open=True
        )
        assert real.is_awaited()
        assert real.late() is None
        his.write(b"his\nrelayhost = his\n")
    assert (real.read().text, kept) == (AFTER, [b"myorigin = "])
    assert real.late() == Late(b"myorigin = his\nrelayhost = his\n", is_newest=True)
    real.file.write_bytes(BEFORE)
    late = real.late()
    assert late == Late(b"myorigin = his\nrelayhost = his\n", is_newest=False)
    real.drop_late(late)
    assert not real.is_awaited()
    assert left_in(real.file.parent) == {"main.cf"}


@needs_root
def test_who_closes_it_while_another_is_taken_up_is_not_dropped_with_him(real: RealHost) -> None:
    real.write(b"")
    with real.file.open("wb") as first:
        real.exchange(real.read(), BEFORE, lose)
        with real.file.open("ab") as second:
            real.exchange(real.read(), AFTER, lose)
            second.write(b"relayhost = second\n")
        late = real.late()
        assert late == Late(BEFORE + b"relayhost = second\n", is_newest=True)
        first.write(b"relayhost = first\n")
    real.drop_late(late)
    assert real.late() == Late(b"relayhost = first\n", is_newest=False)


@needs_root
@pytest.mark.parametrize("closes", [True, False])
def test_who_opens_it_in_the_moment_of_the_exchange_is_awaited(
    real: RealHost, closes: bool
) -> None:
    """open(2) finds the file by its name first, and counts as a writer a moment later."""
    real.write(BEFORE)
    with ExitStack() as his:

        def keep(_text: bytes) -> None:
            (displaced,) = real.file.parent.glob(".main.cf.pf-agent-*")
            file = his.enter_context(displaced.open("ab"))
            file.write(b"relayhost = his\n")
            if closes:
                file.close()

        assert real.exchange(real.read(), AFTER, keep) == Displaced(BEFORE, is_open=True)
    assert real.late() == Late(BEFORE + b"relayhost = his\n", is_newest=True)


@pytest.mark.parametrize("way", ["in place", "by rename", "by unlink"])
def test_who_writes_while_nothing_can_be_kept_loses_nothing(real: RealHost, way: str) -> None:
    real.write(BEFORE)

    def refuse(_text: bytes) -> None:
        if way == "by rename":
            real.file.with_name("new").write_bytes(b"relayhost = his\n")
            real.file.with_name("new").replace(real.file)
        elif way == "in place":
            real.file.write_bytes(b"relayhost = his\n")
        else:
            real.file.unlink()
        raise HostError("no space left")

    with pytest.raises(HostError, match="no space left"):
        real.exchange(real.read(), AFTER, refuse)
    kept: list[bytes] = []
    real.take_up(kept.append)
    real.exchange(real.read(), AFTER, kept.append)
    assert kept == ([BEFORE] if way == "by unlink" else [BEFORE, b"relayhost = his\n"])
    assert left_in(real.file.parent) == {"main.cf"}


def test_nobody_is_awaited_without_a_writer(real: RealHost) -> None:
    real.write(BEFORE)
    real.exchange(real.read(), AFTER, lose)
    assert not real.is_awaited()
    assert real.late() is None


def test_an_empty_leftover_is_nothing_to_keep(real: RealHost) -> None:
    real.write(BEFORE)
    real.file.with_name(".main.cf.pf-agent-abc").touch()
    kept: list[bytes] = []
    real.take_up(kept.append)
    assert kept == []
    assert left_in(real.file.parent) == {"main.cf"}


# --- main.cf as a mount point of its own ----------------------------------------------------------

IN_A_MOUNT = """
import os, sys
from pf_agent.files.exchange import MainCfFile
path = sys.argv[1]
host = MainCfFile(path)
kept = []
def keep(text):
    with open(path, "rb") as file:
        kept.append((text, file.read()))
displaced = host.exchange(host.read(), b"myorigin = after\\n", keep)
found = host.read()
print([displaced.text, found.text, found.owner, found.mode, kept, displaced.way])
"""


@pytest.fixture
def in_a_mount(real: RealHost) -> list[object]:
    """What an exchange did to a main.cf that is a mount point: see the last line above."""
    real.write(BEFORE)
    os.chown(real.file, 65534, 65534)
    real.file.chmod(0o600)
    script = 'mount --bind "$1" "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", real.path, sys.executable]
    done = subprocess.run(
        [*command, IN_A_MOUNT], env={**os.environ, "PYTHONPATH": AGENT}, capture_output=True
    )
    if b"unshare" in done.stderr or b"mount:" in done.stderr:
        pytest.skip(f"no mount here: {done.stderr.decode()}")
    assert done.returncode == 0, done.stderr.decode()
    found: list[object] = eval(done.stdout)  # the list that our own script printed
    return found


@needs_root
@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare(1)")
def test_a_mount_point_is_written_in_place_and_that_is_said(in_a_mount: list[object]) -> None:
    displaced, text, *_, way = in_a_mount
    assert (displaced, text) == (BEFORE, AFTER)
    assert way == "written in place: main.cf is a mount point of its own"


@needs_root
@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare(1)")
def test_a_mount_point_gets_owner_and_mode_too(in_a_mount: list[object]) -> None:
    assert in_a_mount[2:4] == [0, 0o644]


@needs_root
@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare(1)")
def test_a_mount_points_text_is_kept_before_it_is_overwritten(in_a_mount: list[object]) -> None:
    assert in_a_mount[4] == [(BEFORE, BEFORE)]


@needs_root
def test_an_immutable_main_cf_stays_as_it_is(real: RealHost) -> None:
    real.write(BEFORE)
    if subprocess.run(["chattr", "+i", real.path], capture_output=True).returncode != 0:
        pytest.skip("this file system has no immutable files")
    try:
        with pytest.raises(HostError, match=real.path):
            real.exchange(real.read(), AFTER, lose)
    finally:
        subprocess.run(["chattr", "-i", real.path], check=True)
    assert real.read().text == BEFORE
    assert stat.S_ISREG(real.file.lstat().st_mode)
    assert left_in(real.file.parent) == {"main.cf"}
