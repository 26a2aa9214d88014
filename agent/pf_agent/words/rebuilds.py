"""Rebuilds of tables, and why an old index stayed: how history shows their records. Pure.

They belong to no cycle. No record has a line's text, which may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pf_agent import names
from pf_agent.model import Event
from pf_agent.words import sentences
from pf_agent.words.history import Entry, row_dict

_OUTCOMES = {Event.TABLE_REBUILT: "rebuilt", Event.TABLE_STALE: "stale"}
# A table may be written every minute, and the cycles are what the list is for.
_MOST_LINES = 20
_COUNT = re.compile(r"[0-9]{1,12}")
_SECONDS = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}")


@dataclass(frozen=True)
class PastRebuild:
    """One rebuild of the index of a table, or why its old index stayed.

    `at` is in seconds since the epoch. `before` and `after` are the numbers of entries, `seconds`
    is how long it took; None if unknown. `warnings` are what is odd in its source, with the line.
    """

    event: Event
    at: float
    instance: str
    path: str
    before: int | None
    after: int | None
    seconds: float | None
    warnings: tuple[str, ...]
    message: str


def rebuilds(entries: Iterable[Entry]) -> list[PastRebuild]:
    """Return the rebuilds that are among the records, oldest first."""
    found = [_past(entry) for entry in entries if entry.event in _OUTCOMES]
    return sorted(found, key=lambda each: each.at)


def rebuild_lines(past: Sequence[PastRebuild], most: int | None) -> list[str]:
    """Return a line for each of the newest; at most 20 if no number is given."""
    newest = past[-(most or _MOST_LINES) :]
    return [sentences.printable(f"{sentences.day(p.at)}  {p.message}") for p in newest]


def rebuild_dict(past: PastRebuild) -> dict[str, Any]:
    """Return one rebuild for `history --json`."""
    table = {
        "path": sentences.printable(past.path),
        "entries_before": past.before,
        "entries": past.after,
        "seconds": past.seconds,
        "warnings": list(map(sentences.printable, past.warnings)),
    }
    return row_dict(past.at, past.instance, _OUTCOMES[past.event], [past.message], table=table)


def _past(entry: Entry) -> PastRebuild:
    fields = entry.fields
    return PastRebuild(
        entry.event,
        entry.at,
        fields.get(names.FIELD_INSTANCE, names.DEFAULT_INSTANCE),
        fields.get(names.FIELD_PATH, ""),
        _count(fields.get(names.FIELD_ENTRIES_BEFORE, "")),
        _count(fields.get(names.FIELD_ENTRIES, "")),
        _seconds(fields.get(names.FIELD_SECONDS, "")),
        tuple(filter(None, fields.get(names.FIELD_WARNINGS, "").split("\n"))),
        entry.message,
    )


def _count(text: str) -> int | None:
    """Return the number in a field; None if it has none."""
    return int(text) if _COUNT.fullmatch(text) else None


def _seconds(text: str) -> float | None:
    return float(text) if _SECONDS.fullmatch(text) else None
