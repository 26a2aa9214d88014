"""Swaps two names in one step: renameat2(2), which Python does not offer."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2

_libc = ctypes.CDLL(None, use_errno=True)


def swap_or_move(source: str, target: str) -> bool:
    """Swap the two names; False if nothing was at `target`: then `source` was moved there.

    Raises OSError.
    """
    while True:
        try:
            _renameat2(source, target, _RENAME_EXCHANGE)
            return True
        except FileNotFoundError:
            # Nothing to exchange with, unless it is created right now: then try again.
            with suppress(FileExistsError):
                _renameat2(source, target, _RENAME_NOREPLACE)
                return False


def _renameat2(source: str, target: str, flags: int) -> None:
    if _libc.renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), target)
