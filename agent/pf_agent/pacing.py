"""When to try again: the restart budget and the backoff. The clock is an argument, in seconds."""

from __future__ import annotations

from collections.abc import Sequence

# systemd refuses the 6th start of a unit within 10 s, and mail is then down until somebody resets
# it (systemd.unit(5), StartLimitIntervalSec=). Ours stays well below that.
# A second restart comes soon, since a second change often follows on the first; after that they
# are spaced.
SECOND_RESTART_SECONDS = 3.0
RESTART_APART_SECONDS = 10.0
RESTARTS_A_MINUTE = 3
_MINUTE = 60.0


def recent_restarts(restarts: Sequence[float], now: float) -> tuple[float, ...]:
    """Return the restarts that count: of the last minute, none from a clock that ran ahead."""
    return tuple(sorted(moment for moment in restarts if now - _MINUTE < moment <= now))


def restart_allowed_at(restarts: Sequence[float], now: float) -> float:
    """Return when Postfix may be restarted: `now`, or as much later as the budget asks for."""
    recent = recent_restarts(restarts, now)
    allowed = now
    if recent:
        apart = SECOND_RESTART_SECONDS if len(recent) == 1 else RESTART_APART_SECONDS
        allowed = max(allowed, recent[-1] + apart)
    if len(recent) >= RESTARTS_A_MINUTE:
        allowed = max(allowed, recent[-RESTARTS_A_MINUTE] + _MINUTE)
    return allowed


class Backoff:
    """How long to wait after a failure: `first` seconds, doubled each time, at most `most`."""

    def __init__(self, first: float = 1.0, most: float = 300.0) -> None:
        self._first = first
        self._most = most
        self._next = first

    def grow(self) -> float:
        """Return the seconds to wait now, and make the next wait longer."""
        seconds = self._next
        self._next = min(self._next * 2, self._most)
        return seconds

    def reset(self) -> None:
        """Forget the failures: something worked."""
        self._next = self._first
