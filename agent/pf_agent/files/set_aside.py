"""Names what is in main.cf's place and is not a file, and moves it aside.

It stays in its directory, under a name that says why it is there. To the daemon /var is another
file system (a mount of its own sandbox), and a FIFO, socket or device cannot be moved to one, nor a
directory in a single step.

It ranks below the other effects of this room, which may import it: all of them meet such things.
"""

from __future__ import annotations

import os
import stat
import time
from typing import Final

TOO_LARGE: Final = "too-large"
NO_FILE: Final = "no-file"

_KINDS: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def misfit(mode: int) -> str:
    """Return what kind of thing this st_mode means, "" for a regular file or a symbolic link."""
    return _KINDS.get(stat.S_IFMT(mode), "")


def misfit_at(path: str) -> str:
    """Return what is at a path if it is neither a regular file nor a link; "" for none.

    It is not opened: opening a device may have effects. Raises OSError.
    """
    try:
        return misfit(os.lstat(path).st_mode)
    except FileNotFoundError:
        return ""


def set_aside(path: str, main_cf: str, why: str) -> str:
    """Move what is at a path aside, and return where to. Raises OSError.

    By its name only: it is not opened, but for a FIFO, and a link is not followed.
    """
    aside = f"{main_cf}.{why}-{time.time_ns()}"
    os.rename(path, aside)
    if stat.S_ISFIFO(os.lstat(aside).st_mode):
        _end_readers(aside)
    return aside


def _end_readers(fifo: str) -> None:
    """Give Postfix's programs that opened the FIFO as their file its end: they would wait for it.

    With both directions the opening itself does not wait, see fifo(7).
    """
    os.close(os.open(fifo, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC))
