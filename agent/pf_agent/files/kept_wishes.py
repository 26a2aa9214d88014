"""Wishes to JSON and back, and what the version before has left of them: pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pf_agent.config import saved
from pf_agent.errors import ConfigError
from pf_agent.maincf.document import MainCf, encoded
from pf_agent.maincf.values import same
from pf_agent.model import DesiredState, Rejected, Wishes


def agreed(desired: DesiredState, text: bytes) -> DesiredState:
    """Return as much of `desired` as main.cf's `text` says."""
    says = MainCf.parse(text)
    found = {name: says.get(name) for name in desired.parameters()}
    settings = {
        name: value
        for name, value in desired.settings.items()
        if (stands := found[name]) is not None and same(name, value, stands.value)
    }
    at_default = frozenset(name for name in desired.use_default if found[name] is None)
    places = desired.provenance
    return replace(
        desired,
        settings=settings,
        use_default=at_default,
        provenance={n: place for n, place in places.items() if n in {*settings, *at_default}},
    )


def to_json(wishes: Wishes) -> dict[str, Any]:
    """Return what json.dumps takes; `from_json` reads it back."""
    refused = wishes.rejected
    return {
        "served": _state(wishes.served),
        "applied": _state(wishes.applied),
        "before": dict(wishes.before),
        "rejected": None
        if refused is None
        else {
            "says": _state(refused.says),
            "reason": refused.reason,
            "parameters": list(refused.parameters),
            "missing": list(refused.missing),
            "is_judged": refused.is_judged,
        },
    }


def from_json(found: Any) -> Wishes:
    """Return what `to_json` wrote. Raises ValueError, LookupError or TypeError where it did not."""
    try:
        return Wishes(
            _saved(found["served"]),
            _saved(found["applied"]),
            {str(n): _saved_lines(str(n), x) for n, x in found["before"].items()},
            None if found["rejected"] is None else _refused(found["rejected"]),
        )
    except (AttributeError, ConfigError) as error:
        raise ValueError(str(error)) from error


def _saved_lines(name: str, lines: Any) -> str | None:
    if lines is None:
        return None
    if MainCf.parse(encoded(str(lines))).parameters().keys() != {name}:
        raise ValueError(f"these are no lines of {name}")
    return str(lines)


def _refused(found: Any) -> Rejected:
    says = _saved(found["says"])
    if says is None:
        raise ValueError("a rejected state that says nothing")
    names, missing = (tuple(map(str, found[key])) for key in ("parameters", "missing"))
    return Rejected(says, str(found["reason"]), names, missing, bool(found["is_judged"]))


def _state(desired: DesiredState | None) -> dict[str, Any] | None:
    return None if desired is None else saved.members_of(desired)


def _saved(found: Any) -> DesiredState | None:
    return None if found is None else saved.saved_state(found, "a wish")
