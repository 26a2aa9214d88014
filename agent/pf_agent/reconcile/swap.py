"""Put a text in main.cf's place, in one cycle, and keep what it displaced."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pf_agent.model import ActualState, Displaced
from pf_agent.reconcile.ports import Host, Store


@dataclass(frozen=True)
class Swap:
    """The exchanges of one cycle. `kept` are the files that have what they displaced."""

    host: Host
    store: Store
    number: int
    kept: list[str] = field(default_factory=list)

    def put(self, actual: ActualState, text: bytes) -> Displaced:
        """Exchange; what was displaced, which need not be `actual`, is kept. Raises HostError."""
        return self.host.exchange(actual, text, self.keep)

    def put_unless_overtaken(self, actual: ActualState, text: bytes) -> bool:
        """Exchange; False where somebody wrote at that moment, and that text stands. HostError."""
        displaced = self.put(actual, text)
        if displaced.text in (actual.text, None) or displaced.is_open:
            return True  # what is still being written comes back when it is whole
        self.put(replace(actual, text=text, is_open=False), displaced.text)
        return False

    def keep(self, text: bytes) -> None:
        """Keep a text of this cycle. Raises HostError."""
        self.kept.append(self.store.keep_displaced(self.number, text))
