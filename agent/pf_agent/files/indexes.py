"""Replace the index of a table: readers see either the old one or the new one, whole.

postmap(1) writes in place under a lock (flock(2)), and readers wait for it. Here the new index is a
new file that takes over the name. A process that has the old one open keeps reading that until it
sees that its link count is 0 (dict_changed_name() in util/dict.c) and exits, as it does after
postmap. So no lock is needed. What a postmap writes into the old one at the same moment is lost;
if its source is newer than the one read here, the index is rebuilt again.
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack, suppress

from pf_agent.errors import HostError
from pf_agent.files.linux import close, give_name, new_file, stamp, sync_directory
from pf_agent.files.nature import OTHER_MAIN_CF
from pf_agent.files.replacement import Replacement
from pf_agent.files.sandbox import way_out
from pf_agent.files.whole import half_written
from pf_agent.maincf.aliases import Source
from pf_agent.model import ActualState, FileKind, Stamp

_PIECE = 1 << 20


def put_index(
    source: Source, seen: Stamp, index: int, owner: tuple[int, int] | None = None
) -> bool:
    """Replace the index by the open file `index`; owner, mode, ACL and attributes are kept.

    It gets the date of its source. False, and nothing is changed, if the source is no longer as it
    was `seen`. `owner`: the user and group as whom it was built, if not simply by root. Then an
    index of another user stays, since postmap(1), run as that owner, could not write it either.
    Raises HostError.
    """
    path = source.database
    ours = half_written(path)
    try:
        actual = _there(source, owner)
        _remove(ours)
        try:
            _lay(ours, index, path, actual, seen)
            if stamp(source.path) != seen:
                return False
            os.rename(ours, path)
        finally:
            _remove(ours)
        sync_directory(os.path.dirname(path))
    except OSError as error:
        otherwise = "make room for it, or run postmap"
        raise HostError(f"{path}: {error.strerror}; {way_out(path, error, otherwise)}") from error
    return True


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _there(source: Source, owner: tuple[int, int] | None) -> ActualState:
    """The old index; if there is none, the mode that postmap(1) would give it, by its source's."""
    try:
        found = os.lstat(source.database)
    except FileNotFoundError:
        mode = 0o644 & ~(~os.stat(source.path).st_mode & 0o077)
        return ActualState(b"", FileKind.ABSENT, *(owner or (os.geteuid(), os.getegid())), mode)
    if not stat.S_ISREG(found.st_mode):
        raise HostError(f"{source.database}: it is no regular file; remove it, or run postmap")
    if owner is not None and found.st_uid != owner[0]:
        fact = f"it belongs to uid {found.st_uid}, but the table is built as uid {owner[0]}"
        raise HostError(f"{source.database}: {fact}; chown it, or its source")
    mode = stat.S_IMODE(found.st_mode)
    # Of a source that was closed, nobody else may read the index any more.
    for reads, bits in ((stat.S_IRGRP, stat.S_IRWXG), (stat.S_IROTH, stat.S_IRWXO)):
        mode &= -1 if os.stat(source.path).st_mode & reads else ~bits
    return ActualState(b"", FileKind.REGULAR, found.st_uid, found.st_gid, mode)


def _lay(ours: str, index: int, path: str, actual: ActualState, seen: Stamp) -> None:
    """Write the index next to the old one, whole and synced."""
    replacement = Replacement(path, OTHER_MAIN_CF)
    attributes = replacement.attributes_of(actual)
    with ExitStack() as stack:
        new = new_file(ours)
        stack.callback(close, new.handle)
        at = 0
        while sent := os.sendfile(new.handle, index, at, _PIECE):
            at += sent
        os.utime(new.handle, ns=(seen.modified, seen.modified))
        replacement.dress(new.handle, actual, attributes)
        os.fsync(new.handle)
        if new.place != ours:
            give_name(new.handle, ours)
