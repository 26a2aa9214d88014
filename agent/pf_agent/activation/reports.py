"""What is recorded of an activation: how it ended, and each failure once a cycle."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from pf_agent import names
from pf_agent.activation import steps
from pf_agent.activation.states import Attempt
from pf_agent.model import Activated, Emit, Event, PendingActivation, Record
from pf_agent.words import sentences
from pf_agent.words.fields import exposure_fields

_MOST_TOLD = 16


class Reports:
    """Records how activations end, and remembers which failures it has recorded."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        # Only the latest: Postfix may be down for a year, with a new cycle every hour.
        self._told: deque[tuple[int | None, str]] = deque(maxlen=_MOST_TOLD)

    def failed(self, cycle: int | None, reason: str) -> None:
        """Record a failure, once for each cycle."""
        if (cycle, reason) not in self._told:
            self._told.append((cycle, reason))
            fields = {names.FIELD_REASON: reason}
            self._emit(Record(Event.ACTIVATION_FAILED, reason, cycle, fields))

    def forget(self) -> None:
        """Forget the failures: should one come back, it is recorded again."""
        self._told.clear()

    def serves_again(self) -> None:
        """Record that a start by another process has ended a failure."""
        self._emit(Record(Event.ACTIVATED, "Postfix serves again"))

    def activated(
        self,
        attempt: Attempt,
        pending: PendingActivation,
        now: float,
        took: float,
        aliases_trouble: str,
    ) -> Activated:
        """Record that Postfix serves at `now`, `took` seconds after its start was requested."""
        exposure = replace(pending.exposure, activated_at=now)
        text = success_sentence(attempt, pending, took, now - exposure.written_at)
        if aliases_trouble:
            text += f"; but the aliases are out of date: {aliases_trouble}"
        fields = dict(exposure_fields(exposure))
        self._emit(Record(Event.ACTIVATED, text, pending.cycle, fields))
        return Activated(replace(pending, exposure=exposure), now)


def success_sentence(
    attempt: Attempt, pending: PendingActivation, took: float, exposed: float
) -> str:
    """Return how Postfix came to run with the desired settings, and after how long without."""
    settings = "text that it last served with" if pending.rolled_back else "desired settings"
    how = "restarted, up" if attempt.job else "started by another process, seen to serve"
    how = "reloaded, serves" if attempt.is_reload else how
    since = "the drift was written" if pending.parameters else "it was found to be down"
    since = sentences.WISHED if steps.is_wish(pending) else since
    text = (
        f"Postfix runs with the {settings}: {how} after {sentences.duration(took)},"
        f" {sentences.duration(exposed)} after {since}"
    )
    return f"{text}; a reload was not enough: {attempt.doubt}" if attempt.doubt else text
