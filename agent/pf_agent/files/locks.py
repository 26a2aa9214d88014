"""The agent's two locks: who reconciles, for milliseconds, and who activates, for minutes.

The kernel frees them with the process, however it ends.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pf_agent.errors import HostError
from pf_agent.files.linux import close, try_flock

RECONCILING: Final = "lock"
ACTIVATING: Final = "activation.lock"
LOCK_SECONDS: Final = 30.0


class Locks:
    """The locks in `directory`; one that another process holds is waited for, `seconds` long."""

    def __init__(self, directory: str, seconds: float = LOCK_SECONDS) -> None:
        self._directory = directory
        self._seconds = seconds
        self._activating: int | None = None

    @contextmanager
    def reconciling(self) -> Iterator[None]:
        """Hold the right to reconcile. Raises HostError where another does not free it in time."""
        path = os.path.join(self._directory, RECONCILING)
        handle = _opened(path)
        try:
            deadline = time.monotonic() + self._seconds
            while not try_flock(handle):
                if time.monotonic() > deadline:
                    raise HostError(
                        f"{path}: another pf-agent has held it for {self._seconds:.0f} s;"
                        f" see `fuser {path}`"
                    )
                time.sleep(0.01)
            yield
        finally:
            close(handle)

    def hold_activation(self) -> bool:
        """Try to become the one that activates; False while another process is. HostError."""
        if self._activating is None:
            handle = _opened(os.path.join(self._directory, ACTIVATING))
            if not try_flock(handle):
                close(handle)
                return False
            self._activating = handle
        return True

    def release_activation(self) -> None:
        """Let another process activate."""
        if self._activating is not None:
            close(self._activating)
            self._activating = None


def _opened(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}; run as root") from error
