"""The real outlets, built once: D-Bus, and the metrics if agent.toml asks for them.

What may hang is left to a courier: a textfile on a file system that does not answer, or the start
of a unit while systemd or dbus-daemon does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from socket import socket

from pf_agent.bus.agent1 import Bus
from pf_agent.bus.starts import start_unit
from pf_agent.config.saved import digests
from pf_agent.files.store import FileStore
from pf_agent.files.whole import write_textfile
from pf_agent.model import DesiredState, Reason, Trigger
from pf_agent.reconcile.suspension import resume, suspend
from pf_agent.reporting.courier import Courier
from pf_agent.reporting.sinks import Sink, Sinks

_END_SECONDS = 1.0


def bus_of(state: FileStore, post: Callable[[Trigger], None]) -> Bus:
    """Return the D-Bus interface, while it connects; requests are written to `state` and posted."""

    def begin(seconds: float | None, reason: str, who: str) -> None:
        suspend(state.suspended, who, time.time(), seconds, reason)
        post(Trigger(Reason.BUS, f"suspended by {who}"))

    def end(who: str) -> None:
        for kept in (state.suspended, *state.suspensions().values()):
            resume(kept, who, time.time())
        post(Trigger(Reason.BUS, f"resumed by {who}"))

    bus = Bus(lambda: post(Trigger(Reason.BUS)), begin, end)
    bus.start()
    return bus


class Outlets:
    """The outlets, and the couriers for their slow work."""

    def __init__(
        self,
        state: FileStore,
        desired: Callable[[], Mapping[str, DesiredState]],
        post: Callable[[Trigger], None],
        report: Callable[[str], None],
        listening: Callable[[str], socket],
    ) -> None:
        """`listening` creates the metrics' socket; `report` is called from any thread."""
        self._desired, self._report, self._listening = desired, report, listening
        self._starts = Courier("starts of [notify] unit", report)
        self._textfiles: dict[str, Courier] = {}
        self._bus = bus_of(state, post)
        self.sinks = Sinks(self._bus, self._start, self._metrics_to, report)

    def is_answered(self) -> bool:
        """Whether it is known if the agent can be called over D-Bus."""
        return self._bus.is_answered()

    def close(self) -> None:
        """Close all outlets; what is still to be sent gets a second."""
        self.sinks.close()
        deadline = time.monotonic() + _END_SECONDS
        for courier in (self._starts, *self._textfiles.values()):
            courier.settle(max(0.0, deadline - time.monotonic()))

    def _start(self, unit: str) -> None:
        self._starts.give(unit, partial(start_unit, unit))

    def _metrics_to(self, textfile: str, listen: str) -> Sink:
        # Imported here: most hosts do not use it, and it takes 0.2 MiB of memory.
        from pf_agent.reporting.metrics import Metrics

        # One for each path: what was written last stays last, whichever outlet wrote it.
        courier = self._textfiles.setdefault(textfile, Courier("[metrics] textfile", self._report))
        return Metrics(textfile, listen, self._digests, self._listening, write_textfile, courier)

    def _digests(self) -> Mapping[str, str]:
        return digests(self._desired())
