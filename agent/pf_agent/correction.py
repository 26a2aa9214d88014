"""A cycle that found drift: put it on record, have the right text judged, exchange it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pf_agent import names, render
from pf_agent.drift import corrected, needs_activation
from pf_agent.main_cf import MainCf
from pf_agent.model import (
    DesiredState,
    Drift,
    DriftKind,
    Event,
    Exposure,
    Outcome,
    PendingActivation,
    Record,
    Result,
)
from pf_agent.plan import Emit, Host, Pending, Plan, Policy, plan

# Each time round somebody wrote in the milliseconds between reading and exchanging. His last write
# wakes the loop again anyway, so it need not be chased for ever within one cycle.
_MOST_TIMES_OVERTAKEN = 20


@dataclass(frozen=True)
class Correction:
    """A cycle that found drift: its number, what it works with, how long the drift was live."""

    host: Host
    desired: DesiredState
    policy: Policy
    pending: Pending
    number: int
    exposure: Exposure

    def outcome(self, result: Result, found: Plan, what: str) -> Outcome:
        """How the cycle ended; `what` was done about which parameters is the sentence."""
        text = _sentence(what, found.drift)
        return Outcome(result, text, self.number, found.drift, found.diff, self.exposure)

    def record_drift(self, emit: Emit, found: Plan) -> None:
        """On record before anything is touched: each drifted parameter, and the cycle."""
        for drift in found.drift:
            text = render.drift_sentence(drift)
            emit(Record(Event.DRIFT_DETECTED, text, self.number, render.drift_fields(drift)))
        fields = {names.FIELD_DIFF: found.diff, **render.exposure_fields(self.exposure)}
        text = _sentence("drift", found.drift)
        emit(Record(Event.DRIFT_DETECTED, text, self.number, fields))

    def judged(self, found: Plan) -> tuple[Plan, str]:
        """Return the plan that Postfix's own programs accept, and why there is none.

        A main.cf that Postfix cannot run with, for a parameter that the desired state does not
        name, is as good as destroyed: where the last good text passes, that one comes back.
        """
        fatal = self.policy.judge(found.candidate).fatal
        last_good = self.pending.last_good() if fatal else None
        if last_good is not None:
            text = corrected(MainCf.parse(last_good), self.desired).render()
            if text != found.candidate and not self.policy.judge(text).fatal:
                unusable = f"Postfix cannot run with it: {fatal}"
                lost = Drift("", DriftKind.ABSENT_FILE, "the last good text", unusable)
                diff = render.unified_diff(found.actual.text, text, self.host.path)
                return Plan(found.actual, (lost, *found.drift), text, diff), ""
        return found, fatal

    def rejected(self, emit: Emit, found: Plan, refusal: str) -> Outcome:
        """Postfix refuses what main.cf would become, so it was not touched."""
        text = refusal_sentence(self.desired, refusal)
        fields = {names.FIELD_REASON: refusal}
        emit(Record(Event.CONFIG_REJECTED, text, self.number, fields))
        return replace(self.outcome(Result.REJECTED, found, ""), summary=text)

    def correct(self, emit: Emit, found: Plan) -> Outcome:
        """Exchange the text, with a marker around it for what is then to be activated."""
        activates = needs_activation(found.drift)
        if activates:
            # On disk before main.cf changes: a crash from here on is taken up at the next look.
            self._mark(found, durable=True)
        kept, way = self._exchange(emit, found)
        done = replace(self, exposure=replace(self.exposure, corrected_at=self.policy.clock()))
        if activates:
            # The same marker, now with this moment: if a crash loses that, nothing depends on it.
            done._mark(found, durable=False)
        outcome = done.outcome(Result.CORRECTED, found, "corrected")
        if way:
            outcome = replace(outcome, summary=f"{outcome.summary} ({way})")
        fields = {names.FIELD_DIFF: found.diff, **render.exposure_fields(done.exposure)}
        if kept:
            fields[names.FIELD_DISPLACED] = "\n".join(kept)
        emit(Record(Event.DRIFT_CORRECTED, outcome.summary, self.number, fields))
        return outcome

    def _mark(self, found: Plan, durable: bool) -> None:
        """Write the marker; drift that an earlier cycle left to activate stays named in it."""
        drifted = render.drifted_names(found.drift)
        before = self.pending.pending()
        if before is not None:
            drifted = tuple(dict.fromkeys((*before.parameters, *drifted)))
        self.pending.mark_pending(PendingActivation(self.number, drifted, self.exposure), durable)

    def _exchange(self, emit: Emit, found: Plan) -> tuple[list[str], str]:
        """Swap the candidate in; return where the displaced texts are, and the way it was done.

        Where somebody who knows of no lock wrote between our read and the exchange, what he wrote
        is in our hand: it is corrected in its turn and exchanged for our first text, so that his
        edit is not lost.
        """
        kept: list[str] = []
        expected, candidate = found.actual, found.candidate

        def keep(text: bytes) -> None:
            kept.append(self.pending.keep_displaced(self.number, text))

        for _ in range(_MOST_TIMES_OVERTAKEN):
            displaced = self.host.exchange(expected, candidate, keep)
            # Where the last good text stood in for what was being written, and its writer has
            # closed it in these milliseconds, it was whole after all.
            closed = expected.is_open and not displaced.is_open
            if displaced.is_open or (displaced.text == expected.text and not closed):
                break  # what is still being written comes back when it is whole
            expected = replace(found.actual, text=candidate, is_open=False)
            his = replace(found.actual, text=displaced.text, is_open=False)
            # Where he destroyed it, our own text, the newest whole one, is what to begin with.
            more = plan(self.host, self.desired, his, candidate, self.policy.own)
            if more.drift:
                self.record_drift(emit, more)
            candidate = more.candidate
            if self.policy.judge(candidate).fatal:
                break  # ours stays in force, and his text is kept
        return kept, displaced.way


def _sentence(what: str, drift: Sequence[Drift]) -> str:
    return f"{what}: {render.listed(render.drifted_names(drift))}"


def refusal_sentence(desired: DesiredState, refusal: str) -> str:
    """What Postfix refuses in its own words, and which line of which TOML file asked for it."""
    words = set(re.findall(r"[A-Za-z0-9_]+", refusal))
    blamed = sorted(words.intersection(desired.settings))
    where = "".join(f"{desired.provenance.get(name, '')}: {name}: " for name in blamed[:1])
    return f"{where}Postfix refuses it: {refusal}; mend it, main.cf stays as it is until then"
