"""The real sinks, built once: D-Bus, and the metrics where agent.toml asks for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from socket import socket

from pf_agent.bus.agent1 import Bus
from pf_agent.bus.systemd import Systemd
from pf_agent.config.saved import digests
from pf_agent.files.store import FileStore
from pf_agent.files.whole import write_textfile
from pf_agent.model import DesiredState, Reason, Trigger
from pf_agent.reconcile.suspension import resume, suspend
from pf_agent.reporting.sinks import Sink, Sinks


def bus_of(state: FileStore, post: Callable[[Trigger], None]) -> Bus:
    """Return the D-Bus interface, on its way to the bus; what it is asked for is written to
    `state` and posted."""

    def begin(seconds: float | None, reason: str, who: str) -> None:
        suspend(state, who, time.time(), seconds, reason)
        post(Trigger(Reason.BUS, f"suspended by {who}"))

    def end(who: str) -> None:
        resume(state, who, time.time())
        post(Trigger(Reason.BUS, f"resumed by {who}"))

    bus = Bus(lambda: post(Trigger(Reason.BUS)), begin, end)
    bus.start()
    return bus


def sinks_of(
    state: FileStore,
    systemd: Systemd,
    desired: Callable[[], Mapping[str, DesiredState]],
    post: Callable[[Trigger], None],
    report: Callable[[str], None],
    listening: Callable[[str], socket],
) -> Sinks:
    """Return the real ones; `listening` makes the socket that metrics are served at."""

    def metrics_to(textfile: str, listen: str) -> Sink:
        # Here and not above: most hosts have no use for it, and it is 0.2 MiB of memory.
        from pf_agent.reporting.metrics import Metrics

        return Metrics(textfile, listen, lambda: digests(desired()), listening, write_textfile)

    return Sinks(bus_of(state, post), systemd.start, metrics_to, report)
