"""Run one attack until standard input ends, then print as JSON what was won by it."""

from __future__ import annotations

import json
import select
import sys
import time
from contextlib import closing, suppress
from importlib import import_module

# An attack that is not told to end, ends.
_MOST_SECONDS = 240.0


def main(name: str) -> None:
    """`name` is MODULE.ATTACK. Prints "under way" once it is."""
    won: list[str] = []
    module, _, attack = name.partition(".")
    steps = getattr(import_module(f"{__package__}.{module}"), attack)(won.append)
    deadline, is_over, pause = time.monotonic() + _MOST_SECONDS, False, 0.0
    with closing(steps):
        next(steps)
        print("under way", flush=True)
        while not is_over and time.monotonic() < deadline:
            is_over = bool(select.select([sys.stdin], [], [], pause)[0])
            try:
                next(steps)
            except StopIteration:
                pause = 1.0
    print(json.dumps(sorted(set(won))), flush=True)


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main(sys.argv[1])
