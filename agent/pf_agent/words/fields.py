"""Drift, outcome and exposure for programs: JSON-ready dicts and journal fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from pf_agent import names
from pf_agent.model import Drift, Exposure, Outcome, Reference
from pf_agent.words.sentences import printable, shown_values

# The journal's field takes no more (journal.py); what is cut here need not be made printable first.
_FIELD_CHARACTERS = 3900


def drift_dict(drift: Drift) -> dict[str, Any]:
    """One difference for `diff --json`."""
    expected, actual = shown_values(drift)
    return {
        "parameter": drift.parameter,
        "kind": drift.kind.value,
        "expected": expected,
        "actual": None if actual is None else printable(actual),
        "line": drift.line,
    }


def diff_dict(drift: Sequence[Drift], diff: str) -> dict[str, Any]:
    """`diff --json`."""
    return {"in_sync": not drift, "drift": [drift_dict(d) for d in drift], "diff": diff}


def reference_dict(instance: str, found: Reference) -> dict[str, str]:
    """One of the references of `check --json --references`."""
    return {
        "instance": instance,
        "service": found.service,
        "parameter": found.parameter,
        "kind": found.kind,
        "name": printable(found.name),
        "presence": found.presence.value,
        "place": printable(found.place),
        "why": printable(found.why),
    }


def outcome_dict(outcome: Outcome) -> dict[str, Any]:
    """`apply --json`."""
    return {
        "result": outcome.result.value,
        "summary": outcome.summary,
        "cycle": outcome.cycle,
        **diff_dict(outcome.drift, outcome.diff),
    }


def drift_fields(drift: Drift) -> dict[str, str]:
    """One difference as journal fields; a field that does not apply is left out."""
    expected, actual = shown_values(drift)
    fields = {
        names.FIELD_PARAMETER: drift.parameter,
        names.FIELD_KIND: drift.kind.value,
        names.FIELD_EXPECTED: expected,
        names.FIELD_ACTUAL: actual,
        names.FIELD_LINE: None if drift.line is None else str(drift.line),
    }
    # journalctl -o json shows a value with a control character as an array of numbers.
    return {name: _field(value) for name, value in fields.items() if value is not None}


def _field(value: str) -> str:
    if len(value) <= _FIELD_CHARACTERS:
        return printable(value)
    return f"{printable(value[:_FIELD_CHARACTERS])}... ({len(value)} characters)"


def exposure_fields(exposure: Exposure) -> Mapping[str, str]:
    """How long a drift was live, as journal fields."""
    moments = {
        names.FIELD_WRITTEN_AT: exposure.written_at,
        names.FIELD_SEEN_AT: exposure.seen_at,
        names.FIELD_CORRECTED_AT: exposure.corrected_at,
        names.FIELD_ACTIVATED_AT: exposure.activated_at,
    }
    return {name: moment(value) for name, value in moments.items() if value is not None}


def moment(seconds: float) -> str:
    """A point in time as a record holds it: UTC, ISO 8601, milliseconds."""
    when = datetime.fromtimestamp(seconds, timezone.utc)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment_in(fields: Mapping[str, str], name: str) -> float | None:
    """Return the point in time that `moment` wrote there (seconds since the epoch), None if none.

    A record that the journal gives back may have been cut, or be another's.
    """
    try:
        # datetime.fromisoformat() takes a "Z" from Python 3.11 on.
        return datetime.fromisoformat(fields.get(name, "").replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None
