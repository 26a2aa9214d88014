"""JSON that the agent wrote and that may be damaged, read back: one way to reject it.

A reader takes what json.loads returned and returns what it means. If the agent cannot have written
it, ValueError is raised, naming the members that lead to the fault. `Members` reads an object.

What is kept of a desired state is the state, not the TOML files that expressed it. The state that
Postfix was last seen to serve with may be that of one instance, from files that have since changed
for another instance; or only the part of a state approved by a previous version that Postfix ran
with. No files say that, and what else is kept (markers, a suspension, the status) was never in any.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Final, TypeVar

T = TypeVar("T")

# datetime's last year is 9999.
_END_OF_TIME: Final = 253_402_300_799.0
_MOST_COUNTED: Final = 10**12


class Members:
    """An object, member by member.

    `only` lists the members that it has, if others are not allowed, but for those in `perhaps`.
    """

    def __init__(
        self, found: object, only: Collection[str] | None = None, perhaps: Collection[str] = ()
    ) -> None:
        self._found = _object_of(found)
        if only is not None and self._found.keys() - perhaps != set(only):
            raise ValueError("it has unexpected members")

    def get(self, name: str, reader: Callable[[object], T], *otherwise: T) -> T:
        """Return what `reader` makes of a member; `otherwise` if a previous version lacked it.

        Raises ValueError.
        """
        if name in self._found:
            return _named(name, reader, self._found[name])
        for value in otherwise:
            return value
        raise ValueError(f"there is no {name}")


def table_of(value: object, reader: Callable[[str, object], T]) -> dict[str, T]:
    """Return an object whose members are all alike; `reader` also gets their names."""
    return {
        name: _named(repr(name), partial(reader, name), inner)
        for name, inner in _object_of(value).items()
    }


def array_of(value: object, reader: Callable[[object], T]) -> tuple[T, ...]:
    """Return an array whose items are all alike."""
    if not isinstance(value, list):
        raise ValueError("it is not an array")
    return tuple(map(reader, value))


def or_none(reader: Callable[[object], T]) -> Callable[[object], T | None]:
    """Return a reader that also accepts null."""
    return lambda value: None if value is None else reader(value)


def text_of(value: object) -> str:
    """Return a string."""
    if not isinstance(value, str):
        raise ValueError("it is not a string")
    return value


def texts_of(value: object) -> tuple[str, ...]:
    """Return an array of strings."""
    return array_of(value, text_of)


def truth_of(value: object) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise ValueError("it is neither true nor false")
    return value


def count_of(value: object) -> int:
    """Return a number of things, from 0 to the highest that can be counted."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST_COUNTED:
        raise ValueError("it is not a count")
    return value


def moment_of(value: object) -> float:
    """Return a time in seconds since the epoch that can be converted to a date."""
    seconds = duration_of(value)
    if seconds < 0:
        raise ValueError(f"it is not a point in time: {seconds}")
    return seconds


def duration_of(value: object) -> float:
    """Return seconds; negative if the clock was set back in between."""
    # An integer of a thousand digits is valid JSON, and float() raises OverflowError for it.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e300:
        raise ValueError("it is not a number")
    if not abs(value) <= _END_OF_TIME:  # also false for nan
        raise ValueError(f"it is not a duration: {float(value)}")
    return float(value)


def _object_of(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError("it is not an object")
    return value


def _named(name: str, reader: Callable[[object], T], value: object) -> T:
    try:
        return reader(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
