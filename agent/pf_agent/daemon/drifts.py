"""The drifts of one instance: the newest, as `status` tells of it, and whether it is contested."""

from __future__ import annotations

import time

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
from pf_agent.words import sentences


class Drifts:
    """What was noted of them. `contest` is None where nothing is contested."""

    def __init__(self, state: FileStore, emit: Emit, shared: Shared) -> None:
        self._state = state
        self._emit = emit
        self._shared = shared
        self.contest: Contest | None = None
        self.last: LastDrift | None = None

    def apart(self) -> float:
        """Return the seconds that restarts are to be from each other for the contest's sake."""
        return self.contest.apart if self.contest else 0.0

    def note(self, outcome: Outcome) -> None:
        """A cycle ended so."""
        exposure = outcome.exposure
        self.contest = pacing.contest(self._state.drifts(), time.time())
        if outcome.cycle is None or exposure is None:
            return
        took = None
        if exposure.corrected_at is not None:
            took = max(0.0, exposure.corrected_at - exposure.written_at)  # the clock may be set
        real = [drift for drift in outcome.drift if not drift.is_wished]
        drifted = sentences.drifted_names(real)[: sentences.MOST_NAMES]
        if not drifted:
            return  # what a person asks for is no drift
        self.last = LastDrift(outcome.cycle, exposure.seen_at, drifted, took)
        if outcome.result is Result.CORRECTED:
            self._note_contest(outcome.cycle, drifted, exposure.seen_at)

    def _note_contest(self, cycle: int, drifted: tuple[str, ...], at: float) -> None:
        """Where somebody keeps undoing us, say so once, and restart more and more seldom."""
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
        """Postfix was seen to serve with main.cf as `pending` left it."""
        exposure = pending.exposure
        if pending.rolled_back or not pending.is_drift():
            return  # that was no correction of drift
        corrected_at = exposure.corrected_at or exposure.seen_at
        self.last = LastDrift(
            pending.cycle,
            exposure.seen_at,
            pending.parameters,
            max(0.0, corrected_at - exposure.written_at),
            max(0.0, at - corrected_at),
        )
