"""Whether dpkg is running, and how far the package postfix is installed."""

from __future__ import annotations

import fcntl
import os
import struct

from pf_agent.errors import HostError
from pf_agent.model import Package
from pf_agent.postfix.programs import Program, run

DPKG = "/var/lib/dpkg"
_DPKG_QUERY = "/usr/bin/dpkg-query"
# apt holds the first lock from start to end, dpkg holds both while it runs (modstatdb_lock in
# dpkg's lib/dpkg/dbmodify.c).
_LOCKS = ("lock-frontend", "lock")
# fcntl_locking(2): l_type, l_whence, l_start, l_len, l_pid.
_FLOCK = "hhqqi4x"


def package() -> Package:
    """Ask dpkg about the package postfix. Raises HostError if dpkg cannot be asked."""
    question = Program([_DPKG_QUERY, "-W", "-f", "${db:Status-Status}", "postfix"])
    (answer,) = run([question])
    # If there is no such package, dpkg-query fails and prints nothing.
    return Package(is_locked(), answer.output.strip())


def is_locked(directory: str = DPKG) -> bool:
    """Whether apt or dpkg holds a lock. The locks are only tested, never taken.

    Raises HostError.
    """
    return any(_is_held(os.path.join(directory, name)) for name in _LOCKS)


def _is_held(path: str) -> bool:
    question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        with open(path, "rb") as file:
            answer = fcntl.fcntl(file, fcntl.F_GETLK, question)
    except FileNotFoundError:
        return False  # dpkg creates it when it first needs it
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}; fix the file") from error
    return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)
