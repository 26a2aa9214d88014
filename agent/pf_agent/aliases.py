"""The alias files that main.cf names, and whether what Postfix would open is there.

The words are those of postalias(1) for a source that is missing, and of local(8) and smtpd(8) for a
table that is (dict_open of util/dict_db.c, dict_pcre.c, dict_thash.c).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from pf_agent import names
from pf_agent.main_cf import MainCf
from pf_agent.model import Fault

# What postalias(1) makes of a source file, by type; the other types read the file itself.
_BUILT: Final = {
    **{"hash": ".db", "btree": ".db", "lmdb": ".lmdb", "cdb": ".cdb"},
    **{"dbm": ".pag", "sdbm": ".pag"},
}
_READ: Final = ("regexp", "pcre", "cidr", "texthash")
_ABSENT: Final = "No such file or directory"


def alias_file(text: bytes) -> str:
    """Return the file that newaliases(1) reads first: postconf(5) alias_database."""
    main_cf = MainCf.parse(text)
    value = "$alias_database"
    for _ in range(4):  # "alias_database = $alias_maps" and its like, never round in a circle
        found = main_cf.get(value.removeprefix("$")) if value.startswith("$") else None
        if found is None:
            break
        value = (found.value.replace(",", " ").split() or [""])[0]
    path = value.partition(":")[2]
    return path if path.startswith("/") and "$" not in path else names.DEFAULT_ALIASES


def buildable(values: Mapping[str, str], exists: Callable[[str], bool]) -> frozenset[str]:
    """Return the databases that the agent's next newaliases makes, by path."""
    return frozenset(
        path + _BUILT[kind]
        for kind, path in _tables(values.get("alias_database", ""))
        if kind in _BUILT and (exists(path) or path == names.DEFAULT_ALIASES)
    )


def faults(values: Mapping[str, str], exists: Callable[[str], bool]) -> tuple[Fault, ...]:
    """Return what is missing. `values` are expanded; only local files are looked for."""
    built = buildable(values, exists)
    found = {
        Fault("alias_database", f"open {path}: {_ABSENT}")
        for kind, path in _tables(values.get("alias_database", ""))
        if kind in _BUILT and path + _BUILT[kind] not in built
    }
    for kind, path in _tables(values.get("alias_maps", "")):
        opened = path + _BUILT.get(kind, "")
        if (kind in _BUILT or kind in _READ) and opened not in built and not exists(opened):
            verb = "open" if kind in _READ and kind != "texthash" else "open database"
            found.add(Fault("alias_maps", f"{verb} {opened}: {_ABSENT}"))
    return tuple(sorted(found, key=lambda fault: (fault.parameter, fault.reason)))


def _tables(value: str) -> Iterator[tuple[str, str]]:
    """The `type:path` words of a list with an absolute path; proxy: names who opens it."""
    for word in value.replace(",", " ").split():
        kind, _, path = word.removeprefix("proxy:").partition(":")
        if path.startswith("/"):
            yield kind, path
