"""A regular file that may be somebody else's: read it without harm, and see who writes it.

What is read may be copied into the new main.cf, which everybody may read, and into records. So
where the host's own main.cf is but another name of a file, by a symbolic or a hard link, its text
is taken only where everybody may read that file already: who can write to the folder would
otherwise have us publish one that he cannot read.

Below `exchange`, which may import it: what is read and what is exchanged are two jobs.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from contextlib import suppress
from typing import Final, NamedTuple

from pf_agent.files.linux import READ, contents
from pf_agent.files.whole import held

# Postfix's own is 27 kB. What is larger than this is not read: it would take our memory.
MOST_BYTES: Final = 16 * 1024 * 1024


class RegularFile(NamedTuple):
    """What was read of one. `text` is None where `refused` says why it is not taken."""

    text: bytes | None
    status: os.stat_result
    is_open: bool = False
    refused: str = ""
    is_too_large: bool = False


class _NotTaken(Exception):
    """Why the text that a link leads to is not main.cf's."""


def read_regular(path: str, is_own: bool) -> RegularFile:
    """Read a regular file, and whether somebody has it open for writing.

    A FIFO or device would hold the agent up, so it is refused. `is_own`: it is, or was, this
    host's own main.cf. Raises OSError.
    """
    try:
        handle = _opened(path) if is_own else os.open(path, READ)
    except _NotTaken as error:
        return RegularFile(None, os.lstat(path), refused=str(error))
    with held(handle, "it is not a regular file") as file:
        status = file.status
        if is_own and status.st_nlink > 1 and not status.st_mode & stat.S_IROTH:
            refused = "it is another name of a file that not everybody may read"
            return RegularFile(None, status, refused=refused)
        # Asked before it is read: what he writes between the two is then known to be unfinished.
        is_open = _has_writer(handle)
        text = contents(handle, status.st_size, MOST_BYTES)
        if len(text) > MOST_BYTES:
            refused = f"it is larger than {MOST_BYTES} bytes"
            return RegularFile(None, status, is_open, refused, is_too_large=True)
        return RegularFile(text, status, is_open)


def read_if_there(path: str, is_own: bool) -> RegularFile | None:
    """Return what `read_regular` does; None where nothing is there. Raises OSError."""
    try:
        return read_regular(path, is_own)
    except FileNotFoundError:
        return None


def is_just(path: str, text: bytes) -> bool:
    """Tell whether a file holds this text and nobody has it open for writing."""
    with suppress(OSError):
        found = read_regular(path, is_own=False)
        return (found.text, found.is_open) == (text, False)
    return False


def _opened(path: str) -> int:
    """Open a file, or what a symbolic link leads to. Raises OSError, _NotTaken."""
    try:
        return os.open(path, READ | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
    link = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        owner = os.fstat(link).st_uid
        # By the handle: the name may mean another link by now.
        target = os.path.join(os.path.dirname(path), os.readlink("", dir_fd=link))
    finally:
        os.close(link)
    if owner not in (0, os.geteuid()):
        # As the kernel has it in folders that all write to (proc(5), protected_symlinks).
        raise _NotTaken(f"it is a symbolic link that uid {owner} made")
    try:
        handle = os.open(target, READ)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _NotTaken(f"it is a symbolic link to what cannot be read ({error.strerror})") from (
            error
        )
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode) and mode & stat.S_IROTH:
        return handle
    os.close(handle)
    raise _NotTaken("it is a symbolic link to what is no file that everybody may read")


def _has_writer(handle: int) -> bool:
    """Ask the kernel, by a read lease that it grants only where there is no writer (fcntl(2)).

    False where it will not say. Should somebody open the file within these microseconds, the
    signal for it is one that does nothing by default.
    """
    try:
        fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    return False
