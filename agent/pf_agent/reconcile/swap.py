"""Puts a text in main.cf's place, within one cycle, and keeps what it displaced."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pf_agent.model import ActualState, Displaced
from pf_agent.reconcile.ports import Host, Store


@dataclass(frozen=True)
class Swap:
    """The exchanges of one cycle. `kept` are the files with the displaced texts."""

    host: Host
    store: Store
    number: int
    kept: list[str] = field(default_factory=list)

    def put(self, actual: ActualState, text: bytes) -> Displaced:
        """Exchange; keep what was displaced, which need not be `actual`. Raises HostError."""
        return self.host.exchange(actual, text, self.keep)

    def put_unless_overtaken(self, actual: ActualState, text: bytes) -> bool:
        """Exchange; False if another process wrote in between: its text stays. Raises HostError."""
        displaced = self.put(actual, text)
        if displaced.text in (actual.text, None) or displaced.is_open:
            return True  # a text still being written comes back when it is complete
        self.put(replace(actual, text=text, is_open=False), displaced.text)
        return False

    def keep(self, text: bytes) -> None:
        """Keep a text displaced in this cycle. Raises HostError."""
        self.kept.append(self.store.keep_displaced(self.number, text))
