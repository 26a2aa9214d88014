"""Linux file calls that Python lacks, splits into several, or wraps in more than is wanted.

It ranks below the other effects, which may import it: each of them would have to repeat these
calls.
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

# With these flags opening a FIFO does not block.
READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


class NewFile(NamedTuple):
    """A new file, open for writing, and a path that leads to it."""

    handle: int
    place: str


def stamp(path: str) -> Stamp | None:
    """Return the stamp of the file that a path leads to; None if there is none.

    A directory does not count, however new: file times advance in steps of 4 ms, and what was
    created within one step has the same time.
    """
    try:
        found = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return Stamp(found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size)


def type_of(path: str) -> int:
    """Return the type of what is at a path, not following links: see inode(7), 0 for nothing."""
    try:
        return stat.S_IFMT(os.lstat(path).st_mode)
    except FileNotFoundError:
        return 0


def close(handle: int) -> None:
    """Close a handle that was not written to: Linux does, whatever it returns (close(2))."""
    with suppress(OSError):
        os.close(handle)


def fill(handle: int, data: bytes) -> None:
    """Write all of `data`, even if the kernel takes only parts of it at a time. Raises OSError."""
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]


def contents(handle: int, size: int, most: int) -> bytes:
    """Return a file's contents, or one byte more than `most` of it; `size` is the expected size.

    By the handle, since Python's file object makes five more system calls; and by the size, since a
    buffer of the maximum would be mapped anew each time. Raises OSError.
    """
    parts: list[bytes] = []
    left = most + 1
    while left and (part := os.read(handle, min(size + 1, left))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def sync_directory(path: str) -> None:
    """Make the names in a directory durable (fsync(2)). Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        close(handle)


def try_flock(handle: int) -> bool:
    """Take a file's lock (flock(2)); False if another process holds it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unless_refused(call: Callable[[], T]) -> T | None:
    """Return what `call` does; None if the file system or a security policy forbids it."""
    try:
        return call()
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.ENODATA):
            raise
        return None


def new_file(path: str) -> NewFile:
    """Return a new file; it has its name already if it must have one. Raises OSError."""
    with suppress(OSError):
        return nameless(os.path.dirname(path))
    return NewFile(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_CREAT | os.O_EXCL, 0o600), path)


def nameless(folder: str) -> NewFile:
    """Return a new file that gets its name once it is complete.

    Raises OSError if the file system does not support that (open(2), O_TMPFILE), or if there is no
    /proc to name it through.
    """
    handle = os.open(folder, os.O_RDWR | os.O_CLOEXEC | os.O_TMPFILE, 0o600)
    place = _named_by_handle(handle)
    if not os.path.exists(place):
        os.close(handle)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), place)
    return NewFile(handle, place)


def give_name(handle: int, path: str) -> None:
    """Give a file its first name. Raises OSError.

    With a `src_dir_fd`, which has no meaning for an absolute path, Python calls linkat(2) with
    AT_SYMLINK_FOLLOW.
    """
    os.link(_named_by_handle(handle), path, src_dir_fd=handle)


def _named_by_handle(handle: int) -> str:
    return f"/proc/self/fd/{handle}"
