"""Files of Linux: what Python leaves in several calls, or makes more of than is wanted.

Below the other effects, which may import it: they would each have to write these calls again.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple, TypeVar

from pf_agent.model import Stamp

T = TypeVar("T")

# A FIFO does not hold up who opens it so.
READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


class NewFile(NamedTuple):
    """A new file, open for writing, and a path that leads to it."""

    handle: int
    place: str


def stamp(path: str) -> Stamp | None:
    """Return the stamp of the file that a path leads to; None where there is none.

    A folder, however new, is none: the clock of files ticks every 4 ms, and what was made in one
    tick has the same date.
    """
    try:
        found = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return Stamp(found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size)


def type_of(path: str) -> int:
    """Return what stands under a name, a link for itself: a type of inode(7), 0 for nothing."""
    try:
        return stat.S_IFMT(os.lstat(path).st_mode)
    except FileNotFoundError:
        return 0


def close(handle: int) -> None:
    """Close what nothing was written through: Linux does, whatever it says of it (close(2))."""
    with suppress(OSError):
        os.close(handle)


def fill(handle: int, data: bytes) -> None:
    """Write all of `data`, however little the kernel takes at once. Raises OSError."""
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]


def overwrite(path: str, data: bytes) -> None:
    """Write over a file, there or not, for its owner alone. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    handle = os.open(path, flags, 0o600)
    try:
        fill(handle, data)
        os.ftruncate(handle, len(data))
    finally:
        close(handle)


def contents(handle: int, size: int, most: int) -> bytes:
    """Return what is in a file, or a byte more than `most` of it; `size` is what it should be.

    By the handle, since Python's file asks the kernel five things more; and by its size, since a
    buffer for the most would be mapped anew each time. Raises OSError.
    """
    parts: list[bytes] = []
    left = most + 1
    while left and (part := os.read(handle, min(size + 1, left))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def sync_directory(path: str) -> None:
    """Make the names in a folder durable (fsync(2)). Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        close(handle)


def try_flock(handle: int) -> bool:
    """Take the lock of a file (flock(2)); False where somebody else holds it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unless_refused(call: Callable[[], T]) -> T | None:
    """Return what `call` does; None where the file system or another program's rules forbid it."""
    try:
        return call()
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.ENODATA):
            raise
        return None


def new_file(path: str) -> NewFile:
    """Return a new file, which has its name by now where it must have one. Raises OSError."""
    with suppress(OSError):
        return nameless(os.path.dirname(path))
    return NewFile(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_CREAT | os.O_EXCL, 0o600), path)


def nameless(folder: str) -> NewFile:
    """Return a new file that gets its name when it is whole.

    Raises OSError where the file system has no such files (open(2), O_TMPFILE), or where there is
    no /proc to name it by.
    """
    handle = os.open(folder, os.O_RDWR | os.O_CLOEXEC | os.O_TMPFILE, 0o600)
    place = _named_by_handle(handle)
    if not os.path.exists(place):
        os.close(handle)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), place)
    return NewFile(handle, place)


def give_name(handle: int, path: str) -> None:
    """Give a file its first name. Raises OSError.

    Given a `src_dir_fd`, which for an absolute path means nothing, Python calls linkat(2) with
    AT_SYMLINK_FOLLOW.
    """
    os.link(_named_by_handle(handle), path, src_dir_fd=handle)


def _named_by_handle(handle: int) -> str:
    return f"/proc/self/fd/{handle}"
