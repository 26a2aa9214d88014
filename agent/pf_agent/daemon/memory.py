"""Give back the memory that a piece of work has left: cyclic garbage, and the heap's free pages."""

from __future__ import annotations

import ctypes
import gc

_libc = ctypes.CDLL(None)


def keep_what_there_is() -> None:
    """What the start has made stays, and need not be gone through at each `give_back`."""
    gc.freeze()


def give_back() -> None:
    """To be called between two pieces of work; a tenth of a millisecond where there was none.

    By itself the collector would let a quarter of what there is gather first, and then run amid a
    correction; glibc gives back the end of the heap alone (malloc_trim(3)), and what lives long in
    it keeps all that is free below.
    """
    gc.collect()
    _libc.malloc_trim(0)
