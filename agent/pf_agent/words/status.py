"""A status to JSON, and back from a file that may be damaged: pure."""

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
    """Return the content of status.json and `status --json` at `now` (seconds since the epoch)."""
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
        "restart_due": status.restart_due,
        "stale_tables": dict(status.stale),
        "awaited": status.awaited,
        "documents": dict(status.documents),
    }


def status_from_dict(document: object) -> Status:
    """Return the status that `status_dict` converted. Raises ValueError if it could not have."""
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
        found.get("restart_due", or_none(moment_of), None),
        found.get("stale_tables", lambda inner: table_of(inner, lambda _, why: text_of(why)), {}),
        found.get("awaited", text_of, ""),
        found.get("documents", lambda inner: table_of(inner, lambda _, why: text_of(why)), {}),
    )


def suspension_of(document: object) -> Suspension:
    """Return the suspension that `asdict` converted. Raises ValueError."""
    found = Members(document)
    return Suspension(
        found.get("since", moment_of),
        found.get("until", or_none(moment_of)),
        found.get("who", text_of),
        found.get("reason", text_of),
        found.get("resumed_by", text_of),
        found.get("replaces", text_of, ""),
    )


def _last_of(document: object) -> LastDrift:
    found = Members(document)
    return LastDrift(
        found.get("cycle", count_of),
        found.get("at", moment_of),
        found.get("parameters", texts_of),
        found.get("corrected_seconds", or_none(duration_of)),
        found.get("up_seconds", or_none(duration_of)),
        found.get("keep", or_none(text_of), None),
    )
