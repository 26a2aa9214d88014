"""The suspension on disk: of all instances, or of a single one."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict

from pf_agent.files.whole import read_ours, remove, write_whole
from pf_agent.model import Suspension
from pf_agent.words.status import suspension_of


class KeptSuspension:
    """One file; written and removed by the process that is asked, and read by the daemon."""

    def __init__(self, path: str) -> None:
        self._path = path

    def suspension(self) -> Suspension | None:
        """Return the last suspension written; None if there is none, or the file is damaged.

        Raises HostError.
        """
        data = read_ours(self._path)
        if data is None:
            return None
        with suppress(ValueError, RecursionError):
            return suspension_of(json.loads(data))
        return None

    def keep_suspension(self, suspension: Suspension) -> None:
        """Suspend: main.cf is left alone, also by the next process. Raises HostError."""
        write_whole(self._path, json.dumps(asdict(suspension)).encode(), 0o600, durable=True)

    def forget_suspension(self) -> None:
        """Resume: main.cf is corrected again. Raises HostError."""
        remove(self._path)
