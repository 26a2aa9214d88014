"""How the jobs of systemd that we started ended."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

_MOST_JOBS = 16


class JobEnds:
    """The ends of our jobs. Heard in one thread, asked in another.

    A short job may end before the call that starts it has returned its name. So everything heard
    during `starting` is kept, and what was not ours is dropped at its end.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[str, str | None] = {}
        self._early: dict[str, str] | None = None

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Keep every end that is heard inside; `started` must be called inside as well."""
        with self._lock:
            self._early = {}
        try:
            yield
        finally:
            with self._lock:
                self._early = None

    def started(self, job: str) -> str | None:
        """Remember `job` as ours; returns its result if it has ended already."""
        with self._lock:
            self._ends[job] = (self._early or {}).get(job)
            while len(self._ends) > _MOST_JOBS:
                del self._ends[next(iter(self._ends))]
            return self._ends[job]

    def heard(self, job: str, result: str) -> bool:
        """Note an end; returns whether the job is known to be ours."""
        with self._lock:
            # Also for a job that we know: a restart asked for once more joins the one under way.
            if self._early is not None:
                self._early[job] = result
            if job not in self._ends:
                return False
            self._ends[job] = result
            return True

    def result(self, job: str) -> str | None:
        """The result, None while none was heard."""
        with self._lock:
            return self._ends.get(job)

    def open_jobs(self) -> tuple[str, ...]:
        """Jobs of ours whose end was not heard."""
        with self._lock:
            return tuple(job for job, result in self._ends.items() if result is None)
