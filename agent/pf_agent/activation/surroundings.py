"""What is around an activation: the units, main.cf, the marker, the restarts until now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pf_agent.activation import steps
from pf_agent.activation.pacing import remembered_restarts
from pf_agent.activation.ports import Clocks, Markers, Postfix, Service, Turn
from pf_agent.activation.states import Attempt, Conditions
from pf_agent.errors import HostError
from pf_agent.model import ActualState, Package, PendingActivation, UnitPhase, UnitState
from pf_agent.names import RESTARTS, WISHED_RESTARTS


@dataclass
class Surroundings:
    """Gathers what a step needs. `unit` is Postfix's; `read` tells what main.cf says.

    `took_down`: Postfix ran until we restarted it, and was not up since.
    """

    unit: str
    service: Service
    postfix: Postfix
    markers: Markers
    read: Callable[[], ActualState]
    clocks: Clocks = field(default_factory=Clocks)
    took_down: bool = False
    _unnoted: tuple[float, ...] = ()  # restarts that could not be written down

    def ticks(self) -> float:
        """Return the moment by the clock that is never set."""
        return self.clocks.ticks()

    def now(self) -> float:
        """Return the seconds since the epoch."""
        return self.clocks.clock()

    def units(self) -> tuple[UnitState, ...]:
        """Return how the units stand; the last one holds master. Raises HostError."""
        return self.service.units_of(self.unit)

    def attempt(self, cycle: int | None, units: tuple[UnitState, ...], began_at: float) -> Attempt:
        """Return an attempt that begins now, with what main.cf says now. Raises HostError."""
        return Attempt(cycle, self.read().text, units, self.ticks(), began_at)

    def conditions(self, turn: Turn) -> Conditions:
        """Return what holds this turn. Raises HostError."""
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
        """Why Postfix, which is down, is left so; "" where it is to be started."""
        for unit in units:
            # One that our restart has taken down is ours to bring up again: Debian 13 has other
            # instances disabled, and they are started by hand.
            if not unit.may_start and not self.took_down:
                return f"{unit.name} is disabled or masked; `systemctl enable --now {unit.name}`"
        if not package.is_locked and not package.is_whole():
            return f"the package postfix is {package.state}; run `dpkg --configure -a`"
        holder = units[-1]
        is_quiet = holder.phase is UnitPhase.DOWN and holder.result in ("", "success")
        if is_quiet and holder.is_met and self.postfix.was_stopped(holder):
            start = f"`systemctl start {self.unit}`"
            return f"{holder.name} was stopped by somebody, and is left so; {start} starts it"
        return ""

    def note_restart(self, pending: PendingActivation, holds: Conditions) -> None:
        """Count a restart that was just begun: for a wish, or for drift."""
        name, past = RESTARTS, holds.restarts
        if steps.is_wish(pending):
            name, past = WISHED_RESTARTS, holds.wished
        moments = (*remembered_restarts(past, holds.now), holds.now)
        try:
            self.markers.note_restarts(moments, name)
        except HostError:
            # A full /run is no reason to restart Postfix once more; the next process knows less.
            self._unnoted = moments
        else:
            self._unnoted = ()

    def wished(self, pending: PendingActivation | None) -> dict[str, str]:
        """Return what a wish that was not served yet asks for, by parameter."""
        applied = self.markers.wishes().applied
        asked = {} if applied is None else applied.settings
        return {name: asked.get(name, "") for name in (pending.wished if pending else ())}
