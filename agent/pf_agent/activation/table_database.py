"""The indexed tables: which exist, how they are built, and what is recorded.

databases.py says when they are rebuilt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pf_agent import names
from pf_agent.maincf.aliases import Built, Named
from pf_agent.maincf.indexed import Table
from pf_agent.model import Event, Reason, Record
from pf_agent.words.sentences import duration


class Postmap:
    """postmap, or postalias for a table of aliases.

    `tables` returns those that a main.cf names, `build` builds one and returns the result.
    """

    program = "postmap"
    reason = Reason.POSTMAP

    def __init__(
        self,
        tables: Callable[[bytes], tuple[Table, ...]],
        build: Callable[[Table], Built],
        is_anothers: Callable[[str], bool],
    ) -> None:
        self.is_anothers = is_anothers
        self._tables = tables
        self._build = build
        self._named: tuple[Table, ...] = ()

    def named(self, text: bytes) -> Named:
        """Return their sources."""
        self._named = self._tables(text)
        return Named(tuple(table.source for table in self._named))

    def build(self, databases: Sequence[str]) -> Sequence[Built]:
        """Build these, one after the other."""
        return [self._build(t) for t in self._named if t.source.database in databases]

    def failed(self, built: Built, cycle: int | None) -> Record:
        """Return the record of a table whose index stays."""
        fields = {**_fields(built), names.FIELD_REASON: built.trouble}
        return Record(Event.TABLE_STALE, built.trouble, cycle, fields)

    def built(self, built: Sequence[Built], message: str) -> Iterable[Record]:
        """Return a record for each table; of one that another process built only the message."""
        for each in built:
            told = message if each.seconds is None else _sentence(each, each.seconds)
            yield Record(Event.TABLE_REBUILT, told, fields=_fields(each))


def _fields(built: Built) -> dict[str, str]:
    known = {
        names.FIELD_ENTRIES_BEFORE: built.before,
        names.FIELD_ENTRIES: built.after,
        names.FIELD_SECONDS: None if built.seconds is None else f"{built.seconds:.3f}",
        names.FIELD_WARNINGS: "\n".join(built.doubts) or None,
    }
    told = {name: str(value) for name, value in known.items() if value is not None}
    return {names.FIELD_PATH: built.source.path, **told}


def _sentence(built: Built, seconds: float) -> str:
    before, after = (names.UNKNOWN if n is None else str(n) for n in (built.before, built.after))
    doubts = "".join(f"; {doubt}" for doubt in built.doubts)
    took = f"in {duration(seconds)}, entries: {before} before, {after} now"
    return f"{built.source.path} changed; its index was rebuilt {took}{doubts}"
