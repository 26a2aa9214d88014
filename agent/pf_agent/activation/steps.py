"""Decides the next step of an activation from its state, memory and conditions. Pure.

Nothing here asks the clock, systemd or a file: surroundings.py gathers what a decision needs,
course.py carries it out, and states.py defines the values and their units of time.
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

# How soon to look again by ourselves if systemd or the probe reports nothing.
GLANCE_SECONDS = 1.0
# Every user can hold the lock that newaliases waits for (flock(2)), and none may hold up a restart
# for long. It goes on beside the start then, and is run again if it fails.
BUILD_SECONDS = 10.0
# More than systemd allows for a stop and a start (DefaultTimeoutStopSec=,
# DefaultTimeoutStartSec=).
JOB_SECONDS = 300.0
# The local clock may be set meanwhile, or daylight saving time may end.
MOST_CLOSED_SECONDS = 600.0
# For a while after a reload an idle smtpd from before may take the connection.
RELOAD_SECONDS = 3.0
# A reload costs two CPUs 80 to 200 ms, so reloads may take at most a tenth of the time. But until
# the next one strangers may be served with a drifted value: the pause after a slow one is short.
_RELOAD_APART_SECONDS = 1.0
_RELOAD_SHARE = 10.0
_RELOAD_MOST_PAUSE_SECONDS = 10.0
DPKG_WORKS = "Postfix start is waiting for apt or dpkg to finish"


# --- the next step --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hold:
    """Do nothing before `until`, in ticks. `awaited` says what is waited for, if not only time."""

    until: float
    awaited: str = ""


@dataclass(frozen=True)
class Leave:
    """A person stopped Postfix; leave it stopped."""

    why: str


@dataclass(frozen=True)
class Build:
    """Have the alias databases built, then start or reload Postfix."""


@dataclass(frozen=True)
class Clear:
    """Reload Postfix: an idle process may have drifted values, and the restart must wait."""


@dataclass(frozen=True)
class AskPort:
    """Ask the port: some process has started Postfix with this text."""


Deed = Hold | Leave | Build | Clear | AskPort


def next_deed(pending: PendingActivation, memory: Memory, holds: Conditions) -> Deed:
    """Return what to do for `pending` while nothing is in progress."""
    if holds.is_changing():
        return Hold(holds.ticks + GLANCE_SECONDS)
    if not holds.is_up():
        if holds.left:
            return Leave(holds.left)
        if holds.is_locked:
            return Hold(holds.ticks + GLANCE_SECONDS, DPKG_WORKS)
    elif was_started_since(pending, memory, holds.units[-1]):
        return AskPort()
    due_at = _due_at(pending, memory, holds)
    if due_at <= holds.ticks:
        return Build()
    if not may_clear(pending, holds):
        return Hold(due_at)
    return Clear() if memory.reload_at <= holds.ticks else Hold(min(due_at, memory.reload_at))


def was_started_since(pending: PendingActivation, memory: Memory, holder: UnitState) -> bool:
    """Tell whether Postfix was started with main.cf as it is, and that start has not failed."""
    corrected_at = pending.exposure.corrected_at
    if corrected_at is None:
        return False
    tried_at = memory.failed_at if pending.cycle == memory.failed_cycle else 0.0
    return holder.began_at > max(corrected_at, tried_at, memory.overtaken_at)


def _due_at(pending: PendingActivation, memory: Memory, holds: Conditions) -> float:
    """Return when Postfix may be restarted or reloaded, in ticks."""
    if is_urgent(pending, memory):
        return 0.0
    # If mail is down, a restart cannot disturb anything.
    closed = min(holds.opens_in, MOST_CLOSED_SECONDS) if holds.is_up() else 0.0
    opens_at = holds.ticks + closed if closed > 0 else 0.0
    if may_reload(pending, memory, holds):
        return max(memory.retry_at, memory.reload_at, opens_at)
    retry_at = memory.retry_at
    if not is_wish(pending):
        is_down = memory.failure or memory.overtaken_at or not holds.is_up()
        apart = 0.0 if is_down else holds.apart  # while mail is down, the budget is enough
        allowed = restart_allowed_at((*holds.restarts, *holds.wished), holds.now, apart)
    else:
        allowed = wish_allowed_at(holds.wished, holds.now)
        retry_at = retry_at if pending.cycle == memory.failed_cycle else 0.0
    return max(retry_at, opens_at, holds.ticks + allowed - holds.now)


def is_wish(pending: PendingActivation) -> bool:
    """Tell whether all of it is a wish, which only waits for earlier wishes.

    A marker that names no parameter is not a wish: it is damaged, or Postfix was found down.
    """
    return bool(pending.parameters) and not pending.is_drift()


def is_urgent(pending: PendingActivation, memory: Memory) -> bool:
    """Tell whether mail is down, and this text is not yet known to fail as well."""
    is_new = pending.cycle != memory.failed_cycle and not pending.failed
    return is_new and (pending.rolled_back or bool(doubt(pending, memory)))


def doubt(pending: PendingActivation, memory: Memory) -> str:
    """Return why a reload was not enough for `pending`, "" if none was tried."""
    cycle, reason = memory.unserved or (None, "")
    return reason if cycle == pending.cycle else ""


def may_reload(pending: PendingActivation, memory: Memory, holds: Conditions) -> bool:
    """Tell whether a reload is enough to activate it."""
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
    """Tell whether a reload now clears a drifted value from a process that may hold one."""
    drifted = set(pending.parameters) - set(pending.wished)
    return pending.live and holds.is_up() and any(map(_may_take_a_reload, drifted))


def _may_take_a_reload(name: str) -> bool:
    # If a whole file was destroyed, it is named in place of every lost parameter.
    return name in ("main.cf", "master.cf") or takes_a_reload(name)


def reload_allowed_at(started_at: float, ended_at: float) -> float:
    """Return when the next reload may start, in ticks, after one that ran between these ticks."""
    apart = max(_RELOAD_APART_SECONDS, _RELOAD_SHARE * (ended_at - started_at))
    return min(started_at + apart, ended_at + _RELOAD_MOST_PAUSE_SECONDS)


# --- the end of a job -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Wait:
    """The job has not ended."""


@dataclass(frozen=True)
class Fail:
    """The job failed and main.cf is not known to be at fault: try again later."""

    reason: str


@dataclass(frozen=True)
class Ask:
    """Ask the port. If `trouble` says why nothing can be listening, only find the cause."""

    trouble: str = ""


@dataclass(frozen=True)
class Doubt:
    """A reload was not enough; the restart is due."""

    reason: str


def after_job(
    attempt: Attempt, result: str | None, units: Sequence[UnitState], ticks: float, unit: str
) -> Wait | Fail | Ask | Doubt:
    """Return what follows if the job of `attempt` has this `result` so far, None while it runs."""
    if result is None:
        is_late = ticks > attempt.started_at + JOB_SECONDS
        return (
            Fail(f"systemd did not report the end of the restart within {JOB_SECONDS:.0f} s")
            if is_late
            else Wait()
        )
    what = f"the {'reload' if attempt.is_reload else 'restart'} of {unit}"
    if result in ("failed", "timeout"):
        return _not_done(attempt, f"{what} ended as {result}")
    if result not in ("done", "gone", "canceled"):
        return Fail(f"{what} ended as {result}")  # the job was not even run
    # "done" proves little: on Debian 12 postfix.service is a wrapper that succeeds whatever
    # becomes of the unit that holds master, and a job whose condition was not met is also "done".
    if any(each.phase is UnitPhase.CHANGING for each in units):
        return Wait()  # another job is running now
    trouble = down(units)
    old = "" if attempt.is_reload else _old(units, attempt.units)
    if trouble and result == "done":
        return _not_done(attempt, trouble)
    if trouble or old:
        return Fail(trouble or old)  # Postfix was stopped by hand; the text is not to blame
    return Ask()


def _not_done(attempt: Attempt, trouble: str) -> Ask | Doubt:
    # The port would be answered by the processes from before the reload.
    return Doubt(trouble) if attempt.is_reload else Ask(trouble)


def down(units: Sequence[UnitState]) -> str:
    """Return which unit is not up; "" if all are."""
    for unit in units:
        if unit.phase is not UnitPhase.UP:
            why = f" ({unit.result})" if unit.result not in ("", "success") else ""
            return f"{unit.name} is {unit.phase.value}{why}; see `journalctl -u {unit.name}`"
    return ""


def _old(units: Sequence[UnitState], before: Sequence[UnitState]) -> str:
    """Return which unit still runs as `before`; "" if none does."""
    invocations = frozenset(unit.invocation for unit in before)
    for unit in units:
        if unit.invocation in invocations:
            return f"{unit.name} was not restarted; see `systemctl status {unit.name}`"
    return ""


# --- the port's answer ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Up:
    """Postfix serves."""


@dataclass(frozen=True)
class AskAgain:
    """A process from before the reload may have answered."""


@dataclass(frozen=True)
class Gone:
    """The Postfix that was asked has since been stopped or restarted; its answer is void."""


@dataclass(frozen=True)
class Overtaken:
    """It failed with a text that has been replaced; the current text gets a start of its own."""

    reason: str


@dataclass(frozen=True)
class NotServed:
    """Postfix does not serve; `standing` says in which way."""

    standing: Standing
    reason: str


Answer = Up | AskAgain | Gone | Doubt | Overtaken | NotServed


@dataclass(frozen=True)
class Asked:
    """The state when the answer arrives: the marker, main.cf's text, the newly wished values.

    `units` are as they are then; `left` says why Postfix is left stopped.
    """

    pending: PendingActivation | None
    text: bytes | None
    wished: dict[str, str] = field(default_factory=dict)
    units: tuple[UnitState, ...] = ()
    left: str = ""


def after_answer(
    attempt: Attempt, found: Found, asked: Asked, memory: Memory, ticks: float
) -> Answer:
    """Return what follows from the port's answer.

    If main.cf has changed since the start began, its current text gets a start first: it cannot be
    said to have been tried. But only once until Postfix serves: main.cf may be written all the time
    while mail is down.
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
        return Overtaken(reason)  # what changed while another's start was verified was not tried
    has_changed = has_changed or attempt.text != asked.text
    if has_changed and attempt.cycle is not None and not memory.overtaken_at:
        return Overtaken(reason)
    before = None if pending is None else pending.before
    return NotServed(verdict(found, asked.wished, before), reason)


def _is_another(unit: UnitState, before: Sequence[UnitState]) -> bool:
    """Tell whether systemd is working on a unit, or has restarted it since `before`."""
    if unit.has_job or unit.phase is UnitPhase.CHANGING:
        return True
    return any(unit.name == was.name and unit.invocation != was.invocation for was in before)
