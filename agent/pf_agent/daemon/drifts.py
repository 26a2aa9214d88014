"""The drifts of one instance: the latest, as shown by `status`, and whether it is contested."""

from __future__ import annotations

import time
from dataclasses import replace

from pf_agent import names
from pf_agent.activation import pacing
from pf_agent.daemon.shared import Shared
from pf_agent.errors import HostError
from pf_agent.files.store import FileStore
from pf_agent.model import (
    Contest,
    Emit,
    Event,
    LastDrift,
    Outcome,
    PendingActivation,
    Record,
    Result,
)
from pf_agent.words import keeping, sentences
from pf_agent.words.fields import is_of_table


class Drifts:
    """What was noted about drifts. `contest` is None if nothing is contested."""

    def __init__(self, instance: str, state: FileStore, emit: Emit, shared: Shared) -> None:
        self._instance = instance
        self._state = state
        self._emit = emit
        self._shared = shared
        self.contest: Contest | None = None
        self.last: LastDrift | None = None

    def apart(self) -> float:
        """Return how many seconds restarts must be apart because of a contest."""
        return self.contest.apart if self.contest else 0.0

    def note(self, outcome: Outcome) -> None:
        """Note how a cycle ended: of main.cf always, of another document if it was corrected.

        Nobody restarts Postfix for a table: who fights over one is no reason to space restarts.
        """
        exposure = outcome.exposure
        self.contest = pacing.contest(self._state.drifts(), time.time())
        self._forget_what_is_wished(outcome)
        if outcome.cycle is None or exposure is None:
            return
        took = None
        if exposure.corrected_at is not None:
            took = max(0.0, exposure.corrected_at - exposure.written_at)  # the clock may be set
        real = [drift for drift in outcome.drift if not drift.is_wished]
        drifted = sentences.drifted_names(real)[: sentences.MOST_NAMES]
        if not drifted:
            return  # a wish is not drift
        at, before = exposure.seen_at, self.last
        if before is not None and before.cycle == outcome.cycle:
            at = before.at  # in observe mode each look finds it again
        self.last = LastDrift(outcome.cycle, at, drifted, took)
        if outcome.result is Result.CORRECTED:
            keep = keeping.command(self._instance, outcome.drift, str(outcome.cycle))
            self.last = replace(self.last, keep=keep or None)
            if not any(is_of_table(drift.document) for drift in real):
                self._note_contest(outcome.cycle, drifted, exposure.seen_at)

    def _forget_what_is_wished(self, outcome: Outcome) -> None:
        """Offer no more to keep what the desired state says something new about."""
        wished = {drift.parameter for drift in outcome.drift if drift.is_wished}
        if self.last is not None and wished & set(self.last.parameters):
            self.last = replace(self.last, keep=None)

    def _note_contest(self, cycle: int, drifted: tuple[str, ...], at: float) -> None:
        """If something keeps reverting our corrections, say so once, and space the restarts out."""
        before = self.contest
        drifts = pacing.noted(self._state.drifts(), drifted, at)
        try:
            self._state.note_drifts(drifts)
        except HostError as error:
            self._shared.journal.note(str(error))  # a contest is noticed a little later
        self.contest = pacing.contest(drifts, time.time())
        if self.contest is not None and before is None:
            text = sentences.contest_sentence(self.contest)
            fields = {names.FIELD_PARAMETER: ", ".join(self.contest.parameters)}
            self._emit(Record(Event.CONTESTED, text, cycle, fields))

    def note_activated(self, pending: PendingActivation, at: float) -> None:
        """Note that Postfix was seen to serve with main.cf as `pending` left it."""
        exposure = pending.exposure
        if pending.rolled_back or not pending.is_drift():
            return  # that was no correction of drift
        corrected_at = exposure.corrected_at or exposure.seen_at
        before = self.last
        keep = before.keep if before is not None and before.cycle == pending.cycle else None
        self.last = LastDrift(
            pending.cycle,
            exposure.seen_at,
            pending.parameters,
            max(0.0, corrected_at - exposure.written_at),
            max(0.0, at - corrected_at),
            keep,
        )
