"""Which paths the watch must report: as they are named, and as the kernel spells them. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from pf_agent import names
from pf_agent.model import Reason

# Why a change matters, and to which instance; None: to all of them.
Why = tuple[Reason, str | None]
# Returns the target of the symbolic link at a path; None if it is not a link.
ReadLink = Callable[[str], str | None]

# As many as the kernel follows (path_resolution(7)).
_MOST_LINKS: Final = 40


@dataclass(frozen=True)
class Files:
    """The files watched for one Postfix instance; absolute paths."""

    main_cf: str
    aliases: tuple[str, ...]
    named: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()

    def things(self) -> tuple[str, ...]:
        """What main.cf's values name, as far as it is watched."""
        return (*self.named, *self.tables, *self.documents)


@dataclass(frozen=True)
class Places:
    """Which paths matter and why, in the spelling in which inotify reports them.

    `ways` are the paths that lead to them; None if one of them is a link.
    """

    main_cfs: tuple[str, ...]
    named: Mapping[str, Why]
    toml_folders: frozenset[str]
    ways: frozenset[str] | None

    @classmethod
    def of(
        cls,
        instances: Mapping[str, Files],
        config_directory: str,
        read_link: ReadLink,
        linked: Iterable[str] = (),
    ) -> Places:
        """`linked` are names elsewhere that decide what the configuration says."""
        dropins = posixpath.join(config_directory, names.DESIRED_DROPINS)
        named = _things_of(instances, read_link)
        main_cfs = []
        named |= dict.fromkeys(linked, (Reason.CONFIGURATION, None))
        for folder in (config_directory, dropins):
            named |= dict.fromkeys(way_to(folder, read_link), (Reason.CONFIGURATION, None))
        for instance, files in instances.items():
            folder, name = posixpath.split(files.main_cf)
            way = way_to(folder, read_link)
            main_cf = posixpath.join(way[-1], name)
            named |= dict.fromkeys([*way, main_cf], (Reason.MAIN_CF, instance))
            main_cfs.append(main_cf)
        toml_folders = frozenset(
            way_to(each, read_link)[-1] for each in (config_directory, dropins)
        )
        aliases = (path for files in instances.values() for path in files.aliases)
        things = (path for files in instances.values() for path in files.things())
        roots = {config_directory, dropins, *aliases, *things}
        roots |= {posixpath.dirname(files.main_cf) for files in instances.values()}
        given = {*roots, *(files.main_cf for files in instances.values())}
        is_straight = given >= named.keys() | toml_folders  # as it was when each was resolved
        ways = frozenset(way for root in roots for way in _ways(root)) if is_straight else None
        return cls(tuple(main_cfs), named, toml_folders, ways)

    def still_hold(self, is_link: Callable[[str], bool]) -> bool:
        """Tell whether `of` would still return the same: there was no link, and there is none.

        Asking this costs a tenth of resolving each path again.
        """
        return self.ways is not None and not any(map(is_link, self.ways))

    def folders(self) -> list[str]:
        """Return every directory to watch, parents before their children."""
        return sorted({posixpath.dirname(path) for path in self.named} | self.toml_folders)

    def why(self, path: str) -> Why | None:
        """Return why a change of `path` matters; None if it does not."""
        if path.endswith(".toml") and posixpath.dirname(path) in self.toml_folders:
            return Reason.CONFIGURATION, None
        return self.named.get(path)

    def unheard_in(self, folder: str) -> set[Why]:
        """Return what may have gone unnoticed while `folder` was not watched."""
        found = {why for path, why in self.named.items() if posixpath.dirname(path) == folder}
        return found | ({(Reason.CONFIGURATION, None)} if folder in self.toml_folders else set())


def _things_of(instances: Mapping[str, Files], read_link: ReadLink) -> dict[str, Why]:
    """Return why the files that main.cf's values name matter, by path."""
    named: dict[str, Why] = {}
    for files in instances.values():
        for path in files.aliases:
            named |= dict.fromkeys(way_to(path, read_link), (Reason.ALIASES, None))
    of_aliases = frozenset(named)
    for instance, files in instances.items():
        for path in (*files.named, *files.tables):
            named |= dict.fromkeys(way_to(path, read_link), (Reason.NAMED, instance))
    for instance, files in instances.items():
        for path in files.documents:
            for place in way_to(path, read_link):
                # Others may read it, too: as their table, or as an alias file.
                is_others = named.get(place, (None, instance))[1] != instance
                is_shared = is_others or place in of_aliases
                named[place] = (Reason.DOCUMENT, None if is_shared else instance)
    return named


def way_to(path: str, read_link: ReadLink) -> list[str]:
    """Return every symbolic link on the way to what `path` means, including the last one.

    Each by the kernel's spelling: in a directory that is not reached through a link. A change of
    any of these names may give `path` another meaning.
    """
    left = path.split("/")[::-1]
    links: list[str] = []
    here = "/"
    while left:
        step = left.pop()
        if step == "..":
            here = posixpath.dirname(here)
        elif step not in ("", "."):
            here = posixpath.join(here, step)
            target = read_link(here)
            if target is not None and len(links) < _MOST_LINKS:
                links.append(here)
                left += target.split("/")[::-1]
                here = "/" if target.startswith("/") else posixpath.dirname(here)
    return [*links, here]


def _ways(path: str) -> Iterator[str]:
    """Yield the path and each directory above it."""
    while path != posixpath.dirname(path):
        yield path
        path = posixpath.dirname(path)
