"""Keeps status.json up to date, in a thread that its file system may hold up.

If it cannot be written, that is recorded once, and tried again: its content would be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from pf_agent.errors import HostError
from pf_agent.files.status_file import STATUS
from pf_agent.files.store import FileStore
from pf_agent.model import Status
from pf_agent.reporting.courier import Courier
from pf_agent.words.status import status_dict

_AGAIN_SECONDS = 5.0
_END_SECONDS = 1.0


class ShownStatus:
    """The file, and its present or coming content. `note` is called from any thread."""

    def __init__(self, state: FileStore, note: Callable[[str], None]) -> None:
        self._state, self._note = state, note
        self._courier = Courier(STATUS, note)
        self._told = ""
        self._unwritten = ""  # the reason

    def show(self, status: Status, now: float) -> None:
        """Have it written if it says something else than before."""
        told = str(_without_moments(status))
        if told != self._told or self._unwritten:
            text = status_dict(status, now)
            has_thread = self._courier.give(STATUS, partial(self._write, text))
            self._told = told if has_thread else ""

    def patience(self) -> float | None:
        """Seconds until the next try; None if none is due."""
        return _AGAIN_SECONDS if self._unwritten or not self._told else None

    def settle(self, seconds: float) -> bool:
        """Wait that long for a write in progress; return whether it is written."""
        return self._courier.settle(seconds)

    def remove(self) -> None:
        """Remove it, waiting up to a second for that. Raises HostError."""
        self._courier.give(STATUS, self._state.remove_status)
        self._courier.settle(_END_SECONDS)

    def _write(self, status: Mapping[str, object]) -> None:
        try:
            self._state.write_status(status)
        except HostError as error:
            if str(error) != self._unwritten:
                self._note(str(error))
            self._unwritten = str(error)
        else:
            self._unwritten = ""


def _without_moments(status: Status) -> Status:
    """Return the status without values that always change, to tell whether it changed."""
    inner: Mapping[str, Status] = {n: _without_moments(s) for n, s in status.instances.items()}
    return replace(status, next_look=None, instances=inner)
