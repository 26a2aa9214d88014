"""Text files of one instance that databases are built from: watched, and the databases rebuilt."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from pf_agent.activation.databases import Databases, Rebuild
from pf_agent.daemon.saving import Unsaved
from pf_agent.daemon.shared import Shared
from pf_agent.files.exchange import MainCfFile
from pf_agent.maincf.aliases import Source


class SourceFiles(ABC):
    """The files of one kind that main.cf names, looked after from turn to turn.

    Those of others than root have runs of their own: nothing of root's waits for them. `awaits`
    tells whether a file has desired entries that are to be compared first. Then a look follows.
    """

    def __init__(
        self,
        name: str,
        host: MainCfFile,
        databases: Databases,
        shared: Shared,
        awaits: Callable[[str], bool],
    ) -> None:
        self._name = name
        self._host = host
        self._databases = databases
        self._shared = shared
        self._awaits = awaits
        self._runs: dict[bool, Rebuild] = {}
        self._unsaved = Unsaved()

    @abstractmethod
    def _watch(self, paths: tuple[str, ...]) -> str:
        """Watch these from now on; return what `Watch.ensure` returns."""

    def _text(self) -> bytes | None:
        """Return the text that names the files; None if there is none. Raises HostError."""
        return self._host.read().text

    def patience(self) -> float | None:
        """Seconds until a retry or another look is due; None: when a trigger says so.

        A run for root's in progress is waited for, even if the next one is due.
        """
        retry = None if False in self._runs else self._databases.patience()
        return min(
            (wait for wait in (retry, self._unsaved.patience()) if wait is not None), default=None
        )

    def turn(self, is_to_look: bool) -> None:
        """Take the next step of a rebuild, or begin one if it is due. Raises HostError."""
        ended = [key for key, run in self._runs.items() if run.worked() is not None]
        for key in ended:
            del self._runs[key]
        is_due = not ended and False not in self._runs and self._databases.is_due()
        # After a run, since changes made meanwhile were not checked.
        if ended or is_due or is_to_look or self._unsaved.patience() == 0.0:
            self._look()

    def _look(self) -> None:
        """Rebuild the databases whose files changed."""
        text = self._text()
        if text is None:
            return
        moved = self._watch(self._databases.follow(text))
        if moved:
            self._shared.journal.note(moved)
        for of_others, stale in self._databases.apart(self._saved()).items():
            if of_others not in self._runs:
                self._begin(stale, of_others)

    def _saved(self) -> list[Source]:
        """Return what has to be built, without what is being written, or may be corrected."""
        stale = self._databases.stale()
        paths = [source.path for source in stale]
        waits = {*self._unsaved.among(paths), *filter(self._awaits, paths)}
        self._databases.put_off([source for source in stale if source.path in waits])
        return [source for source in stale if source.path not in waits]

    def _begin(self, stale: Sequence[Source], of_others: bool) -> None:
        self._runs[of_others] = self._databases.rebuild(stale, of_others=of_others)
