"""Whether a file is being saved right now: a look at such a moment may see half of it."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import Final

from pf_agent.files.linux import stamp
from pf_agent.files.regular import has_writer_at
from pf_agent.model import ActualState

# How long a file has to stay unchanged to be complete although it is open for writing.
_QUIET_SECONDS: Final = 10.0
# The end of a writer is reported; this is for one that stays, and for one that is not reported.
_AGAIN_SECONDS: Final = 1.0


class Saving:
    """Gives a writer the time to save main.cf, and no more.

    Many editors move the old file away or empty it first, and some write the new one in pieces.
    """

    def __init__(self) -> None:
        self._since: float | None = None

    def is_under_way(self, actual: ActualState, settle: float) -> bool:
        """Tell whether to look again a little later, for at most `settle` seconds."""
        if actual.text and not actual.is_open:
            self._since = None
            return False
        now = time.monotonic()
        if self._since is None:
            self._since = now
        return now < self._since + settle


class Unsaved:
    """Gives writers of the sources of databases the time to write them, however slowly.

    The old database serves meanwhile, so nothing is urgent. But a file that a process only keeps
    open must not stay unbuilt.
    """

    def __init__(self) -> None:
        self._again_at: float | None = None

    def patience(self) -> float | None:
        """Seconds until these are to be looked at again; None if there are none."""
        return None if self._again_at is None else max(0.0, self._again_at - time.monotonic())

    def among(self, paths: Iterable[str]) -> Collection[str]:
        """Return those that are being written."""
        now = time.time()
        found = frozenset(path for path in paths if is_being_written(path, now))
        self._again_at = time.monotonic() + _AGAIN_SECONDS if found else None
        return found


def is_being_written(path: str, now: float) -> bool:
    """Tell whether a writer has changed the file a moment ago and has not closed it."""
    found = stamp(path)
    if found is None or not has_writer_at(path):
        return False
    return abs(now - max(found.modified, found.changed) / 1e9) < _QUIET_SECONDS
