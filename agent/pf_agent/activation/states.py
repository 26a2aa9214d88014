"""What an activation is about: what is under way, what is remembered, what holds this turn. Pure.

Moments called `ticks` are monotonic, the others are seconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pf_agent.model import ActivationWay, PendingActivation, UnitPhase, UnitState


@dataclass(frozen=True)
class Attempt:
    """A start or a reload of Postfix that is followed, and the text that main.cf had when it began.

    `cycle` None: nothing was corrected, others started it, or it ran before the agent did. `job` is
    systemd's, "" where it is not ours. `units` are as they were before; `started_at` in ticks,
    `began_at` by the clock. `doubt` is why a reload before it did not do.
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
    """Nothing is under way."""


@dataclass(frozen=True)
class Building:
    """newaliases runs; the start or reload follows."""

    cycle: int


@dataclass(frozen=True)
class Clearing:
    """A reload runs that takes drifted values from idle processes; the restart is still to come."""

    cycle: int
    job: str
    started_at: float


@dataclass(frozen=True)
class Restarting:
    """systemd starts or reloads Postfix."""

    attempt: Attempt


@dataclass(frozen=True)
class Probing:
    """Its port is asked."""

    attempt: Attempt


@dataclass(frozen=True)
class Served:
    """It serves, and only that could not be written down."""

    attempt: Attempt


@dataclass(frozen=True)
class Failing:
    """It was started and does not serve, for no fault of main.cf's that is known: asked again."""

    attempt: Attempt


UnderWay = Idle | Building | Clearing | Restarting | Probing | Served | Failing


@dataclass(frozen=True)
class Memory:
    """What is remembered of earlier tries. `failure` says why the last one failed.

    `left` is why Postfix is left as it is, where somebody stopped it. Nothing is to be done for
    `held_cycle` (None: no marker) before `held_until`. `failed_cycle` is what the
    last failed start was for, and `failed_at` when that was, by the clock. `unserved` is the cycle
    that a reload did not serve, and why. `was_overtaken`: a start failed with a text that is gone,
    and none was up since.
    """

    failure: str = ""
    left: str = ""
    retry_at: float = 0.0
    held_until: float = 0.0
    held_cycle: int | None = None
    failed_cycle: int | None = None
    failed_at: float = 0.0
    was_overtaken: bool = False
    unserved: tuple[int, str] | None = None
    reload_at: float = 0.0

    def held(self, cycle: int | None, until: float) -> Memory:
        """Return it with nothing to be done for `cycle` before `until`, in ticks."""
        return replace(self, held_until=until, held_cycle=cycle)

    def failing(self, cycle: int | None, reason: str, until: float) -> Memory:
        """Return it after a start that does not serve: the port is asked again at `until`."""
        return replace(self.held(cycle, until), failure=reason, retry_at=until)

    def failed(self, cycle: int | None, reason: str, until: float, now: float) -> Memory:
        """Return it after a try that came to nothing: the next one is at `until`."""
        return replace(
            self.held(cycle, until),
            failure=reason,
            # A start that was not ours is no reason to put off one of ours.
            retry_at=0.0 if cycle is None else until,
            failed_cycle=cycle,
            failed_at=now,
            left="",
        )

    def without_failures(self) -> Memory:
        """Return it after Postfix was seen to serve."""
        return Memory(reload_at=self.reload_at)


@dataclass(frozen=True)
class Conditions:
    """What holds this turn.

    `restarts` and `wished` are when Postfix was lately restarted by us, for drift and for wishes;
    they are to be `apart` seconds from each other at least, and the window opens in `opens_in`
    seconds. `left` says why somebody's stop of Postfix is left as it is; `is_locked`: dpkg is at
    work.
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
        """Whether every unit is up."""
        return all(unit.phase is UnitPhase.UP for unit in self.units)

    def is_changing(self) -> bool:
        """Whether systemd is at work on one of them."""
        return any(unit.has_job or unit.phase is UnitPhase.CHANGING for unit in self.units)


def cycle_of(pending: PendingActivation | None) -> int | None:
    """Return the cycle of a marker; None for none: then it is others' start that is followed."""
    return None if pending is None else pending.cycle
