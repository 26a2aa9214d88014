"""One main.cf on disk: read it, and exchange it for a new text so that nothing is ever lost.

The exchange follows Postfix's own edit protocol (edit_file(3): an flock on `main.cf.tmp`), so that
`postconf -e` and we never lose each other's edits. Its last step is renameat2(2) with
RENAME_EXCHANGE instead of rename(2): we then hold what was displaced, even if a writer that ignores
the lock wrote at the last instant.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

from pf_agent.errors import HostError
from pf_agent.files.edit_lock import LOCK_SECONDS, lock_path, postfix_lock
from pf_agent.files.leftovers import Leftovers
from pf_agent.files.linux import close, sync_directory
from pf_agent.files.nature import OTHER_MAIN_CF, OWN_MAIN_CF, Nature
from pf_agent.files.regular import is_just, read_if_there, read_regular
from pf_agent.files.renameat2 import swap_or_move
from pf_agent.files.replacement import Replacement, cooled
from pf_agent.files.set_aside import NO_FILE, misfit, misfit_at, set_aside
from pf_agent.files.whole import host_error
from pf_agent.model import ActualState, Attributes, Displaced, FileKind, Late

# Remedies for what keeps the lock file from being created.
_CURES = {
    errno.ENOSPC: "free space",
    errno.EDQUOT: "free space",
    errno.EPERM: "check its directory with `lsattr -d`",
    errno.EACCES: "give root write permission there",
    errno.ENOENT: "restore the directory",
}


class MainCfFile:
    """The file main.cf.

    Or another document, of another nature.
    """

    def __init__(
        self,
        path: str,
        nature: Nature = OWN_MAIN_CF,
        lock_seconds: float = LOCK_SECONDS,
        swap: Callable[[str, str], bool] = swap_or_move,
    ) -> None:
        """Wait up to `lock_seconds` for Postfix's lock; `swap` exchanges two names."""
        self.path = path
        self.is_own = nature.is_own
        self._nature = nature
        self._directory = os.path.dirname(path) or "."
        self._lock_seconds = lock_seconds
        self._swap = swap
        self._replacement = Replacement(path, nature)
        self._leftovers = Leftovers(path, nature)

    def attributes(self, actual: ActualState) -> Attributes | None:
        """Return the owner and mode that it must have; None: whatever it has."""
        return self._nature.attributes(actual) if self.is_own else None

    def read(self) -> ActualState:
        """Return main.cf as it is now. Raises HostError if it cannot be read.

        Also, if the file is not our own, when it is not a regular file.
        """
        try:
            entry = os.lstat(self.path)
            other = misfit(entry.st_mode) if self.is_own else ""
            if other:
                # Not opened: Postfix's programs would block on a FIFO, and a device may act.
                refused = f"it is {other}"
                at = entry.st_ctime
                return ActualState(None, FileKind.OTHER, written_at=at, refused=refused)
            kind = FileKind.SYMLINK if stat.S_ISLNK(entry.st_mode) else FileKind.REGULAR
            found = read_regular(self.path, self._nature)
        except FileNotFoundError:
            return self._absent()
        except OSError as error:
            raise host_error(self.path, error, "check what is at that path") from error
        status = found.status
        if found.refused and not found.is_too_large:
            # Owner and mode are those of a link, or of another user's file.
            return ActualState(None, kind, written_at=entry.st_ctime, refused=found.refused)
        # ctime and not mtime: `mv` and chmod keep the old mtime, and a write changes both.
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
            raise host_error(self._directory, error, "restore the directory") from error

    def read_template(self, path: str) -> bytes:
        """Return the template's bytes. Raises HostError."""
        try:
            found = read_regular(path, OTHER_MAIN_CF)
            if found.text is None:
                raise OSError(errno.EFBIG, found.refused)
            return found.text
        except OSError as error:
            way_out = "name another file as `template` in desired.toml, or restore this one"
            raise host_error(path, error, way_out) from error

    def exchange(
        self, actual: ActualState, text: bytes, keep: Callable[[bytes], None]
    ) -> Displaced:
        """Put `text` in main.cf's place, complete and durable, and return what it displaced.

        `keep` gets the displaced text before its last copy is removed. If that is not
        `actual.text`, another process wrote in between. To be called inside `locked`. Raises
        HostError, and main.cf is then unchanged.
        """
        try:
            return self._exchange(actual, text, keep)
        except OSError as error:
            raise host_error(self.path, error, "it stays as it is until this is fixed") from (error)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold Postfix's own lock: no postconf changes what is read inside before the end.

        Raises HostError.
        """
        with ExitStack() as stack:
            if not self._nature.is_locked:
                yield
                return
            try:
                lock = lock_path(self.path)
                if self.is_own and misfit_at(lock):
                    # A FIFO or the like as lock file locks nothing: Postfix's programs fail or
                    # block on it.
                    set_aside(lock, self.path, NO_FILE)
                stack.enter_context(postfix_lock(self.path, self._lock_seconds))
            except OSError as error:
                way_out = _CURES.get(error.errno or 0, f"find that program: fuser {lock}")
                raise host_error(self.path, error, way_out) from error
            yield

    # --- leftovers ------------------------------------------------------------------------------

    def is_alone(self) -> bool:
        """Tell whether there is nothing beside main.cf for `is_cut_off` or `late`."""
        return self._leftovers.is_alone()

    def is_cut_off(self) -> bool:
        """Tell whether an interrupted exchange left a file beside main.cf, or the lock file."""
        return self._leftovers.is_cut_off()

    def take_up(self, keep: Callable[[bytes], None]) -> None:
        """Give `keep` what an interrupted exchange left, and remove it; inside `locked`.

        If it was interrupted before the exchange, that is our own text or part of it; after it, the
        displaced text. Raises HostError.
        """
        try:
            self._leftovers.take_up(keep)
        except OSError as error:
            raise host_error(self._directory, error, "fix the directory") from error

    def is_awaited(self) -> bool:
        """Tell whether a writer still had main.cf open when it was exchanged."""
        return self._leftovers.is_awaited()

    def late(self) -> Late | None:
        """Return what that writer wrote, once it has closed the file; None until then."""
        return self._leftovers.late(lambda: self.read().text)

    def drop_late(self, late: Late) -> None:
        """Remove what `late` returned; another file closed since then has not been read yet."""
        os.unlink(late.path)

    def lay_ahead(self, actual: ActualState) -> None:
        """Prepare the text of `actual` for `exchange`, which then waits for no disk."""
        self._replacement.lay_ahead(actual)

    def lay_no_more(self) -> None:
        """Discard what is prepared."""
        self._replacement.lay_no_more()

    # --- the exchange -------------------------------------------------------------------------

    def _exchange(
        self, actual: ActualState, text: bytes, keep: Callable[[bytes], None]
    ) -> Displaced:
        ours = self._leftovers.new_name()
        has_writer = False
        with ExitStack() as stack:
            try:
                handle = self._replacement.lay(ours, text, actual)
                stack.callback(close, handle)
                displaced = self._swap_in(ours, actual, text, keep)
                has_writer = displaced.is_open
                if has_writer:
                    # The process goes on writing to what is no longer main.cf, which stays until it
                    # is done. If it cannot be given its name, the next look takes care of it.
                    with suppress(OSError):
                        self._leftovers.await_writer(ours, text)
                return replace(displaced, way=self._synced(handle, displaced.way))
            finally:
                # If what was kept still stays here, the next look takes care of it.
                for _ in range(0 if has_writer else 2):
                    with suppress(OSError):
                        if not misfit_at(ours):
                            os.unlink(ours)

    def _synced(self, handle: int, way: str) -> str:
        """Make the change durable; return how it was made, with anything that is uncertain."""
        try:
            # Once more: older btrfs leaves a file that had no name when it was synced out of its
            # log (btrfs_log_inode_parent() in Linux 6.1's fs/btrfs/tree-log.c).
            os.fsync(handle)
            sync_directory(self._directory)
        except OSError as error:
            # The exchange was made, and must not be reported as failed.
            unsure = f"a power failure may undo it: {self._directory}: {error.strerror}"
            return "; ".join(filter(None, (way, unsure)))
        return way

    def _swap_in(
        self, ours: str, actual: ActualState, text: bytes, keep: Callable[[bytes], None]
    ) -> Displaced:
        try:
            return self._exchanged(ours, text, keep)
        except OSError as error:
            in_place = error.errno == errno.EBUSY  # main.cf is a mount point of its own
            if not in_place and error.errno not in (errno.EINVAL, errno.ENOSYS):
                raise
        aside = self._out_of_the_way(in_place)
        found = read_if_there(self.path, self._nature)
        before = None if found is None else found.text
        if before is not None:
            keep(before)
        if found is not None and found.is_too_large:
            raise HostError(f"{self.path}: {found.refused}; move it away")
        if not in_place:
            os.rename(ours, self.path)
            way = "renamed over: this file system cannot exchange two files"
            return Displaced(before, "; ".join(filter(None, (aside, way))))
        with open(os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC), "r+b") as file:
            file.write(text)
            file.truncate()
            file.flush()
            attributes = self._replacement.attributes_of(actual)
            self._replacement.dress(file.fileno(), actual, attributes)
            os.utime(file.fileno(), cooled())
            os.fsync(file.fileno())
        name = os.path.basename(self.path)
        return Displaced(before, f"written in place: {name} is a mount point of its own")

    def _out_of_the_way(self, is_mount_point: bool) -> str:
        """Move what is not a file out of main.cf's place; return the report of it, "" for none.

        Raises HostError if something is mounted there: its administrator has to undo that.
        """
        other = misfit_at(self.path) if self.is_own else ""
        if other and is_mount_point:
            raise HostError(f"{self.path}: it is {other} and a mount point; umount {self.path}")
        return _aside(other, set_aside(self.path, self.path, NO_FILE)) if other else ""

    def _exchanged(self, ours: str, text: bytes, keep: Callable[[bytes], None]) -> Displaced:
        """Swap the two names and keep what was there; what cannot be kept is put back."""
        if not self._swap(ours, self.path):
            return Displaced(None)
        try:
            other = misfit_at(ours) if self.is_own else ""
            if other:
                return Displaced(None, _aside(other, set_aside(ours, self.path, NO_FILE)))
            found = read_if_there(ours, self._nature)
            before = None if found is None else found.text
            is_open = found is not None and found.is_open
            if before is not None:
                keep(before)
                # A process that was just opening it has it open, or has already written.
                is_open = is_open or not is_just(ours, before, self._nature)
        except (OSError, HostError) as error:
            self._put_back(ours, text)
            if isinstance(error, OSError):
                # Not the errno itself: EINVAL would be taken for a file system without exchange.
                raise HostError(f"{self.path}: {error.strerror}; put a regular file there") from (
                    error
                )
            raise
        if found is not None and found.is_too_large:
            return Displaced(None, f"what was there is now {self._leftovers.drop(ours, found)}")
        # The target of a link was not displaced: its writers go on writing to it.
        return Displaced(before, is_open=is_open and not os.path.islink(ours))

    def _put_back(self, ours: str, text: bytes) -> None:
        """Undo the exchange for `text`.

        If another process has written since, its text stays in force. What could not be kept then
        remains beside it, for the next exchange to take care of.
        """
        if (
            self._swap(ours, self.path)
            and not is_just(ours, text, self._nature)
            and self._swap(ours, self.path)
        ):
            os.rename(ours, f"{ours}-unkept")


def _aside(other: str, place: str) -> str:
    return f"{other} that was there is now {place}"
