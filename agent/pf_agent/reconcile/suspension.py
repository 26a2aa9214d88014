"""Leaving main.cf alone for a while: on request, kept on disk, ended by command or by time.

One file suspends all instances, and each instance may have one of its own. The command that
suspends or resumes writes the file and wakes the daemon; the daemon reads and records it. So a
suspension outlives every process, and works while the daemon is down.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from pf_agent import names
from pf_agent.model import Emit, Event, Record, Suspension
from pf_agent.words import sentences

# Time synchronisation may correct a clock by this much without it counting as set.
_SLACK_SECONDS = 1.0


class Kept(Protocol):
    """Where a suspension is kept, as implemented by `kept_suspension.KeptSuspension`."""

    def suspension(self) -> Suspension | None: ...
    def keep_suspension(self, suspension: Suspension) -> None: ...
    def forget_suspension(self) -> None: ...


def suspend(
    kept: Kept, who: str, now: float, seconds: float | None = None, reason: str = ""
) -> Suspension:
    """Leave main.cf alone for `seconds`, None: until it is resumed. Raises HostError.

    It replaces one that is in force, and names it.
    """
    before = in_force(kept, now)
    replaces = "" if before is None else sentences.suspension_sentence(before)
    until = None if seconds is None else now + seconds
    found = Suspension(now, until, who, reason, replaces=replaces)
    kept.keep_suspension(found)
    return found


def resume(kept: Kept, who: str, now: float) -> bool:
    """End the suspension; False if none is in force. Raises HostError."""
    found = in_force(kept, now)
    if found is None:
        return False
    kept.keep_suspension(replace(found, until=now, resumed_by=who))
    return True


def in_force(kept: Kept, now: float) -> Suspension | None:
    """Return the suspension in force at `now`; None if there is none. Raises HostError."""
    found = kept.suspension()
    return None if found is None or _is_over(found, now) else found


def followed(kept: Kept, emit: Emit, before: Suspension | None, now: float) -> Suspension | None:
    """Return the suspension in force at `now`, and record what changed since `before`.

    One that has ended is forgotten. If the clock was set back since it began, one of an hour still
    lasts no longer than an hour. Raises HostError.
    """
    found = kept.suspension()
    if found is not None and found.until is not None and found.since > now + _SLACK_SECONDS:
        found = replace(found, since=now, until=now + found.until - found.since)
        kept.keep_suspension(found)
    if found is None:
        if before is not None:
            _record_end(emit, "resumed: its record on disk is gone")
        return None
    if _is_over(found, now):
        kept.forget_suspension()
        by = f"by {found.resumed_by}" if found.resumed_by else "by itself: the time is up"
        _record_end(emit, f"resumed {by}", found.resumed_by)
        return None
    if found != before:
        text = sentences.suspended_sentence(found)
        fields = {names.FIELD_REASON: found.reason, names.FIELD_BY: found.who}
        emit(Record(Event.SUSPENDED, text, fields=fields))
    return found


def _is_over(suspension: Suspension, now: float) -> bool:
    return suspension.until is not None and now >= suspension.until


def _record_end(emit: Emit, text: str, who: str = "") -> None:
    emit(Record(Event.RESUMED, text, fields={names.FIELD_BY: who} if who else {}))
