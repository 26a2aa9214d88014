"""The alias files of one instance: watched, and their databases rebuilt, which needs no restart."""

from __future__ import annotations

from pf_agent import names
from pf_agent.activation.alias_database import AliasDatabase, Rebuild
from pf_agent.daemon.shared import Shared
from pf_agent.files.exchange import MainCfFile


class AliasFiles:
    """What main.cf names of them, looked after from turn to turn."""

    def __init__(
        self, name: str, host: MainCfFile, database: AliasDatabase, shared: Shared
    ) -> None:
        self._name = name
        self._host = host
        self._database = database
        self._shared = shared
        self._rebuild: Rebuild | None = None
        shared.watch.follow(name, host.path, (names.DEFAULT_ALIASES,))

    def patience(self) -> float | None:
        """Seconds until newaliases is to be run again; None: when a trigger says so.

        While it runs that is waited for, also where the next run would be due.
        """
        return self._database.patience() if self._rebuild is None else None

    def turn(self, is_to_look: bool) -> None:
        """Take the rebuild a step on, or begin one where it is due. Raises HostError."""
        if self._rebuild is not None:
            rebuild, self._rebuild = self._rebuild, None
            if rebuild.worked() is None:
                self._rebuild = rebuild
            else:
                self._look()  # what changed meanwhile was not looked at
        elif self._database.is_due() or is_to_look:
            self._look()

    def _look(self) -> None:
        """Rebuild the databases whose files changed."""
        if self._shared.may_only_observe():
            return
        text = self._host.read().text
        if text is None:
            return
        watched = self._database.follow(text)
        moved = self._shared.watch.follow(self._name, self._host.path, watched)
        if moved:
            self._shared.journal.note(moved)
        stale = self._database.stale()
        if stale:
            self._rebuild = self._database.rebuild(stale)
