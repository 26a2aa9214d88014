"""Whether the agent stays calm during a fault: one process, little CPU time, few records."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from pf_agent import names
from tests.machine.site import Site, eventually

_SECONDS = 3.0
# Hundredths of a second of CPU time per second. A guard may take one; a busy loop takes them all.
_MOST_TICKS_A_SECOND = 20
# For one fault: the failure of each look, of newaliases and of the restart.
_MOST_RECORDS = 4
# After a fault no recovery may take longer: the backoff after some seconds of it.
BACKOFF_SECONDS = 100.0


@dataclass(frozen=True)
class Calm:
    """The agent as it was before the fault."""

    site: Site
    pid: str
    restarts: str
    since: str

    @classmethod
    def before(cls, site: Site) -> Calm:
        pid, restarts = site.show("pf-agent", "MainPID"), site.show("pf-agent", "NRestarts")
        return cls(site, pid, restarts, site.cursor())

    def told(self, event: str, words: str) -> dict[str, Any]:
        """Wait for a record of this event that contains these words; return it."""
        found: list[dict[str, Any]] = []

        def is_there() -> bool:
            found[:] = [r for r in self.site.records(event, self.since) if words in r["MESSAGE"]]
            return bool(found)

        eventually(is_there, f"{event}: {words}")
        return found[0]

    def noted(self, words: str) -> None:
        """Wait for a line in its journal that is not a record of an event."""
        eventually(lambda: words in "\n".join(self.site.said(self.since)), words)

    def is_kept(self) -> None:
        """Fail if it works or logs more than the fault is worth, or is another process."""
        used, begun = self._ticks(), time.monotonic()
        time.sleep(_SECONDS)
        assert self._ticks() - used < _MOST_TICKS_A_SECOND * (time.monotonic() - begun)
        assert self.site.show("pf-agent", "MainPID") == self.pid
        assert self.site.show("pf-agent", "NRestarts") == self.restarts
        records = [
            (event, record["MESSAGE"], record.get(names.FIELD_CYCLE))
            for event in ("correction-failed", "activation-failed", "config-rejected")
            for record in self.site.records(event, self.since)
        ]
        assert len(set(records)) == len(records) <= _MOST_RECORDS
        assert not any("\n" in message for _, message, _ in records)

    def returns(self) -> None:
        """Wait until all is right again without help; `Site.wait_right` has its own limit."""
        self.site.wait_right()
        self.site.wait_settled()
        assert self.site.serves()
        assert self.site.is_obeyed()
        assert self.site.show("pf-agent", "MainPID") == self.pid

    def _ticks(self) -> int:
        """Return the CPU time that the agent has used, in hundredths of a second."""
        fields = self.site.machine.read_text(f"/proc/{self.pid}/stat").rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])


def wait_in_status(site: Site, words: str, is_there: bool = True) -> None:
    """Wait until `pf-agent status` says this, or no longer says it."""
    found = "" if is_there else "! "
    site.machine.wait_until(f"{found}{names.PROGRAM} status | grep -F '{words}'", BACKOFF_SECONDS)
