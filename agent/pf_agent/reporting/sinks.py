"""The outlets besides the journal: D-Bus, metrics, a unit; as agent.toml asks for them.

They return nothing and never wait; one that fails is reported in the journal and skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from pf_agent.errors import HostError
from pf_agent.model import AgentOptions, Record, Status
from pf_agent.reporting.notice import Notice
from pf_agent.words.outgoing import PROCESS


class Sink(Protocol):
    """One outlet. Each call may raise HostError."""

    def note(self, record: Record) -> None: ...
    def publish(self, status: Status) -> None: ...
    def close(self) -> None: ...


class Sinks:
    """All outlets. `report` gets one sentence for each that failed.

    `start` starts a unit, `metrics` returns what publishes them, to a file and at an address.
    """

    def __init__(
        self,
        bus: Sink,
        start: Callable[[str], object],
        metrics: Callable[[str, str], Sink],
        report: Callable[[str], None],
    ) -> None:
        self._bus = bus
        self._start = start
        self._metrics_of = metrics
        self._report = report
        self._options = AgentOptions()
        self._metrics: Sink | None = None
        self._notice: Notice | None = None

    def follow(self, options: AgentOptions) -> None:
        """Use the outlets that these options name, from now on."""
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
        """Report a record."""
        record = PROCESS.record(record)
        for sink in self._all():
            self._try(partial(sink.note, record))

    def publish(self, status: Status) -> None:
        """Report the status; at each turn of the loop, changed or not."""
        status = PROCESS.status(status)
        for sink in self._all():
            self._try(partial(sink.publish, status))

    def close(self) -> None:
        """Close all outlets."""
        for sink in self._all():
            self._try(sink.close)

    def _all(self) -> Iterator[Sink]:
        yield self._bus
        yield from (sink for sink in (self._metrics, self._notice) if sink is not None)

    def _measure(self, options: AgentOptions) -> None:
        self._metrics = self._metrics_of(options.textfile, options.listen)

    def _try(self, tell: Callable[[], object]) -> None:
        try:
            tell()
        except HostError as error:
            self._report(str(error))
