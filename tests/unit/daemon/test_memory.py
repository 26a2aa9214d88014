"""What a piece of work leaves is given back at its end."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.package import AGENT

# In a process of its own, since `keep_what_there_is` is for as long as a process lasts. Prints how
# many cycles are left of those before it and after it, and the heap in KiB before, full and after.
_WORK = """
import weakref
from pf_agent.daemon import memory

class Link:
    def __init__(self):
        self.own = self

def heap():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Anonymous:"))

kept = weakref.ref(Link())
memory.keep_what_there_is()
memory.give_back()
before = heap()
left = [weakref.ref(Link()) for _ in range(100)]
blocks = [bytes(3000) for _ in range(20_000)]
pins = blocks[::1000]
full = heap()
del blocks
memory.give_back()
print(kept() is not None, sum(ref() is not None for ref in left), before, full, heap(), len(pins))
"""


def test_cycles_and_free_pages_go_and_what_was_to_stay_stays() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WORK],
        env={**os.environ, "PYTHONPATH": AGENT},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    kept, left, before, full, after, _ = done.stdout.split()
    assert (kept, left) == ("True", "0")
    assert int(full) - int(before) > 50_000
    assert int(after) - int(before) < 2_000
