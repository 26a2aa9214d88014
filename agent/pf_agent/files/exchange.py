"""One main.cf on disk: read it, and exchange it for a new text so that nothing is ever lost.

The exchange is Postfix's own edit protocol (edit_file(3): an flock on `main.cf.tmp`), so that
`postconf -e` and we never lose each other's edits, with renameat2(2) RENAME_EXCHANGE at its end in
place of rename(2): what was displaced is then in our hand even where somebody who knows of no
lock wrote at the last instant.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from pf_agent.errors import HostError
from pf_agent.files import sandbox
from pf_agent.files.linux import (
    READ,
    NewFile,
    close,
    fill,
    give_name,
    nameless,
    new_file,
    sync_directory,
    unless_refused,
)
from pf_agent.files.lock import is_abandoned, lock_path, postfix_lock
from pf_agent.files.regular import RegularFile, is_just, read_if_there, read_regular
from pf_agent.maincf.document import COOL_SECONDS, GROUP, MODE, OWNER
from pf_agent.model import ActualState, Displaced, FileKind, Late

_OURS = ".main.cf.pf-agent-"
_LATE = ".main.cf.late-"

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2

# What keeps the lock's file from being made.
_CURES = {
    errno.ENOSPC: "free space",
    errno.EDQUOT: "free space",
    errno.EPERM: "see `lsattr -d` of its folder",
    errno.EACCES: "give root the right to write there",
    errno.ENOENT: "bring the folder back",
}


class _Laid(NamedTuple):
    """A text that is whole and synced in a file without a name, and what that file was given."""

    text: bytes
    handle: int
    attributes: dict[str, bytes]


class MainCfFile:
    """The file main.cf.

    `own` False is for a file that is not this host's own main.cf (an image, a checkout): it keeps
    its owner and mode, and where it leads to is its caller's affair.
    """

    def __init__(self, path: str, own: bool = True) -> None:
        self.path = path
        self.own = own
        self._directory = os.path.dirname(path) or "."
        self._laid: _Laid | None = None

    def read(self) -> ActualState:
        """Return main.cf as it is now. Raises HostError where it is no file or cannot be read."""
        try:
            entry = os.lstat(self.path)
            kind = FileKind.SYMLINK if stat.S_ISLNK(entry.st_mode) else FileKind.REGULAR
            found = read_regular(self.path, self.own)
        except FileNotFoundError:
            return self._absent()
        except OSError as error:
            raise _host_error(self.path, error, "look at what stands there") from error
        status = found.status
        if found.refused and not found.is_too_large:
            # Owner and mode are those of a link, or of another's file.
            return ActualState(None, kind, written_at=entry.st_ctime, refused=found.refused)
        # ctime and not mtime: `mv` and chmod leave the old mtime, and a write moves both.
        return ActualState(
            found.text,
            kind,
            status.st_uid,
            status.st_gid,
            stat.S_IMODE(status.st_mode),
            max(entry.st_ctime, status.st_ctime),
            found.is_open,
            found.refused,
            status.st_mtime,
        )

    def _absent(self) -> ActualState:
        kind = FileKind.SYMLINK if os.path.islink(self.path) else FileKind.ABSENT
        try:
            return ActualState(None, kind, written_at=os.stat(self._directory).st_mtime)
        except OSError as error:
            raise _host_error(self._directory, error, "bring the folder back") from error

    def read_template(self, path: str) -> bytes:
        """Return the template's bytes. Raises HostError."""
        try:
            found = read_regular(path, is_ours=False)
            if found.text is None:
                raise OSError(errno.EFBIG, found.refused)
            return found.text
        except OSError as error:
            way_out = "name another file as `template` in desired.toml, or bring this one back"
            raise _host_error(path, error, way_out) from error

    def exchange(
        self, actual: ActualState, text: bytes, keep: Callable[[bytes], None]
    ) -> Displaced:
        """Put `text` in main.cf's place, whole and durable, and return what it displaced.

        `keep` gets what was displaced before the last copy of it goes. Where it is not
        `actual.text`, somebody wrote in between. Call it inside `locked`. Raises HostError, and
        main.cf is then as it was.
        """
        try:
            return self._exchange(actual, text, keep)
        except OSError as error:
            raise _host_error(self.path, error, "it stays as it is until this is mended") from (
                error
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold Postfix's own lock: what is read inside, no postconf changes before the end.

        Raises HostError.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(postfix_lock(self.path))
            except OSError as error:
                way_out = _CURES.get(error.errno or 0, "free main.cf.tmp beside it")
                raise _host_error(self.path, error, way_out) from error
            yield

    # --- what a crash left --------------------------------------------------------------------

    def is_alone(self) -> bool:
        """Tell whether nothing lies beside main.cf that `is_cut_off` or `late` looks at."""
        lock = os.path.basename(lock_path(self.path))
        with suppress(OSError):
            names = os.listdir(self._directory)
            return not any(name.startswith((_OURS, _LATE)) or name == lock for name in names)
        return True

    def is_cut_off(self) -> bool:
        """Tell whether an exchange that was cut short left a file beside main.cf, or the lock's."""
        return bool(self._ours_paths()) or is_abandoned(self.path)

    def take_up(self, keep: Callable[[bytes], None]) -> None:
        """Give `keep` what an exchange that was cut short left, and remove it; inside `locked`.

        Cut off before the exchange, that is our own text or a part of it, after it, what was
        displaced. Raises HostError.
        """
        try:
            self._take_up(keep)
        except OSError as error:
            raise _host_error(self._directory, error, "mend the folder") from error

    def _take_up(self, keep: Callable[[bytes], None]) -> None:
        for path in self._ours_paths():
            found = read_regular(path, self.own) if os.path.isfile(path) else None
            if found is not None and found.text:
                keep(found.text)
            self._drop(path, found)

    def _drop(self, path: str, found: RegularFile | None) -> str:
        """Remove a file of ours; one too large to be kept elsewhere is moved: return where to."""
        if found is None or not found.is_too_large:
            os.unlink(path)
            return ""
        aside = f"{self.path}.too-large-{time.time_ns()}"
        os.rename(path, aside)
        return aside

    def _ours_paths(self) -> list[str]:
        with suppress(OSError):
            found = [entry for entry in os.scandir(self._directory) if entry.name.startswith(_OURS)]
            return sorted(e.path for e in found if not e.is_dir(follow_symlinks=False))
        return []

    # --- who still writes ---------------------------------------------------------------------

    def is_awaited(self) -> bool:
        """Tell whether somebody still had main.cf open when it was exchanged."""
        return bool(self._late_paths())

    def late(self) -> Late | None:
        """Return what he has written, once he has closed it; None until then."""
        for path in self._late_paths():
            found = read_regular(path, self.own)
            if found.text is None:
                self._drop(path, found)
            elif not found.is_open:
                return Late(found.text, path.endswith(_digest(self.read().text or b"")), path)
        return None

    def drop_late(self, late: Late) -> None:
        """Remove what `late` returned; another that was closed since then is not read yet."""
        os.unlink(late.path)

    def _late_paths(self) -> list[str]:
        with suppress(OSError):
            found = [entry for entry in os.scandir(self._directory) if entry.name.startswith(_LATE)]
            return sorted(e.path for e in found if e.is_file(follow_symlinks=False))
        return []

    # --- the exchange -------------------------------------------------------------------------

    def lay_ahead(self, actual: ActualState) -> None:
        """Have the text of `actual` lie ready for `exchange`, which then waits for no disk.

        It has no name until then: nobody sees it, and a crash leaves nothing. Never raises; what
        cannot be laid ahead is laid when it is needed.
        """
        text = actual.text
        is_there = self._laid is not None and self._laid.text == text
        if text is None or is_there or not self.own:
            return
        self.lay_no_more()
        with suppress(OSError):
            attributes = self._attributes(actual)
            new = nameless(self._directory)
            self._laid = _Laid(text, self._filled(new, text, actual, attributes), attributes)

    def lay_no_more(self) -> None:
        """Forget what lies ready."""
        if self._laid is not None:
            close(self._laid.handle)
            self._laid = None

    def _exchange(
        self, actual: ActualState, text: bytes, keep: Callable[[bytes], None]
    ) -> Displaced:
        ours = os.path.join(self._directory, f"{_OURS}{os.getpid()}-{time.time_ns()}")
        is_his = False
        with ExitStack() as stack:
            try:
                handle = self._lay(ours, text, actual)
                stack.callback(close, handle)
                displaced = self._swap_in(ours, actual, text, keep)
                is_his = displaced.is_open
                if is_his:
                    # He goes on writing to what is no longer main.cf; it stays until he is done.
                    # Where it cannot get its name, the next look takes it up.
                    name = f"{_LATE}{time.time_ns()}-{_digest(text)}"
                    with suppress(OSError):
                        os.rename(ours, os.path.join(self._directory, name))
                return replace(displaced, way=self._synced(handle, displaced.way))
            finally:
                # What was kept and stays here all the same, the next look takes up.
                for _ in range(0 if is_his else 2):
                    with suppress(OSError):
                        os.unlink(ours)

    def _synced(self, handle: int, way: str) -> str:
        """Make what was done durable; return the way it was done, and what is unsure of it."""
        try:
            # Once more: a file that has no name when it is synced is left out of the log of older
            # btrfs (btrfs_log_inode_parent() in Linux 6.1's fs/btrfs/tree-log.c).
            os.fsync(handle)
            sync_directory(self._directory)
        except OSError as error:
            # It is done, and must not be told as if it were not.
            unsure = f"a power cut may undo it: {self._directory}: {error.strerror}"
            return "; ".join(filter(None, (way, unsure)))
        return way

    def _lay(self, ours: str, text: bytes, actual: ActualState) -> int:
        """Put the new text beside main.cf, whole and synced. Returns it open for reading."""
        attributes = self._attributes(actual)
        laid = self._laid
        if laid is not None and (laid.text, laid.attributes) == (text, attributes):
            self._laid = None
            with suppress(OSError):
                os.utime(laid.handle, _cooled())
                give_name(laid.handle, ours)
                return laid.handle
            close(laid.handle)
        new = new_file(ours)
        handle = self._filled(new, text, actual, attributes)
        if new.place != ours:
            # Not sooner: a crash has left nothing until now, and who watches the folder, we before
            # all, is not woken up by each step.
            try:
                give_name(handle, ours)
            except OSError:
                close(handle)
                raise
        return handle

    def _filled(
        self, new: NewFile, text: bytes, actual: ActualState, attributes: Mapping[str, bytes]
    ) -> int:
        """Give a new file all but its name.

        Returns it open for reading alone: we are not to count as one who still writes main.cf.
        """
        with ExitStack() as stack:
            stack.callback(close, new.handle)
            handle = os.open(new.place, READ)
            stack.callback(close, handle)
            fill(new.handle, text)
            self._dress(new.handle, actual, attributes)
            os.utime(new.handle, _cooled())
            os.fsync(new.handle)
            stack.pop_all()
        close(new.handle)
        return handle

    def _attributes(self, actual: ActualState) -> dict[str, bytes]:
        """The ACL and the extended attributes of what is there; of a link, not its target's."""
        found = {}
        if actual.kind is not FileKind.ABSENT:
            with suppress(FileNotFoundError):
                read = partial(os.listxattr, self.path, follow_symlinks=False)
                for name in unless_refused(read) or ():
                    get = partial(os.getxattr, self.path, name, follow_symlinks=False)
                    value = unless_refused(get)
                    if value is not None:
                        found[name] = value
        return found

    def _dress(self, handle: int, actual: ActualState, attributes: Mapping[str, bytes]) -> None:
        """Give the new file its owner and mode, and the old one's ACL and extended attributes."""
        for name, value in attributes.items():
            unless_refused(partial(os.setxattr, handle, name, value))
        if self.own:
            made = os.fstat(handle)
            if (made.st_uid, made.st_gid) != (OWNER, GROUP):  # each change wakes who watches
                os.fchown(handle, OWNER, GROUP)
            os.fchmod(handle, MODE)
        elif actual.text is not None:
            with suppress(PermissionError):  # not root: the file becomes the caller's own
                os.fchown(handle, actual.owner, actual.group)
            os.fchmod(handle, actual.mode)
        else:
            os.fchmod(handle, MODE)

    def _swap_in(
        self, ours: str, actual: ActualState, text: bytes, keep: Callable[[bytes], None]
    ) -> Displaced:
        try:
            return self._exchanged(ours, text, keep)
        except OSError as error:
            in_place = error.errno == errno.EBUSY  # main.cf is a mount point of its own
            if not in_place and error.errno not in (errno.EINVAL, errno.ENOSYS):
                raise
        found = read_if_there(self.path, self.own)
        before = None if found is None else found.text
        if before is not None:
            keep(before)
        if found is not None and found.is_too_large:
            raise HostError(f"{self.path}: {found.refused}; move it away")
        if not in_place:
            os.rename(ours, self.path)
            return Displaced(before, "renamed over: this file system cannot exchange two files")
        with open(os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC), "r+b") as file:
            file.write(text)
            file.truncate()
            file.flush()
            self._dress(file.fileno(), actual, self._attributes(actual))
            os.utime(file.fileno(), _cooled())
            os.fsync(file.fileno())
        return Displaced(before, "written in place: main.cf is a mount point of its own")

    def _exchanged(self, ours: str, text: bytes, keep: Callable[[bytes], None]) -> Displaced:
        """Swap the two names and keep what stood there; what cannot be kept is put back."""
        if not _placed(ours, self.path):
            return Displaced(None)
        try:
            found = read_if_there(ours, self.own)
            before = None if found is None else found.text
            is_open = found is not None and found.is_open
            if before is not None:
                keep(before)
                # Who was about to open it when it was exchanged has it open or has written by now.
                is_open = is_open or not is_just(ours, before)
        except (OSError, HostError) as error:
            _put_back(ours, self.path, text)
            if isinstance(error, OSError):
                # Not the number itself: EINVAL is taken for a file system that cannot exchange.
                raise HostError(f"{self.path}: {error.strerror}; put a regular file there") from (
                    error
                )
            raise
        if found is not None and found.is_too_large:
            return Displaced(None, f"what stood there is {self._drop(ours, found)} now")
        # A link's target is not what was displaced: whoever writes to it goes on doing so.
        return Displaced(before, is_open=is_open and not os.path.islink(ours))


def _cooled() -> tuple[float, float]:
    """The two times of a file that no Postfix program need wait for."""
    moment = time.time() - COOL_SECONDS
    return moment, moment


def _host_error(path: str, error: OSError, way_out: str) -> HostError:
    cure = sandbox.way_out(path, error, way_out)
    return HostError(f"{path}: {error.strerror or error}; {cure}")


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:16]


def _placed(ours: str, path: str) -> bool:
    """Swap the two names; False where nothing stood there, and `ours` is no more."""
    while True:
        try:
            _renameat2(ours, path, _RENAME_EXCHANGE)
            return True
        except FileNotFoundError:
            # Nothing to exchange with, unless somebody creates it right now: then once more.
            with suppress(FileExistsError):
                _renameat2(ours, path, _RENAME_NOREPLACE)
                return False


def _put_back(ours: str, path: str, text: bytes) -> None:
    """Undo the exchange for `text`.

    Where somebody has written since, his text stays in force. What could not be kept then lies
    beside it, for the next exchange to take up.
    """
    if _placed(ours, path) and not is_just(ours, text) and _placed(ours, path):
        os.rename(ours, f"{ours}-unkept")


_libc = ctypes.CDLL(None, use_errno=True)


def _renameat2(source: str, target: str, flags: int) -> None:
    """renameat2(2), which the standard library does not offer."""
    if _libc.renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), target)
