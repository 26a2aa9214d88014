"""The agent's own directories: writable by root only, and cleared of what does not belong there.

A link is never followed there: anything in the place of a file of ours is moved away, and that is
reported.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from pf_agent.files.linux import type_of
from pf_agent.files.whole import MOST_BYTES, host_error, remove

# A file written without a lock may be half-written by a running process, as these may be.
_HALF_WRITTEN = re.compile(r"\.(?!status|suspension).*\.new")


@dataclass(frozen=True)
class Folders:
    """Directories with their modes, outermost first, and the names that are ours in `cleared` ones.

    The administrator may move those in `may_be_links` elsewhere.
    """

    modes: Mapping[str, int]
    may_be_links: Collection[str]
    cleared: Collection[str]
    ours: Collection[str]

    def prepare(self, quickly: bool) -> tuple[str, ...]:
        """Create the directories, and make room for our files in them.

        With `quickly`, only the file types that the directory lists are checked. Return a sentence
        for each thing moved away because it is not our file or directory. Raises HostError.
        """
        moved: list[str] = []
        uid = os.geteuid()
        try:
            for folder, mode in self.modes.items():
                may_be_link = folder in self.may_be_links
                if not _is_ours(folder, mode, uid, may_be_link):
                    if not (may_be_link and os.path.isdir(folder)):
                        moved += _cleared_for_folder(folder)
                    _make(folder, mode)
            for folder in self.cleared:
                moved += _cleared(folder, self.ours, quickly)
        except OSError as error:
            raise host_error(str(error.filename), error, "run as root") from error
        return tuple(moved)


def remove_half_written(folders: Iterable[str]) -> None:
    """Remove files left half-written by a crash. Raises HostError, OSError."""
    for folder in folders:
        for entry in os.scandir(folder):
            is_folder = entry.is_dir(follow_symlinks=False)
            if _HALF_WRITTEN.fullmatch(entry.name) and not is_folder:
                remove(entry.path)


def _cleared_for_folder(folder: str) -> Iterator[str]:
    """Move away what is not a directory."""
    if type_of(folder) not in (0, stat.S_IFDIR):
        yield _moved_away(folder, "it was not a directory")


def _is_ours(folder: str, mode: int, uid: int, may_be_link: bool) -> bool:
    """Whether a directory exists, is ours, and is open to no more than `mode` says."""
    try:
        found = os.stat(folder, follow_symlinks=may_be_link)
    except OSError:
        return False
    is_folder = stat.S_ISDIR(found.st_mode)
    return is_folder and found.st_uid == uid and not stat.S_IMODE(found.st_mode) & ~mode


def _make(folder: str, mode: int) -> None:
    """Create a directory; one that is another user's, or open to more than `mode`, becomes ours."""
    if not os.path.isdir(folder):
        os.makedirs(folder, mode, exist_ok=True)
    if _is_ours(folder, mode, os.geteuid(), may_be_link=True):
        return
    found = os.stat(folder)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fchown(handle, os.geteuid(), os.getegid())
        os.fchmod(handle, stat.S_IMODE(found.st_mode) & mode)
    finally:
        os.close(handle)


def _cleared(folder: str, ours: Collection[str], quickly: bool) -> Iterator[str]:
    """Move away what has the name of a file of ours, half-written or not, and is no file."""
    for entry in list(os.scandir(folder)):
        name = entry.name.removeprefix(".").removesuffix(".new")
        if name not in ours or entry.name not in (name, f".{name}.new"):
            continue
        # What cannot be moved is reported where it is in the way, and stops nothing else.
        with suppress(OSError):
            if not entry.is_file(follow_symlinks=False):
                yield _moved_away(entry.path, "it was not a regular file")
            elif not quickly and entry.stat(follow_symlinks=False).st_size > MOST_BYTES:
                yield _moved_away(entry.path, f"it was larger than {MOST_BYTES} bytes")


def _moved_away(path: str, why: str) -> str:
    away = f"{path}.not-ours-{time.time_ns()}"
    os.rename(path, away)
    return f"{path}: {why}, so it is not the agent's; it is now {away}"
