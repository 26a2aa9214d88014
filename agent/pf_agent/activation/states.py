"""The states of an activation, its memory, and the conditions of one turn. Pure.

Moments called `ticks` are monotonic, the others are seconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pf_agent.model import ActivationWay, PendingActivation, UnitPhase, UnitState


@dataclass(frozen=True)
class Attempt:
    """A start or reload of Postfix that is followed, and main.cf's text when it began.

    `cycle` None: nothing was corrected, another process started it, or it ran before the agent did.
    `job` is systemd's, "" if we did not ask for it. `units` are as they were before. `started_at`
    is in ticks, `began_at` in seconds since the epoch. `doubt` says why a reload before it was not
    enough.
    """

    cycle: int | None
    text: bytes | None
    units: tuple[UnitState, ...]
    started_at: float
    began_at: float
    job: str = ""
    is_reload: bool = False
    doubt: str = ""


@dataclass(frozen=True)
class Idle:
    """Nothing is in progress."""


@dataclass(frozen=True)
class Building:
    """newaliases runs; the start or reload follows."""

    cycle: int
    started_at: float


@dataclass(frozen=True)
class Clearing:
    """A reload runs to clear drifted values from idle processes; the restart is still due.

    `job` is "" until systemd has answered.
    """

    cycle: int
    job: str
    started_at: float


@dataclass(frozen=True)
class Queueing:
    """systemd was told to start or reload Postfix, and has not answered yet."""

    attempt: Attempt


@dataclass(frozen=True)
class Restarting:
    """systemd starts or reloads Postfix."""

    attempt: Attempt


@dataclass(frozen=True)
class Probing:
    """The port is being asked."""

    attempt: Attempt


@dataclass(frozen=True)
class Served:
    """Postfix serves, but that could not be written to disk yet."""

    attempt: Attempt


@dataclass(frozen=True)
class Failing:
    """It was started and does not serve, though main.cf is not known to be at fault: ask again."""

    attempt: Attempt


UnderWay = Idle | Building | Clearing | Queueing | Restarting | Probing | Served | Failing


@dataclass(frozen=True)
class Memory:
    """What is remembered of earlier tries. `failure` says why the last one failed.

    `left` says why Postfix is left stopped, if a person stopped it. Nothing is done for
    `held_cycle` (None: no marker) before `held_until`. `failed_cycle` is the cycle of the last
    failed start, and `failed_at` its time, in seconds since the epoch. `unserved` is the cycle for
    which a reload was not enough, and why. `overtaken_at` is when a start was found to have failed
    with a text that has since been replaced, 0.0 if none or one has succeeded since. `awaited` says
    what the next start is waiting for, "" if only for time to pass.
    """

    failure: str = ""
    left: str = ""
    retry_at: float = 0.0
    held_until: float = 0.0
    held_cycle: int | None = None
    failed_cycle: int | None = None
    failed_at: float = 0.0
    overtaken_at: float = 0.0
    unserved: tuple[int, str] | None = None
    reload_at: float = 0.0
    awaited: str = ""

    def held(self, cycle: int | None, until: float, awaited: str = "") -> Memory:
        """Return the memory with nothing to do for `cycle` before `until`, in ticks."""
        return replace(self, held_until=until, held_cycle=cycle, awaited=awaited)

    def failing(self, cycle: int | None, reason: str, until: float) -> Memory:
        """Return the memory after a start that does not serve; ask the port again at `until`."""
        return replace(self.held(cycle, until), failure=reason, retry_at=until)

    def failed(self, cycle: int | None, reason: str, until: float, now: float) -> Memory:
        """Return the memory after a failed try; the next one is at `until`."""
        return replace(
            self.held(cycle, until),
            failure=reason,
            # A failed start by another process does not put off one of ours.
            retry_at=0.0 if cycle is None else until,
            failed_cycle=cycle,
            failed_at=now,
            left="",
        )

    def without_failures(self) -> Memory:
        """Return the memory after Postfix was seen to serve."""
        return Memory(reload_at=self.reload_at)


@dataclass(frozen=True)
class Conditions:
    """The conditions of this turn.

    `restarts` and `wished` are our recent restarts, for drift and for wishes; they are kept at
    least `apart` seconds apart, and the window opens in `opens_in` seconds. `left` says why Postfix
    is left stopped; `is_locked`: apt or dpkg is running.
    """

    ticks: float
    now: float
    units: tuple[UnitState, ...]
    restarts: tuple[float, ...] = ()
    wished: tuple[float, ...] = ()
    way: ActivationWay = ActivationWay.RESTART
    apart: float = 0.0
    opens_in: float = 0.0
    left: str = ""
    is_locked: bool = False

    def is_up(self) -> bool:
        """Tell whether every unit is up."""
        return all(unit.phase is UnitPhase.UP for unit in self.units)

    def is_changing(self) -> bool:
        """Tell whether systemd is working on one of them."""
        return any(unit.has_job or unit.phase is UnitPhase.CHANGING for unit in self.units)


def cycle_of(pending: PendingActivation | None) -> int | None:
    """Return the marker's cycle; None without a marker, when a start by others is followed."""
    return None if pending is None else pending.cycle
