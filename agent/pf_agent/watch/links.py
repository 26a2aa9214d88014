"""Configuration files that are links, for example into a checkout: the names that decide them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from contextlib import suppress

from pf_agent import names
from pf_agent.watch.places import way_to


def read_link(path: str) -> str | None:
    """Return the target of a symbolic link; None for anything else."""
    try:
        return os.readlink(path)
    except OSError:
        return None


def linked_names(config_directory: str, is_guarded: Callable[[str], bool]) -> frozenset[str]:
    """Return each name whose change may change what a linked file says.

    These are the links on the path, the file at its end and the directory that it is in: a checkout
    may replace the whole directory. If something is missing, it is the first missing name.

    A name that is not `is_guarded` is refused by its reader, and left out: otherwise any user who
    may write there could wake us without end.
    """
    dropins = os.path.join(config_directory, names.DESIRED_DROPINS)
    found: set[str] = set()
    for path in [*_links_in(config_directory), *_links_in(dropins)]:
        if is_guarded(path):
            *links, end = way_to(path, read_link)
            found.update(links, (_first_missing(end), os.path.dirname(end)))
    return frozenset(found - {"/"})


def _links_in(folder: str) -> Collection[str]:
    # It may be missing; if it cannot be read, the configuration reports that.
    with suppress(OSError), os.scandir(os.path.realpath(folder)) as entries:
        return [e.path for e in entries if e.name.endswith(".toml") and e.is_symlink()]
    return ()


def _first_missing(path: str) -> str:
    while not os.path.lexists(os.path.dirname(path)):
        path = os.path.dirname(path)
    return path
