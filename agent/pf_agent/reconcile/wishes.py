"""Which desired state is in force, and the fate of one that Postfix does not serve with. Pure.

A wish is a desired state that differs from the one that Postfix was last seen to serve with. Until
it serves with the new one, the former lines of each changed parameter are kept, so that exactly
those are restored if the wish is rejected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase

from pf_agent.maincf.document import encoded
from pf_agent.maincf.grammar import Document, grammar_of
from pf_agent.model import (
    DesiredState,
    DocumentKind,
    Drift,
    DriftKind,
    Parameter,
    PendingActivation,
    Rejected,
    Unmanaged,
    Wishes,
)
from pf_agent.reconcile.drift import corrected, taken_apart, unmanaged_names


def in_force(wishes: Wishes, asked: DesiredState | None) -> DesiredState | None:
    """Return what main.cf must say if the files ask for `asked` (None: they are faulty).

    None if there is nothing: there has never been a good state, or the first one was rejected.
    """
    if asked is None or not wishes.rejects(asked):
        return asked or wishes.served
    return wishes.served and wishes.served.as_of(asked)


def differing(one: DesiredState | None, other: DesiredState | None) -> frozenset[str]:
    """Return the parameters for which the two ask different values."""
    names = (one.parameters() if one else frozenset()) | (
        other.parameters() if other else frozenset()
    )
    return frozenset(name for name in names if _wish_of(one, name) != _wish_of(other, name))


def _wish_of(desired: DesiredState | None, name: str) -> tuple[bool, str | None]:
    if desired is None:
        return False, None
    return name in desired.use_default, desired.settings.get(name)


def marked(
    drift: Iterable[Drift],
    wishes: Wishes,
    desired: DesiredState,
    pending: PendingActivation | None = None,
) -> tuple[Drift, ...]:
    """Return `drift` with those differences marked as wishes that a changed desired state explains.

    A difference is a wish if the state asks a value other than the one that main.cf was last made
    to say. So is all that differs when main.cf comes under management. And so is what is still as
    it was before a wish whose exchange failed or was interrupted: `pending` is its marker.
    """
    new = differing(wishes.applied, desired)
    done = pending is not None and pending.exposure.corrected_at is not None
    written = frozenset(pending.parameters if pending is not None and done else ())
    return tuple(
        replace(d, is_wished=True)
        if d.parameter in new
        or (d.kind is DriftKind.UNMANAGED and _leaves(wishes.applied, d.parameter))
        or (d.parameter not in written and _is_as_before(desired.kind, d, wishes))
        else d
        for d in drift
    )


def wished_of(wishes: Wishes, parameters: Iterable[str]) -> tuple[str, ...]:
    """Return those of the parameters that a wish changed which was not yet seen to serve."""
    return tuple(name for name in parameters if name in wishes.before)


def _leaves(desired: DesiredState | None, name: str) -> bool:
    """Whether the state leaves alone a parameter that it does not name."""
    if desired is None or desired.unmanaged is not Unmanaged.COMMENT_OUT:
        return True
    return any(fnmatchcase(name, pattern) for pattern in desired.ignore)


def _is_as_before(kind: DocumentKind, drift: Drift, wishes: Wishes) -> bool:
    if drift.parameter not in wishes.before:
        return False
    lines = wishes.before[drift.parameter]
    found = grammar_of(kind).parse(encoded(lines or "")).get(drift.parameter)
    return drift.actual == (None if found is None else found.value)


def _commented_out(desired: DesiredState | None, document: Document) -> frozenset[str]:
    if desired is None or desired.unmanaged is not Unmanaged.COMMENT_OUT:
        return frozenset()
    return frozenset(unmanaged_names(desired, document))


def applied(wishes: Wishes, desired: DesiredState, text: bytes | None) -> Wishes:
    """Return `wishes` after main.cf, which said `text`, is made to say `desired`."""
    document = taken_apart(desired.kind, text)
    changed = differing(wishes.served, desired)
    changed |= _commented_out(desired, document) - _commented_out(wishes.served, document)
    before = {name: wishes.before.get(name, document.lines_of(name)) for name in sorted(changed)}
    # What an earlier wish changed goes back even if this one no longer names it.
    before |= {name: lines for name, lines in wishes.before.items() if name not in before}
    return replace(wishes, applied=desired, before=before, left=_left(wishes, desired, document))


def _left(wishes: Wishes, desired: DesiredState, document: Document) -> dict[str, str]:
    """Return parameters that main.cf still sets as they were asked for until now, or earlier."""
    asked = {**wishes.left, **(wishes.applied.settings if wishes.applied else {})}
    known = {name: value for name, value in asked.items() if _leaves(desired, name)}
    return {parameter.name: parameter.value for parameter in still_said(known, desired, document)}


def still_said(
    left: Mapping[str, str], desired: DesiredState, document: Document
) -> tuple[Parameter, ...]:
    """Return what main.cf still says as once asked for, and the desired state no longer does."""
    is_same = grammar_of(desired.kind).same
    found = {name: document.get(name) for name in left if name not in desired.parameters()}
    return tuple(
        parameter
        for name, parameter in found.items()
        if parameter is not None and is_same(name, left[name], parameter.value)
    )


def is_cut_off(wishes: Wishes) -> bool:
    """Tell whether the rejected state was not reverted yet: a crash came in between."""
    return wishes.rejects(wishes.applied)


def rejected(wishes: Wishes, refused: Rejected) -> Wishes:
    """Return `wishes` after `refused` was rejected: the served state is in force again."""
    return Wishes(wishes.served, wishes.served, {}, refused, wishes.left)


def taken_back(kind: DocumentKind, text: bytes, wishes: Wishes) -> bytes:
    """Return main.cf's text with all that the wishes since `served` changed set back."""
    found = put_back(kind, text, wishes.before)
    if wishes.served is None:
        return found
    return corrected(grammar_of(kind).parse(found), wishes.served).render()


def withdrawn(wishes: Wishes, desired: DesiredState) -> dict[str, str | None]:
    """Return the former lines of an unserved wish, for parameters that `desired` leaves alone."""
    new = differing(wishes.served, desired)
    return {
        name: lines
        for name, lines in wishes.before.items()
        if name not in desired.parameters() | new and _leaves(desired, name)
    }


def untouched(
    kind: DocumentKind, wishes: Wishes, names: Iterable[str], text: bytes
) -> frozenset[str]:
    """Return those of `names` for which main.cf's `text` still says what the wish set."""
    grammar, asked = grammar_of(kind), wishes.applied.settings if wishes.applied else {}
    says = grammar.parse(text)
    values = {name: says.get(name) for name in names}
    return frozenset(
        name
        for name, found in values.items()
        if (found is None) is (name not in asked)
        and (found is None or grammar.same(name, asked[name], found.value))
    )


def unsaid(
    kind: DocumentKind, settings: Mapping[str, str | None], text: bytes | None
) -> frozenset[str]:
    """Return the parameters for which main.cf's `text` has another value, or none."""
    is_same, says = grammar_of(kind).same, taken_apart(kind, text).parameters()
    return frozenset(
        name
        for name, value in settings.items()
        if value is not None and not (name in says and is_same(name, value, says[name]))
    )


def unserved(desired: DesiredState, text: bytes, ran_with: bytes) -> tuple[str, ...]:
    """Return the managed parameters for which `text` differs from what Postfix runs with."""
    if text == ran_with:
        return ()
    grammar = grammar_of(desired.kind)
    now = taken_apart(desired.kind, text).parameters()
    before = grammar.parse(ran_with).parameters()

    def is_same(name: str) -> bool:
        one, other = now.get(name), before.get(name)
        if one is None or other is None or one == other:
            return one == other
        return grammar.same(name, one, other)

    return tuple(name for name in sorted(desired.parameters()) if not is_same(name))


def put_back(kind: DocumentKind, text: bytes, before: Mapping[str, str | None]) -> bytes:
    """Return `text` with the former lines of some parameters put back; None: it had none."""
    grammar = grammar_of(kind)
    edit = grammar.edit(grammar.parse(text))
    for name, lines in before.items():
        edit.put_back(name, lines)
    return edit.result().render()
