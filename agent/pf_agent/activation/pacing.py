"""When to try again: the restart budget, backoff, contest. Pure.

The clock is an argument, in seconds.

Contest: something keeps reverting our corrections. One change is a slip, a second one a habit; the
fourth within three hours is a tool that believes it owns main.cf (a configuration management tool
comes by every half hour). Each of its changes is still corrected. But a restart for each would do
more harm than the change, so restarts are spaced out: 10 s at the fourth drift, twice as long with
each further one, up to five minutes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pf_agent.model import Contest, Window

# systemd refuses the 6th start of a unit within 10 s, and mail is then down until a person resets
# the unit (systemd.unit(5), StartLimitIntervalSec=). Our restarts stay well below that. The second
# one may come soon, since a second change often follows the first; later ones are spaced.
SECOND_RESTART_SECONDS = 3.0
RESTART_APART_SECONDS = 10.0
RESTARTS_A_MINUTE = 3
_MINUTE = 60.0
_DAY = 86400.0

CONTESTED_DRIFTS = 4
_CONTEST_SECONDS = 3 * 3600.0
# A burst of writes counts as one change in a contest.
_BURST_SECONDS = 5.0
_QUIET_SECONDS = 600.0
_MOST_APART_SECONDS = 300.0
_MOST_NAMES = 50
_MOST_MOMENTS = 400


def recent_restarts(
    restarts: Sequence[float], now: float, within: float = _MINUTE
) -> tuple[float, ...]:
    """Return the restarts of the last `within` seconds, without those dated in the future.

    One that is noted twice, on disk and in memory, counts once.
    """
    return tuple(sorted({moment for moment in restarts if now - within < moment <= now}))


def remembered_restarts(restarts: Sequence[float], now: float) -> tuple[float, ...]:
    """Return the restarts that can still matter: the last ones within the largest spacing."""
    return recent_restarts(restarts, now, _MOST_APART_SECONDS)


def restart_allowed_at(restarts: Sequence[float], now: float, apart: float = 0.0) -> float:
    """Return when Postfix may be restarted: `now`, or as much later as the budget requires.

    In a contest, restarts are at least `apart` seconds apart. All in seconds since the epoch.
    """
    recent = recent_restarts(restarts, now)
    allowed = max([now, *(m + apart for m in remembered_restarts(restarts, now))])
    if recent:
        apart = SECOND_RESTART_SECONDS if len(recent) == 1 else RESTART_APART_SECONDS
        allowed = max(allowed, recent[-1] + apart)
    if len(recent) >= RESTARTS_A_MINUTE:
        allowed = max(allowed, recent[-RESTARTS_A_MINUTE] + _MINUTE)
    return allowed


def wish_allowed_at(wished: Sequence[float], now: float) -> float:
    """Return when Postfix may be restarted for a wish, which does not wait because of drift.

    `wished` are the restarts for earlier wishes. Several wishes in a row share one restart.
    """
    recent = recent_restarts(wished, now)
    return max(now, recent[-1] + SECOND_RESTART_SECONDS) if recent else now


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
        """Forget the failures: a try succeeded."""
        self._next = self._first


def opens_in(window: Window | None, second_of_day: float) -> float:
    """Return the seconds until the window opens, 0 if it is open.

    The local clock may jump by an hour before that, so ask again.
    """
    if window is None:
        return 0.0
    if window.opens < window.closes:
        is_open = window.opens <= second_of_day < window.closes
    else:
        is_open = second_of_day >= window.opens or second_of_day < window.closes
    return 0.0 if is_open else (window.opens - second_of_day) % _DAY


def noted(
    drifts: Mapping[str, Sequence[float]], parameters: Iterable[str], at: float
) -> dict[str, tuple[float, ...]]:
    """Return `drifts` (when each parameter drifted) with one more drift of `parameters` added.

    Drifts too old to count, or dated in the future, are left out.
    """
    found = {name: _counting(moments, at) for name, moments in drifts.items()}
    for name in parameters:
        before = found.get(name, ())
        if not before or at - before[-1] >= _BURST_SECONDS:
            found[name] = (*before, at)[-_MOST_MOMENTS:]
    newest = sorted((name for name, m in found.items() if m), key=lambda name: found[name][-1])
    return {name: found[name] for name in newest[-_MOST_NAMES:]}


def contest(drifts: Mapping[str, Sequence[float]], now: float) -> Contest | None:
    """Return what is contested at `now`; None if nothing is."""
    counting = {name: _counting(moments, now) for name, moments in drifts.items()}
    found = {name: m for name, m in counting.items() if len(m) >= CONTESTED_DRIFTS}
    if not found:
        return None
    order = sorted(found, key=lambda name: (-len(found[name]), name))
    most = found[order[0]]
    doublings = min(len(most) - CONTESTED_DRIFTS, 10)
    apart = min(RESTART_APART_SECONDS * 2**doublings, _MOST_APART_SECONDS)
    return Contest(tuple(order), len(most), most[0], apart)


def _counting(moments: Sequence[float], now: float) -> tuple[float, ...]:
    """Return the drifts that count: none once a contest is over.

    It is over after ten quiet minutes, and after twice the usual interval: a tool that comes by
    every half hour is not gone after ten minutes.
    """
    recent = tuple(sorted(m for m in moments if now - _CONTEST_SECONDS < m <= now))
    if len(recent) < CONTESTED_DRIFTS:
        return recent
    interval = (recent[-1] - recent[0]) / (len(recent) - 1)
    return recent if now - recent[-1] <= max(_QUIET_SECONDS, 2 * interval) else ()
