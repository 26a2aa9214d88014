"""The marker of a pending activation to JSON and back, from a file that may be damaged: pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pf_agent.config.readback import (
    Members,
    count_of,
    moment_of,
    or_none,
    text_of,
    texts_of,
    truth_of,
)
from pf_agent.model import Exposure, Heard, PendingActivation

PENDING = "pending.json"


def to_json(pending: PendingActivation) -> dict[str, Any]:
    """Return a dict for json.dumps; `from_json` reads it back."""
    return asdict(pending)


def from_json(found: object) -> PendingActivation:
    """Return what `to_json` wrote, also in the previous version. Raises ValueError."""
    marker = Members(found)
    return PendingActivation(
        marker.get("cycle", count_of),
        marker.get("parameters", texts_of),
        marker.get("exposure", _exposure_of),
        marker.get("rolled_back", truth_of, False),
        marker.get("failed", truth_of, False),
        marker.get("wished", texts_of, ()),
        marker.get("before", or_none(_heard_of), None),
        marker.get("live", truth_of, True),
    )


def _heard_of(found: object) -> Heard:
    heard = Members(found)
    return Heard(
        heard.get("trouble", text_of),
        heard.get("greeted", truth_of),
        heard.get("code", count_of),
        heard.get("words", text_of),
    )


def _exposure_of(found: object) -> Exposure:
    exposure = Members(found)
    return Exposure(
        exposure.get("written_at", moment_of),
        exposure.get("seen_at", moment_of),
        exposure.get("corrected_at", or_none(moment_of)),
        exposure.get("activated_at", or_none(moment_of)),
    )
