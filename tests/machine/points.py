"""Some points of a work that is done anew each time, one in each part of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

Point = TypeVar("Point")
_TRIES = 3


def spread(at: Callable[[int], Point | int], most: int, times: int) -> list[Point]:
    """Return what `at` found in so many parts of `most` calls, at another place each time.

    Where a work of the same kind ended before that call, `at` returns how many it had: it has now
    more, now fewer.
    """
    found: list[Point] = []
    for part in range(times):
        for _ in range(_TRIES):
            assert most >= times, f"{most} calls are no work"
            point = at(random.randint(most * part // times + 1, most * (part + 1) // times))
            if not isinstance(point, int):
                found.append(point)
                break
            most = min(most, point)
    return found
