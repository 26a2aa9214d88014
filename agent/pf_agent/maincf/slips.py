"""The real name that a misspelt one was most likely meant to be. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Final

# Names less alike than this are considered unrelated (difflib's ratio).
_ALIKE: Final = 0.75
_ALMOST: Final = 0.93
_LONGEST_NAME: Final = 100


def nearest(name: str, known: Collection[str]) -> str:
    """Return the real name that `name` was most likely meant to be; "" if none is close.

    Names of one family are long and similar (dovecot_destination_recipient_limit is not a slip for
    default_destination_recipient_limit), so the parts that differ must be close word by word, or
    missing.
    """
    if len(name) > _LONGEST_NAME:
        return ""
    # Postfix's own names are in lower case; those of classes and services may be in any case.
    written = (name, name.lower()) if name != name.lower() else (name,)
    close = (difflib.get_close_matches(each, known, n=3, cutoff=_ALIKE) for each in written)
    for found in (found for each in close for found in each):
        if _is_slip(name.lower(), found.lower()):
            return found
    return ""


def _is_slip(name: str, found: str) -> bool:
    words, others = name.split("_"), found.split("_")
    if set(words) <= set(others) or _ratio(name, found) >= _ALMOST:
        return True
    if len(words) != len(others):
        return name.replace("_", "") == found.replace("_", "")
    return all(_ratio(one, other) >= _ALIKE for one, other in zip(words, others, strict=True))


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()
