"""A desired document as this host's main.cf decides: its grammar, its keys, what is secret in it.

A table that main.cf has in its alias_maps or alias_database is a source of aliases(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from pf_agent.maincf.aliases import DEFAULTS, expanded
from pf_agent.maincf.document import MainCf
from pf_agent.maincf.entry_faults import entry_fault, key_fault
from pf_agent.maincf.grammar import grammar_of
from pf_agent.model import DesiredState, DocumentKind

_OF_ALIASES: Final = "$alias_maps $alias_database"
# postconf(5): smtp_sasl_password_maps, lmtp_sasl_password_maps.
_OF_PASSWORDS: Final = re.compile(r"\w*password_maps")


@dataclass(frozen=True)
class Resolved:
    """The document as it must be, and why parts of it cannot be.

    `path` is its file. `is_secret`: its values are passwords. `is_named`: main.cf names it.
    """

    desired: DesiredState
    path: str
    is_secret: bool
    is_named: bool
    problems: tuple[str, ...]


def resolved(name: str, desired: DesiredState, main_cf: bytes, directory: str) -> Resolved:
    """Return what the document `name` (`hash:/etc/postfix/transport`) comes to.

    `main_cf` is the text of the main.cf in `directory`.
    """
    says = MainCf.parse(main_cf).parameters()
    values = {**DEFAULTS, "config_directory": directory, **says}
    kind = DocumentKind.TABLE
    if name in _words(expanded(_OF_ALIASES, values)):
        kind = DocumentKind.ALIASES
    found = replace(desired, kind=kind)
    secret = (expanded(v, values) for n, v in says.items() if _OF_PASSWORDS.fullmatch(n))
    # The same source may be named by another type.
    path = name.partition(":")[2]
    is_secret = any(w.partition(":")[2] == path for value in secret for w in _words(value))
    is_named = any(name in _words(expanded(value, values)) for value in values.values())
    return Resolved(found, path, is_secret, is_named, _problems(found))


def _words(value: str) -> list[str]:
    return re.split(r"[\s,{}]+", value.replace("proxy:", ""))


def _problems(desired: DesiredState) -> tuple[str, ...]:
    """Return what of it Postfix could not read, each with its place."""
    problems: list[str] = []
    for key in (*desired.settings, *sorted(desired.use_default)):
        value = desired.settings.get(key)
        kind, place = desired.kind, desired.provenance.get(key)
        fault = key_fault(kind, key) if value is None else entry_fault(kind, key, value)
        if fault is not None:
            problems.append(": ".join(filter(None, (str(place or ""), key, fault))))
    return tuple(problems)


def values_of(text: bytes, kind: DocumentKind) -> Iterator[str]:
    """Yield the values of a table of passwords, which nobody is to be shown."""
    yield from grammar_of(kind).parse(text).parameters().values()
