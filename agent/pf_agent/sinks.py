"""Who is told besides the journal: D-Bus, metrics, a unit; as agent.toml has it.

Sinks return nothing, and one that fails is told of in the journal and skipped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from socket import socket
from typing import TYPE_CHECKING, Protocol

from pf_agent.bus import Bus
from pf_agent.errors import HostError
from pf_agent.model import (
    AgentOptions,
    DesiredState,
    Reason,
    Record,
    Status,
    Suspension,
    Trigger,
)
from pf_agent.notice import Notice
from pf_agent.state import State
from pf_agent.suspension import resume
from pf_agent.systemd import Systemd

if TYPE_CHECKING:
    from pf_agent.metrics import Metrics


class Sink(Protocol):
    """One of them. Each call may raise HostError."""

    def note(self, record: Record) -> None: ...
    def publish(self, status: Status) -> None: ...
    def close(self) -> None: ...


class Sinks:
    """All of them. `report` gets one sentence for each that could not be told."""

    def __init__(
        self,
        bus: Sink,
        start: Callable[[str], object],
        desired: Callable[[], Mapping[str, DesiredState]],
        report: Callable[[str], None],
        listening: Callable[[str], socket],
    ) -> None:
        self._bus = bus
        self._start = start
        self._desired = desired
        self._report = report
        self._listening = listening
        self._options = AgentOptions()
        self._metrics: Metrics | None = None
        self._notice: Notice | None = None

    def follow(self, options: AgentOptions) -> None:
        """Tell whom these options name, from now on."""
        before, self._options = self._options, options
        if (options.textfile, options.listen) != (before.textfile, before.listen):
            if self._metrics is not None:
                self._try(self._metrics.close)
            self._metrics = None
            if options.textfile or options.listen:
                self._try(partial(self._measure, options))
        if options.unit != before.unit:
            self._notice = Notice(options.unit, self._start) if options.unit else None

    def note(self, record: Record) -> None:
        """Tell of a record."""
        for sink in self._all():
            self._try(partial(sink.note, record))

    def publish(self, status: Status) -> None:
        """Tell how things stand; at each turn of the loop, changed or not."""
        for sink in self._all():
            self._try(partial(sink.publish, status))

    def close(self) -> None:
        """Tell nobody any more."""
        for sink in self._all():
            self._try(sink.close)

    def _all(self) -> Iterator[Sink]:
        yield self._bus
        yield from (sink for sink in (self._metrics, self._notice) if sink is not None)

    def _measure(self, options: AgentOptions) -> None:
        # Here and not above: most hosts have no use for it, and it is 0.2 MiB of memory.
        from pf_agent.metrics import Metrics

        self._metrics = Metrics(options.textfile, options.listen, self._desired, self._listening)

    def _try(self, tell: Callable[[], object]) -> None:
        try:
            tell()
        except HostError as error:
            self._report(str(error))


def bus_of(state: State, post: Callable[[Trigger], None]) -> Bus:
    """Return the D-Bus interface, on its way to the bus; what it is asked for is written to
    `state` and posted."""

    def suspend(seconds: float | None, reason: str, who: str) -> None:
        now = time.time()
        until = None if seconds is None else now + seconds
        state.keep_suspension(Suspension(now, until, who, reason))
        post(Trigger(Reason.BUS, f"suspended by {who}"))

    def end(who: str) -> None:
        resume(state, who, time.time())
        post(Trigger(Reason.BUS, f"resumed by {who}"))

    bus = Bus(lambda: post(Trigger(Reason.BUS)), suspend, end)
    bus.start()
    return bus


def sinks_of(
    state: State,
    systemd: Systemd,
    desired: Callable[[], Mapping[str, DesiredState]],
    post: Callable[[Trigger], None],
    report: Callable[[str], None],
    listening: Callable[[str], socket],
) -> Sinks:
    """Return the real ones; `listening` makes the socket that metrics are served at."""
    return Sinks(bus_of(state, post), systemd.start, desired, report, listening)
