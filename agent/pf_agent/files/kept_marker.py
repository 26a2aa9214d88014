"""The marker of what is pending to JSON and back, from what somebody may have damaged: pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pf_agent.model import Exposure, Heard, PendingActivation
from pf_agent.words.status import count_of, moment_of


def to_json(pending: PendingActivation) -> dict[str, Any]:
    """Return what json.dumps takes; `from_json` reads it back."""
    return asdict(pending)


def from_json(found: Any) -> PendingActivation:
    """Return what `to_json` wrote, of the version before too.

    Raises ValueError, LookupError, TypeError or AttributeError where it did not.
    """
    return PendingActivation(
        count_of(found["cycle"]),
        tuple(str(name) for name in found["parameters"]),
        _exposure(found["exposure"]),
        bool(found.get("rolled_back", False)),
        bool(found.get("failed", False)),
        tuple(str(name) for name in found.get("wished", ())),
        _heard(found.get("before")),
        bool(found.get("live", True)),
    )


def _heard(found: Any) -> Heard | None:
    if found is None:
        return None
    words = [str(found[name]) for name in ("trouble", "words")]
    return Heard(words[0], bool(found["greeted"]), int(found["code"]), words[1])


def _exposure(found: Mapping[str, Any]) -> Exposure:
    moments = [found["corrected_at"], found["activated_at"]]
    corrected_at, activated_at = [None if value is None else moment_of(value) for value in moments]
    written_at, seen_at = moment_of(found["written_at"]), moment_of(found["seen_at"])
    return Exposure(written_at, seen_at, corrected_at, activated_at)
