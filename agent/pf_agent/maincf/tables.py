"""The tables that values name, and whether what Postfix opens of them exists. Pure.

`type:name` is postconf(5)'s form; a table may be inside another one: proxy:, pipemap:, unionmap:,
and in braces with options of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pf_agent.maincf.aliases import BUILT, READ
from pf_agent.maincf.inventory import Inventory, reference
from pf_agent.maincf.lists import words
from pf_agent.maincf.slips import nearest
from pf_agent.model import Presence, Reference

# Types whose name, if it is a path, is a file with the query's settings (ldap_table(5), "BACKWARDS
# COMPATIBILITY"; memcache_table(5)).
_ASKED_BY: Final = ("ldap", "mysql", "pgsql", "sqlite", "mongodb", "memcache")
# Types that need no file: the value says everything, or it is built into Postfix.
_SELF_CONTAINED: Final = ("static", "inline", "fail", "environ", "randmap", "internal")
_JOINED: Final = ("pipemap", "unionmap")
# Types that Debian ships in a package of their own, postfix-TYPE.
_PACKAGED: Final = ("cdb", "ldap", "lmdb", "mongodb", "mysql", "pcre", "pgsql", "sqlite")
_PROXY: Final = "proxy:"


def tables(parameter: str, word: str, inventory: Inventory) -> Iterator[Reference]:
    """Yield what a word names that Postfix opens as a table."""
    if word.startswith("{"):  # with options of its own: { type:name, search_order = ... }
        word = next(words(word[1:].rpartition("}")[0]), "")
    kind, colon, name = word.partition(":")
    if "$" in word or not word:
        return
    if not colon or not name or not kind:
        why = f'"{word}" is not a table: Postfix expects type:name'
        yield reference(parameter, "table", word, Presence.ABSENT, why=why)
        return
    if f"{kind}:" == _PROXY:
        yield _approved(parameter, name, inventory)
        yield from tables(parameter, name, inventory)
        return
    of_type = _type(parameter, kind, word, inventory)
    if of_type.presence is not Presence.EXISTS:
        yield of_type
    elif kind in _JOINED:
        for inner in words(name.strip()[1:-1]):
            yield from tables(parameter, inner, inventory)
    else:
        yield _opened(parameter, kind, name, inventory)


def _type(parameter: str, kind: str, word: str, inventory: Inventory) -> Reference:
    if inventory.types is None:
        return reference(parameter, "table type", kind, Presence.UNKNOWN)
    if kind in inventory.types:
        return reference(parameter, "table type", kind, Presence.EXISTS)
    why = f'Postfix has no table type "{kind}", which {word[:100]} asks for'
    meant = nearest(kind, inventory.types)
    if kind in _PACKAGED:
        why += f"; install postfix-{kind}"
    elif meant:
        why += f"; did you mean {meant}?"
    return reference(parameter, "table type", kind, Presence.ABSENT, "postconf -m", why)


def _opened(parameter: str, kind: str, name: str, inventory: Inventory) -> Reference:
    """Return the table itself, of an available type."""
    said = f"{kind}:{name}"
    if kind in _SELF_CONTAINED:
        return reference(parameter, "table", said, Presence.EXISTS)
    if not name.startswith("/"):
        return reference(parameter, "table", said, Presence.UNKNOWN)
    if kind in BUILT:
        return _indexed(parameter, said, name, name + BUILT[kind], inventory)
    if kind not in (*READ, *_ASKED_BY):
        return reference(parameter, "table", said, Presence.UNKNOWN)
    why = f"there is no file {name}; create it, or correct the name"
    return reference(parameter, "table", said, inventory.file(name), name, why)


def _indexed(parameter: str, said: str, source: str, index: str, inventory: Inventory) -> Reference:
    """Return a database. One not built yet, whose source exists, does not count as absent."""
    found = inventory.file(index)
    if found is Presence.ABSENT and inventory.file(source) is not Presence.ABSENT:
        return reference(parameter, "table", said, Presence.UNKNOWN, source)
    why = f"there is neither {index} nor {source}; create it and run postmap {said}"
    return reference(parameter, "table", said, found, index, why)


def _approved(parameter: str, name: str, inventory: Inventory) -> Reference:
    """proxymap(8) opens only listed tables, however many `proxy:` precede the name (proxymap.c)."""
    while name.startswith(_PROXY):
        name = name[len(_PROXY) :]
    said = f"{_PROXY}{name}"
    listed = inventory.settings.get("proxy_read_maps")
    if listed is None or "$" in listed:
        return reference(parameter, "proxied table", said, Presence.UNKNOWN)
    is_listed = said in listed  # also inside a table that joins others
    why = f"proxy_read_maps does not list {said}, so proxymap will not open it; add it there"
    presence = Presence.EXISTS if is_listed else Presence.ABSENT
    return reference(parameter, "proxied table", said, presence, "proxy_read_maps", why)
