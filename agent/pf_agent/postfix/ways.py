"""Who decides what a path leads to: as whom a database is built from the file there, and where.

postmap(1) and postalias(1), run by root, take on the identity of the source's owner, but only after
root has opened it. Who owns a directory on the path, or may write to it, can make the source and
the index lead to files of root, at any instant. So the first one besides root who has a say is
found here, by whom each step belongs to: what lies behind that step can change at any instant, but
not whose it is.
"""

from __future__ import annotations

import os
import posixpath
import stat
from typing import Final, NamedTuple

# As many as the kernel follows (path_resolution(7)).
_MOST_LINKS: Final = 40
_STEP: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class Owner(NamedTuple):
    """A user and a group, by number."""

    uid: int
    gid: int


class Way(NamedTuple):
    """What a path leads to.

    `straight`: the same without links, as far as only root can have made them. `owner`: the first
    besides root to whom a directory, a link or the file itself belongs; None if all is root's.
    `is_roots`: only root can change what the names lead to.
    """

    straight: str
    owner: Owner | None
    is_roots: bool


def way_of(path: str) -> Way:
    """Follow an absolute path, as long as only root can change it."""
    left, links = path.split("/")[::-1], 0
    here, owner, is_roots = "/", None, True
    while left:
        step = left.pop()
        if step == "..":
            here = posixpath.dirname(here)
            continue
        if step in ("", "."):
            continue
        here = posixpath.join(here, step)
        try:
            found = os.lstat(here)
        except OSError:
            continue  # whoever opens it reports that
        is_link = stat.S_ISLNK(found.st_mode)
        if found.st_uid != 0 and owner is None:
            owner = Owner(found.st_uid, found.st_gid)
        if is_link and is_roots and found.st_uid == 0 and links < _MOST_LINKS:
            links += 1
            target = os.readlink(here)
            left += target.split("/")[::-1]
            here = "/" if target.startswith("/") else posixpath.dirname(here)
        elif is_link:
            is_roots = False
        elif stat.S_ISDIR(found.st_mode):
            # In a directory with the sticky bit no user can rename or remove what is another's
            # (unlink(2)); but each can put something where nothing is yet.
            is_kept = found.st_mode & stat.S_ISVTX and any(left)
            is_writable = found.st_mode & 0o022 and not is_kept
            is_roots = is_roots and found.st_uid == 0 and not is_writable
    return Way(here, owner, is_roots)


def is_anothers(path: str) -> bool:
    """Tell whether others than root have a say in what a source is, or where its index is."""
    way = way_of(path)
    return way.owner is not None or not (way.is_roots and way_of(posixpath.dirname(path)).is_roots)


def opened_folder(straight: str) -> int:
    """Open a directory; no link is followed on the way. Raises OSError."""
    handle = os.open("/", _STEP)
    for step in filter(None, straight.split("/")):
        above = handle
        try:
            handle = os.open(step, _STEP, dir_fd=above)
        finally:
            os.close(above)
    return handle


def opened_source(straight: str) -> int:
    """Open a file for reading; no link is followed, and a FIFO does not block. Raises OSError."""
    folder = opened_folder(posixpath.dirname(straight))
    try:
        return os.open(posixpath.basename(straight), _READ, dir_fd=folder)
    finally:
        os.close(folder)
