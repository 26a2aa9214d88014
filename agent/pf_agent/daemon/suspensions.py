"""Which of the daemon's instances are suspended: all of them, or single ones."""

from __future__ import annotations

import time
from collections.abc import Callable

from pf_agent.daemon.telling import emit_of
from pf_agent.errors import HostError
from pf_agent.model import Emit, Suspension
from pf_agent.reconcile.suspension import Kept, followed


class Suspensions:
    """The suspensions on disk, and those in effect; None stands for all instances.

    `note` gets an error if one cannot be read; it then stays as it was.
    """

    def __init__(self, for_all: Kept, emit: Emit, note: Callable[[str], None]) -> None:
        self._kept: dict[str | None, Kept] = {None: for_all}
        self._emit = emit
        self._note = note
        self._found: dict[str | None, Suspension] = {}
        self._changed: set[str | None] = set()

    def take_on(self, instance: str, alone: Kept) -> None:
        """Follow the suspension of one more instance, starting now."""
        self._kept[instance] = alone
        self.follow()

    def forget(self, instance: str) -> None:
        """Stop following an instance; its suspension on disk stays."""
        self._kept.pop(instance, None)
        self._found.pop(instance, None)

    def follow(self) -> None:
        """Apply what was written to disk, or ended by the clock.

        To be called before each look, under its lock: a command that restores an old text has
        written its suspension before, and waits for the lock.
        """
        now = time.time()
        for name, kept in self._kept.items():
            emit = self._emit if name is None else emit_of(name, self._emit)
            before = self._found.get(name)
            try:
                found = followed(kept, emit, before, now)
            except HostError as error:
                self._note(str(error))
                continue
            if found == before:
                continue
            self._changed.add(name)
            if found is None:
                del self._found[name]
            else:
                self._found[name] = found

    def changed(self) -> set[str | None]:
        """Return the instances with a change since this was last asked."""
        found, self._changed = self._changed, set()
        return found

    def of(self, instance: str) -> Suspension | None:
        """Return the suspension of this instance; None if there is none."""
        return self._found.get(None) or self._found.get(instance)

    def ends(self) -> tuple[float, ...]:
        """Return the moments at which a suspension ends by itself (seconds since the epoch)."""
        return tuple(each.until for each in self._found.values() if each.until is not None)
