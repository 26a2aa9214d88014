"""Leave main.cf alone for a while: told by somebody, kept on disk, ended by him or by the clock.

Whoever suspends or resumes writes it down and wakes the daemon; the daemon follows what is written
and puts it on record. So it outlives every process, and works while the daemon is down.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from pf_agent import names
from pf_agent.model import Emit, Event, Record, Suspension
from pf_agent.words import sentences

# A clock is corrected by this much without having been set.
_SLACK_SECONDS = 1.0


class Kept(Protocol):
    """Where it is kept, as `store.FileStore` does."""

    def suspension(self) -> Suspension | None: ...
    def keep_suspension(self, suspension: Suspension) -> None: ...
    def forget_suspension(self) -> None: ...


def suspend(
    kept: Kept, who: str, now: float, seconds: float | None = None, reason: str = ""
) -> Suspension:
    """Leave main.cf alone for `seconds`, None: until somebody resumes. Raises HostError."""
    found = Suspension(now, None if seconds is None else now + seconds, who, reason)
    kept.keep_suspension(found)
    return found


def resume(kept: Kept, who: str, now: float) -> bool:
    """Let the suspension be over; False where none is in force. Raises HostError."""
    found = kept.suspension()
    if found is None or _is_over(found, now):
        return False
    kept.keep_suspension(replace(found, until=now, resumed_by=who))
    return True


def followed(kept: Kept, emit: Emit, before: Suspension | None, now: float) -> Suspension | None:
    """Return the suspension in force at `now`, with what changed since `before` on record.

    One that is over is forgotten. One of an hour lasts no longer than that where the clock was set
    back since it began. Raises HostError.
    """
    found = kept.suspension()
    if found is not None and found.until is not None and found.since > now + _SLACK_SECONDS:
        found = replace(found, since=now, until=now + found.until - found.since)
        kept.keep_suspension(found)
    if found is None:
        if before is not None:
            _record_end(emit, "resumed: what was written down of it is gone")
        return None
    if _is_over(found, now):
        kept.forget_suspension()
        by = f"by {found.resumed_by}" if found.resumed_by else "by itself: the time is over"
        _record_end(emit, f"resumed {by}")
        return None
    if found != before:
        text = f"suspended {sentences.suspension_sentence(found)}"
        emit(Record(Event.SUSPENDED, text, fields={names.FIELD_REASON: found.reason}))
    return found


def _is_over(suspension: Suspension, now: float) -> bool:
    return suspension.until is not None and now >= suspension.until


def _record_end(emit: Emit, text: str) -> None:
    emit(Record(Event.RESUMED, text))
