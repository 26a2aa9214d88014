"""The alias files that main.cf names, what is built from them, and whether they exist.

The messages are those of postalias(1) for a missing source, and of local(8) and smtpd(8) for a
missing table (dict_open in util/dict_db.c, dict_pcre.c, dict_thash.c).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from pf_agent import names
from pf_agent.maincf.document import MainCf
from pf_agent.model import Fault

# By type, the file that postalias(1) and postmap(1) build from a source; only that is opened.
BUILT: Final = {
    **{"hash": ".db", "btree": ".db", "lmdb": ".lmdb", "cdb": ".cdb"},
    **{"dbm": ".pag", "sdbm": ".pag"},
}
# Types that read the file itself.
READ: Final = ("regexp", "pcre", "cidr", "texthash")
_ABSENT: Final = "No such file or directory"
# Debian's defaults, used where main.cf sets nothing.
DEFAULTS: Final = {
    "alias_database": f"hash:{names.DEFAULT_ALIASES}",
    "alias_maps": f"hash:{names.DEFAULT_ALIASES}, nis:mail.aliases",
    "default_database_type": "hash",
    "config_directory": names.MAIN_CF.rpartition("/")[0],
}
_NAME: Final = re.compile(r"\$(?:\{(\w+)\}|\((\w+)\)|(\w+))")
_MOST_STEPS: Final = 5


class Source(NamedTuple):
    """A text file, and the database that postalias(1) builds from it; absolute paths."""

    path: str
    database: str


class Built(NamedTuple):
    """The result for one database: why it could not be built, and which lines were skipped.

    `is_final`: only a change of the source can fix it. `before` and `after` are the numbers of its
    entries, None if unknown; `seconds` is how long it took.
    """

    source: Source
    trouble: str = ""
    doubts: tuple[str, ...] = ()
    is_final: bool = False
    before: int | None = None
    after: int | None = None
    seconds: float | None = None


class Named(NamedTuple):
    """The sources that a main.cf names; `is_all` False: a name in it could not be expanded."""

    sources: tuple[Source, ...]
    is_all: bool = True


def named_in(text: bytes) -> Named:
    """Return what newaliases(1) reads: postconf(5), alias_database."""
    explicit = MainCf.parse(text).parameters()
    value = expanded("$alias_database", {**DEFAULTS, **explicit})
    kind = explicit.get("default_database_type", DEFAULTS["default_database_type"])
    found = dict.fromkeys(filter(None, (source_of(word, kind) for word in tables(value))))
    return Named(tuple(found), "$" not in value)


def tables(value: str) -> list[str]:
    """Return the words of a list as newaliases passes them to postalias (main() in sendmail.c)."""
    return value.replace(",", " ").split()


def source_of(word: str, kind: str) -> Source | None:
    """Return what a word of alias_database names; None if no database is built from it.

    `kind` is Postfix's default_database_type, which applies if the word names no type.
    """
    if ":" in word:
        kind, _, word = word.partition(":")
    if kind not in BUILT or not word.startswith("/") or "$" in word:
        return None
    return Source(word, word + BUILT[kind])


def expanded(value: str, parameters: Mapping[str, str]) -> str:
    """Expand `$name`, `${name}` and `$(name)`; unknown names are left as they are."""

    def named(found: re.Match[str]) -> str:
        name = found[1] or found[2] or found[3]
        return parameters.get(name, found[0])

    for _ in range(_MOST_STEPS):  # "a = $a" never ends
        value = _NAME.sub(named, value)
    return value


def buildable(values: Mapping[str, str], exists: Callable[[str], bool]) -> frozenset[str]:
    """Return the databases, by path, that the agent's next newaliases builds."""
    return frozenset(
        path + BUILT[kind]
        for kind, path in _tables(values.get("alias_database", ""))
        if kind in BUILT and (exists(path) or path == names.DEFAULT_ALIASES)
    )


def faults(values: Mapping[str, str], exists: Callable[[str], bool]) -> tuple[Fault, ...]:
    """Return what is missing. `values` are expanded; only local files are checked."""
    built = buildable(values, exists)
    found = {
        Fault("alias_database", f"open {path}: {_ABSENT}")
        for kind, path in _tables(values.get("alias_database", ""))
        if kind in BUILT and path + BUILT[kind] not in built
    }
    for kind, path in _tables(values.get("alias_maps", "")):
        opened = path + BUILT.get(kind, "")
        if (kind in BUILT or kind in READ) and opened not in built and not exists(opened):
            verb = "open" if kind in READ and kind != "texthash" else "open database"
            found.add(Fault("alias_maps", f"{verb} {opened}: {_ABSENT}"))
    return tuple(sorted(found, key=lambda fault: (fault.parameter, fault.reason)))


def _tables(value: str) -> Iterator[tuple[str, str]]:
    """Yield the `type:path` words of a list that have an absolute path, after any `proxy:`."""
    for word in value.replace(",", " ").split():
        kind, _, path = word.removeprefix("proxy:").partition(":")
        if path.startswith("/"):
            yield kind, path
