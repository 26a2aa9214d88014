"""One main.cf on disk: read it, and exchange it for a new text so that nothing is ever lost.

The exchange is Postfix's own edit protocol (edit_file(3): an flock on `main.cf.tmp`), so that
`postconf -e` and we never lose each other's edits, with renameat2(2) RENAME_EXCHANGE at its end in
place of rename(2): what was displaced is then in our hand even where somebody who knows of no
lock wrote at the last instant.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

from pf_agent.errors import HostError
from pf_agent.files.edit_lock import LOCK_SECONDS, postfix_lock
from pf_agent.files.leftovers import Leftovers
from pf_agent.files.linux import close, sync_directory
from pf_agent.files.regular import is_just, read_if_there, read_regular
from pf_agent.files.renameat2 import swap_or_move
from pf_agent.files.replacement import Replacement, cooled
from pf_agent.files.whole import host_error
from pf_agent.model import ActualState, Displaced, FileKind, Late

# What keeps the lock's file from being made.
_CURES = {
    errno.ENOSPC: "free space",
    errno.EDQUOT: "free space",
    errno.EPERM: "see `lsattr -d` of its folder",
    errno.EACCES: "give root the right to write there",
    errno.ENOENT: "bring the folder back",
}


class MainCfFile:
    """The file main.cf.

    `is_own` is false for a file that is not this host's own main.cf (an image, a checkout): it
    keeps its owner and mode, and where it leads to is its caller's affair.
    """

    def __init__(
        self,
        path: str,
        is_own: bool = True,
        lock_seconds: float = LOCK_SECONDS,
        swap: Callable[[str, str], bool] = swap_or_move,
    ) -> None:
        """Wait `lock_seconds` for Postfix's lock; `swap` exchanges two names."""
        self.path = path
        self.is_own = is_own
        self._directory = os.path.dirname(path) or "."
        self._lock_seconds = lock_seconds
        self._swap = swap
        self._replacement = Replacement(path, is_own)
        self._leftovers = Leftovers(path, is_own)

    def read(self) -> ActualState:
        """Return main.cf as it is now. Raises HostError where it is no file or cannot be read."""
        try:
            entry = os.lstat(self.path)
            kind = FileKind.SYMLINK if stat.S_ISLNK(entry.st_mode) else FileKind.REGULAR
            found = read_regular(self.path, self.is_own)
        except FileNotFoundError:
            return self._absent()
        except OSError as error:
            raise host_error(self.path, error, "look at what stands there") from error
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
            raise host_error(self._directory, error, "bring the folder back") from error

    def read_template(self, path: str) -> bytes:
        """Return the template's bytes. Raises HostError."""
        try:
            found = read_regular(path, is_own=False)
            if found.text is None:
                raise OSError(errno.EFBIG, found.refused)
            return found.text
        except OSError as error:
            way_out = "name another file as `template` in desired.toml, or bring this one back"
            raise host_error(path, error, way_out) from error

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
            raise host_error(self.path, error, "it stays as it is until this is mended") from (
                error
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold Postfix's own lock: what is read inside, no postconf changes before the end.

        Raises HostError.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(postfix_lock(self.path, self._lock_seconds))
            except OSError as error:
                way_out = _CURES.get(error.errno or 0, "free main.cf.tmp beside it")
                raise host_error(self.path, error, way_out) from error
            yield

    # --- what lies beside it --------------------------------------------------------------------

    def is_alone(self) -> bool:
        """Tell whether nothing lies beside main.cf that `is_cut_off` or `late` looks at."""
        return self._leftovers.is_alone()

    def is_cut_off(self) -> bool:
        """Tell whether an exchange that was cut short left a file beside main.cf, or the lock's."""
        return self._leftovers.is_cut_off()

    def take_up(self, keep: Callable[[bytes], None]) -> None:
        """Give `keep` what an exchange that was cut short left, and remove it; inside `locked`.

        Cut off before the exchange, that is our own text or a part of it, after it, what was
        displaced. Raises HostError.
        """
        try:
            self._leftovers.take_up(keep)
        except OSError as error:
            raise host_error(self._directory, error, "mend the folder") from error

    def is_awaited(self) -> bool:
        """Tell whether somebody still had main.cf open when it was exchanged."""
        return self._leftovers.is_awaited()

    def late(self) -> Late | None:
        """Return what he has written, once he has closed it; None until then."""
        return self._leftovers.late(lambda: self.read().text)

    def drop_late(self, late: Late) -> None:
        """Remove what `late` returned; another that was closed since then is not read yet."""
        os.unlink(late.path)

    def lay_ahead(self, actual: ActualState) -> None:
        """Have the text of `actual` lie ready for `exchange`, which then waits for no disk."""
        self._replacement.lay_ahead(actual)

    def lay_no_more(self) -> None:
        """Forget what lies ready."""
        self._replacement.lay_no_more()

    # --- the exchange -------------------------------------------------------------------------

    def _exchange(
        self, actual: ActualState, text: bytes, keep: Callable[[bytes], None]
    ) -> Displaced:
        ours = self._leftovers.new_name()
        is_his = False
        with ExitStack() as stack:
            try:
                handle = self._replacement.lay(ours, text, actual)
                stack.callback(close, handle)
                displaced = self._swap_in(ours, actual, text, keep)
                is_his = displaced.is_open
                if is_his:
                    # He goes on writing to what is no longer main.cf; it stays until he is done.
                    # Where it cannot get its name, the next look takes it up.
                    with suppress(OSError):
                        self._leftovers.await_writer(ours, text)
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

    def _swap_in(
        self, ours: str, actual: ActualState, text: bytes, keep: Callable[[bytes], None]
    ) -> Displaced:
        try:
            return self._exchanged(ours, text, keep)
        except OSError as error:
            in_place = error.errno == errno.EBUSY  # main.cf is a mount point of its own
            if not in_place and error.errno not in (errno.EINVAL, errno.ENOSYS):
                raise
        found = read_if_there(self.path, self.is_own)
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
            attributes = self._replacement.attributes_of(actual)
            self._replacement.dress(file.fileno(), actual, attributes)
            os.utime(file.fileno(), cooled())
            os.fsync(file.fileno())
        return Displaced(before, "written in place: main.cf is a mount point of its own")

    def _exchanged(self, ours: str, text: bytes, keep: Callable[[bytes], None]) -> Displaced:
        """Swap the two names and keep what stood there; what cannot be kept is put back."""
        if not self._swap(ours, self.path):
            return Displaced(None)
        try:
            found = read_if_there(ours, self.is_own)
            before = None if found is None else found.text
            is_open = found is not None and found.is_open
            if before is not None:
                keep(before)
                # Who was about to open it when it was exchanged has it open or has written by now.
                is_open = is_open or not is_just(ours, before)
        except (OSError, HostError) as error:
            self._put_back(ours, text)
            if isinstance(error, OSError):
                # Not the number itself: EINVAL is taken for a file system that cannot exchange.
                raise HostError(f"{self.path}: {error.strerror}; put a regular file there") from (
                    error
                )
            raise
        if found is not None and found.is_too_large:
            return Displaced(None, f"what stood there is {self._leftovers.drop(ours, found)} now")
        # A link's target is not what was displaced: whoever writes to it goes on doing so.
        return Displaced(before, is_open=is_open and not os.path.islink(ours))

    def _put_back(self, ours: str, text: bytes) -> None:
        """Undo the exchange for `text`.

        Where somebody has written since, his text stays in force. What could not be kept then lies
        beside it, for the next exchange to take up.
        """
        if self._swap(ours, self.path) and not is_just(ours, text) and self._swap(ours, self.path):
            os.rename(ours, f"{ours}-unkept")
