"""What happened, cycle by cycle, from the records in the journal: pure.

The journal is the only history. A record that is missing, or was cut when the journal was reduced,
leaves a gap in its cycle and causes no error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pf_agent import names
from pf_agent.model import ORDERS, DocumentKind, Drift, Event
from pf_agent.words import keeping, sentences
from pf_agent.words.fields import drift_dict, drift_in, moment_in

_OUTCOMES = {
    Event.DRIFT_CORRECTED: "corrected",
    Event.ACTIVATED: "activated",
    Event.ACTIVATION_FAILED: "Postfix failed",
    Event.ROLLED_BACK: "rolled back",
    Event.CONFIG_REJECTED: "refused",
}
_OBSERVED = "observed"
# Replaces the life in records without one, such as those of the previous version.
NO_LIFE = "0"
_LIFE = re.compile(r"[0-9a-f]{6}")
_NAME = re.compile(rf"(?:({_LIFE.pattern}|{NO_LIFE})/)?([0-9]{{1,12}})")


class CycleName(NamedTuple):
    """A cycle as named by a person; `life` is None if only the number is given."""

    life: str | None
    number: int

    @classmethod
    def parse(cls, text: str) -> CycleName:
        """Parse `17` or `a1b2c3/17`. Raises ValueError."""
        match = _NAME.fullmatch(text)
        if match is None:
            raise ValueError(f'expected a cycle, got "{text}"; write 17, or a1b2c3/17')
        life, number = match.groups()
        return cls("" if life == NO_LIFE else life, int(number))

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> CycleName | None:
        """Return which cycle a record belongs to, or is about; None: none."""
        cycle = fields.get(names.FIELD_CYCLE, "")
        if not (cycle.isascii() and cycle.isdigit()):
            return None
        life = _LIFE.fullmatch(fields.get(names.FIELD_LIFE, ""))
        return cls(life[0] if life else "", int(cycle))

    def __str__(self) -> str:
        return str(self.number) if self.life is None else f"{self.life or NO_LIFE}/{self.number}"


@dataclass(frozen=True)
class Entry:
    """One record from the journal; `at` in seconds since the epoch."""

    at: float
    event: Event
    message: str
    fields: Mapping[str, str]


@dataclass(frozen=True)
class PastCycle:
    """One cycle: what drifted, what wrote it, how long it was live (seconds), how it ended.

    `writer` is empty if nothing was written: the desired state changed, or a state was rejected.
    `login` is the user who had logged in, "unknown" if the kernel did not tell. `life` names the
    sequence that the cycle is counted in, "" if its records do not say. `drift` has the differences
    that have a record each, with the values as they were shown.
    """

    cycle: int
    life: str
    at: float
    instance: str
    parameters: tuple[str, ...]
    drift: tuple[Drift, ...]
    writer: str
    login: str
    corrected_seconds: float | None
    up_seconds: float | None
    outcome: str
    diff: str
    displaced: tuple[str, ...]
    messages: tuple[str, ...]

    @property
    def is_wished(self) -> bool:
        """Whether main.cf was not written: only the desired state changed."""
        return bool(self.drift) and all(drift.is_wished for drift in self.drift)

    @property
    def document(self) -> str:
        """The document that it was about, "" for main.cf."""
        return next((drift.document for drift in self.drift if drift.document), "")


def cycles(entries: Iterable[Entry]) -> list[PastCycle]:
    """Return the cycles that the records belong to, oldest first; orders are left out."""
    found: dict[tuple[CycleName, str], list[Entry]] = {}
    for entry in entries:
        name = CycleName.of(entry.fields)
        if name is not None and entry.event not in ORDERS:
            instance = entry.fields.get(names.FIELD_INSTANCE, names.DEFAULT_INSTANCE)
            found.setdefault((name, instance), []).append(entry)
    past = [_cycle(*key, group) for key, group in found.items()]
    return sorted(past, key=lambda each: each.at)


def named(past: Sequence[PastCycle], name: CycleName) -> list[PastCycle]:
    """Return those with this name, oldest first: of several lives if it names none."""
    lives = {each.life for each in past} if name.life is None else {name.life}
    return [each for each in past if each.cycle == name.number and each.life in lives]


def name_of(cycle: PastCycle, past: Sequence[PastCycle]) -> str:
    """Return a cycle's name among all `past` ones: in the latest life just its number."""
    if cycle.life == past[-1].life:
        return str(cycle.cycle)
    return f"{cycle.life or NO_LIFE}/{cycle.cycle}"


def last_drift_of(parameter: str, past: Sequence[PastCycle]) -> PastCycle | None:
    """Return the latest cycle in which the parameter drifted."""

    def drifted(cycle: PastCycle) -> bool:
        return any(
            d.parameter == parameter and not (d.is_wished or d.document) for d in cycle.drift
        )

    return next(filter(drifted, reversed(past)), None)


def _cycle(name: CycleName, instance: str, entries: Sequence[Entry]) -> PastCycle:
    found_drift = [
        entry.fields
        for entry in entries
        if entry.event is Event.DRIFT_DETECTED and names.FIELD_KIND in entry.fields
    ]
    drifted = [_part(fields) for fields in found_drift]
    taken_back = (e.fields for e in entries if e.event is Event.ROLLED_BACK)
    drifted += [f[names.FIELD_PARAMETER] for f in taken_back if f.get(names.FIELD_PARAMETER)]
    ends = [_OUTCOMES[entry.event] for entry in entries if entry.event in _OUTCOMES]
    moments = (names.FIELD_WRITTEN_AT, names.FIELD_CORRECTED_AT, names.FIELD_ACTIVATED_AT)
    found = {name: _first(entries, name) for name in moments}
    written, corrected, activated = (moment_in(found, name) for name in moments)
    return PastCycle(
        name.number,
        name.life or "",
        entries[0].at,
        instance,
        tuple(dict.fromkeys(drifted)),
        tuple(drift for drift in map(drift_in, found_drift) if drift is not None),
        _first(entries, names.FIELD_WRITER),
        _first(entries, names.FIELD_LOGIN) or names.UNKNOWN,
        _between(written, corrected),
        _between(corrected, activated),
        _outcome(ends),
        _first(entries, names.FIELD_DIFF),
        tuple(path for path in _first(entries, names.FIELD_DISPLACED).split("\n") if path),
        tuple(entry.message for entry in entries),
    )


def _part(fields: Mapping[str, str]) -> str:
    """Return what drifted: a parameter, a table's key, or the whole file."""
    ways = (names.FIELD_PARAMETER, names.FIELD_KEY, names.FIELD_TABLE)
    return next((fields[way] for way in ways if fields.get(way)), "main.cf")


def _outcome(ends: Sequence[str]) -> str:
    """Return how a cycle ended. Postfix running again is part of a rollback, and not the news."""
    taken_back = _OUTCOMES[Event.ROLLED_BACK]
    if not ends:
        return _OBSERVED
    is_served = ends[-1] == _OUTCOMES[Event.ACTIVATED]
    return taken_back if is_served and taken_back in ends else ends[-1]


def _first(entries: Iterable[Entry], field: str) -> str:
    """Return the field from the first record that has it; a cycle has each only once."""
    return next((e.fields[field] for e in entries if e.fields.get(field)), "")


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else end - start


def keep_command(past: PastCycle, name: str) -> str:
    """Return the command that makes the drifted values of a cycle desired; `name`: see `name_of`.

    "" if nothing can be kept: the change was refused, it was a change of the desired state, or the
    text was removed by a purge.
    """
    if "/" in name or not (past.displaced or past.outcome == _OBSERVED):
        return ""
    return keeping.command(past.instance, past.drift, name if past.displaced else "")


def row_dict(
    at: float, instance: str, outcome: str, records: Sequence[str], **said: Any
) -> dict[str, Any]:
    """Return a row of `history --json`: what is not `said` is null, empty or "unknown"."""
    row: dict[str, Any] = {
        "cycle": None,
        "life": None,
        "at": at,
        "instance": None if instance == names.DEFAULT_INSTANCE else instance,
        "document": None,
        "parameters": [],
        "drift": [],
        "writer": names.UNKNOWN,
        "login": names.UNKNOWN,
        "corrected_seconds": None,
        "up_seconds": None,
        "outcome": outcome,
        "diff": "",
        "displaced": [],
        "records": list(records),
        "keep": None,
        "by": None,
        "about": None,
        "table": None,
    }
    return row | said


def cycle_dict(past: PastCycle, name: str) -> dict[str, Any]:
    """Return one cycle for `history --json`; `name` is what `name_of` returns."""
    return row_dict(
        past.at,
        past.instance,
        past.outcome,
        past.messages,
        cycle=past.cycle,
        life=past.life or None,
        document=past.document or DocumentKind.MAIN_CF.value,
        parameters=list(past.parameters),
        drift=[drift_dict(each) for each in past.drift],
        writer=past.writer or names.UNKNOWN,
        login=past.login,
        corrected_seconds=past.corrected_seconds,
        up_seconds=past.up_seconds,
        diff=past.diff,
        displaced=list(past.displaced),
        keep=keep_command(past, name) or None,
    )


def written_by(past: PastCycle) -> str:
    """Return what wrote it in words: the process, and the login if there is one; "-": nothing."""
    # A process can choose its own name.
    writer = sentences.printable(past.writer) or "-"
    return (
        writer if past.login == names.UNKNOWN else f"{writer} ({sentences.printable(past.login)})"
    )


def cycle_row(name: str, past: PastCycle) -> tuple[str, ...]:
    """Return one cycle as table columns: name, time, parameters, writer, duration, outcome.

    The time has no seconds; the view of a single cycle has them.
    """
    prefix = "" if past.instance == names.DEFAULT_INSTANCE else f"{past.instance}: "
    what = [name for name in past.parameters if name != past.document]
    prefix += document_prefix(past.document)
    took = None if past.is_wished else past.corrected_seconds
    return (
        name,
        minute(past.at),
        (prefix + sentences.listed(what)).removesuffix(": "),
        written_by(past),
        "-" if took is None else sentences.duration(took),
        past.outcome,
    )


def document_prefix(document: str) -> str:
    """Return what the parameters in a row begin with: the name of their file, unless main.cf."""
    return f"{sentences.printable(document.rpartition('/')[2])}: " if document else ""


def minute(at: float) -> str:
    """Return a date and a time of day: 2026-01-31 14:30."""
    return sentences.day(at)[: len("2026-01-31 14:30")]


YIELDING = ("PARAMETERS", "WRITTEN BY")
HEADINGS = ("CYCLE", "TIME", *YIELDING, "LIVE FOR", "OUTCOME")
