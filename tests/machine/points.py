"""Some points of a work that is redone each time, one in each part of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

Point = TypeVar("Point")
_TRIES = 3


def spread(at: Callable[[int], Point | int], most: int, times: int) -> list[Point]:
    """Return what `at` found in that many parts of `most` calls, at a different place each time.

    If the work ended before that call, `at` returns how many calls it made: the number varies.
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
