"""The agent's locks: to reconcile and to replace an index, for milliseconds; to activate, minutes.

The kernel releases them when the process ends, however it ends.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pf_agent.errors import HostError
from pf_agent.files.linux import close, try_flock
from pf_agent.files.whole import host_error

RECONCILING: Final = "lock"
ACTIVATING: Final = "activation.lock"
REPLACING: Final = "tables.lock"  # of all instances: two may name the same table
LOCK_SECONDS: Final = 30.0


@contextmanager
def held(path: str, seconds: float = LOCK_SECONDS) -> Iterator[int]:
    """Hold a file's lock, creating the file if necessary, and yield its handle.

    Raises HostError if another process does not release it within that many seconds.
    """
    handle = _opened(path)
    try:
        deadline = time.monotonic() + seconds
        while not try_flock(handle):
            if time.monotonic() > deadline:
                raise HostError(
                    f"{path}: another pf-agent has held it for {seconds:.0f} s; see `fuser {path}`"
                )
            time.sleep(0.01)
        yield handle
    finally:
        close(handle)


class Locks:
    """The locks in `directory`; one that another process holds is waited for, up to `seconds`."""

    def __init__(self, directory: str, seconds: float = LOCK_SECONDS) -> None:
        self._directory = directory
        self._seconds = seconds
        self._activating: int | None = None

    @contextmanager
    def reconciling(self) -> Iterator[None]:
        """Hold the right to reconcile. Raises HostError if another process does not release it."""
        with held(os.path.join(self._directory, RECONCILING), self._seconds):
            yield

    def hold_activation(self) -> bool:
        """Try to get the right to activate; False if another process has it. Raises HostError."""
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
    except PermissionError as error:
        raise HostError(f"{path}: {error.strerror}; run as root") from error
    except OSError as error:
        raise host_error(path, error) from error
