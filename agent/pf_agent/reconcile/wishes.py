"""Which desired state is in force, and what becomes of one that Postfix does not serve with: pure.

A wish is a desired state that differs from the one that Postfix was last seen to serve with. Until
it serves with the new one, what main.cf said of each changed parameter is kept, so that only that
goes back where the wish is rejected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase

from pf_agent.maincf.document import MainCf, encoded
from pf_agent.maincf.edit import Edit
from pf_agent.maincf.values import same
from pf_agent.model import (
    DesiredState,
    Drift,
    DriftKind,
    PendingActivation,
    Rejected,
    Unmanaged,
    Wishes,
)
from pf_agent.reconcile.drift import corrected, taken_apart, unmanaged_names


def in_force(wishes: Wishes, asked: DesiredState | None) -> DesiredState | None:
    """Return what main.cf must say where the files ask for `asked`, None where they have a fault.

    None where that is nothing: there never was a good state, or the first one was rejected.
    """
    if asked is None or wishes.rejects(asked):
        return wishes.served
    return asked


def differing(one: DesiredState | None, other: DesiredState | None) -> frozenset[str]:
    """Return the parameters that the two do not ask the same of."""
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
    """Return `drift`, where the desired state is what changed, as wishes.

    That is where it asks for something else than what main.cf was last made to say. What main.cf
    says where it came into our care only now is nobody's drift either. Nor is what stands there as
    it did before a wish whose exchange failed or was cut off: `pending` is the marker of that one.
    """
    new = differing(wishes.applied, desired)
    done = pending is not None and pending.exposure.corrected_at is not None
    written = frozenset(pending.parameters if pending is not None and done else ())
    return tuple(
        replace(d, is_wished=True)
        if d.parameter in new
        or (d.kind is DriftKind.UNMANAGED and _leaves(wishes.applied, d.parameter))
        or (d.parameter not in written and _is_as_before(d, wishes))
        else d
        for d in drift
    )


def _leaves(desired: DesiredState | None, name: str) -> bool:
    """Whether the state leaves a parameter alone that it does not name."""
    if desired is None or desired.unmanaged is not Unmanaged.COMMENT_OUT:
        return True
    return any(fnmatchcase(name, pattern) for pattern in desired.ignore)


def _is_as_before(drift: Drift, wishes: Wishes) -> bool:
    if drift.parameter not in wishes.before:
        return False
    lines = wishes.before[drift.parameter]
    found = MainCf.parse(encoded(lines or "")).get(drift.parameter)
    return drift.actual == (None if found is None else found.value)


def _commented_out(desired: DesiredState | None, main_cf: MainCf) -> frozenset[str]:
    if desired is None or desired.unmanaged is not Unmanaged.COMMENT_OUT:
        return frozenset()
    return frozenset(unmanaged_names(desired, main_cf))


def applied(wishes: Wishes, desired: DesiredState, text: bytes | None) -> Wishes:
    """Return `wishes` once main.cf, which said `text`, is made to say `desired`."""
    main_cf = taken_apart(text)
    changed = differing(wishes.served, desired)
    changed |= _commented_out(desired, main_cf) - _commented_out(wishes.served, main_cf)
    before = {name: wishes.before.get(name, main_cf.lines_of(name)) for name in sorted(changed)}
    # What an earlier wish changed and this one no longer names goes back all the same.
    before |= {name: lines for name, lines in wishes.before.items() if name not in before}
    return replace(wishes, applied=desired, before=before)


def is_cut_off(wishes: Wishes) -> bool:
    """Tell whether what is rejected was not taken back yet: a crash came between."""
    return wishes.rejects(wishes.applied)


def rejected(wishes: Wishes, refused: Rejected) -> Wishes:
    """Return `wishes` once `refused` is: the one that was served with is in force again."""
    return Wishes(wishes.served, wishes.served, {}, refused)


def taken_back(text: bytes, wishes: Wishes) -> bytes:
    """Return main.cf's text with what the wishes since `served` have changed as it was before."""
    found = put_back(text, wishes.before)
    return (
        found if wishes.served is None else corrected(MainCf.parse(found), wishes.served).render()
    )


def withdrawn(wishes: Wishes, desired: DesiredState) -> dict[str, str | None]:
    """Return the lines before a wish that was never served with, of what `desired` leaves alone."""
    new = differing(wishes.served, desired)
    return {
        name: lines
        for name, lines in wishes.before.items()
        if name not in desired.parameters() | new and _leaves(desired, name)
    }


def untouched(wishes: Wishes, names: Iterable[str], text: bytes) -> frozenset[str]:
    """Return those of `names` of which main.cf's `text` says what the wish made it say."""
    says, asked = MainCf.parse(text), wishes.applied.settings if wishes.applied else {}
    values = {name: says.get(name) for name in names}
    return frozenset(
        name
        for name, found in values.items()
        if (found is None) is (name not in asked)
        and (found is None or same(name, asked[name], found.value))
    )


def unsaid(settings: Mapping[str, str | None], text: bytes | None) -> frozenset[str]:
    """Return the parameters with a value of which main.cf's `text` says another, or nothing."""
    says = taken_apart(text).parameters()
    return frozenset(
        name
        for name, value in settings.items()
        if value is not None and not (name in says and same(name, value, says[name]))
    )


def unserved(desired: DesiredState, text: bytes, ran_with: bytes) -> tuple[str, ...]:
    """Return the managed parameters that `text` says otherwise than what Postfix runs with."""
    if text == ran_with:
        return ()
    now, before = taken_apart(text).parameters(), MainCf.parse(ran_with).parameters()
    names = sorted(desired.parameters())
    return tuple(name for name in names if not _is_same(name, now.get(name), before.get(name)))


def _is_same(name: str, one: str | None, other: str | None) -> bool:
    if one is None or other is None:
        return one is other
    return same(name, one, other)


def put_back(text: bytes, before: Mapping[str, str | None]) -> bytes:
    """Return `text` with the lines that it had of some parameters; None: it had none."""
    main_cf = MainCf.parse(text)
    edit = Edit(main_cf)
    for name, lines in before.items():
        edit.put_back(name, lines)
    return edit.result().render()
