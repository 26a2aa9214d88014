"""What dpkg is about: whether it works just now, and how far the package postfix is installed."""

from __future__ import annotations

import fcntl
import os
import struct

from pf_agent.errors import HostError
from pf_agent.model import Package
from pf_agent.postfix.programs import Order, run

DPKG = "/var/lib/dpkg"
_DPKG_QUERY = "/usr/bin/dpkg-query"
# apt holds the first from its beginning to its end, dpkg both while it runs (dpkg's
# lib/dpkg/dbmodify.c, modstatdb_lock).
_LOCKS = ("lock-frontend", "lock")
# fcntl_locking(2): l_type, l_whence, l_start, l_len, l_pid.
_FLOCK = "hhqqi4x"


def package() -> Package:
    """Ask dpkg for the package postfix. Raises HostError where dpkg is not to be asked."""
    question = Order([_DPKG_QUERY, "-W", "-f", "${db:Status-Status}", "postfix"])
    (answer,) = run([question])
    # Where there is no such package, dpkg-query fails and prints nothing.
    return Package(is_locked(), answer.output.strip())


def is_locked(directory: str = DPKG) -> bool:
    """Whether apt or dpkg holds its lock. Looks only: it is never taken, not even for a moment.

    Raises HostError.
    """
    return any(_is_held(os.path.join(directory, name)) for name in _LOCKS)


def _is_held(path: str) -> bool:
    question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        with open(path, "rb") as file:
            answer = fcntl.fcntl(file, fcntl.F_GETLK, question)
    except FileNotFoundError:
        return False  # dpkg makes it when it first needs it
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}; mend the file") from error
    return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)
