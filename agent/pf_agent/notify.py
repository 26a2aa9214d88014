"""Tell systemd how the daemon is, and know how often it wants to hear (sd_notify(3))."""

from __future__ import annotations

import os
from collections.abc import Iterable

from pf_agent.errors import HostError


def notify(*states: str) -> bool:
    """Tell systemd our state, as in notify("READY=1", "STATUS=in sync"); see sd_notify(3).

    Returns False when systemd does not listen, as when run by hand. Raises HostError when it
    should be told and cannot.
    """
    if not os.environ.get("NOTIFY_SOCKET"):
        return False
    try:
        from systemd import daemon

        return bool(daemon.notify(assignments(states)))
    except ImportError as error:
        raise HostError(f"notify: {error}; install python3-systemd") from error
    except OSError as error:
        raise HostError(f"notify: {error}; see NotifyAccess= in systemd.service(5)") from error


def assignments(states: Iterable[str]) -> str:
    """The states one a line, as sd_notify(3) wants them, whatever bytes of main.cf they quote."""
    lines = (" ".join(state.replace("\0", " ").split()) for state in states)
    return "\n".join(lines).encode("utf-8", "backslashreplace").decode("utf-8")


def watchdog_seconds() -> float | None:
    """Within how many seconds systemd wants a WATCHDOG=1; None if it does not watch this process.

    WATCHDOG_USEC and WATCHDOG_PID as sd_watchdog_enabled(3) reads them.
    """
    pid = os.environ.get("WATCHDOG_PID")
    usec = os.environ.get("WATCHDOG_USEC", "")
    if pid is not None and pid != str(os.getpid()):
        return None
    if not (usec.isascii() and usec.isdigit()) or int(usec) == 0:
        return None
    return int(usec) / 1_000_000
