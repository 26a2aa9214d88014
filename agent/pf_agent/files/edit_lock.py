"""Postfix's own lock on main.cf (edit_file(3)), which `postconf -e` also takes.

It ranks below `exchange`, which may import it: another program's protocol is a job of its own.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pf_agent.files.linux import close, try_flock
from pf_agent.files.whole import opened

LOCK_SECONDS = 10.0


def lock_path(main_cf: str) -> str:
    """Return the path of the lock file."""
    return f"{main_cf}.tmp"


@contextmanager
def postfix_lock(main_cf: str, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold the lock of Postfix's edit_file(3): an flock on the file `main.cf.tmp`.

    postconf renames that file over main.cf, so after each wait the name may mean another file.
    Raises OSError, also if another process does not release the lock within `seconds`.
    """
    path = lock_path(main_cf)
    deadline = time.monotonic() + seconds
    while True:
        handle = _open_lock(path)
        try:
            if not _flock_until(handle, deadline):
                name = os.path.basename(path)
                text = f"{name} has been locked for {seconds:.0f} s by another program"
                raise OSError(errno.EAGAIN, text)
            held = os.fstat(handle)
            if _is_named(path, held):
                try:
                    yield
                finally:
                    # If it remains, the next look finds that no process holds it.
                    with suppress(OSError):
                        if _is_named(path, held):
                            os.unlink(path)
                return
        finally:
            close(handle)


def _open_lock(path: str) -> int:
    """Open the lock file. A link in its place is no lock, and is removed: it must not block us."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o600)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
    os.unlink(path)
    return os.open(path, flags, 0o600)


def _is_named(path: str, held: os.stat_result) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.lstat(path), held)
    return False


def is_abandoned(main_cf: str) -> bool:
    """Tell whether the lock file exists and is not held: its holder was killed."""
    try:
        with opened(lock_path(main_cf)) as file:
            return try_flock(file.handle)
    except OSError:
        return False  # there is none, or what is there is not Postfix's


def _flock_until(handle: int, deadline: float) -> bool:
    """Take a file's lock; False if another process still holds it at `deadline`."""
    while not try_flock(handle):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
