"""How many calls an ordinary user may make, and all users together: token buckets. Pure.

Enough for monitoring and for trying things out; too few to keep the agent from its work. Measured
on two slow cores, an answer to GetAll costs 1 ms.
"""

from __future__ import annotations

from dataclasses import dataclass

# On a host with more active users than this, only the common limit holds.
_MOST_USERS = 256


@dataclass
class Bucket:
    """Holds `most` at once and gains `rate` each second; full at the start. Times in seconds."""

    rate: float
    most: float
    left: float
    at: float

    def fill(self, now: float) -> float:
        """Return what is left at `now`."""
        if now > self.at:
            self.left = min(self.most, self.left + (now - self.at) * self.rate)
            self.at = now
        return self.left


def _calls_of_one(now: float) -> Bucket:
    return Bucket(20, 60, 60, now)


def _calls_of_all(now: float) -> Bucket:
    return Bucket(60, 120, 120, now)


def _refusals(now: float) -> Bucket:
    return Bucket(1, 10, 10, now)


class Allowance:
    """What each user has left; remembers a limited number of users."""

    def __init__(self, now: float) -> None:
        self._all = _calls_of_all(now)
        self._users: dict[int, tuple[Bucket, Bucket]] = {}

    def takes_call(self, uid: int, now: float) -> bool:
        """Count a call of this user at `now`; False if it is one too many."""
        calls, _ = self._of(uid, now)
        if calls.fill(now) < 1 or self._all.fill(now) < 1:
            return False
        calls.left -= 1
        self._all.left -= 1
        return True

    def takes_refusal(self, uid: int, now: float) -> bool:
        """Count a refusal sent to this user; False if enough of them were sent."""
        _, refusals = self._of(uid, now)
        if refusals.fill(now) < 1:
            return False
        refusals.left -= 1
        return True

    def _of(self, uid: int, now: float) -> tuple[Bucket, Bucket]:
        known = self._users.get(uid)
        if known is None:
            if len(self._users) >= _MOST_USERS:
                del self._users[next(iter(self._users))]
            known = self._users[uid] = _calls_of_one(now), _refusals(now)
        return known
