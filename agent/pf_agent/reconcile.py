"""One cycle: look at main.cf, and where it differs from the desired state, correct it.

The daemon and `apply` both call `reconcile`, under the same lock. It corrects the file and leaves
a marker; activating what was corrected is `activation.py`'s, since that takes as long as Postfix
takes to stop.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from pf_agent import names, render
from pf_agent.drift import corrected, damage, find_drift, needs_activation
from pf_agent.main_cf import MainCf
from pf_agent.model import (
    ActualState,
    DesiredState,
    Displaced,
    Drift,
    DriftKind,
    Event,
    Exposure,
    Judgement,
    Outcome,
    PendingActivation,
    Record,
    Result,
)

Emit = Callable[[Record], None]
Clock = Callable[[], float]

# Each time round somebody wrote in the milliseconds between reading and exchanging. His last write
# wakes the loop again anyway, so it need not be chased for ever within one cycle.
_MOST_TIMES_OVERTAKEN = 20


class Host(Protocol):
    """The file main.cf, as `exchange.MainCfFile` and the fake of the tests have it."""

    path: str

    def read(self) -> ActualState: ...
    def read_template(self, path: str) -> bytes: ...
    def exchange(
        self, actual: ActualState, text: bytes, keep: Callable[[bytes], None]
    ) -> Displaced: ...


class Pending(Protocol):
    """What outlives the cycle, as `state.State` keeps it."""

    def next_cycle(self) -> int: ...
    def mark_pending(self, pending: PendingActivation, durable: bool = True) -> None: ...
    def pending(self) -> PendingActivation | None: ...
    def keep_displaced(self, cycle: int, text: bytes) -> str: ...
    def last_good(self) -> bytes | None: ...
    def keep_last_good(self, text: bytes) -> None: ...


@dataclass(frozen=True)
class Policy:
    """What one cycle may do."""

    observe_only: bool = False
    own: bool = True  # this host's own main.cf: owner and mode count, a good text is remembered
    judge: Callable[[bytes], Judgement] = lambda _text: Judgement()
    clock: Clock = time.time


class Judge:
    """Postfix's judgement, asked once for each text: what passed once need not be judged again.

    A refusal is not remembered: a name that does not resolve now may resolve at the next look.
    """

    def __init__(self, ask: Callable[[bytes], Judgement]) -> None:
        self._ask = ask
        self._passed: dict[bytes, Judgement] = {}

    def __call__(self, text: bytes) -> Judgement:
        """Return what Postfix's own programs say of `text`. Raises HostError."""
        known = self._passed.get(text)
        if known is not None:
            return known
        found = self._ask(text)
        if not found.fatal:
            while len(self._passed) >= 4:
                del self._passed[next(iter(self._passed))]
            self._passed[text] = found
        return found


@dataclass(frozen=True)
class Plan:
    """What one look found, and the text that would be right."""

    actual: ActualState
    drift: tuple[Drift, ...]
    candidate: bytes
    diff: str


def plan(
    host: Host,
    desired: DesiredState,
    actual: ActualState,
    last_good: bytes | None,
    own: bool = True,
) -> Plan:
    """Compare, and work out the right text. Touches nothing; `diff` prints what `apply` writes.

    Raises HostError where there is neither a main.cf nor a template to begin with.
    """
    damaged = damage(actual.text, desired, last_good)
    drift = find_drift(desired, actual, damaged, last_good is not None, own)
    if not drift:
        return Plan(actual, (), actual.text or b"", "")
    base = actual.text if not damaged else last_good
    if base is None:
        base = host.read_template(desired.template) if desired.template else b""
    candidate = corrected(MainCf.parse(base), desired).render()
    return Plan(actual, drift, candidate, render.unified_diff(actual.text, candidate, host.path))


def reconcile(
    host: Host,
    desired: DesiredState,
    policy: Policy,
    pending: Pending,
    emit: Emit,
    last: Outcome | None = None,
) -> Outcome:
    """Look once and correct what drifted. Raises HostError; main.cf is then as it was.

    Drift that `last` left standing (observed, rejected) is not put on record a second time.
    """
    seen_at = policy.clock()
    actual = host.read()
    last_good = pending.last_good()
    found = plan(host, desired, actual, last_good, policy.own)
    if not found.drift:
        return _in_sync(found, policy, pending)
    # A main.cf that was not in our care before is no drift that anybody wrote.
    written_at = seen_at if last_good is None else min(actual.written_at, seen_at)
    exposure = Exposure(written_at, seen_at)
    known = _cycle_on_record(last, found.drift)
    cycle = pending.next_cycle() if known is None else known
    emit_new = emit if known is None else _skip
    _emit_drift(emit_new, cycle, found, exposure)
    outcome = Outcome(
        Result.OBSERVED, _sentence("drift", found.drift), cycle, found.drift, found.diff, exposure
    )
    if policy.observe_only:
        return outcome
    accepted, refusal = _judged(host, desired, policy, pending, found)
    if refusal:
        return _rejected(emit_new, outcome, desired, refusal)
    if accepted is not found:
        found = accepted
        _emit_drift(emit, cycle, replace(found, drift=found.drift[:1]), exposure)
    if needs_activation(found.drift):
        # On disk before main.cf changes: a crash from here on is taken up at the next look.
        pending.mark_pending(_pending(pending, cycle, found.drift, exposure))
    kept, way = _exchange(host, desired, pending, cycle, found, policy)
    exposure = replace(exposure, corrected_at=policy.clock())
    if needs_activation(found.drift):
        # The same marker, now with this moment: if a crash loses that, nothing depends on it.
        pending.mark_pending(_pending(pending, cycle, found.drift, exposure), durable=False)
    outcome = replace(
        outcome,
        result=Result.CORRECTED,
        summary=_sentence("corrected", found.drift) + (f" ({way})" if way else ""),
        diff=found.diff,
        exposure=exposure,
    )
    emit(_corrected_record(outcome, kept))
    return outcome


def _in_sync(found: Plan, policy: Policy, pending: Pending) -> Outcome:
    """Nothing drifted; a text that Postfix can run with is the one to bring back one day."""
    text = found.candidate
    if policy.own and pending.pending() is None and text != pending.last_good():
        judgement = policy.judge(text)
        if judgement.fatal:
            return Outcome(Result.IN_SYNC, f"but Postfix would not start: {judgement.fatal}")
        pending.keep_last_good(text)
    return Outcome(Result.IN_SYNC, "")


def _judged(
    host: Host, desired: DesiredState, policy: Policy, pending: Pending, found: Plan
) -> tuple[Plan, str]:
    """Return the plan that Postfix's own programs accept, and why there is none.

    A main.cf that Postfix cannot run with, for a parameter that the desired state does not name,
    is as good as destroyed: where the last good text passes, that one comes back.
    """
    fatal = policy.judge(found.candidate).fatal
    if not fatal:
        return found, ""
    last_good = pending.last_good()
    if last_good is not None:
        text = corrected(MainCf.parse(last_good), desired).render()
        if text != found.candidate and not policy.judge(text).fatal:
            unusable = f"Postfix cannot run with it: {fatal}"
            source = "the last good text"
            drift = (Drift("", DriftKind.ABSENT_FILE, source, unusable), *found.drift)
            diff = render.unified_diff(found.actual.text, text, host.path)
            return Plan(found.actual, drift, text, diff), ""
    return found, fatal


def _rejected(emit: Emit, outcome: Outcome, desired: DesiredState, refusal: str) -> Outcome:
    text = refusal_sentence(desired, refusal)
    emit(Record(Event.CONFIG_REJECTED, text, outcome.cycle, {names.FIELD_REASON: refusal}))
    return replace(outcome, result=Result.REJECTED, summary=text)


def _pending(
    pending: Pending, cycle: int, drift: Sequence[Drift], exposure: Exposure
) -> PendingActivation:
    """The marker; drift that an earlier cycle still waits to activate stays named in it."""
    found = render.drifted_names(drift)
    before = pending.pending()
    if before is not None:
        found = tuple(dict.fromkeys((*before.parameters, *found)))
    return PendingActivation(cycle, found, exposure)


def _exchange(
    host: Host,
    desired: DesiredState,
    pending: Pending,
    cycle: int,
    found: Plan,
    policy: Policy,
) -> tuple[list[str], str]:
    """Swap the candidate in; return where the displaced texts are kept, and the way it was done.

    Where somebody wrote between our read and the exchange, what he wrote is in our hand: it is
    corrected in its turn and exchanged for our first text, so that his edit is not lost.
    """
    kept: list[str] = []
    ours: set[bytes] = set()

    def keep(text: bytes) -> None:
        if text not in ours:
            kept.append(pending.keep_displaced(cycle, text))

    expected, candidate = found.actual, found.candidate
    for _ in range(_MOST_TIMES_OVERTAKEN):
        displaced = host.exchange(expected, candidate, keep)
        if displaced.text == expected.text:
            break
        ours.add(candidate)
        expected = replace(found.actual, text=candidate)
        overtaking = replace(found.actual, text=displaced.text)
        candidate = plan(host, desired, overtaking, pending.last_good(), policy.own).candidate
    return kept, displaced.way


def _sentence(what: str, drift: Sequence[Drift]) -> str:
    return f"{what}: {render.listed(render.drifted_names(drift))}"


def refusal_sentence(desired: DesiredState, refusal: str) -> str:
    """What Postfix refuses in its own words, and which line of which TOML file asked for it."""
    words = set(re.findall(r"[A-Za-z0-9_]+", refusal))
    blamed = sorted(words.intersection(desired.settings))
    where = "".join(f"{desired.provenance.get(name, '')}: {name}: " for name in blamed[:1])
    return f"{where}Postfix refuses it: {refusal}; mend it, main.cf stays as it is until then"


def _cycle_on_record(last: Outcome | None, drift: tuple[Drift, ...]) -> int | None:
    """The cycle that put this same drift on record and left it standing."""
    if last is None or last.result not in (Result.OBSERVED, Result.REJECTED):
        return None
    return last.cycle if last.drift == drift else None


def _skip(_record: Record) -> None:
    """For what is on record already."""


def _emit_drift(emit: Emit, cycle: int, found: Plan, exposure: Exposure) -> None:
    """On record before anything is touched: each drifted parameter, and the cycle."""
    for drift in found.drift:
        text = render.drift_sentence(drift)
        emit(Record(Event.DRIFT_DETECTED, text, cycle, render.drift_fields(drift)))
    fields = {names.FIELD_DIFF: found.diff, **render.exposure_fields(exposure)}
    emit(Record(Event.DRIFT_DETECTED, _sentence("drift", found.drift), cycle, fields))


def _corrected_record(outcome: Outcome, kept: Sequence[str]) -> Record:
    assert outcome.exposure is not None
    fields = {names.FIELD_DIFF: outcome.diff, **render.exposure_fields(outcome.exposure)}
    if kept:
        fields[names.FIELD_DISPLACED] = "\n".join(kept)
    return Record(Event.DRIFT_CORRECTED, outcome.summary, outcome.cycle, fields)
