"""Drift, outcome and exposure for programs: JSON-ready dicts and journal fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from pf_agent import names
from pf_agent.model import Applied, DocumentKind, Drift, DriftKind, Exposure, Outcome, Reference
from pf_agent.words.sentences import printable, shown_values

# A journal field takes no more (journal.py); what is cut here need not be made printable first.
_FIELD_CHARACTERS = 3900
_YES = "yes"
_MASTER_CF = DocumentKind.MASTER_CF.value


def drift_dict(drift: Drift) -> dict[str, Any]:
    """Return one difference for `diff --json`."""
    expected, actual = shown_values(drift)
    return {
        "document": printable(drift.document) or "main.cf",
        "parameter": drift.parameter,
        "kind": drift.kind.value,
        "expected": expected,
        "actual": None if actual is None else printable(actual),
        "line": drift.line,
    }


def diff_dict(drift: Sequence[Drift], diff: str) -> dict[str, Any]:
    """Return the output of `diff --json`."""
    return {"in_sync": not drift, "drift": [drift_dict(d) for d in drift], "diff": diff}


def reference_dict(instance: str, found: Reference) -> dict[str, str]:
    """Return one reference for `check --json --references`."""
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
    """Return what `apply --json` tells of the cycle."""
    return {
        "result": outcome.result.value,
        "summary": outcome.summary,
        "cycle": outcome.cycle,
        **diff_dict(outcome.drift, outcome.diff),
    }


def applied_dict(applied: Applied) -> dict[str, Any]:
    """Return the output of `apply --json` for one instance."""
    return {
        **outcome_dict(applied.outcome),
        "failure": applied.failure or None,
        "rebuilt_tables": list(map(printable, applied.rebuilt)),
        "stale_tables": stale_dict(applied.stale),
        "documents": {name: outcome_dict(each) for name, each in applied.documents.items()},
    }


def stale_dict(stale: Mapping[str, str]) -> dict[str, str]:
    """Return the tables that are out of date, by source, and why."""
    return {printable(path): printable(why) for path, why in stale.items()}


def drift_fields(drift: Drift) -> dict[str, str]:
    """Return one difference as journal fields, without those that do not apply."""
    expected, actual = shown_values(drift)
    part = {names.FIELD_PARAMETER: drift.parameter or drift.document}
    if is_of_table(drift.document):
        part = {names.FIELD_TABLE: drift.document, names.FIELD_KEY: drift.parameter}
    fields = {
        **part,
        names.FIELD_KIND: drift.kind.value,
        names.FIELD_EXPECTED: expected,
        names.FIELD_ACTUAL: actual,
        names.FIELD_LINE: None if drift.line is None else str(drift.line),
        names.FIELD_WISHED: _YES if drift.is_wished else None,
    }
    # journalctl -o json shows a value with a control character as an array of numbers.
    return {name: _field(value) for name, value in fields.items() if value is not None}


def drift_in(fields: Mapping[str, str]) -> Drift | None:
    """Return the difference that `drift_fields` made these fields of, None if it made none.

    Its values are as they were shown: masked, printable, and cut if they were long.
    """
    try:
        kind = DriftKind(fields.get(names.FIELD_KIND, ""))
    except ValueError:
        return None
    line, parameter = fields.get(names.FIELD_LINE, ""), fields.get(names.FIELD_PARAMETER, "")
    return Drift(
        "" if parameter == _MASTER_CF else parameter or fields.get(names.FIELD_KEY, ""),
        kind,
        fields.get(names.FIELD_EXPECTED),
        fields.get(names.FIELD_ACTUAL),
        int(line) if line.isascii() and line.isdigit() else None,
        fields.get(names.FIELD_WISHED) == _YES,
        fields.get(names.FIELD_TABLE) or document_of_part(parameter),
    )


def is_of_table(document: str) -> bool:
    """Tell whether a document other than main.cf is a table: its parts are keys."""
    return ":" in document


def document_of_part(parameter: str) -> str:
    """Return master.cf for `submission/inet/chroot`, and for its own name: the whole file; else "".

    No parameter's name has a `/`, or a `.`.
    """
    return _MASTER_CF if "/" in parameter or parameter == _MASTER_CF else ""


def _field(value: str) -> str:
    if len(value) <= _FIELD_CHARACTERS:
        return printable(value)
    return f"{printable(value[:_FIELD_CHARACTERS])}... ({len(value)} characters)"


def exposure_fields(exposure: Exposure) -> Mapping[str, str]:
    """Return how long a drift was live, as journal fields."""
    moments = {
        names.FIELD_WRITTEN_AT: exposure.written_at,
        names.FIELD_SEEN_AT: exposure.seen_at,
        names.FIELD_CORRECTED_AT: exposure.corrected_at,
        names.FIELD_ACTIVATED_AT: exposure.activated_at,
    }
    return {name: moment(value) for name, value in moments.items() if value is not None}


def moment(seconds: float) -> str:
    """Return a point in time in the form of records: UTC, ISO 8601, milliseconds."""
    when = datetime.fromtimestamp(seconds, timezone.utc)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment_in(fields: Mapping[str, str], name: str) -> float | None:
    """Return the time that `moment` wrote there (seconds since the epoch), None if there is none.

    A record from the journal may have been cut, or be another program's.
    """
    try:
        # datetime.fromisoformat() accepts a "Z" only from Python 3.11 on.
        return datetime.fromisoformat(fields.get(name, "").replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None
