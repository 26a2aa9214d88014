"""One cycle: look at main.cf, and correct it if it differs from the desired state.

The daemon and `apply` both call `reconcile`, under the same lock. It corrects the file and leaves a
marker; activating the correction is left to activation.py, since that takes as long as Postfix
takes to stop.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from pf_agent import names
from pf_agent.errors import HostError
from pf_agent.model import ActualState, Event, Exposure, Outcome, Record, Result
from pf_agent.reconcile.correction import Correction
from pf_agent.reconcile.look import Look
from pf_agent.reconcile.plan import CorrectionFailed, Plan
from pf_agent.reconcile.ports import Host
from pf_agent.reconcile.swap import Swap
from pf_agent.reconcile.wishes import marked
from pf_agent.words.diffs import unified_diff


def reconcile(look: Look, actual: ActualState | None = None) -> Outcome:
    """Look once and correct what drifted. Raises HostError; main.cf is then unchanged.

    `actual` is main.cf as the caller just read it, under the agent's lock. Drift that the last look
    left in place (observed, rejected, failed) is not recorded a second time. If drift was recorded
    and could not be corrected, CorrectionFailed is raised with the outcome.
    """
    may_act = not look.policy.observe_only
    seen_at = look.policy.clock()
    found = look.plan(actual or look.host.read())
    is_left = may_act and look.is_left()
    if not is_left and (outcome := look.at_rest(found)):
        return outcome
    with ExitStack() as held:
        unlocked = _take_lock(look.host, held) if may_act else None
        # What was written while we waited for the lock is what counts.
        cut_off = _take_up(look) if is_left and unlocked is None else None
        if is_left and unlocked is None:
            _bring_back(look)
        if (actual := look.closed()) != found.actual or is_left:
            found = look.plan(actual)
        if cut_off is not None and not found.drift:
            look.emit(cut_off)
        outcome = look.at_rest(found)
        if outcome is None:
            outcome = _act(look, found, seen_at, unlocked)
        elif unlocked is not None:
            raise unlocked
        else:
            return outcome
    return look.report(found, outcome)


def _take_lock(host: Host, held: ExitStack) -> HostError | None:
    """Return why the lock cannot be taken, None if it is held.

    The directory may be read-only for long, and drift is to be recorded all the same.
    """
    try:
        held.enter_context(host.locked())
    except HostError as error:
        return error
    return None


def _act(look: Look, found: Plan, seen_at: float, unlocked: HostError | None) -> Outcome:
    """Record the drift, and correct it if that is allowed: never without the lock."""
    found = _marked(look, found)
    cycle = _cycle(look, found, seen_at)
    if not cycle.is_on_record:
        cycle.record_drift(replace(found, drift=look.news(found.drift)))
    if look.policy.observe_only:
        return cycle.outcome(Result.OBSERVED, found, "would change")
    try:
        if unlocked is not None:
            raise unlocked
        accepted, refused = cycle.judged(found)
        if refused:
            return cycle.rejected(found, refused)
        if accepted is not found:
            cycle.record_drift(replace(accepted, drift=accepted.drift[:1]))
        return cycle.correct(accepted)
    except HostError as error:
        failed = cycle.outcome(Result.FAILED, found, "not corrected")
        raise CorrectionFailed(str(error), failed) from error


def _marked(look: Look, found: Plan) -> Plan:
    """Tell drift from differences due to a changed desired state."""
    store = look.store
    drift = marked(found.drift, store.wishes(), look.desired, store.pending())
    return replace(found, drift=drift)


def _cycle(look: Look, found: Plan, seen_at: float) -> Correction:
    """Begin a cycle, or continue the one that recorded this same drift."""
    # Not if main.cf is only managed from now on, nor if the desired state is what changed.
    is_ours = look.store.wishes().applied is not None
    was_written = is_ours and not all(d.is_wished for d in found.drift)
    written_at = min(found.actual.written_at, seen_at) if was_written else seen_at
    known = look.cycle_on_record(found.drift)
    number = look.store.next_cycle() if known is None else known
    writer = look.policy.writer(written_at) if was_written else {}
    return Correction(look, number, Exposure(written_at, seen_at), writer, known is not None)


def _take_up(look: Look) -> Record | None:
    """Keep what a crash left beside main.cf; return the record of the correction it interrupted.

    The record is true if nothing drifts: main.cf then has our text, and what was left is what it
    displaced.
    """
    if not look.host.is_cut_off():
        return None
    before = look.store.pending()
    number = look.store.next_cycle() if before is None else before.cycle
    swap = Swap(look.host, look.store, number)
    look.host.take_up(swap.keep)
    message = "corrected, in a cycle that was interrupted; what it displaced is kept"
    fields = {names.FIELD_DISPLACED: "\n".join(swap.kept)}
    return Record(Event.DRIFT_CORRECTED, message, number, fields) if swap.kept else None


def _bring_back(look: Look) -> None:
    """Put a text back that a writer, with main.cf open during the exchange, has since closed."""
    host = look.host
    late = host.late()
    if late is None:
        return
    swap = Swap(host, look.store, look.store.next_cycle())
    swap.keep(late.text)
    actual = host.read()
    candidate = look.plan(replace(actual, text=late.text, is_open=False)).candidate
    if candidate != actual.text:
        file = look.desired.document or "main.cf"
        message = f"what another process wrote to {file} while it was being corrected"
        fields = {}
        if late.is_newest and not look.refusal(candidate):
            is_in = swap.put_unless_overtaken(actual, candidate)
            # A text written within these milliseconds is the latest; the look continues.
            message += " is in it now" if is_in else " is kept: it has been written again since"
            kind, is_secret = look.desired.kind, look.desired.is_secret
            diff = unified_diff(actual.text, candidate, host.path, kind, is_secret)
            fields[names.FIELD_DIFF] = diff
        else:
            message += " is kept, not installed: it was changed since, or is refused"
        fields[names.FIELD_DISPLACED] = "\n".join(swap.kept)
        look.emit(Record(Event.DRIFT_CORRECTED, message, swap.number, fields))
    host.drop_late(late)
