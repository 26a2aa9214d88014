"""Files that only root may have written: read, or refused with the reason.

The desired state decides what main.cf says, and main.cf can name programs that root's Postfix runs.
So a file that others may change is not obeyed, just as sshd(8) ignores such key files (StrictModes
in sshd_config(5)).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from pf_agent import names
from pf_agent.config.table import Source
from pf_agent.errors import ConfigError
from pf_agent.files.linux import contents
from pf_agent.files.whole import opened
from pf_agent.words.outgoing import PROCESS

_MOST_BYTES = 16 * 1024 * 1024
# As many as the kernel follows (path_resolution(7)).
_MOST_LINKS = 40


def read_source(path: str, is_guarded: bool) -> Source:
    """Return a configuration file's bytes. Raises ConfigError.

    With `is_guarded` it is refused if others than root, or than the caller, may change it. A file
    named on the command line is the caller's own choice.
    """
    try:
        with opened(path, is_followed=True) as file:
            target = os.path.realpath(path)  # of a link, the target is what others may change
            problem = _fault(target, file.status) or _fault_above(path) if is_guarded else ""
            if problem:
                raise ConfigError(problem)
            data = contents(file.handle, file.status.st_size, _MOST_BYTES)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; make it a readable file") from error
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"{path}: it is larger than {_MOST_BYTES} bytes; make it smaller")
    PROCESS.read_toml(data)
    return Source(path, data)


def require_guarded(path: str) -> None:
    """Raise ConfigError if others than root may put another file in this one's place.

    Neither the file nor the directories above it need exist yet.
    """
    there = (above for above in _above(path) if os.path.isdir(above))
    for problem in (_fault(above, os.stat(above)) for above in there):
        if problem:
            raise ConfigError(problem)


def require_root_alone(path: str) -> None:
    """Raise ConfigError if others than root may change the file, or put another in its place.

    Nor may they create files beside it, as in /tmp, nor beside a link that leads to it: another
    could be there first.
    """
    require_guarded(path)
    problem = ""
    with suppress(FileNotFoundError):
        for folder in _way(path).holders:
            if not problem and stat.S_IMODE(os.stat(folder).st_mode) & 0o022:
                problem = f"{folder}: writable by others; {way_out(folder, 'chmod go-w')}"
        problem = problem or _fault(path, os.stat(path))
    if problem:
        raise ConfigError(problem)


def is_guarded(path: str) -> bool:
    """Tell whether only root may change what a file says, whether it exists or not."""
    try:
        require_guarded(path)
        return not _fault(path, os.stat(path))
    except ConfigError:
        return False
    except OSError:
        return True


def owners_of(paths: Iterable[str]) -> list[tuple[str, int, int, int]]:
    """Return owner and mode of the directories that decide whether these files are trusted."""
    found = []
    for folder in sorted({above for path in paths for above in _above(path)}):
        try:
            state = os.stat(folder)
        except OSError:
            continue
        found.append((folder, state.st_uid, stat.S_IMODE(state.st_mode), 0))
    return found


def _fault_above(path: str) -> str:
    return next((why for above in _above(path) if (why := _fault(above, os.stat(above)))), "")


def _fault(path: str, found: os.stat_result) -> str:
    """Say why others than root may change it; "" if they may not."""
    if found.st_uid not in (0, os.geteuid()):
        fact = f"it belongs to uid {found.st_uid}, not to root"
        return f"{path}: {fact}; {way_out(path, 'chown root')}"
    # In a directory with the sticky bit no user can rename or remove another's file (unlink(2)).
    is_sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
    if found.st_mode & 0o022 and not is_sticky:
        return f"{path}: writable by others; {way_out(path, 'chmod go-w')}"
    return ""


def way_out(path: str, command: str) -> str:
    """Return the remedy. A path outside the configuration may be a user's home: leave it alone."""
    is_ours = f"{path}/".startswith(f"{names.CONFIG_DIRECTORY}/")
    return f"{command} {path}" if is_ours else "keep the file where only root can write"


class _Way(NamedTuple):
    """The directories through which the kernel comes to a file, and those that hold a link or it.

    One that a link leads through and out of again decides, too.
    """

    folders: dict[str, None]
    holders: dict[str, None]


def _above(path: str) -> list[str]:
    """Return the directories above a file, and above each link on the way, up to the root."""
    return list(_way(path).folders)


def _way(path: str) -> _Way:
    """Follow a path as the kernel does (path_resolution(7))."""
    left = os.path.join(os.getcwd(), path).split("/")[::-1]
    here, count = "/", 0
    way = _Way({here: None}, {})
    while left:
        step = left.pop()
        if step in ("", "."):
            continue
        if step == "..":
            here = os.path.dirname(here)
            continue
        place = os.path.join(here, step)
        if os.path.islink(place) and count < _MOST_LINKS:
            count += 1
            way.holders[here] = None
            target = os.readlink(place)
            left += target.split("/")[::-1]
            here = "/" if target.startswith("/") else here
        elif any(left):
            here = place
            way.folders[here] = None
        else:
            way.holders[here] = None
    return way
