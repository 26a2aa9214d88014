"""newaliases, run beside the loop; what it complains of goes on record, once.

It must not hold up the loop: where somebody has just written main.cf, it waits up to two seconds
for the file to cool, and a drift that comes meanwhile would stand as long.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

from pf_agent import names
from pf_agent.aside import Aside, Spawn, in_a_thread
from pf_agent.errors import HostError
from pf_agent.model import Event, Reason, Record, Trigger
from pf_agent.pacing import Backoff
from pf_agent.plan import Clock, Emit


class Builder(Protocol):
    """What builds the database, as `postfix.Postfix` does."""

    def newaliases(self, path: str) -> tuple[str, ...]: ...


class AliasDatabase:
    """The alias database of one instance. `trouble` is why newaliases failed last.

    `remark` tells of lines that it left out, as often as these change.
    """

    def __init__(
        self,
        builder: Builder,
        post: Callable[[Trigger], None],
        emit: Emit,
        remark: Callable[[str], None],
        spawn: Spawn = in_a_thread,
        ticks: Clock = time.monotonic,
    ) -> None:
        self.trouble = ""
        self._builder = builder
        self._post = post
        self._emit = emit
        self._remark = remark
        self._doubts: tuple[str, ...] = ()
        self._doubts_told: tuple[str, ...] = ()
        self._spawn = spawn
        self._lock = Lock()
        self._told: tuple[int | None, str] = (None, "")
        self._ticks = ticks
        self._backoff = Backoff(first=10.0)
        self._retry_at: float | None = None

    def patience(self) -> float | None:
        """Seconds until newaliases is to be run again; None: it did not fail.

        What it was at when it failed is gone or half written, and mail to local users waits.
        """
        return None if self._retry_at is None else max(0.0, self._retry_at - self._ticks())

    def is_due(self) -> bool:
        """Tell, once, whether it is to be run again by now."""
        is_due = self.patience() == 0.0
        if is_due:
            self._retry_at = self._ticks() + self._backoff.grow()
        return is_due

    def rebuild(self, path: str, cycle: int | None = None) -> Rebuild:
        """Start newaliases for `path`, after the one that runs; a trigger says when it ended.

        Raises HostError where it cannot be started.
        """

        def newaliases() -> str:
            with self._lock:
                try:
                    self._doubts = self._builder.newaliases(path)
                except HostError as error:
                    return str(error)
            return ""

        ended = Trigger(Reason.NEWALIASES)
        work = Aside("newaliases", newaliases, lambda: self._post(ended), self._spawn)
        return Rebuild(self, work, path, cycle)

    def note(self, trouble: str, cycle: int | None) -> None:
        """Tell, once, what newaliases left out; why it failed, once more for each cycle."""
        self.trouble = trouble
        self._retry_at = self._ticks() + self._backoff.grow() if trouble else None
        if not trouble:
            self._told = (None, "")
            self._backoff.reset()
            if self._doubts not in ((), self._doubts_told):
                self._remark(f"newaliases: {'; '.join(self._doubts)}; mend the file")
            self._doubts_told = self._doubts
        elif trouble != self._told[1] or cycle not in (None, self._told[0]):
            self._told = (cycle, trouble)
            fields = {names.FIELD_REASON: trouble}
            self._emit(Record(Event.ACTIVATION_FAILED, trouble, cycle, fields))


@dataclass(frozen=True)
class Rebuild:
    """One run of newaliases, for a file and a cycle."""

    database: AliasDatabase
    work: Aside
    path: str
    cycle: int | None

    def worked(self) -> bool | None:
        """Tell whether it worked; None while it runs. If not, the reason goes on record."""
        trouble = self.work.answer()
        if trouble is not None:
            self.database.note(trouble, self.cycle)
        return None if trouble is None else not trouble
