"""What systemd says of a unit: its standing as a value, and which signals are news. Pure.

systemd.py asks and listens. What is said here was seen on systemd 252 and 257.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pf_agent.model import UnitPhase, UnitState
from pf_agent.names import DEFAULT_INSTANCE, instance_unit

# org.freedesktop.systemd1(5), ActiveState. Whatever later releases add is nothing to build on yet.
_PHASES: Mapping[str, UnitPhase] = {
    "active": UnitPhase.UP,
    "inactive": UnitPhase.DOWN,
    "failed": UnitPhase.FAILED,
}
# systemctl(1), is-enabled. `enabled-runtime` is what Debian 12's postfix-instance-generator makes
# of postfix@-.service and of the other instances; `static`, `generated` and the like are nobody's
# decision against a unit.
_FORBIDDEN = frozenset(["disabled", "masked", "masked-runtime"])
_MICROSECONDS = 1_000_000

# Result of a job of ours and the state that the unit is in then: its end has told of that already.
_TOLD = frozenset([("done", "active"), ("failed", "failed"), ("failed", "active")])


def state_of(name: str, properties: Mapping[str, Any]) -> UnitState:
    """The unit's standing, from all the properties that it has on D-Bus."""
    return UnitState(
        name=name,
        phase=_PHASES.get(properties["ActiveState"], UnitPhase.CHANGING),
        # Kinds of unit that run nothing, such as targets, have no Result.
        result=properties.get("Result", ""),
        invocation=bytes(properties["InvocationID"]).hex(),
        changed_at=properties["StateChangeTimestamp"] / _MICROSECONDS,
        began_at=properties["InactiveExitTimestamp"] / _MICROSECONDS,
        has_job=properties["Job"][0] != 0,
        may_start=properties["UnitFileState"] not in _FORBIDDEN,
        # systemd says False of a unit that it never tried to start, too: nothing was asked for.
        is_met=properties["ConditionResult"] or not properties["ConditionTimestamp"],
    )


def holders_of(unit: str, properties: Mapping[str, Any]) -> tuple[str, ...]:
    """The unit that holds Postfix's master where `unit` is a mere umbrella, () where it is none.

    On Debian 12 postfix.service runs /bin/true once, and wants postfix@-.service, which is a part
    of it (systemd.unit(5), Wants=, PartOf=). Where one of the two is masked, it has no type any
    more, or is no part of the other; the wish stays. On Debian 13 postfix.service holds the master
    itself, and ConsistsOf still names postfix@-.service, which it conflicts with.
    """
    parts = properties["ConsistsOf"] if properties.get("Type") == "oneshot" else ()
    return default_instance_of(unit, [*properties.get("Wants", ()), *parts])


def default_instance_of(unit: str, others: Iterable[str]) -> tuple[str, ...]:
    """The default instance of the template of `unit`, if `others` name it (postmulti(1))."""
    instance = instance_unit(unit, DEFAULT_INSTANCE)
    return (instance,) if instance in others else ()


def path_of(unit: str) -> str:
    """A unit's object path: sd_bus_path_encode(3)."""
    parts = (
        chr(byte) if chr(byte).isalpha() or (chr(byte).isdigit() and place) else f"_{byte:02x}"
        for place, byte in enumerate(unit.encode("ascii", "replace"))
    )
    return f"/org/freedesktop/systemd1/unit/{''.join(parts)}"


class Changes:
    """Which PropertiesChanged of a unit say that it came to rest otherwise than it was before.

    systemd sends one for each step of a job, and one when the job is off the unit: that one counts.
    Where there is no job (`postfix stop`, a master that was killed), each step counts. The signals
    of a start that is for nothing, as the unit runs already, do not.
    """

    def __init__(self) -> None:
        self._rests: dict[str, tuple[object, ...]] = {}
        self._jobs: dict[str, str] = {}
        self._ends: dict[str, tuple[str, str]] = {}

    def ended(self, unit: str, job: str, result: str) -> None:
        """A job of ours for `unit` ended, and that was told: what it left is no news."""
        self._ends[unit] = job, result

    def is_news(self, unit: str, properties: Mapping[str, Any]) -> bool:
        """Whether somebody is to look, as the unit is by now as `properties` say."""
        number, path = properties.get("Job", (0, "/"))
        if number:
            self._jobs[unit] = path
            return False
        state = properties.get("ActiveState")
        rest = state, properties.get("InvocationID"), properties.get("StateChangeTimestamp")
        before, self._rests[unit] = self._rests.get(unit), rest
        # By the job's own name: the signal after an end of ours may have been missed.
        last = self._jobs.pop(unit, "")
        ours, result = self._ends.get(unit, ("/", ""))
        return rest != before and not (last == ours and (result, state) in _TOLD)

    def forget(self) -> None:
        """Signals were missed: whatever comes next is news."""
        self._rests.clear()
        self._jobs.clear()
