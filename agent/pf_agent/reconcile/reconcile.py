"""One cycle: look at main.cf, and where it differs from the desired state, correct it.

The daemon and `apply` both call `reconcile`, under the same lock. It corrects the file and leaves
a marker; activating what was corrected is `activation.py`'s, since that takes as long as Postfix
takes to stop.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace

from pf_agent import names
from pf_agent.errors import HostError
from pf_agent.model import (
    ActualState,
    DesiredState,
    Drift,
    Emit,
    Event,
    Exposure,
    Outcome,
    Record,
    Result,
)
from pf_agent.reconcile.correction import MOST_RECORDS, Correction, refusal
from pf_agent.reconcile.plan import CorrectionFailed, Plan, plan
from pf_agent.reconcile.ports import Host, Policy, Store
from pf_agent.reconcile.swap import Swap
from pf_agent.reconcile.wishes import applied, marked, withdrawn
from pf_agent.words import sentences

_GLANCES = 20
_GLANCE_SECONDS = 0.005


def reconcile(
    host: Host,
    desired: DesiredState,
    policy: Policy,
    store: Store,
    emit: Emit,
    last: Outcome | None = None,
    actual: ActualState | None = None,
) -> Outcome:
    """Look once and correct what drifted. Raises HostError; main.cf is then as it was.

    `actual` is main.cf as the caller read it just now, under the agent's lock. Drift that `last`
    left standing (observed, rejected, failed) is not put on record a second time. Where it was put
    on record and could not be corrected, CorrectionFailed has the outcome.
    """
    seen_at = policy.clock()
    found = plan(host, desired, actual or host.read(), store.last_good(), policy.own)
    is_left = not policy.observe_only and _is_left(host)
    if not is_left and (outcome := _at_rest(found, desired, policy, store, emit, last)):
        return outcome
    with ExitStack() as held:
        unlocked = None if policy.observe_only else _take_lock(host, held)
        # What somebody wrote while we waited for the lock is what counts.
        cut_off = _take_up(host, store) if is_left and unlocked is None else None
        if is_left and unlocked is None:
            _bring_back(host, desired, policy, store, emit)
        if (actual := _closed(host)) != found.actual or is_left:
            found = plan(host, desired, actual, store.last_good(), policy.own)
        if cut_off is not None and not found.drift:
            emit(cut_off)
        outcome = _at_rest(found, desired, policy, store, emit, last)
        if outcome is None:
            outcome = _act(host, desired, policy, store, emit, last, found, seen_at, unlocked)
        elif unlocked is not None:
            raise unlocked
        else:
            return outcome
    _report(found, store, emit, last)
    return replace(outcome, reported=found.reported)


def _is_left(host: Host) -> bool:
    """Whether an earlier exchange left something that is to be taken up."""
    return not host.is_alone() and (host.late() is not None or host.is_cut_off())


def _take_lock(host: Host, held: ExitStack) -> HostError | None:
    """Return why the lock cannot be had: the folder may be read-only for long, and what drifts
    is to be on record all the same."""
    try:
        held.enter_context(host.locked())
    except HostError as error:
        return error
    return None


def _at_rest(
    found: Plan,
    desired: DesiredState,
    policy: Policy,
    store: Store,
    emit: Emit,
    last: Outcome | None,
) -> Outcome | None:
    """Return the outcome of a look that must change nothing; None where it must."""
    if found.drift:
        return None
    outcome = _in_sync(found, desired, policy, store)
    _report(found, store, emit, last)
    return replace(outcome, reported=found.reported)


def _report(found: Plan, store: Store, emit: Emit, last: Outcome | None) -> None:
    """Put on record, once, what stands in main.cf that nobody asked for and is left alone."""
    known = {(d.parameter, d.actual) for d in (last.reported if last else ())}
    new = [drift for drift in found.reported if (drift.parameter, drift.actual) not in known]
    number = store.next_cycle() if new else None
    for drift in new[:MOST_RECORDS]:
        text = f"{sentences.drift_sentence(drift)}; it is only reported"
        emit(Record(Event.DRIFT_DETECTED, text, number, sentences.drift_fields(drift)))


def _act(
    host: Host,
    desired: DesiredState,
    policy: Policy,
    store: Store,
    emit: Emit,
    last: Outcome | None,
    found: Plan,
    seen_at: float,
    unlocked: HostError | None = None,
) -> Outcome:
    """Put the drift on record, and correct it where that may be: not without the lock."""
    wishes = store.wishes()
    found = replace(found, drift=marked(found.drift, wishes, desired, store.pending()))
    # Not where it came into our care only now, nor where the desired state is what changed.
    was_written = wishes.applied is not None and not all(d.is_wished for d in found.drift)
    written_at = min(found.actual.written_at, seen_at) if was_written else seen_at
    known = _cycle_on_record(last, found.drift)
    number = store.next_cycle() if known is None else known
    emit_new = emit if known is None else _skip
    exposure = Exposure(written_at, seen_at)
    writer = policy.writer(written_at) if was_written else {}
    cycle = Correction(host, desired, policy, store, number, exposure, writer)
    cycle.record_drift(emit_new, found)
    if policy.observe_only:
        return cycle.outcome(Result.OBSERVED, found, "drift")
    try:
        if unlocked is not None:
            raise unlocked
        accepted, refusal = cycle.judged(found)
        if refusal:
            return cycle.rejected(emit_new, found, refusal)
        if accepted is not found:
            cycle.record_drift(emit, replace(accepted, drift=accepted.drift[:1]))
        return cycle.correct(emit, accepted)
    except HostError as error:
        failed = cycle.outcome(Result.FAILED, found, "not corrected")
        raise CorrectionFailed(str(error), failed) from error


def _closed(host: Host) -> ActualState:
    """Read main.cf; who has it open gets the moment that postconf needs from rename to close."""
    actual = host.read()
    for _ in range(_GLANCES):
        if not actual.is_open:
            break
        time.sleep(_GLANCE_SECONDS)
        actual = host.read()
    return actual


def _take_up(host: Host, store: Store) -> Record | None:
    """Keep what a crash left beside main.cf; return the record of the correction that it cut off.

    That one is true where nothing drifts: main.cf has our text then, and what was left is what it
    displaced.
    """
    if not host.is_cut_off():
        return None
    kept: list[str] = []
    before = store.pending()
    number = store.next_cycle() if before is None else before.cycle
    host.take_up(lambda text: kept.append(store.keep_displaced(number, text)))
    message = "corrected, in a cycle that was cut off; what it displaced is kept"
    fields = {names.FIELD_DISPLACED: "\n".join(kept)}
    return Record(Event.DRIFT_CORRECTED, message, number, fields) if kept else None


def _bring_back(
    host: Host, desired: DesiredState, policy: Policy, store: Store, emit: Emit
) -> None:
    """Somebody had main.cf open when it was exchanged, and has closed it: his whole text counts."""
    late = host.late()
    if late is None:
        return
    swap = Swap(host, store, store.next_cycle())
    swap.keep(late.text)
    actual = host.read()
    his = replace(actual, text=late.text, is_open=False)
    candidate = plan(host, desired, his, store.last_good(), policy.own).candidate
    if candidate != actual.text:
        message = "what somebody wrote who closed main.cf after it was corrected"
        fields = {}
        if late.is_newest and not refusal(desired, policy.judge(candidate)):
            is_in = swap.put_unless_overtaken(actual, candidate)
            # Where somebody wrote in these milliseconds, that is the newest; the look goes on.
            message += " is in it now" if is_in else " is kept: somebody has written it once more"
            fields[names.FIELD_DIFF] = sentences.unified_diff(actual.text, candidate, host.path)
        else:
            message += " is kept, not installed: it was changed since, or Postfix refuses it"
        fields[names.FIELD_DISPLACED] = "\n".join(swap.kept)
        emit(Record(Event.DRIFT_CORRECTED, message, swap.number, fields))
    host.drop_late(late)


def _in_sync(found: Plan, desired: DesiredState, policy: Policy, store: Store) -> Outcome:
    """Nothing drifted: main.cf says what is desired, whoever made it say so."""
    text = found.candidate
    wishes = store.wishes()
    is_new = not desired.says_the_same(wishes.applied) and not wishes.rejects(desired)
    # Who only observes has left in main.cf what is still to go back.
    if policy.own and is_new and not withdrawn(wishes, desired):
        store.keep_wishes(applied(wishes, desired, text))
    keeps = policy.own and not policy.observe_only
    if keeps and store.pending() is None and text != store.last_good():
        refused = refusal(desired, policy.judge(text))
        if refused:
            return Outcome(Result.IN_SYNC, f"but Postfix would not run: {refused}")
    if found.reported:
        others = sentences.listed(sentences.drifted_names(found.reported))
        return Outcome(Result.IN_SYNC, f"but main.cf also sets {others}")
    return Outcome(Result.IN_SYNC, "")


def _cycle_on_record(last: Outcome | None, drift: tuple[Drift, ...]) -> int | None:
    """The cycle that put this same drift on record and left it standing."""
    if last is None or last.result not in (Result.OBSERVED, Result.REJECTED, Result.FAILED):
        return None
    return last.cycle if last.drift == drift else None


def _skip(_record: Record) -> None:
    """For what is on record already."""
