"""What could not be sent at once: kept in order until it can be, within limits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

# In a contest of hours this is the latest part; the receiver has what came before.
_MOST = 1000
_MOST_BYTES = 4 * 1024 * 1024


class Letter(NamedTuple):
    """What is sent, and the line that says it to a person."""

    data: bytes
    line: str = ""


class Backlog:
    """Letters waiting for a receiver that may not take them yet.

    `send` returns whether a letter was taken, and does not wait. If too many wait, the oldest are
    dropped and replaced by the letter that `lost` returns, which is given their number. Not
    thread-safe.
    """

    def __init__(
        self,
        send: Callable[[Letter], bool],
        lost: Callable[[int], Letter],
        most: int = _MOST,
        most_bytes: int = _MOST_BYTES,
    ) -> None:
        self._send, self._lost_letter = send, lost
        self._most, self._most_bytes = most, most_bytes
        self._waiting: deque[Letter] = deque()
        self._bytes = 0
        self._lost = 0

    def put(self, letter: Letter) -> None:
        """Send it after all that waits."""
        self._waiting.append(letter)
        self._bytes += len(letter.data)
        self.flush()
        while len(self._waiting) > self._most or self._bytes > self._most_bytes:
            self._pop()
            self._lost += 1

    def flush(self) -> bool:
        """Send what waits, as far as it is taken; return whether nothing waits any more."""
        if self._lost:
            if not self._send(self._lost_letter(self._lost)):
                return False
            self._lost = 0
        while self._waiting:
            if not self._send(self._waiting[0]):
                return False
            self._pop()
        return True

    def __len__(self) -> int:
        """Return how many have not arrived: waiting, or dropped and not yet reported."""
        return len(self._waiting) + self._lost

    def _pop(self) -> None:
        self._bytes -= len(self._waiting.popleft().data)
