"""One cycle: look at main.cf, and where it differs from the desired state, correct it.

The daemon and `apply` both call `reconcile`, under the same lock. It corrects the file and leaves
a marker; activating what was corrected is `activation.py`'s, since that takes as long as Postfix
takes to stop.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
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
    Late,
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
    def locked(self) -> AbstractContextManager[None]: ...
    def exchange(
        self, actual: ActualState, text: bytes, keep: Callable[[bytes], None]
    ) -> Displaced: ...
    def late(self) -> Late | None: ...
    def drop_late(self) -> None: ...


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
    if actual.is_open and last_good is not None and not damaged:
        # Half of a text may be all that is there yet. The last good one stands in for it, and what
        # he has written counts once he has closed it.
        damaged = "somebody holds it open for writing"
        if not find_drift(desired, actual, "", False, own):
            damaged = ""
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
    found = plan(host, desired, host.read(), pending.last_good(), policy.own)
    late = not policy.observe_only and host.late() is not None
    if not found.drift and not late:
        return _in_sync(found, policy, pending)
    # What somebody wrote while we waited for the lock is what counts.
    with nullcontext() if policy.observe_only else host.locked():
        if late:
            _bring_back(host, desired, policy, pending, emit)
        found = plan(host, desired, host.read(), pending.last_good(), policy.own)
        if not found.drift:
            return _in_sync(found, policy, pending)
        return _act(host, desired, policy, pending, emit, last, found, seen_at)


def _act(
    host: Host,
    desired: DesiredState,
    policy: Policy,
    pending: Pending,
    emit: Emit,
    last: Outcome | None,
    found: Plan,
    seen_at: float,
) -> Outcome:
    """Put the drift on record, and correct it where that may be."""
    was_written = _was_written(found, pending.last_good(), pending.pending())
    written_at = min(found.actual.written_at, seen_at) if was_written else seen_at
    known = _cycle_on_record(last, found.drift)
    number = pending.next_cycle() if known is None else known
    emit_new = emit if known is None else _skip
    cycle = _Cycle(host, desired, policy, pending, number, Exposure(written_at, seen_at))
    cycle.record_drift(emit_new, found)
    if policy.observe_only:
        return cycle.outcome(Result.OBSERVED, found, "drift")
    accepted, refusal = cycle.judged(found)
    if refusal:
        return cycle.rejected(emit_new, found, refusal)
    if accepted is not found:
        cycle.record_drift(emit, replace(accepted, drift=accepted.drift[:1]))
    return cycle.correct(emit, accepted)


def _bring_back(
    host: Host, desired: DesiredState, policy: Policy, pending: Pending, emit: Emit
) -> None:
    """Somebody had main.cf open when it was exchanged, and has closed it: his whole text counts."""
    late = host.late()
    if late is None:
        return
    number = pending.next_cycle()
    kept = [pending.keep_displaced(number, late.text)]
    actual = host.read()
    his = replace(actual, text=late.text, is_open=False)
    candidate = plan(host, desired, his, pending.last_good(), policy.own).candidate
    if candidate != actual.text:
        message = "what somebody wrote who closed main.cf after it was corrected"
        fields = {}
        if late.is_newest and not policy.judge(candidate).fatal:

            def keep(displaced: bytes) -> None:
                kept.append(pending.keep_displaced(number, displaced))

            host.exchange(actual, candidate, keep)
            message += " is in it now"
            fields[names.FIELD_DIFF] = render.unified_diff(actual.text, candidate, host.path)
        else:
            message += " is kept, not installed: it was changed since, or Postfix refuses it"
        fields[names.FIELD_DISPLACED] = "\n".join(kept)
        emit(Record(Event.DRIFT_CORRECTED, message, number, fields))
    host.drop_late()


def _in_sync(found: Plan, policy: Policy, pending: Pending) -> Outcome:
    """Nothing drifted; a text that Postfix can run with is the one to bring back one day."""
    text = found.candidate
    keeps = policy.own and not policy.observe_only
    if keeps and pending.pending() is None and text != pending.last_good():
        judgement = policy.judge(text)
        if judgement.fatal:
            return Outcome(Result.IN_SYNC, f"but Postfix would not start: {judgement.fatal}")
        pending.keep_last_good(text)
    return Outcome(Result.IN_SYNC, "")


@dataclass(frozen=True)
class _Cycle:
    """A cycle that found drift: its number, what it works with, how long the drift was live."""

    host: Host
    desired: DesiredState
    policy: Policy
    pending: Pending
    number: int
    exposure: Exposure

    def outcome(self, result: Result, found: Plan, what: str) -> Outcome:
        """How the cycle ended; `what` was done about which parameters is the sentence."""
        text = _sentence(what, found.drift)
        return Outcome(result, text, self.number, found.drift, found.diff, self.exposure)

    def record_drift(self, emit: Emit, found: Plan) -> None:
        """On record before anything is touched: each drifted parameter, and the cycle."""
        for drift in found.drift:
            text = render.drift_sentence(drift)
            emit(Record(Event.DRIFT_DETECTED, text, self.number, render.drift_fields(drift)))
        fields = {names.FIELD_DIFF: found.diff, **render.exposure_fields(self.exposure)}
        text = _sentence("drift", found.drift)
        emit(Record(Event.DRIFT_DETECTED, text, self.number, fields))

    def judged(self, found: Plan) -> tuple[Plan, str]:
        """Return the plan that Postfix's own programs accept, and why there is none.

        A main.cf that Postfix cannot run with, for a parameter that the desired state does not
        name, is as good as destroyed: where the last good text passes, that one comes back.
        """
        fatal = self.policy.judge(found.candidate).fatal
        last_good = self.pending.last_good() if fatal else None
        if last_good is not None:
            text = corrected(MainCf.parse(last_good), self.desired).render()
            if text != found.candidate and not self.policy.judge(text).fatal:
                unusable = f"Postfix cannot run with it: {fatal}"
                lost = Drift("", DriftKind.ABSENT_FILE, "the last good text", unusable)
                diff = render.unified_diff(found.actual.text, text, self.host.path)
                return Plan(found.actual, (lost, *found.drift), text, diff), ""
        return found, fatal

    def rejected(self, emit: Emit, found: Plan, refusal: str) -> Outcome:
        """Postfix refuses what main.cf would become, so it was not touched."""
        text = refusal_sentence(self.desired, refusal)
        fields = {names.FIELD_REASON: refusal}
        emit(Record(Event.CONFIG_REJECTED, text, self.number, fields))
        return replace(self.outcome(Result.REJECTED, found, ""), summary=text)

    def correct(self, emit: Emit, found: Plan) -> Outcome:
        """Exchange the text, with a marker around it for what is then to be activated."""
        activates = needs_activation(found.drift)
        if activates:
            # On disk before main.cf changes: a crash from here on is taken up at the next look.
            self._mark(found, durable=True)
        kept, way = self._exchange(emit, found)
        done = replace(self, exposure=replace(self.exposure, corrected_at=self.policy.clock()))
        if activates:
            # The same marker, now with this moment: if a crash loses that, nothing depends on it.
            done._mark(found, durable=False)
        outcome = done.outcome(Result.CORRECTED, found, "corrected")
        if way:
            outcome = replace(outcome, summary=f"{outcome.summary} ({way})")
        fields = {names.FIELD_DIFF: found.diff, **render.exposure_fields(done.exposure)}
        if kept:
            fields[names.FIELD_DISPLACED] = "\n".join(kept)
        emit(Record(Event.DRIFT_CORRECTED, outcome.summary, self.number, fields))
        return outcome

    def _mark(self, found: Plan, durable: bool) -> None:
        """Write the marker; drift that an earlier cycle left to activate stays named in it."""
        drifted = render.drifted_names(found.drift)
        before = self.pending.pending()
        if before is not None:
            drifted = tuple(dict.fromkeys((*before.parameters, *drifted)))
        self.pending.mark_pending(PendingActivation(self.number, drifted, self.exposure), durable)

    def _exchange(self, emit: Emit, found: Plan) -> tuple[list[str], str]:
        """Swap the candidate in; return where the displaced texts are, and the way it was done.

        Where somebody who knows of no lock wrote between our read and the exchange, what he wrote
        is in our hand: it is corrected in its turn and exchanged for our first text, so that his
        edit is not lost.
        """
        kept: list[str] = []
        expected, candidate = found.actual, found.candidate

        def keep(text: bytes) -> None:
            kept.append(self.pending.keep_displaced(self.number, text))

        for _ in range(_MOST_TIMES_OVERTAKEN):
            displaced = self.host.exchange(expected, candidate, keep)
            if displaced.text == expected.text:
                break
            expected = replace(found.actual, text=candidate)
            his = replace(found.actual, text=displaced.text, is_open=False)
            # Where he destroyed it, our own text, the newest whole one, is what to begin with.
            more = plan(self.host, self.desired, his, candidate, self.policy.own)
            if more.drift:
                self.record_drift(emit, more)
            candidate = more.candidate
            if self.policy.judge(candidate).fatal:
                break  # ours stays in force, and his text is kept
        return kept, displaced.way


def _sentence(what: str, drift: Sequence[Drift]) -> str:
    return f"{what}: {render.listed(render.drifted_names(drift))}"


def refusal_sentence(desired: DesiredState, refusal: str) -> str:
    """What Postfix refuses in its own words, and which line of which TOML file asked for it."""
    words = set(re.findall(r"[A-Za-z0-9_]+", refusal))
    blamed = sorted(words.intersection(desired.settings))
    where = "".join(f"{desired.provenance.get(name, '')}: {name}: " for name in blamed[:1])
    return f"{where}Postfix refuses it: {refusal}; mend it, main.cf stays as it is until then"


def _was_written(found: Plan, last_good: bytes | None, before: PendingActivation | None) -> bool:
    """Tell whether somebody wrote main.cf: not where it came into our care only now, and not where
    the desired state is what changed."""
    if last_good is None:
        return False
    if any(drift.kind is DriftKind.MODE for drift in found.drift):
        return True
    ours = None if before is None else before.exposure.corrected_at
    is_ours = ours is not None and found.actual.written_at <= ours
    return found.actual.text != last_good and not is_ours


def _cycle_on_record(last: Outcome | None, drift: tuple[Drift, ...]) -> int | None:
    """The cycle that put this same drift on record and left it standing."""
    if last is None or last.result not in (Result.OBSERVED, Result.REJECTED):
        return None
    return last.cycle if last.drift == drift else None


def _skip(_record: Record) -> None:
    """For what is on record already."""
