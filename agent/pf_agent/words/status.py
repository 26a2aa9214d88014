"""A status as JSON, and back from what the daemon wrote and somebody may have damaged: pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pf_agent.config.readback import (
    Members,
    count_of,
    duration_of,
    moment_of,
    or_none,
    table_of,
    text_of,
    texts_of,
)
from pf_agent.model import LastDrift, Phase, Status, Suspension
from pf_agent.words.sentences import summary


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
        "absent": list(status.absent),
    }


def status_from_dict(document: object) -> Status:
    """Return what `status_dict` was made of. Raises ValueError where it could not have been."""
    found = Members(document)
    return Status(
        found.get("phase", Phase),
        found.get("since", moment_of),
        found.get("parameters", count_of),
        found.get("detail", text_of),
        found.get("problems", texts_of),
        found.get("last_drift", or_none(_last_of)),
        found.get("next_look", or_none(moment_of)),
        found.get("version", text_of),
        found.get("pid", count_of),
        found.get("instances", lambda inner: table_of(inner, lambda _, s: status_from_dict(s))),
        found.get("suspension", or_none(suspension_of)),
        found.get("absent", texts_of, ()),
    )


def suspension_of(document: object) -> Suspension:
    """Return the suspension that `asdict` made this of. Raises ValueError."""
    found = Members(document)
    since, until = found.get("since", moment_of), found.get("until", or_none(moment_of))
    words = (found.get(name, text_of) for name in ("who", "reason", "resumed_by"))
    return Suspension(since, until, *words)


def _last_of(document: object) -> LastDrift:
    found = Members(document)
    return LastDrift(
        found.get("cycle", count_of),
        found.get("at", moment_of),
        found.get("parameters", texts_of),
        found.get("corrected_seconds", or_none(duration_of)),
        found.get("up_seconds", or_none(duration_of)),
    )
