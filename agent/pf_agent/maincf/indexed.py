"""The indexed tables that main.cf and master.cf name, and whether a new index is accepted: pure.

An indexed table is a source that people edit, and an index that postmap(1) builds from it; Postfix
opens only the index (DATABASE_README). Those in alias_database are in aliases.py, for newaliases.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from pf_agent.maincf.aliases import BUILT, DEFAULTS, Source, expanded, named_in
from pf_agent.maincf.document import MainCf
from pf_agent.maincf.master_cf import MasterCf
from pf_agent.model import OnWarning, Stamp, TableRules

# Whoever writes main.cf decides how many there are; at most this many are looked after.
_MOST: Final = 200
# Also after proxy: and inside pipemap:{}, after the "!" of a pattern, and in "{ table, options }".
_WORD: Final = re.compile(rf"(?:^|[\s,{{:!])({'|'.join(BUILT)}):(/[^\s,{{}}]+)")
# Postfix writes these itself (postconf(5), address_verify_map, *_cache_map, *_cache_database).
_ITS_OWN: Final = re.compile(r"address_verify_map|\w+_cache_(?:map|database)")
# Debian's defaults, used where main.cf sets nothing.
_FOLDERS: Final = {"data_directory": "/var/lib/postfix", "queue_directory": "/var/spool/postfix"}
# An index of two files cannot be replaced in one step.
_IN_TWO_FILES: Final = ("dbm", "sdbm")


class Table(NamedTuple):
    """One table. `is_of_aliases`: its source has the format of aliases(5), for postalias(1)."""

    kind: str
    path: str
    is_of_aliases: bool = False

    @property
    def source(self) -> Source:
        """The file that people edit, and the index."""
        return Source(self.path, self.path + BUILT[self.kind])

    @property
    def said(self) -> str:
        """The table as an argument of Postfix's programs."""
        return f"{self.kind}:{self.path}"

    @property
    def program(self) -> str:
        """What builds it."""
        return "postalias" if self.is_of_aliases else "postmap"


class Draft(NamedTuple):
    """A new index, built next to the one that Postfix reads.

    `trouble` says why there is none. `warnings` is the number of Postfix's warnings, `remarks` are
    these and what else is odd, each with its place. `before` and `after` are the numbers of entries
    of the old index (0 if there is none) and of the new one, None if unknown. `seen` identifies the
    source that it was built from. `owner` is the user and group as whom it was built, if not simply
    by root; `is_put`: the index is in its place already.
    """

    trouble: str = ""
    warnings: int = 0
    remarks: tuple[str, ...] = ()
    before: int | None = None
    after: int | None = None
    seen: Stamp = Stamp(0, 0, 0, 0)
    owner: tuple[int, int] | None = None
    is_put: bool = False


def drafted(said: Any) -> Draft:
    """Read a draft that another process has sent. Raises TypeError, ValueError."""
    trouble, warnings, remarks, before, after, seen, owner, is_put = said
    uid, gid = owner or (0, 0)
    return Draft(
        str(trouble),
        int(warnings),
        tuple(map(str, remarks)),
        None if before is None else int(before),
        None if after is None else int(after),
        Stamp(*map(int, seen)),
        None if owner is None else (int(uid), int(gid)),
        bool(is_put),
    )


def indexed_in(main_cf: bytes, master_cf: bytes, directory: str) -> tuple[Table, ...]:
    """Return the tables that the two files in `directory` name, each once.

    A path that only Postfix can expand (a `$name` with a built-in default, a condition) is skipped.
    """
    explicit, settings = _settings(main_cf, directory)
    of_aliases = set(_words(expanded("$alias_maps", settings)))
    newaliases = {source.database for source in named_in(main_cf).sources}
    found: dict[str, Table] = {}
    for kind, path in _all(explicit, master_cf, settings):
        table = Table(kind, path, (kind, path) in of_aliases)
        if table.source.database not in newaliases and len(found) < _MOST:
            found.setdefault(table.source.database, table)
    return tuple(found.values())


def of_parameter(name: str, main_cf: bytes, directory: str) -> tuple[Table, ...]:
    """Return those of the tables that a parameter of main.cf names."""
    explicit, settings = _settings(main_cf, directory)
    named = set(_words(expanded(explicit.get(name, ""), settings)))
    return tuple(t for t in indexed_in(main_cf, b"", directory) if (t.kind, t.path) in named)


def wanted(tables: tuple[Table, ...], rules: TableRules) -> tuple[Table, ...]:
    """Return those that the options do not exclude."""
    if not rules.rebuild:
        return ()
    return tuple(t for t in tables if not any(fnmatchcase(t.path, p) for p in rules.ignore))


def _settings(main_cf: bytes, directory: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return what main.cf sets, and that with the defaults that its values may refer to."""
    explicit = dict(MainCf.parse(main_cf).parameters())
    return explicit, {**DEFAULTS, **_FOLDERS, **explicit, "config_directory": directory}


def _all(
    explicit: Mapping[str, str], master_cf: bytes, settings: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    for name, value in explicit.items():
        if not _ITS_OWN.fullmatch(name):
            yield from _words(expanded(value, settings))
    for service in MasterCf.parse(master_cf).services:
        options = service.options()
        for name, value in options.items():
            if not _ITS_OWN.fullmatch(name):
                yield from _words(expanded(value, {**settings, **options}))


def _words(value: str) -> Iterator[tuple[str, str]]:
    for kind, path in _WORD.findall(value):
        if "$" not in path:
            yield kind, path


def not_exchanged(table: Table) -> str:
    """Return why the agent cannot replace the index; "" if it can."""
    if table.kind in _IN_TWO_FILES:
        return f"an index of type {table.kind} is two files, which cannot be replaced in one step"
    return ""


def not_built(draft: Draft, rule: OnWarning) -> str:
    """Return why the old index stays; "" if the draft replaces it.

    postmap(1) skips the lines that it warns about and ends successfully: from a source without a
    single valid line it builds an empty table.
    """
    if draft.trouble:
        return draft.trouble
    is_empty = draft.after == 0
    if draft.warnings and (rule is OnWarning.KEEP or is_empty):
        return "; ".join([*draft.remarks, *(["no valid line is left"] if is_empty else [])])
    return ""
