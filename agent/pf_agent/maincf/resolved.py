"""A desired document as this host's main.cf decides: its grammar, its keys, what is secret in it.

A table that main.cf has in its alias_maps or alias_database is a source of aliases(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from pf_agent.maincf.aliases import DEFAULTS, expanded
from pf_agent.maincf.document import MainCf
from pf_agent.maincf.entry_faults import entry_fault, key_fault
from pf_agent.maincf.grammar import grammar_of
from pf_agent.model import DesiredState, DocumentKind, Place

_OF_ALIASES: Final = "$alias_maps $alias_database"
# postconf(5): smtp_sasl_password_maps, lmtp_sasl_password_maps.
_OF_PASSWORDS: Final = re.compile(r"\w*password_maps")


@dataclass(frozen=True)
class Resolved:
    """The document as it must be, and why parts of it cannot be.

    `path` is its file. `is_secret`: its values are passwords.
    """

    desired: DesiredState
    path: str
    is_secret: bool
    problems: tuple[str, ...]


def resolved(name: str, desired: DesiredState, main_cf: bytes) -> Resolved:
    """Return what the document `name` (`hash:/etc/postfix/transport`) comes to."""
    says = MainCf.parse(main_cf).parameters()
    kind = DocumentKind.TABLE
    if name in _words(expanded(_OF_ALIASES, {**DEFAULTS, **says})):
        kind = DocumentKind.ALIASES
    found, problems = _folded(replace(desired, kind=kind))
    return Resolved(found, name.partition(":")[2], is_secret(name, says), problems)


def is_secret(name: str, main_cf: Mapping[str, str]) -> bool:
    """Tell whether the parameters of main.cf call it a table of passwords."""
    return any(
        name in _words(value) for each, value in main_cf.items() if _OF_PASSWORDS.fullmatch(each)
    )


def _words(value: str) -> list[str]:
    return re.split(r"[\s,{}]+", value.replace("proxy:", ""))


def _folded(desired: DesiredState) -> tuple[DesiredState, tuple[str, ...]]:
    """Return it with the keys as Postfix has them, and what is wrong with them."""
    name_of, kind = grammar_of(desired.kind).name, desired.kind
    settings: dict[str, str] = {}
    provenance: dict[str, Place] = {}
    problems: list[str] = []
    for key in (*desired.settings, *sorted(desired.use_default)):
        place, value = desired.provenance.get(key), desired.settings.get(key)
        fault = key_fault(kind, key) if value is None else entry_fault(kind, key, value)
        folded = name_of(key)
        if folded in provenance:
            fault = f"Postfix takes it for the key at {provenance[folded]}; keep one of the two"
        if fault is not None:
            problems.append(": ".join(filter(None, (str(place or ""), key, fault))))
            continue
        provenance[folded] = place or Place("")
        if value is not None:
            settings[folded] = value
    absent = frozenset(provenance.keys() - settings.keys())
    found = replace(desired, settings=settings, use_default=absent, provenance=provenance)
    return found, tuple(problems)


def values_of(text: bytes, kind: DocumentKind) -> Iterator[str]:
    """Yield the values of a table of passwords, which nobody is to be shown."""
    yield from grammar_of(kind).parse(text).parameters().values()
