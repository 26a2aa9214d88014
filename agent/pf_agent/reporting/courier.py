"""A thread for work that may hang: the acting thread hands it over, and goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pf_agent.errors import HostError, no_thread

_MOST = 16


class Courier:
    """Does the work that it is given, in order, one piece after the other.

    Of the work waiting under one key only the latest is done; if work waits under more than `most`
    keys, the oldest is dropped. `report` gets a sentence about that, and one for each HostError, in
    the courier's thread. The thread exists only while there is work.
    """

    def __init__(self, name: str, report: Callable[[str], None], most: int = _MOST) -> None:
        """`name` is the subject in sentences such as "mail is slow"."""
        self._name, self._report, self._most = name, report, most
        self._waiting: dict[str, Callable[[], None]] = {}
        self._given_up = 0
        self._is_at_work = False
        self._is_alone = False  # no thread could be started, and that was reported
        self._changed = threading.Condition()

    def give(self, key: str, work: Callable[[], None]) -> bool:
        """Have `work` done; return whether a thread runs for it. If not, the next call tries."""
        with self._changed:
            self._waiting.pop(key, None)
            self._waiting[key] = work
            if len(self._waiting) > self._most:
                del self._waiting[next(iter(self._waiting))]
                self._given_up += 1
            if self._is_at_work:
                return True
            try:
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
            except RuntimeError as error:
                trouble = "" if self._is_alone else f"{self._name}: {no_thread(error)}"
                self._is_alone = True
            else:
                self._is_at_work, self._is_alone = True, False
                return True
        if trouble:
            self._report(trouble)
        return False

    def settle(self, seconds: float) -> bool:
        """Wait until all is done, at most that long; return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._is_at_work, seconds)

    def _work(self) -> None:
        while True:
            with self._changed:
                given_up, self._given_up = self._given_up, 0
                key = next(iter(self._waiting), None)
                if key is None:
                    self._is_at_work = False
                    self._changed.notify_all()
                    return
                work = self._waiting.pop(key)
            if given_up:
                self._report(f"{self._name}: {given_up} dropped, as an earlier one took too long")
            try:
                work()
            except HostError as error:
                self._report(str(error))
            except Exception as error:  # noqa: BLE001 - the thread would end silently
                self._report(f"{self._name}: {error!r}; please report this")
