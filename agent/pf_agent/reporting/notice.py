"""Notifications: drift, a contest or a failure starts a unit, with the cycle as its instance.

What the unit does is up to the administrator. If it cannot be started, the journal says so, and the
agent goes on.
"""

from __future__ import annotations

from collections.abc import Callable

from pf_agent import names
from pf_agent.model import Event, Record, Status

# Each leaves the agent waiting for a person, or at least for the cause to go away.
_STALLS = frozenset(
    [
        *(Event.CORRECTION_FAILED, Event.ACTIVATION_FAILED),
        *(Event.ROLLED_BACK, Event.CONFIG_REJECTED, Event.TABLE_STALE),
    ]
)
_TOLD = _STALLS | {Event.DRIFT_DETECTED, Event.CONTESTED}
# Replaces the cycle of a record that has none, such as for a fault in desired.toml.
NO_CYCLE = "0"


class Notice:
    """An outlet that starts `template` ("pf-agent-notify@.service") by calling `start`.

    Each cycle is reported once for each event. A failure that only repeats itself, such as a
    restart that is retried over and over, is reported once.
    """

    def __init__(self, template: str, start: Callable[[str], object]) -> None:
        self._template = template
        self._start = start
        self._last: dict[tuple[str, Event], object] = {}

    def note(self, record: Record) -> None:
        """Start the unit if the record is worth it. Raises HostError."""
        if record.event not in _TOLD:
            return
        instance = record.fields.get(names.FIELD_INSTANCE, names.DEFAULT_INSTANCE)
        is_failure = record.event in _STALLS
        what = (record.cycle, record.message if is_failure else "")
        if self._last.get((instance, record.event)) == what:
            return
        self._last[instance, record.event] = what
        self._start(notice_unit(self._template, instance, record.cycle))

    def publish(self, status: Status) -> None:
        """Do nothing: only records are reported."""

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


def notice_unit(template: str, instance: str, cycle: int | None) -> str:
    """Return the unit to start: "pf-agent-notify@12.service".

    Cycles are prefixed with the Postfix instance if it is not the default one: "postfix-out:12".
    """
    number = NO_CYCLE if cycle is None else str(cycle)
    which = number if instance == names.DEFAULT_INSTANCE else f"{instance}:{number}"
    return names.instance_unit(template, which)
