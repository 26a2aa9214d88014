"""What happened, cycle by cycle, from the records that the journal gives back: pure.

The journal is the history; nothing else keeps one. A record that is no longer there, or was cut
when the journal was made smaller, leaves a gap in its cycle and no error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pf_agent import names
from pf_agent.model import Event
from pf_agent.words import sentences
from pf_agent.words.fields import moment_in

_OUTCOMES = {
    Event.DRIFT_CORRECTED: "corrected",
    Event.ACTIVATED: "activated",
    Event.ACTIVATION_FAILED: "Postfix failed",
    Event.ROLLED_BACK: "rolled back",
    Event.CONFIG_REJECTED: "refused",
}


@dataclass(frozen=True)
class Entry:
    """One record as the journal gives it back; `at` in seconds since the epoch."""

    at: float
    event: Event
    message: str
    fields: Mapping[str, str]


@dataclass(frozen=True)
class PastCycle:
    """One cycle: what drifted, who wrote it, how long it was live (seconds), how it ended.

    `login` is who had logged in, "unknown" where the kernel did not tell.
    """

    cycle: int
    at: float
    instance: str
    parameters: tuple[str, ...]
    writer: str
    login: str
    corrected_seconds: float | None
    up_seconds: float | None
    outcome: str
    diff: str
    displaced: tuple[str, ...]
    messages: tuple[str, ...]


def cycles(entries: Iterable[Entry]) -> list[PastCycle]:
    """Return the cycles that the records belong to, oldest first."""
    found: dict[tuple[str, int], list[Entry]] = {}
    for entry in entries:
        cycle = entry.fields.get(names.FIELD_CYCLE, "")
        if cycle.isascii() and cycle.isdigit():
            instance = entry.fields.get(names.FIELD_INSTANCE, names.DEFAULT_INSTANCE)
            found.setdefault((instance, int(cycle)), []).append(entry)
    past = [_cycle(instance, cycle, group) for (instance, cycle), group in found.items()]
    return sorted(past, key=lambda each: each.at)


def last_drift_of(parameter: str, past: Sequence[PastCycle]) -> PastCycle | None:
    """Return the newest cycle in which the parameter drifted."""
    return next((each for each in reversed(past) if parameter in each.parameters), None)


def _cycle(instance: str, cycle: int, entries: Sequence[Entry]) -> PastCycle:
    drifted = [
        entry.fields.get(names.FIELD_PARAMETER) or "main.cf"
        for entry in entries
        if entry.event is Event.DRIFT_DETECTED and names.FIELD_KIND in entry.fields
    ]
    ends = [_OUTCOMES[entry.event] for entry in entries if entry.event in _OUTCOMES]
    moments = (names.FIELD_WRITTEN_AT, names.FIELD_CORRECTED_AT, names.FIELD_ACTIVATED_AT)
    found = {name: _first(entries, name) for name in moments}
    written, corrected, activated = (moment_in(found, name) for name in moments)
    return PastCycle(
        cycle,
        entries[0].at,
        instance,
        tuple(dict.fromkeys(drifted)),
        _first(entries, names.FIELD_WRITER) or names.UNKNOWN,
        _first(entries, names.FIELD_LOGIN) or names.UNKNOWN,
        _between(written, corrected),
        _between(corrected, activated),
        ends[-1] if ends else "observed",
        _first(entries, names.FIELD_DIFF),
        tuple(path for path in _first(entries, names.FIELD_DISPLACED).split("\n") if path),
        tuple(entry.message for entry in entries),
    )


def _first(entries: Iterable[Entry], field: str) -> str:
    """The field where it stands first; a cycle says each of them once."""
    return next((e.fields[field] for e in entries if e.fields.get(field)), "")


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else end - start


def cycle_dict(past: PastCycle) -> dict[str, Any]:
    """One cycle for `history --json`."""
    return {
        "cycle": past.cycle,
        "at": past.at,
        "instance": None if past.instance == names.DEFAULT_INSTANCE else past.instance,
        "parameters": list(past.parameters),
        "writer": past.writer,
        "login": past.login,
        "corrected_seconds": past.corrected_seconds,
        "up_seconds": past.up_seconds,
        "outcome": past.outcome,
        "diff": past.diff,
        "displaced": list(past.displaced),
        "records": list(past.messages),
    }


def written_by(past: PastCycle) -> str:
    """Who wrote it in words: the process, and the login where there is one."""
    # A process names itself as it likes.
    writer = sentences.printable(past.writer)
    return (
        writer if past.login == names.UNKNOWN else f"{writer} ({sentences.printable(past.login)})"
    )


def cycle_row(past: PastCycle) -> tuple[str, ...]:
    """One cycle as the columns of a table: number, time, what, who, how long, outcome."""
    prefix = "" if past.instance == names.DEFAULT_INSTANCE else f"{past.instance}: "
    took = past.corrected_seconds
    return (
        str(past.cycle),
        sentences.day(past.at),
        prefix + sentences.listed(past.parameters),
        written_by(past),
        "-" if took is None else sentences.duration(took),
        past.outcome,
    )


HEADINGS = ("CYCLE", "TIME", "PARAMETERS", "WRITTEN BY", "LIVE FOR", "OUTCOME")
