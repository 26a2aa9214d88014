"""Whoever hears besides the journal hears no secret."""

from __future__ import annotations

from pf_agent import names
from pf_agent.model import Event, Phase, Record, Status
from pf_agent.reporting.sinks import Sinks
from pf_agent.words.outgoing import PROCESS

SECRET = "Tr0ub4dor&3"


class Listener:
    """A sink that keeps what it was told."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def note(self, record: Record) -> None:
        self.heard.append(record)

    def publish(self, status: Status) -> None:
        self.heard.append(status)

    def close(self) -> None:
        """Nothing is held."""


def test_no_sink_is_told_a_secret_that_was_read() -> None:
    PROCESS.read_main_cf(f"relay_pass = {SECRET}\n".encode())
    listener = Listener()
    sinks = Sinks(listener, lambda _unit: None, lambda *_: listener, lambda _trouble: None)
    said = f"bad value: {SECRET}"
    sinks.note(Record(Event.DRIFT_DETECTED, said, 1, {names.FIELD_ACTUAL: said}))
    sinks.publish(Status(Phase.FAILING, 0.0, detail=said, problems=(said,), absent=(said,)))
    assert len(listener.heard) == 2
    assert all("bad value: (hidden)" in str(each) for each in listener.heard)
    assert SECRET not in str(listener.heard)
