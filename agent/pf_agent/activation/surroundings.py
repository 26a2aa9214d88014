"""What surrounds an activation: the units, main.cf, the marker, earlier restarts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pf_agent.activation import steps
from pf_agent.activation.pacing import remembered_restarts
from pf_agent.activation.ports import Clocks, Markers, Others, Postfix, Service, Turn
from pf_agent.activation.states import Attempt, Conditions
from pf_agent.errors import HostError
from pf_agent.model import ActualState, Package, PendingActivation, UnitPhase, UnitState
from pf_agent.names import RESTARTS, WISHED_RESTARTS


@dataclass
class Surroundings:
    """Gathers what a step needs. `unit` is Postfix's; `read` returns main.cf as it is.

    `took_down`: Postfix ran until we restarted it, and has not been up since.
    """

    unit: str
    service: Service
    postfix: Postfix
    markers: Markers
    read: Callable[[], ActualState]
    clocks: Clocks = field(default_factory=Clocks)
    others: Others = field(default_factory=Others)
    took_down: bool = False
    _unnoted: tuple[float, ...] = ()  # restarts that could not be written to disk
    _before: tuple[str, tuple[float, ...], bool] = (RESTARTS, (), False)  # the last restart

    def ticks(self) -> float:
        """Return the monotonic time in seconds."""
        return self.clocks.ticks()

    def now(self) -> float:
        """Return the time in seconds since the epoch."""
        return self.clocks.clock()

    def units(self) -> tuple[UnitState, ...]:
        """Return the units' state; the last one holds master. Raises HostError."""
        return self.service.units_of(self.unit)

    def attempt(self, cycle: int | None, units: tuple[UnitState, ...], began_at: float) -> Attempt:
        """Return an attempt that begins now, with main.cf's current text. Raises HostError."""
        return Attempt(cycle, self.read().text, units, self.ticks(), began_at)

    def conditions(self, turn: Turn) -> Conditions:
        """Return the conditions of this turn. Raises HostError."""
        units = self.units()
        is_up = all(unit.phase is UnitPhase.UP for unit in units)
        package = Package() if is_up else self.postfix.package()
        return Conditions(
            self.ticks(),
            self.now(),
            units,
            (*self.markers.restarts(RESTARTS), *self._unnoted),
            self.markers.restarts(WISHED_RESTARTS),
            turn.way,
            turn.apart,
            turn.opens_in,
            "" if is_up else self._left(units, package),
            package.is_locked,
        )

    def _left(self, units: tuple[UnitState, ...], package: Package) -> str:
        """Return why Postfix, which is down, is left stopped; "" if it is to be started."""
        for unit in units:
            # If our restart took it down, it is ours to bring up again: on Debian 13 the other
            # instances are disabled and started by hand.
            if not unit.may_start and not self.took_down:
                return f"{unit.name} is disabled or masked; `systemctl enable --now {unit.name}`"
        if package.is_locked:
            # Debian 12 stops it while unpacking and has yet to start it: that stop does not
            # count.
            return ""
        if not package.is_whole():
            return f"the package postfix is {package.state}; run `dpkg --configure -a`"
        holder = units[-1]
        is_quiet = holder.phase is UnitPhase.DOWN and holder.result in ("", "success")
        if is_quiet and holder.is_met and self.postfix.was_stopped(holder):
            start = f"`systemctl start {self.unit}`"
            stopped = f"{holder.name} was stopped by an administrator and is left stopped"
            return f"{stopped}; {start} starts it"
        return ""

    def note_restart(self, pending: PendingActivation, holds: Conditions) -> None:
        """Count a restart that systemd was just told to do, for a wish or for drift.

        It counts before systemd has answered: the answer may be lost, or this process end.
        """
        name, past = RESTARTS, holds.restarts
        if steps.is_wish(pending):
            name, past = WISHED_RESTARTS, holds.wished
        past = remembered_restarts(past, holds.now)
        self._before = (name, past, self.took_down)
        self.took_down = self.took_down or holds.is_up()
        self._keep_restarts(name, (*past, holds.now))

    def forget_restart(self) -> None:
        """Take back the last restart: systemd did not begin it."""
        name, past, self.took_down = self._before
        self._keep_restarts(name, past)

    def _keep_restarts(self, name: str, moments: tuple[float, ...]) -> None:
        try:
            self.markers.note_restarts(moments, name)
        except HostError:
            # A full /run is no reason for another restart; only the next process will not know of
            # this one.
            self._unnoted = moments
        else:
            self._unnoted = ()

    def wished(self, pending: PendingActivation | None) -> dict[str, str]:
        """Return the values that a wish not yet served asks for, by parameter."""
        applied = self.markers.wishes().applied
        asked = {} if applied is None else applied.settings
        return {name: asked.get(name, "") for name in (pending.wished if pending else ())}
