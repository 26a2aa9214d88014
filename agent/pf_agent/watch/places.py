"""Which paths the watch has to hear of: as they are named, and as the kernel reports them. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from pf_agent import names
from pf_agent.model import Reason

# Why a change matters, and to which instance; None: to all of them.
Why = tuple[Reason, str | None]


@dataclass(frozen=True)
class Files:
    """What is watched of one Postfix instance; absolute names."""

    main_cf: str
    aliases: tuple[str, ...]
    named: tuple[str, ...] = ()


@dataclass(frozen=True)
class Places:
    """Which paths matter and why, in the spelling in which inotify reports them.

    `ways` are the names on the way to them; None where one of these is a link.
    """

    main_cfs: tuple[str, ...]
    named: Mapping[str, Why]
    toml_folders: frozenset[str]
    ways: frozenset[str] | None

    @classmethod
    def of(
        cls, instances: Mapping[str, Files], config_directory: str, resolved: Callable[[str], str]
    ) -> Places:
        """`resolved` tells where a name leads to, as os.path.realpath does."""
        dropins = posixpath.join(config_directory, names.DESIRED_DROPINS)
        named: dict[str, Why] = {}
        main_cfs = []
        for files in instances.values():
            for path in files.aliases:
                named |= dict.fromkeys(_spellings(path, resolved), (Reason.ALIASES, None))
        for instance, files in instances.items():
            for path in files.named:
                named |= dict.fromkeys(_spellings(path, resolved), (Reason.NAMED, instance))
        for folder in (config_directory, dropins):
            named |= dict.fromkeys(_spellings(folder, resolved), (Reason.CONFIGURATION, None))
        for instance, files in instances.items():
            folder, name = posixpath.split(files.main_cf)
            main_cf = posixpath.join(resolved(folder), name)
            paths = {*_spellings(folder, resolved), main_cf}
            named |= dict.fromkeys(paths, (Reason.MAIN_CF, instance))
            main_cfs.append(main_cf)
        toml_folders = frozenset(map(resolved, (config_directory, dropins)))
        aliases = (path for files in instances.values() for path in files.aliases)
        things = (path for files in instances.values() for path in files.named)
        roots = {config_directory, dropins, *aliases, *things}
        roots |= {posixpath.dirname(files.main_cf) for files in instances.values()}
        given = {*roots, *(files.main_cf for files in instances.values())}
        is_straight = given >= named.keys() | toml_folders  # as it was when each was resolved
        ways = frozenset(way for root in roots for way in _ways(root)) if is_straight else None
        return cls(tuple(main_cfs), named, toml_folders, ways)

    def still_hold(self, is_link: Callable[[str], bool]) -> bool:
        """Tell whether they are what `of` would return now: there was no link, and is none.

        To ask that costs a tenth of resolving each name again.
        """
        return self.ways is not None and not any(map(is_link, self.ways))

    def folders(self) -> list[str]:
        """Every folder to watch, those above before those below."""
        return sorted({posixpath.dirname(path) for path in self.named} | self.toml_folders)

    def why(self, path: str) -> Why | None:
        """Why a change of `path` matters; None when it does not."""
        if path.endswith(".toml") and posixpath.dirname(path) in self.toml_folders:
            return Reason.CONFIGURATION, None
        return self.named.get(path)

    def unheard_in(self, folder: str) -> set[Why]:
        """What may have gone unheard while `folder` was not watched."""
        found = {why for path, why in self.named.items() if posixpath.dirname(path) == folder}
        return found | ({(Reason.CONFIGURATION, None)} if folder in self.toml_folders else set())


def _spellings(path: str, resolved: Callable[[str], str]) -> set[str]:
    """The name itself, and what it leads to where it is a symbolic link."""
    folder, name = posixpath.split(path)
    return {posixpath.join(resolved(folder), name), resolved(path)}


def _ways(path: str) -> Iterator[str]:
    """The path and each folder above it."""
    while path != posixpath.dirname(path):
        yield path
        path = posixpath.dirname(path)
