"""The agent's own folders: made for root alone to write to, and cleared of what is another's.

A link is never followed there: what another put in the place of a file of ours is moved away, and
that is told.
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

# What is written without a lock may be half written by a process that lives, as these may.
_HALF_WRITTEN = re.compile(r"\.(?!status|suspension).*\.new")


@dataclass(frozen=True)
class Folders:
    """Folders by their modes, the outer ones first, and the names that are ours in the `cleared`.

    Where some lie is the administrator's choice, and `may_be_links`.
    """

    modes: Mapping[str, int]
    may_be_links: Collection[str]
    cleared: Collection[str]
    ours: Collection[str]

    def prepare(self, quickly: bool) -> tuple[str, ...]:
        """Make the folders, and make room for our files in them.

        `quickly`, by the types alone that the folders tell. Returns a sentence for each thing that
        was moved away since it is no file or folder of ours. Raises HostError.
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
    """Remove what a crash left half written. Raises HostError, OSError."""
    for folder in folders:
        for entry in os.scandir(folder):
            is_folder = entry.is_dir(follow_symlinks=False)
            if _HALF_WRITTEN.fullmatch(entry.name) and not is_folder:
                remove(entry.path)


def _cleared_for_folder(folder: str) -> Iterator[str]:
    """Move away what is no folder."""
    if type_of(folder) not in (0, stat.S_IFDIR):
        yield _moved_away(folder, "it was no folder")


def _is_ours(folder: str, mode: int, uid: int, may_be_link: bool) -> bool:
    """Whether a folder is there, ours, and open to no more than `mode` says."""
    try:
        found = os.stat(folder, follow_symlinks=may_be_link)
    except OSError:
        return False
    is_folder = stat.S_ISDIR(found.st_mode)
    return is_folder and found.st_uid == uid and not stat.S_IMODE(found.st_mode) & ~mode


def _make(folder: str, mode: int) -> None:
    """Make a folder; one that is another's, or open to more than `mode` says, becomes ours."""
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
    """Move away what has the name of a file of ours, or of a half written one, and is none."""
    for entry in list(os.scandir(folder)):
        name = entry.name.removeprefix(".").removesuffix(".new")
        if name not in ours or entry.name not in (name, f".{name}.new"):
            continue
        # What cannot be moved is told of where it is in the way, and stops nothing else.
        with suppress(OSError):
            if not entry.is_file(follow_symlinks=False):
                yield _moved_away(entry.path, "it was no regular file")
            elif not quickly and entry.stat(follow_symlinks=False).st_size > MOST_BYTES:
                yield _moved_away(entry.path, f"it was larger than {MOST_BYTES} bytes")


def _moved_away(path: str, why: str) -> str:
    away = f"{path}.not-ours-{time.time_ns()}"
    os.rename(path, away)
    return f"{path}: {why}, so it is not the agent's; it is {away} now"
