"""A regular file that may be any user's: reads it safely, and tells if it is being written.

What is read may be copied into the new main.cf, which every user may read, and into records. So if
the host's own main.cf is only another name of a file, through a symbolic or a hard link, its text
is used only if every user may read that file already: otherwise a user who can write to the
directory could make us publish a file that the user cannot read.

It ranks below `exchange`, which may import it: reading and exchanging are two jobs.
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
from pf_agent.files.nature import Nature
from pf_agent.files.whole import held, opened

# Postfix's own is 27 kB. A larger file than this is not read: it would take our memory.
MOST_BYTES: Final = 16 * 1024 * 1024


class RegularFile(NamedTuple):
    """What was read. `text` is None if `refused` says why it is not accepted."""

    text: bytes | None
    status: os.stat_result
    is_open: bool = False
    refused: str = ""
    is_too_large: bool = False


class _NotTaken(Exception):
    """Why the text that a link leads to is not accepted as main.cf's."""


def read_regular(path: str, nature: Nature) -> RegularFile:
    """Read a regular file, and tell whether a process has it open for writing.

    A FIFO or device could block the agent, so it is refused. `nature` is that of the document that
    it is or was. Raises OSError.
    """
    try:
        handle = _opened(path) if nature.is_own else os.open(path, READ)
    except _NotTaken as error:
        return RegularFile(None, os.lstat(path), refused=str(error))
    with held(handle, "it is not a regular file") as file:
        status = file.status
        if nature.is_own and status.st_nlink > 1 and not status.st_mode & stat.S_IROTH:
            refused = "it is a hard link to a file that not every user can read"
            return RegularFile(None, status, refused=refused)
        # Checked before reading: what is written in between is then known to be incomplete.
        is_open = _has_writer(handle)
        text = contents(handle, status.st_size, MOST_BYTES)
        if len(text) > MOST_BYTES:
            refused = f"it is larger than {MOST_BYTES} bytes"
            return RegularFile(None, status, is_open, refused, is_too_large=True)
        nature.note(text)
        return RegularFile(text, status, is_open)


def read_if_there(path: str, nature: Nature) -> RegularFile | None:
    """Return the same as `read_regular`; None if nothing is there. Raises OSError."""
    try:
        return read_regular(path, nature)
    except FileNotFoundError:
        return None


def is_just(path: str, text: bytes, nature: Nature) -> bool:
    """Tell whether a file holds exactly this text and no process has it open for writing."""
    with suppress(OSError):
        found = read_regular(path, nature)
        return (found.text, found.is_open) == (text, False)
    return False


def has_writer_at(path: str) -> bool:
    """Tell whether a process has the file open for writing; False if that cannot be known."""
    with suppress(OSError), opened(path, is_followed=True) as file:
        return _has_writer(file.handle)
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
        # Through the handle: the name may mean another link by now.
        target = os.path.join(os.path.dirname(path), os.readlink("", dir_fd=link))
    finally:
        os.close(link)
    if owner not in (0, os.geteuid()):
        # The kernel's rule for directories that all users write to (proc(5), protected_symlinks).
        raise _NotTaken(f"it is a symbolic link owned by uid {owner}")
    try:
        handle = os.open(target, READ)
    except FileNotFoundError:
        raise
    except OSError as error:
        fact = f"it is a symbolic link to a file that cannot be read ({error.strerror})"
        raise _NotTaken(fact) from error
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode) and mode & stat.S_IROTH:
        return handle
    os.close(handle)
    raise _NotTaken("it is a symbolic link, but not to a file that every user can read")


def _has_writer(handle: int) -> bool:
    """Ask the kernel for a read lease, which it grants only if there is no writer (fcntl(2)).

    False if it will not say. If a process opens the file within these microseconds, the signal
    about it is one that is ignored by default.
    """
    try:
        fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    return False
