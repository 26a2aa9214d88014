"""What goes on record of an activation: how it ended, and a failure once for each cycle."""

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
    """Remembers which failures were told of."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        # The latest alone: Postfix may be down for a year, with a new cycle every hour.
        self._told: deque[tuple[int | None, str]] = deque(maxlen=_MOST_TOLD)

    def failed(self, cycle: int | None, reason: str) -> None:
        """Put a failure on record, once for a cycle."""
        if (cycle, reason) not in self._told:
            self._told.append((cycle, reason))
            fields = {names.FIELD_REASON: reason}
            self._emit(Record(Event.ACTIVATION_FAILED, reason, cycle, fields))

    def forget(self) -> None:
        """What failed is over: where it comes back, it is news."""
        self._told.clear()

    def serves_again(self) -> None:
        """Put on record that others' start has ended a failure."""
        self._emit(Record(Event.ACTIVATED, "Postfix serves again"))

    def activated(
        self,
        attempt: Attempt,
        pending: PendingActivation,
        now: float,
        took: float,
        aliases_trouble: str,
    ) -> Activated:
        """Put on record that Postfix serves `now`, `took` seconds after it was asked to start."""
        exposure = replace(pending.exposure, activated_at=now)
        text = success_sentence(attempt, pending, took, now - exposure.written_at)
        if aliases_trouble:
            text += f"; but the aliases are old: {aliases_trouble}"
        fields = dict(exposure_fields(exposure))
        self._emit(Record(Event.ACTIVATED, text, pending.cycle, fields))
        return Activated(replace(pending, exposure=exposure), now)


def success_sentence(
    attempt: Attempt, pending: PendingActivation, took: float, exposed: float
) -> str:
    """Return how Postfix came to run with what is desired, and how long it had not."""
    settings = "text that it served with before" if pending.rolled_back else "desired settings"
    how = "restarted, up" if attempt.job else "started by others, seen to serve"
    how = "reloaded, serves" if attempt.is_reload else how
    since = "the drift was written" if pending.parameters else "it was found to be down"
    since = "the desired state changed" if steps.is_wish(pending) else since
    text = (
        f"Postfix runs with the {settings}: {how} after {sentences.duration(took)},"
        f" {sentences.duration(exposed)} after {since}"
    )
    return f"{text}; a reload did not do: {attempt.doubt}" if attempt.doubt else text
