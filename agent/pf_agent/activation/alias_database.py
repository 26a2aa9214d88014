"""The alias databases: which exist, how they are built, and what is recorded.

databases.py says when they are rebuilt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from pf_agent import names
from pf_agent.maincf.aliases import Built, Named, named_in
from pf_agent.model import Event, Reason, Record


class Builder(Protocol):
    """What builds the databases, as `postalias.AliasBuilder` does."""

    def newaliases(self, databases: Sequence[str] = ()) -> tuple[Built, ...]: ...


class Newaliases:
    """newaliases, whose run is part of an activation."""

    program = "newaliases"
    reason = Reason.NEWALIASES

    def __init__(self, builder: Builder, is_anothers: Callable[[str], bool]) -> None:
        self._builder = builder
        self.is_anothers = is_anothers

    def named(self, text: bytes) -> Named:
        """Return the alias databases that newaliases builds."""
        return named_in(text)

    def build(self, databases: Sequence[str]) -> Sequence[Built]:
        """Build these, or all of root's if none is given. Raises HostError."""
        return self._builder.newaliases(databases)

    def failed(self, built: Built, cycle: int | None) -> Record:
        """Return the record of a database that could not be built."""
        fields = {names.FIELD_REASON: built.trouble}
        return Record(Event.ACTIVATION_FAILED, built.trouble, cycle, fields)

    def built(self, built: Sequence[Built], message: str) -> Iterable[Record]:
        """Return one record for all that were built."""
        return [Record(Event.ACTIVATED, message)] if built else []
