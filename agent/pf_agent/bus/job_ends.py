"""How the systemd jobs that we started ended."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

_MOST_JOBS = 16


class JobEnds:
    """The results of our jobs. Received in one thread, queried in another.

    A short job may end before the call that starts it has returned its name. So everything received
    during `starting` is kept, and what was not ours is dropped at its end.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[str, str | None] = {}
        self._early: dict[str, str] | None = None

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Keep every result received inside; `started` must be called inside as well."""
        with self._lock:
            self._early = {}
        try:
            yield
        finally:
            with self._lock:
                self._early = None

    def started(self, job: str) -> str | None:
        """Remember `job` as ours; return its result if it has already ended."""
        with self._lock:
            self._ends[job] = (self._early or {}).get(job)
            while len(self._ends) > _MOST_JOBS:
                del self._ends[next(iter(self._ends))]
            return self._ends[job]

    def heard(self, job: str, result: str) -> bool:
        """Note a result; return whether the job is known to be ours."""
        with self._lock:
            # Also for a known job: a second request for a restart joins the job in progress.
            if self._early is not None:
                self._early[job] = result
            if job not in self._ends:
                return False
            self._ends[job] = result
            return True

    def result(self, job: str) -> str | None:
        """Return the result, None if none was received."""
        with self._lock:
            return self._ends.get(job)

    def open_jobs(self) -> tuple[str, ...]:
        """Return our jobs whose end was not received."""
        with self._lock:
            return tuple(job for job, result in self._ends.items() if result is None)
