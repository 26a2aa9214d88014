"""A desired document as this host's main.cf decides: its grammar, its keys, what is secret in it.

A table that main.cf has in its alias_maps or alias_database is a source of aliases(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, NamedTuple

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


def resolved(
    name: str, desired: DesiredState, main_cfs: Sequence[bytes], directory: str
) -> Resolved | None:
    """Return what the document `name` (`hash:/etc/postfix/transport`) comes to.

    `main_cfs` are the text of the main.cf in `directory` and what that is about to be. None if they
    differ in whether it is a source of aliases: as the other, lines would be added that are none.
    """
    uses = [_use(name, main_cf, directory) for main_cf in main_cfs]
    if len({use.kind for use in uses}) != 1:
        return None
    found, path = replace(desired, kind=uses[0].kind), name.partition(":")[2]
    is_secret, is_named = any(u.is_secret for u in uses), any(u.is_named for u in uses)
    return Resolved(found, path, is_secret, is_named, _problems(found))


class _Use(NamedTuple):
    """What one main.cf says of a document."""

    kind: DocumentKind
    is_secret: bool
    is_named: bool


def _use(name: str, main_cf: bytes, directory: str) -> _Use:
    says = MainCf.parse(main_cf).parameters()
    values = {**DEFAULTS, "config_directory": directory, **says}
    is_of_aliases = name in _words(expanded(_OF_ALIASES, values))
    secret = (expanded(v, values) for n, v in says.items() if _OF_PASSWORDS.fullmatch(n))
    # The same source may be named by another type.
    path = name.partition(":")[2]
    is_secret = any(w.partition(":")[2] == path for value in secret for w in _words(value))
    is_named = any(name in _words(expanded(value, values)) for value in values.values())
    kind = DocumentKind.ALIASES if is_of_aliases else DocumentKind.TABLE
    return _Use(kind, is_secret, is_named)


def _words(value: str) -> list[str]:
    return re.split(r"[\s,{}]+", value.replace("proxy:", ""))


def _problems(desired: DesiredState) -> tuple[str, ...]:
    """Return what of it Postfix could not read, each with its place."""
    problems: list[str] = []
    for key in (*desired.settings, *sorted(desired.use_default)):
        fault = _fault(desired.kind, key, desired.settings.get(key))
        if fault is not None:
            place = desired.provenance.get(key)
            problems.append(": ".join(filter(None, (str(place or ""), key, fault))))
    return tuple(problems)


# The same is asked at each look.
@lru_cache(maxsize=1 << 17)
def _fault(kind: DocumentKind, key: str, value: str | None) -> str | None:
    return key_fault(kind, key) if value is None else entry_fault(kind, key, value)


def values_of(text: bytes, kind: DocumentKind) -> Iterator[str]:
    """Yield the values of a table of passwords, which nobody is to be shown."""
    yield from grammar_of(kind).parse(text).parameters().values()
