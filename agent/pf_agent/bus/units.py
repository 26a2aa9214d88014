"""What systemd says about a unit: its state as a value, and which signals are news. Pure.

systemd.py asks and listens. All of this was seen with systemd 252 and 257.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pf_agent.model import UnitPhase, UnitState
from pf_agent.names import DEFAULT_INSTANCE, instance_unit

# org.freedesktop.systemd1(5), ActiveState. States added by later releases are not relied on.
_PHASES: Mapping[str, UnitPhase] = {
    "active": UnitPhase.UP,
    "inactive": UnitPhase.DOWN,
    "failed": UnitPhase.FAILED,
}
# systemctl(1), is-enabled. `enabled-runtime` is what Debian 12's postfix-instance-generator makes
# of postfix@-.service and of the other instances; `static`, `generated` and so on do not mean that
# a person decided against the unit.
_FORBIDDEN = frozenset(["disabled", "masked", "masked-runtime"])
_MICROSECONDS = 1_000_000

# The result of our job and the unit's state after it: the job's end has reported that already.
_TOLD = frozenset([("done", "active"), ("failed", "failed"), ("failed", "active")])


def state_of(name: str, properties: Mapping[str, Any]) -> UnitState:
    """Return the unit's state, from all its properties on D-Bus."""
    return UnitState(
        name=name,
        phase=_PHASES.get(properties["ActiveState"], UnitPhase.CHANGING),
        # Units that run nothing, such as targets, have no Result.
        result=properties.get("Result", ""),
        invocation=bytes(properties["InvocationID"]).hex(),
        changed_at=properties["StateChangeTimestamp"] / _MICROSECONDS,
        began_at=properties["InactiveExitTimestamp"] / _MICROSECONDS,
        has_job=properties["Job"][0] != 0,
        may_start=properties["UnitFileState"] not in _FORBIDDEN,
        # systemd also says False for a unit that it never tried to start: no condition was tested.
        is_met=properties["ConditionResult"] or not properties["ConditionTimestamp"],
    )


def holders_of(unit: str, properties: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the unit that holds Postfix's master if `unit` is a mere umbrella, () if it is not.

    On Debian 12 postfix.service runs /bin/true once, and wants postfix@-.service, which is a part
    of it (systemd.unit(5), Wants=, PartOf=). If either is masked, it no longer has a type, or is no
    longer part of the other; Wants= remains. On Debian 13 postfix.service itself holds the master,
    and its ConsistsOf still names postfix@-.service, which it conflicts with.
    """
    parts = properties["ConsistsOf"] if properties.get("Type") == "oneshot" else ()
    return default_instance_of(unit, [*properties.get("Wants", ()), *parts])


def default_instance_of(unit: str, others: Iterable[str]) -> tuple[str, ...]:
    """Return the default instance of the template of `unit`, if in `others` (postmulti(1))."""
    instance = instance_unit(unit, DEFAULT_INSTANCE)
    return (instance,) if instance in others else ()


def path_of(unit: str) -> str:
    """Return a unit's object path: sd_bus_path_encode(3)."""
    parts = (
        chr(byte) if chr(byte).isalpha() or (chr(byte).isdigit() and place) else f"_{byte:02x}"
        for place, byte in enumerate(unit.encode("ascii", "replace"))
    )
    return f"/org/freedesktop/systemd1/unit/{''.join(parts)}"


class Changes:
    """Tells which PropertiesChanged signals of a unit mean that it came to rest in a new state.

    systemd sends one for each step of a job, and one when the unit has no job any more: that one
    counts. Without a job (`postfix stop`, a master that was killed), each step counts. The signals
    of a start that does nothing, because the unit is running already, do not.
    """

    def __init__(self) -> None:
        self._rests: dict[str, tuple[object, ...]] = {}
        self._jobs: dict[str, str] = {}
        self._ends: dict[str, tuple[str, str]] = {}

    def ended(self, unit: str, job: str, result: str) -> None:
        """Note that a job of ours for `unit` ended and was reported: its outcome is not news."""
        self._ends[unit] = job, result

    def is_news(self, unit: str, properties: Mapping[str, Any]) -> bool:
        """Whether a look is due, given the unit's current properties."""
        number, path = properties.get("Job", (0, "/"))
        if number:
            self._jobs[unit] = path
            return False
        state = properties.get("ActiveState")
        rest = state, properties.get("InvocationID"), properties.get("StateChangeTimestamp")
        before, self._rests[unit] = self._rests.get(unit), rest
        # Known by the job's own path: the signal after the end of our job may have been missed.
        last = self._jobs.pop(unit, "")
        ours, result = self._ends.get(unit, ("/", ""))
        return rest != before and not (last == ours and (result, state) in _TOLD)

    def forget(self) -> None:
        """Forget all states: signals were missed, so whatever comes next is news."""
        self._rests.clear()
        self._jobs.clear()
