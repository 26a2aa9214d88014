"""A cycle that found drift: put it on record, have the right text judged, exchange it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from pf_agent import names
from pf_agent.errors import HostError
from pf_agent.maincf.document import HOT_SECONDS, MainCf
from pf_agent.model import (
    Drift,
    DriftKind,
    Event,
    Exposure,
    Outcome,
    PendingActivation,
    Record,
    Result,
)
from pf_agent.reconcile.drift import corrected, needs_activation
from pf_agent.reconcile.look import MOST_RECORDS, Look
from pf_agent.reconcile.plan import Plan
from pf_agent.reconcile.refusal import refusal_sentence, warnings
from pf_agent.reconcile.swap import Swap
from pf_agent.reconcile.wishes import applied
from pf_agent.words import sentences
from pf_agent.words.diffs import unified_diff
from pf_agent.words.fields import drift_fields, exposure_fields

# Each time round somebody wrote in the milliseconds between reading and exchanging. His last write
# wakes the loop again anyway, so it need not be chased for ever within one cycle.
_MOST_TIMES_OVERTAKEN = 20


@dataclass(frozen=True)
class Correction:
    """A cycle that found drift: its number, how long the drift was live, and who wrote it.

    `is_on_record`: an earlier look has told of it.
    """

    look: Look
    number: int
    exposure: Exposure
    writer: Mapping[str, str] = field(default_factory=dict)
    is_on_record: bool = False

    def outcome(self, result: Result, found: Plan, what: str) -> Outcome:
        """How the cycle ended; `what` was done about which parameters is the sentence."""
        text = _sentence(what, found.drift)
        return Outcome(result, text, self.number, found.drift, found.diff, self.exposure)

    def record_drift(self, found: Plan) -> None:
        """On record before anything is touched: each drifted parameter, and the cycle.

        Where there are very many, the cycle's record counts and shows the rest.
        """
        for drift in found.drift[:MOST_RECORDS]:
            text = sentences.drift_sentence(drift)
            fields = {**drift_fields(drift), **self.writer}
            self.look.emit(Record(Event.DRIFT_DETECTED, text, self.number, fields))
        times = exposure_fields(self.exposure)
        fields = {names.FIELD_DIFF: found.diff, **times, **self.writer}
        is_wished = bool(found.drift) and all(drift.is_wished for drift in found.drift)
        what = "the desired state changed" if is_wished else "drift"
        text = _sentence(what, found.drift)
        self.look.emit(Record(Event.DRIFT_DETECTED, text, self.number, fields))

    def judged(self, found: Plan) -> tuple[Plan, str]:
        """Return the plan that Postfix's own programs accept, and why there is none.

        A main.cf that Postfix cannot run with, for a parameter that the desired state does not
        name, is as good as destroyed: where the last good text passes, that one comes back.
        """
        refused = self.look.refusal(found.candidate)
        if refused:
            # A program that the machine failed has refused it as well: what counts it says twice.
            refused = self.look.refusal(found.candidate)
        last_good = self.look.store.last_good() if refused else None
        if last_good is not None:
            text = corrected(MainCf.parse(last_good), self.look.desired).render()
            if text != found.candidate and not self.look.refusal(text):
                unusable = f"Postfix cannot run with it: {refused}"
                lost = Drift("", DriftKind.ABSENT_FILE, "the last good text", unusable)
                diff = unified_diff(found.actual.text, text, self.look.host.path)
                return Plan(found.actual, (lost, *found.drift), text, diff), ""
        return found, refused

    def rejected(self, found: Plan, refused: str) -> Outcome:
        """Postfix refuses what main.cf would become, so it was not touched."""
        text = refusal_sentence(self.look.desired, refused)
        if not self.is_on_record:
            fields = {names.FIELD_REASON: refused}
            self.look.emit(Record(Event.CONFIG_REJECTED, text, self.number, fields))
        return replace(self.outcome(Result.REJECTED, found, ""), summary=text)

    def correct(self, found: Plan) -> Outcome:
        """Exchange the text, with a marker around it for what is then to be activated."""
        activates = needs_activation(found.drift)
        self._note_wish(found)
        if activates:
            # Before main.cf changes: a crash from there on is taken up at the next look. It is
            # synced when main.cf is right. Only what ends Postfix too, the end of the kernel, loses
            # it until then, and Postfix then starts with the main.cf that the disk has.
            self._mark(found, durable=False)
        kept, way = self._exchange(found)
        done = replace(self, exposure=replace(self.exposure, corrected_at=self.look.policy.clock()))
        if activates:
            # From here on it is corrected, and told, whatever more fails: nothing depends on this.
            with suppress(HostError):
                # The same marker, now with this moment.
                done._mark(found, durable=True)
        outcome = done.outcome(Result.CORRECTED, found, "corrected")
        if way:
            outcome = replace(outcome, summary=f"{outcome.summary} ({way})")
        fields = {names.FIELD_DIFF: found.diff, **exposure_fields(done.exposure)}
        doubts = warnings(self.look.desired, self.look.policy.judge(found.candidate))
        if doubts:
            more = f" (and {len(doubts) - 1} more)" if len(doubts) > 1 else ""
            outcome = replace(outcome, summary=f"{outcome.summary}; but {doubts[0]}{more}")
            fields[names.FIELD_WARNINGS] = "\n".join(doubts)
        if kept:
            fields[names.FIELD_DISPLACED] = "\n".join(kept)
        self.look.emit(Record(Event.DRIFT_CORRECTED, outcome.summary, self.number, fields))
        return outcome

    def _note_wish(self, found: Plan) -> None:
        """What main.cf said of what is newly asked for is kept before it goes."""
        wishes = self.look.store.wishes()
        if not self.look.desired.says_the_same(wishes.applied):
            self.look.store.keep_wishes(applied(wishes, self.look.desired, found.actual.text))

    def _mark(self, found: Plan, durable: bool) -> None:
        """Write the marker; what an earlier cycle left to activate stays named in it."""
        drifted = sentences.drifted_names(found.drift)
        before, heard = self.look.store.pending(), self.look.policy.before
        live = self._was_live(found)
        if before is not None:
            drifted = tuple(dict.fromkeys((*before.parameters, *drifted)))
            heard, live = before.before or heard, live or before.live
        kept = drifted[: sentences.MOST_NAMES]
        wishes = self.look.store.wishes()
        wished = tuple(name for name in kept if name in wishes.before)
        marker = PendingActivation(self.number, kept, self.exposure)
        marker = replace(marker, wished=wished, before=heard if wished else None, live=live)
        self.look.store.mark_pending(marker, durable)

    def _was_live(self, found: Plan) -> bool:
        """Whether a process of Postfix may have taken a drifted value for more than a moment.

        One that found main.cf modified within the last second reads it again, until it is not
        (dict_load_file_xt() in util/dict.c): what was right again by then did not reach it.
        """
        if all(drift.is_wished for drift in found.drift):
            return False
        now = self.exposure.corrected_at or self.look.policy.clock()
        seen, written = self.look.policy.in_sync_at, found.actual.modified_at
        return seen is None or not seen <= written <= now < written + HOT_SECONDS

    def _exchange(self, found: Plan) -> tuple[list[str], str]:
        """Swap the candidate in. Returns where the displaced texts are, and the way it was done.

        Where somebody who knows of no lock wrote between our read and the exchange, what he wrote
        is in our hand: it is corrected in its turn and exchanged for our first text, so that his
        edit is not lost.
        """
        swap = Swap(self.look.host, self.look.store, self.number)
        expected, candidate = found.actual, found.candidate
        for _ in range(_MOST_TIMES_OVERTAKEN):
            displaced = swap.put(expected, candidate)
            # Where the last good text stood in for what was being written, and its writer has
            # closed it in these milliseconds, it was whole after all.
            closed = expected.is_open and not displaced.is_open
            if displaced.is_open or (displaced.text == expected.text and not closed):
                break  # what is still being written comes back when it is whole
            expected = replace(found.actual, text=candidate, is_open=False)
            his = replace(found.actual, text=displaced.text, is_open=False)
            # Where he destroyed it, our own text, the newest whole one, is what to begin with.
            more = self.look.plan_from(his, candidate)
            if more.drift:
                self.record_drift(more)
            candidate = more.candidate
            if self.look.refusal(candidate):
                break  # ours stays in force, and his text is kept
        return swap.kept, displaced.way


def _sentence(what: str, drift: Sequence[Drift]) -> str:
    return f"{what}: {sentences.listed(sentences.drifted_names(drift))}"
