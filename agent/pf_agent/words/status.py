"""A status as JSON, and back from what the daemon wrote and somebody may have damaged: pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from pf_agent.model import LastDrift, Phase, Status, Suspension
from pf_agent.words.sentences import summary

# datetime's last year is 9999.
_END_OF_TIME: Final = 253_402_300_799.0


def status_dict(status: Status, now: float) -> dict[str, Any]:
    """Return what status.json and `status --json` say at `now` (seconds since the epoch)."""
    return {
        "summary": summary(status, now),
        "in_sync": status.is_in_sync(),
        "phase": status.phase.value,
        "since": status.since,
        "parameters": status.parameters,
        "detail": status.detail,
        "problems": list(status.problems),
        "last_drift": None if status.last is None else asdict(status.last),
        "next_look": status.next_look,
        "version": status.version,
        "pid": status.pid,
        "instances": {n: status_dict(inner, now) for n, inner in status.instances.items()},
        "suspension": None if status.suspension is None else asdict(status.suspension),
    }


def status_from_dict(found: object) -> Status:
    """Return what `status_dict` was made of. Raises ValueError or KeyError if it was not."""
    table = _table(found)
    last, suspension = table["last_drift"], table["suspension"]
    return Status(
        Phase(_text(table["phase"])),
        moment_of(table["since"]),
        count_of(table["parameters"]),
        _text(table["detail"]),
        _texts(table["problems"]),
        None if last is None else _last_of(_table(last)),
        _moment_or_none(table["next_look"]),
        _text(table["version"]),
        count_of(table["pid"]),
        {_text(name): status_from_dict(s) for name, s in _table(table["instances"]).items()},
        None if suspension is None else suspension_of(suspension),
    )


def suspension_of(found: object) -> Suspension:
    """Return the suspension that `asdict` made this of. Raises ValueError or KeyError."""
    table = _table(found)
    words = [_text(table[name]) for name in ("who", "reason", "resumed_by")]
    return Suspension(moment_of(table["since"]), _moment_or_none(table["until"]), *words)


def _last_of(table: Mapping[str, Any]) -> LastDrift:
    took = [_seconds_or_none(table[name]) for name in ("corrected_seconds", "up_seconds")]
    at = moment_of(table["at"])
    return LastDrift(count_of(table["cycle"]), at, _texts(table["parameters"]), *took)


def moment_of(value: object) -> float:
    """Return a moment in seconds since the epoch that a date can be made of. Raises ValueError."""
    seconds = _number(value)
    if not 0 <= seconds <= _END_OF_TIME:  # false for what is no number, too
        raise ValueError(f"no moment: {seconds}")
    return seconds


def _moment_or_none(value: object) -> float | None:
    return None if value is None else moment_of(value)


def _seconds_or_none(value: object) -> float | None:
    if value is None:
        return None
    seconds = _number(value)
    if not abs(seconds) <= _END_OF_TIME:
        raise ValueError(f"no duration: {seconds}")
    return seconds


def _number(value: object) -> float:
    # An integer of a thousand digits is valid JSON, and float() raises OverflowError for it.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e300:
        raise ValueError("no number")
    return float(value)


def count_of(value: object) -> int:
    """Return a number of things. Raises ValueError for what nobody has counted to."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**12:
        raise ValueError("no count")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("no text")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("no list")
    return tuple(map(_text, value))


def _table(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("no table")
    return value
