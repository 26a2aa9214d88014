"""The `[tables]` of a file: entries that the sources of lookup tables must have, or must not have.

The keys are the table's own, so what else is said of one is in a table below it, `rules`. Whether
Postfix could read an entry depends on the kind of source, which main.cf decides: not checked here.
The keys are as Postfix has them: in lower case.
"""

from __future__ import annotations

import re
from typing import Final

from pf_agent.config.layer import Layer
from pf_agent.config.table import INT64, Table, shown
from pf_agent.maincf.entries import folded
from pf_agent.model import BLANKS, DocumentKind, Place, Unmanaged

# Types whose source has the format of postmap(1) or postalias(1): one entry a line. Those of
# regexp_table(5), pcre_table(5) and cidr_table(5) are read in order, which entries would not keep.
TYPES: Final = ("hash", "btree", "lmdb", "cdb", "dbm", "sdbm", "texthash")
_NAME: Final = re.compile(rf"(?:{'|'.join(TYPES)}):/[^\s]+")
RULES: Final = "rules"


def is_table(name: str) -> bool:
    """Tell whether a name is that of a table: `hash:/etc/postfix/transport`."""
    return _NAME.fullmatch(name) is not None


def read_tables(table: Table) -> dict[str, Layer]:
    """Return what a file says about each table; problems are noted in `table`."""
    section = table.table("tables")
    found = {}
    for name in section:
        inner = section.table(name)
        if not is_table(name):
            way_out = f"write TYPE:/PATH, with a type of {', '.join(TYPES)}"
            section.note(name, f"not a table whose entries can be desired; {way_out}")
        elif not name.isprintable():
            section.note(name, "a table's name may not contain control characters; remove them")
        else:
            found[name] = _read_table(inner).under(Layer(place=section.place(name), kind=_KIND))
    return found


_KIND: Final = DocumentKind.TABLE


def _read_table(table: Table) -> Layer:
    settings: dict[str, str] = {}
    absent: list[str] = []
    places: dict[str, Place] = {}
    for key in table:
        if key == RULES and isinstance(table.value(key), dict):
            continue
        value, name = _value(table, key), folded(key)
        if name in places:
            table.note(key, f"Postfix takes it for the key at {places[name]}; keep one of the two")
        places[name] = table.place(key)
        if value is None:
            absent.append(name)
        else:
            settings[name] = value
    rules = table.table(RULES) if isinstance(table.value(RULES), dict) else None
    if rules is None:
        return Layer(settings, frozenset(absent), provenance=places, kind=_KIND)
    unmanaged = None
    if rules.value("unmanaged") is not None:
        choices = [choice.value for choice in Unmanaged]
        unmanaged = Unmanaged(rules.choice("unmanaged", choices, Unmanaged.KEEP.value))
    ignore = rules.strings("ignore")
    rules.refuse_unknown("an entry belongs above, under the table itself")
    return Layer(settings, frozenset(absent), None, places, unmanaged, ignore, kind=_KIND)


def _value(table: Table, key: str) -> str | None:
    """Return an entry's value; None if there must be none, or if a problem was noted."""
    value = table.value(key)
    if value is False:
        return None
    if isinstance(value, str):
        return value.strip(BLANKS)
    if isinstance(value, int) and not isinstance(value, bool) and value in INT64:
        return str(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value).strip(BLANKS)
    way_out = "write one string, an array of strings, or false for no such entry"
    table.note(key, f"expected a value, got {shown(value)}; {way_out}")
    return None
