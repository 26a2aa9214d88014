"""A cycle that found drift: record it, have the right text judged, exchange it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from pf_agent import names
from pf_agent.errors import HostError
from pf_agent.maincf.document import HOT_SECONDS
from pf_agent.maincf.grammar import grammar_of
from pf_agent.model import (
    DocumentKind,
    Drift,
    DriftKind,
    Event,
    Exposure,
    FileKind,
    Outcome,
    PendingActivation,
    Record,
    Result,
)
from pf_agent.reconcile.drift import corrected, needs_activation, placed
from pf_agent.reconcile.look import MOST_RECORDS, Look
from pf_agent.reconcile.plan import Plan
from pf_agent.reconcile.refusal import Refusal, refusal_sentence, warnings
from pf_agent.reconcile.swap import Swap
from pf_agent.reconcile.wishes import wished_of
from pf_agent.words import sentences
from pf_agent.words.diffs import unified_diff
from pf_agent.words.fields import drift_fields, exposure_fields

# Each time, another process wrote between our reading and the exchange. Its last write wakes the
# loop again anyway, so one cycle need not chase it forever.
_MOST_TIMES_OVERTAKEN = 20


@dataclass(frozen=True)
class Correction:
    """A cycle that found drift: its number, how long the drift was live, and what wrote it.

    `is_on_record`: an earlier look has recorded it.
    """

    look: Look
    number: int
    exposure: Exposure
    writer: Mapping[str, str] = field(default_factory=dict)
    is_on_record: bool = False

    def outcome(self, result: Result, found: Plan, what: str) -> Outcome:
        """Return how the cycle ended; the sentence says `what` was done, to which parameters."""
        text = _sentence(what, found.drift)
        return Outcome(result, text, self.number, found.drift, found.diff, self.exposure)

    def record_drift(self, found: Plan) -> None:
        """Record each drifted parameter and the cycle, before anything is changed.

        If there are very many, the cycle's record counts and lists the rest.
        """
        for drift in found.drift[:MOST_RECORDS]:
            text = sentences.drift_sentence(drift)
            fields = {**drift_fields(drift), **self.writer}
            self.look.emit(Record(Event.DRIFT_DETECTED, text, self.number, fields))
        times = exposure_fields(self.exposure)
        fields = {names.FIELD_DIFF: found.diff, **times, **self.writer}
        is_wished = bool(found.drift) and all(drift.is_wished for drift in found.drift)
        what = sentences.WISHED if is_wished else "drift"
        text = _sentence(what, found.drift)
        self.look.emit(Record(Event.DRIFT_DETECTED, text, self.number, fields))

    def judged(self, found: Plan) -> tuple[Plan, Refusal | None]:
        """Return the plan that Postfix's own programs accept, or the reason why there is none.

        If main.cf is unusable because of a parameter that the desired state does not name, it is as
        good as destroyed: the last good text comes back, if it passes.
        """
        refused = self.look.refusal(found.candidate)
        if refused:
            # A program may have failed for want of memory or the like: only a second refusal
            # counts.
            refused = self.look.refusal(found.candidate)
        last_good = self.look.store.last_good() if refused else None
        if refused and last_good is not None:
            desired = self.look.desired
            good = grammar_of(desired.kind).parse(last_good)
            text = corrected(good, desired).render()
            if text != found.candidate and not self.look.refusal(text):
                unusable = f"Postfix cannot run with it: {refused.said}"
                (lost,) = placed(
                    desired, [Drift("", DriftKind.ABSENT_FILE, "the last good text", unusable)]
                )
                path, kind = self.look.host.path, desired.kind
                diff = unified_diff(found.actual.text, text, path, kind, desired.is_secret)
                return Plan(found.actual, (lost, *found.drift), text, diff), None
        return found, refused

    def rejected(self, found: Plan, refused: Refusal) -> Outcome:
        """Report that the new text is refused; main.cf was not touched."""
        text = refusal_sentence(self.look.desired, refused)
        if not self.is_on_record:
            fields = {names.FIELD_REASON: refused.said}
            self.look.emit(Record(Event.CONFIG_REJECTED, text, self.number, fields))
        return replace(self.outcome(Result.REJECTED, found, ""), summary=text)

    def correct(self, found: Plan) -> Outcome:
        """Exchange the text, with a marker around it for the activation that follows."""
        activates = needs_activation(found.drift)
        self._note_wish(found)
        if activates:
            # Before main.cf changes: after a crash from here on, the next look takes over. It is
            # only synced once main.cf is right. Until then only a crash of the kernel can lose it,
            # which ends Postfix too; Postfix then starts with the main.cf that is on disk.
            self._mark(found, durable=False)
        kept, way = self._exchange(found)
        done = replace(self, exposure=replace(self.exposure, corrected_at=self.look.policy.clock()))
        if activates:
            # From here on main.cf is corrected, and that is reported whatever else fails.
            with suppress(HostError):
                # The same marker, now with this time.
                done._mark(found, durable=True)
        outcome = done.outcome(Result.CORRECTED, found, "corrected")
        if way:
            outcome = replace(outcome, summary=f"{outcome.summary} ({way})")
        why = "" if self.look.desired.document else _opened(found)
        if why:
            outcome = replace(outcome, summary=f"{outcome.summary}; {why}")
        fields = {names.FIELD_DIFF: found.diff, **exposure_fields(done.exposure)}
        judgement = self.look.policy.judge(found.candidate)
        # What would be a reason to refuse it only passed because it runs already.
        doubts = warnings(self.look.desired, judgement, (), judgement)
        if doubts:
            more = f" (and {len(doubts) - 1} more)" if len(doubts) > 1 else ""
            outcome = replace(outcome, summary=f"{outcome.summary}; but {doubts[0]}{more}")
            fields[names.FIELD_WARNINGS] = "\n".join(doubts)
        if kept:
            fields[names.FIELD_DISPLACED] = "\n".join(kept)
        self.look.emit(Record(Event.DRIFT_CORRECTED, outcome.summary, self.number, fields))
        return outcome

    def _note_wish(self, found: Plan) -> None:
        """Keep what main.cf said of newly requested parameters before it is replaced."""
        wishes = self.look.store.wishes()
        if not self.look.desired.says_the_same(wishes.applied):
            self.look.note_wish(found.actual.text, self.number)

    def _mark(self, found: Plan, durable: bool) -> None:
        """Write the marker; it still names what an earlier cycle left to activate."""
        drifted = sentences.drifted_names(found.drift)
        before, heard = self.look.store.pending(), self.look.policy.before
        live = self._was_live(found)
        if before is not None:
            drifted = tuple(dict.fromkeys((*before.parameters, *drifted)))
            heard, live = before.before or heard, live or before.live
        kept = drifted[: sentences.MOST_NAMES]
        wished = wished_of(self.look.store.wishes(), kept)
        marker = PendingActivation(self.number, kept, self.exposure)
        marker = replace(marker, wished=wished, before=heard if wished else None, live=live)
        self.look.store.mark_pending(marker, durable)

    def _was_live(self, found: Plan) -> bool:
        """Whether a process of Postfix may have kept a drifted value for longer than a moment.

        A process that finds main.cf modified within the last second reads it again, until it is not
        (dict_load_file_xt() in util/dict.c): what was corrected by then did not reach it.
        """
        if all(drift.is_wished for drift in found.drift):
            return False
        if self.look.desired.kind is DocumentKind.MASTER_CF:
            return True  # master reads it at once when it is told to (master/master_ent.c)
        now = self.exposure.corrected_at or self.look.policy.clock()
        seen, written = self.look.policy.in_sync_at, found.actual.modified_at
        return seen is None or not seen <= written <= now < written + HOT_SECONDS

    def _exchange(self, found: Plan) -> tuple[list[str], str]:
        """Swap the candidate in. Return where the displaced texts are, and how it was done.

        If a writer that ignores locks wrote between our read and the exchange, we hold its text: it
        is corrected in turn and exchanged for our first text, so that the edit is not lost.
        """
        swap = Swap(self.look.host, self.look.store, self.number)
        expected, candidate = found.actual, found.candidate
        for _ in range(_MOST_TIMES_OVERTAKEN):
            displaced = swap.put(expected, candidate)
            # The last good text stood in for a file being written. If its writer has closed it
            # within these milliseconds, it was complete after all.
            closed = expected.is_open and not displaced.is_open
            if displaced.is_open or (displaced.text == expected.text and not closed):
                break  # a text still being written comes back when it is complete
            expected = replace(found.actual, text=candidate, is_open=False)
            other = replace(found.actual, text=displaced.text, is_open=False)
            # If that text is destroyed, start from our own, the latest complete one.
            more = self.look.plan_from(other, candidate)
            if more.drift:
                self.record_drift(more)
            candidate = more.candidate
            if self.look.refusal(candidate):
                break  # our text stays, and the other one is kept
        return swap.kept, displaced.way


def _opened(found: Plan) -> str:
    """Why a main.cf that not every user could read was made readable; "" if it was not."""
    is_file = found.actual.kind is FileKind.REGULAR and found.actual.text is not None
    is_mode = any(drift.kind is DriftKind.MODE for drift in found.drift)
    return sentences.opened(found.actual.mode) if is_file and is_mode else ""


def _sentence(what: str, drift: Sequence[Drift]) -> str:
    return f"{what}: {sentences.listed(sentences.drifted_names(drift))}"
