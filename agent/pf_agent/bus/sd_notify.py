"""Tells systemd the state of the daemon, and how often it wants to be told (sd_notify(3))."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

from pf_agent.errors import HostError

# Per state; we never send more than two at once.
_MOST_BYTES = 1900


def sd_notify(*states: str) -> bool:
    """Tell systemd our state, as in sd_notify("READY=1", "STATUS=in sync"); see sd_notify(3).

    Return False if systemd does not listen, for example if run by hand. Raises HostError if it
    should be told and cannot be, or has not yet read what it was told before: this never waits.
    """
    place = os.environ.get("NOTIFY_SOCKET")
    if not place:
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
            link.setblocking(False)
            # A name that begins with "@" means an abstract socket (unix(7)).
            link.connect(f"\0{place[1:]}" if place.startswith("@") else place)
            link.send(assignments(states).encode())
    except BlockingIOError as error:
        raise HostError(
            "notify: systemd does not read its notifications; check the kernel log (dmesg)"
        ) from error
    except OSError as error:
        fact = error.strerror or error
        raise HostError(f"notify: {fact}; see NotifyAccess= in systemd.service(5)") from error
    return True


def assignments(states: Iterable[str]) -> str:
    """Return the states one per line, as sd_notify(3) wants them, whatever bytes they quote.

    systemd discards a message of 4096 bytes as a whole (NOTIFY_BUFFER_MAX in core/manager.c),
    including WATCHDOG=1, and would then kill us for missing it.
    """
    lines = (" ".join(state.replace("\0", " ").split()) for state in states)
    return "\n".join(_cut(line.encode("utf-8", "backslashreplace")) for line in lines)


def _cut(line: bytes) -> str:
    if len(line) <= _MOST_BYTES:
        return line.decode("utf-8")
    return line[:_MOST_BYTES].decode("utf-8", "ignore") + "..."


def watchdog_seconds() -> float | None:
    """Return within how many seconds systemd wants a WATCHDOG=1; None if it does not watch us.

    WATCHDOG_USEC and WATCHDOG_PID are read as by sd_watchdog_enabled(3).
    """
    pid = os.environ.get("WATCHDOG_PID")
    usec = os.environ.get("WATCHDOG_USEC", "")
    if pid is not None and pid != str(os.getpid()):
        return None
    if not (usec.isascii() and usec.isdigit()) or int(usec) == 0:
        return None
    return int(usec) / 1_000_000
