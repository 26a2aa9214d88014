"""Wishes to JSON and back, and what the previous version kept in their place: pure."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from pf_agent.config import saved
from pf_agent.config.readback import Members, or_none, table_of, text_of, texts_of, truth_of
from pf_agent.maincf.document import encoded
from pf_agent.maincf.grammar import Grammar, grammar_of
from pf_agent.model import DesiredState, DocumentKind, Rejected, Wishes


def agreed(desired: DesiredState, text: bytes) -> DesiredState:
    """Return the part of `desired` that main.cf's `text` agrees with."""
    grammar = grammar_of(desired.kind)
    says = grammar.parse(text)
    found = {name: says.get(name) for name in desired.parameters()}
    settings = {
        name: value
        for name, value in desired.settings.items()
        if (stands := found[name]) is not None and grammar.same(name, value, stands.value)
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
    """Return a dict for json.dumps; `from_json` reads it back."""
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
        "left": dict(wishes.left),
    }


def from_json(document: object) -> Wishes:
    """Return what `to_json` wrote. Raises ValueError if it could not have."""
    found = Members(document)
    state = or_none(saved.saved_state)
    served, applied = found.get("served", state), found.get("applied", state)
    either = applied or served
    grammar = grammar_of(DocumentKind.MAIN_CF if either is None else either.kind)
    return Wishes(
        served,
        applied,
        found.get("before", lambda lines: table_of(lines, partial(_lines, grammar))),
        found.get("rejected", or_none(_refused)),
        found.get("left", lambda values: table_of(values, lambda _, value: text_of(value)), {}),
    )


def _lines(grammar: Grammar, name: str, value: object) -> str | None:
    if value is None:
        return None
    lines = text_of(value)
    if grammar.parse(encoded(lines)).lines_of(name) != lines:
        raise ValueError("these are not its lines")
    return lines


def _refused(document: object) -> Rejected:
    found = Members(document)
    return Rejected(
        found.get("says", saved.saved_state),
        found.get("reason", text_of),
        found.get("parameters", texts_of),
        found.get("missing", texts_of),
        found.get("is_judged", truth_of),
    )


def _state(desired: DesiredState | None) -> dict[str, Any] | None:
    return None if desired is None else saved.members_of(desired)
