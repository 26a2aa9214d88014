"""What the activation does next, by what is under way, what is remembered, what holds: pure.

Nothing here asks the clock, systemd or a file: surroundings.py gathers what a step needs, and
course.py does what it says. states.py has the values, and what their moments are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pf_agent.activation.pacing import restart_allowed_at, wish_allowed_at
from pf_agent.activation.states import Attempt, Conditions, Memory
from pf_agent.activation.verdict import Found, verdict
from pf_agent.maincf.values import reload_suffices, takes_a_reload
from pf_agent.model import (
    ActivationWay,
    PendingActivation,
    Standing,
    UnitPhase,
    UnitState,
)

# Without a word from systemd or the probe, look by ourselves.
GLANCE_SECONDS = 1.0
# More than systemd gives a stop and a start (DefaultTimeoutStopSec= and its twin).
JOB_SECONDS = 300.0
# The local clock may be set meanwhile, or summer may end.
MOST_CLOSED_SECONDS = 600.0
# After a reload an idle smtpd from before may take the connection for a while.
RELOAD_SECONDS = 3.0
# A reload costs 80 to 200 ms of two processors, so that it may take a tenth of the time at most.
_RELOAD_APART_SECONDS = 1.0
_RELOAD_SHARE = 10.0


# --- the next deed --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hold:
    """Nothing may be done before this moment, in ticks."""

    until: float


@dataclass(frozen=True)
class Leave:
    """Somebody stopped Postfix, and it is left as it is."""

    why: str


@dataclass(frozen=True)
class Build:
    """Have the alias databases made, then start or reload Postfix."""


@dataclass(frozen=True)
class Clear:
    """Reload Postfix, since an idle process may have drifted values and the restart must wait."""


@dataclass(frozen=True)
class AskPort:
    """It was started with this text, by whomever: ask its port."""


Deed = Hold | Leave | Build | Clear | AskPort


def next_deed(pending: PendingActivation, memory: Memory, holds: Conditions) -> Deed:
    """Return what is to be done for `pending` while nothing is under way."""
    if holds.is_changing():
        return Hold(holds.ticks + GLANCE_SECONDS)
    if not holds.is_up():
        if holds.left:
            return Leave(holds.left)
        if holds.is_locked:
            return Hold(holds.ticks + GLANCE_SECONDS)
    elif was_started_since(pending, memory, holds.units[-1]):
        return AskPort()
    due_at = _due_at(pending, memory, holds)
    if due_at <= holds.ticks:
        return Build()
    if not may_clear(pending, holds):
        return Hold(due_at)
    return Clear() if memory.reload_at <= holds.ticks else Hold(min(due_at, memory.reload_at))


def was_started_since(pending: PendingActivation, memory: Memory, holder: UnitState) -> bool:
    """Tell whether Postfix was started with main.cf as it is, and that was not tried in vain."""
    corrected_at = pending.exposure.corrected_at
    if corrected_at is None:
        return False
    tried_at = memory.failed_at if pending.cycle == memory.failed_cycle else 0.0
    return holder.began_at > max(corrected_at, tried_at)


def _due_at(pending: PendingActivation, memory: Memory, holds: Conditions) -> float:
    """When Postfix may be started anew or reloaded, in ticks."""
    if is_urgent(pending, memory):
        return 0.0
    # Where mail is down there is nothing that a restart could disturb.
    closed = min(holds.opens_in, MOST_CLOSED_SECONDS) if holds.is_up() else 0.0
    opens_at = holds.ticks + closed if closed > 0 else 0.0
    if may_reload(pending, memory, holds):
        return max(memory.retry_at, memory.reload_at, opens_at)
    retry_at = memory.retry_at
    if not is_wish(pending):
        is_down = memory.failure or memory.was_overtaken or not holds.is_up()
        apart = 0.0 if is_down else holds.apart  # while mail is down, the budget is enough
        allowed = restart_allowed_at((*holds.restarts, *holds.wished), holds.now, apart)
    else:
        allowed = wish_allowed_at(holds.wished, holds.now)
        retry_at = retry_at if pending.cycle == memory.failed_cycle else 0.0
    return max(retry_at, opens_at, holds.ticks + allowed - holds.now)


def is_wish(pending: PendingActivation) -> bool:
    """Tell whether a person asked for all of it: it is held up by earlier wishes alone.

    A marker that names nothing is nobody's wish: it is damaged, or Postfix was found to be down.
    """
    return bool(pending.parameters) and not pending.is_drift()


def is_urgent(pending: PendingActivation, memory: Memory) -> bool:
    """Tell whether mail is down, and it is not known yet that this text does not help."""
    is_new = pending.cycle != memory.failed_cycle and not pending.failed
    return is_new and (pending.rolled_back or bool(doubt(pending, memory)))


def doubt(pending: PendingActivation, memory: Memory) -> str:
    """Why a reload did not do for `pending`, "" where none was tried."""
    cycle, reason = memory.unserved or (None, "")
    return reason if cycle == pending.cycle else ""


def may_reload(pending: PendingActivation, memory: Memory, holds: Conditions) -> bool:
    """Tell whether a reload is what activates it."""
    return (
        holds.way is ActivationWay.AUTO
        and not pending.rolled_back
        and pending.cycle != memory.failed_cycle
        and not doubt(pending, memory)
        and holds.is_up()
        and bool(pending.parameters)  # a damaged marker names none
        and reload_suffices(pending.parameters)
    )


def may_clear(pending: PendingActivation, holds: Conditions) -> bool:
    """Tell whether a reload, now, takes a drifted value from a process that may have one."""
    drifted = set(pending.parameters) - set(pending.wished)
    return pending.live and holds.is_up() and any(map(_may_take_a_reload, drifted))


def _may_take_a_reload(name: str) -> bool:
    # A file that was destroyed stands for all that it no longer said.
    return name == "main.cf" or takes_a_reload(name)


def reload_allowed_at(started_at: float, ended_at: float) -> float:
    """Return when the next reload may be, after one that took so long, in ticks."""
    return started_at + max(_RELOAD_APART_SECONDS, _RELOAD_SHARE * (ended_at - started_at))


# --- the end of a job -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Wait:
    """It has not ended; `until` in ticks, when to look by ourselves."""


@dataclass(frozen=True)
class Fail:
    """It came to nothing, by nobody's fault that is known: try again later."""

    reason: str


@dataclass(frozen=True)
class Ask:
    """Ask the port, or, where `trouble` says that nobody can be there, only why that is."""

    trouble: str = ""


@dataclass(frozen=True)
class Doubt:
    """A reload did not do: the restart is due."""

    reason: str


def after_job(
    attempt: Attempt, result: str | None, units: Sequence[UnitState], ticks: float, unit: str
) -> Wait | Fail | Ask | Doubt:
    """Return what is to be done where the job of `attempt` has this `result` so far."""
    if result is None:
        is_late = ticks > attempt.started_at + JOB_SECONDS
        return (
            Fail(f"no end of the restart was heard in {JOB_SECONDS:.0f} s") if is_late else Wait()
        )
    what = f"the {'reload' if attempt.is_reload else 'restart'} of {unit}"
    if result in ("failed", "timeout"):
        return _not_done(attempt, f"{what} ended as {result}")
    if result not in ("done", "gone", "canceled"):
        return Fail(f"{what} ended as {result}")  # it was not even tried
    # A job that ended "done" proves little: on Debian 12 postfix.service is a wrapper that starts
    # whatever becomes of the unit that holds master, and an unmet condition is "done".
    if any(each.phase is UnitPhase.CHANGING for each in units):
        return Wait()  # somebody else's job has taken over
    trouble = down(units)
    old = "" if attempt.is_reload else _old(units, attempt.units)
    if trouble and result == "done":
        return _not_done(attempt, trouble)
    if trouble or old:
        return Fail(trouble or old)  # somebody stopped Postfix: not the text's doing
    return Ask()


def _not_done(attempt: Attempt, trouble: str) -> Ask | Doubt:
    # The port would be answered by those who were there before the reload.
    return Doubt(trouble) if attempt.is_reload else Ask(trouble)


def down(units: Sequence[UnitState]) -> str:
    """Say which unit is not up; "" when all are."""
    for unit in units:
        if unit.phase is not UnitPhase.UP:
            why = f" ({unit.result})" if unit.result not in ("", "success") else ""
            return f"{unit.name} is {unit.phase.value}{why}; see `journalctl -u {unit.name}`"
    return ""


def _old(units: Sequence[UnitState], before: Sequence[UnitState]) -> str:
    """Say which unit still runs as it did `before`; "" when none does."""
    invocations = frozenset(unit.invocation for unit in before)
    for unit in units:
        if unit.invocation in invocations:
            return f"{unit.name} was not started anew; see `systemctl status {unit.name}`"
    return ""


# --- the answer of the port -----------------------------------------------------------------------


@dataclass(frozen=True)
class Up:
    """Postfix serves."""


@dataclass(frozen=True)
class AskAgain:
    """An old process may have answered."""


@dataclass(frozen=True)
class Gone:
    """Somebody has stopped or started the Postfix that was asked: the answer says nothing."""


@dataclass(frozen=True)
class Overtaken:
    """It failed with a text that is gone: that of now gets its own start."""

    reason: str


@dataclass(frozen=True)
class NotServed:
    """Postfix does not serve, and how it stands."""

    standing: Standing
    reason: str


Answer = Up | AskAgain | Gone | Doubt | Overtaken | NotServed


@dataclass(frozen=True)
class Asked:
    """What is asked for by the time that the answer comes: the marker, main.cf, new values.

    `units` are how they stand by then, and `left` says why somebody's stop is left as it is.
    """

    pending: PendingActivation | None
    text: bytes | None
    wished: dict[str, str] = field(default_factory=dict)
    units: tuple[UnitState, ...] = ()
    left: str = ""


def after_answer(
    attempt: Attempt, found: Found, asked: Asked, memory: Memory, ticks: float
) -> Answer:
    """Return what the port's answer comes to.

    What has come into main.cf since the start began gets its own start first: that it was tried
    cannot be said. But once alone until Postfix serves: somebody may write all the time, and mail
    stands still.
    """
    reason = found.heard.trouble
    if not reason:
        return Up()
    if asked.left or any(_is_another(unit, attempt.units) for unit in asked.units):
        return Gone()
    if attempt.is_reload and ticks < attempt.started_at + RELOAD_SECONDS:
        return AskAgain()
    if attempt.is_reload:
        return Doubt(reason)
    pending = asked.pending
    has_changed = attempt.cycle != (pending.cycle if pending else None)
    if has_changed and attempt.cycle is None:
        return Overtaken(reason)  # what came in while others' start was verified was not tried
    has_changed = has_changed or attempt.text != asked.text
    if has_changed and attempt.cycle is not None and not memory.was_overtaken:
        return Overtaken(reason)
    before = None if pending is None else pending.before
    return NotServed(verdict(found, asked.wished, before), reason)


def _is_another(unit: UnitState, before: Sequence[UnitState]) -> bool:
    """Tell whether systemd is at work on a unit, or has started it since it was as `before`."""
    if unit.has_job or unit.phase is UnitPhase.CHANGING:
        return True
    return any(unit.name == was.name and unit.invocation != was.invocation for was in before)
