"""Postfix does not come up: take back the wish that is to blame, or what else keeps it down.

A wish goes back to the state that Postfix was last seen to serve with, and nothing else changes.
What is desired under an unchanged state is never undone: where Postfix is down all the same, it is
other parameters that go back, those that its log names, else all that differ from the text that it
last served with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pf_agent import names
from pf_agent.maincf.document import MainCf
from pf_agent.maincf.mentions import mentioned as named_in
from pf_agent.model import (
    ActualState,
    DesiredState,
    Emit,
    Event,
    Exposure,
    NotUp,
    PendingActivation,
    Record,
    Rejected,
    Wishes,
)
from pf_agent.reconcile.drift import corrected
from pf_agent.reconcile.ports import Host, Policy, Store
from pf_agent.reconcile.swap import Swap
from pf_agent.reconcile.wishes import (
    is_cut_off,
    put_back,
    rejected,
    taken_back,
    untouched,
    withdrawn,
)
from pf_agent.words import sentences
from pf_agent.words.diffs import unified_diff

# In the sentence of a rollback: a person has written them, seldom more.
_MOST_SHOWN = 20
_FATAL = ("fatal: ", "panic: ", "error: ")  # msg(3)
_SYSTEMD = "systemd: "
_STARTING = f"{_SYSTEMD}Starting "


@dataclass(frozen=True)
class Rollback:
    """What a rollback works with: main.cf, what is kept, and what was seen of Postfix."""

    host: Host
    policy: Policy
    store: Store
    emit: Emit
    not_up: NotUp

    def take_back(self, missing: Sequence[str] = ()) -> bool:
        """Reject what was asked for since Postfix last served; False where that cannot be.

        `missing` are the files and addresses that are not there for it. Call it under the agent's
        lock. Raises HostError.
        """
        wishes = self.store.wishes()
        applied = wishes.applied
        if applied is None or (applied.says_the_same(wishes.served) and not is_cut_off(wishes)):
            return False
        kept = wishes.rejected if is_cut_off(wishes) else None
        if kept is None:
            asked = applied.parameters()
            changed = tuple(sorted(wishes.before, key=lambda name: (name not in asked, name)))
            changed = changed[: sentences.MOST_NAMES]
            reason = self._rejected_sentence(wishes, applied, changed)
            kept = Rejected(applied, reason, changed, tuple(missing))
        with self.host.locked():
            actual = self._tried()
            if actual is None or actual.text is None:
                return False
            text = taken_back(actual.text, wishes)
            if text == actual.text and is_cut_off(wishes):
                self.store.keep_wishes(rejected(wishes, kept))
                return True
            if text == actual.text or self.policy.judge(text).fatal:
                return False
            # First: a crash from here on leaves a look that takes back what has not gone back.
            self.store.keep_wishes(replace(wishes, rejected=kept))
            if not self._swap(actual, text, kept.parameters, kept.reason):
                self.store.keep_wishes(wishes)
                return False
            self.store.keep_wishes(rejected(wishes, kept))
            return True

    def withdraw(self, desired: DesiredState) -> None:
        """Take back what a wish has changed that was never served with, and is asked for no more.

        Left there, nobody would look after it, and Postfix may not serve for it. Call it under the
        agent's lock. Raises HostError.
        """
        wishes = self.store.wishes()
        gone = withdrawn(wishes, desired)
        if not gone:
            return
        with self.host.locked():
            actual = self.host.read()
            if actual.text is not None:
                back = sorted(untouched(wishes, gone, actual.text))
                text = put_back(actual.text, {name: gone[name] for name in back})
                is_usable = text != actual.text and not self.policy.judge(text).fatal
                what = "asked for no more before Postfix served with it"
                what = f"{what}: {sentences.listed(back, _MOST_SHOWN)}"
                if is_usable and not self._swap(actual, text, back, what):
                    return
            rest = {name: lines for name, lines in wishes.before.items() if name not in gone}
            self.store.keep_wishes(replace(wishes, before=rest))

    def rescue(self) -> bool:
        """Take back what keeps Postfix down and is not desired; False where there is nothing.

        Call it under the agent's lock. Raises HostError.
        """
        served, desired = self.store.ran_with(), self.store.wishes().applied
        served = served or self.store.last_good()
        if served is None or desired is None:
            return False
        with self.host.locked():
            actual = self._tried()
            if actual is None or actual.text is None:
                return False
            said = MainCf.parse(served)
            for suspects in self._suspects(actual.text, said, desired):
                before = {name: said.lines_of(name) for name in suspects}
                back = MainCf.parse(put_back(actual.text, before))
                text = corrected(back, desired).render()
                if text != actual.text and not self.policy.judge(text).fatal:
                    # A wish beside it was not tried by itself yet: it may be to blame as well.
                    marker = self.store.pending()
                    wished = () if marker is None else marker.wished
                    sentence = self._rescued_sentence(suspects)
                    return self._swap(actual, text, suspects, sentence, wished)
        return False

    def _suspects(
        self, text: bytes, served: MainCf, desired: DesiredState
    ) -> Sequence[tuple[str, ...]]:
        """What may keep Postfix down: what its log names, then all that nobody desires."""
        now, before = MainCf.parse(text).parameters(), served.parameters()
        others = {name: now.get(name) for name in now.keys() | before.keys()}
        changed: Mapping[str, str] = {
            name: value or ""
            for name, value in others.items()
            if value != before.get(name) and name not in desired.parameters()
        }
        said = (self.not_up.reason, *self.not_up.fatal)
        blamed = {name for line in said for name in named_in(line, changed)}
        return [found for found in (tuple(sorted(blamed)), tuple(sorted(changed))) if found]

    def _tried(self) -> ActualState | None:
        """main.cf, where it is what was tried; what has changed since has its own start to come."""
        actual, marker = self.host.read(), self.store.pending()
        cycle = None if marker is None else marker.cycle
        tried_in = None if self.not_up.pending is None else self.not_up.pending.cycle
        return actual if cycle == tried_in and actual.text == self.not_up.tried else None

    def _swap(
        self,
        actual: ActualState,
        text: bytes,
        changed: Sequence[str],
        reason: str,
        wished: tuple[str, ...] = (),
    ) -> bool:
        """Put `text` in its place, with a marker that has Postfix started with it."""
        changed = changed[: sentences.MOST_NAMES]
        marker = self.store.pending()
        number, now = self.store.next_cycle(), self.policy.clock()
        exposure = Exposure(now, now, now)
        if marker is not None:
            exposure = replace(marker.exposure, corrected_at=now)
        found = PendingActivation(number, (*changed, *wished), exposure, True, wished=wished)
        self.store.mark_pending(found)
        swap = Swap(self.host, self.store, number)
        if not swap.put_unless_overtaken(actual, text):
            self.store.mark_pending(replace(marker or found, cycle=number))
            return False
        fields = {
            names.FIELD_REASON: self.not_up.reason,
            names.FIELD_LOG: "\n".join(self.not_up.log),
            names.FIELD_DIFF: unified_diff(actual.text, text, self.host.path),
            names.FIELD_DISPLACED: "\n".join(swap.kept),
        }
        for name in changed:
            each = {names.FIELD_PARAMETER: name, names.FIELD_REASON: self.not_up.reason}
            what = f"{name} is put back to what Postfix served with"
            self.emit(Record(Event.ROLLED_BACK, what, number, each))
        self.emit(Record(Event.ROLLED_BACK, reason, number, fields))
        return True

    def _rejected_sentence(
        self, wishes: Wishes, applied: DesiredState, changed: Sequence[str]
    ) -> str:
        instead = "the state before is in force again"
        if wishes.served is None:
            instead = "main.cf is as it was before, and is only watched"
        places = applied.provenance
        asked = [f"{name} ({places[name]})" if name in places else name for name in changed]
        return (
            f"Postfix did not come up with what is newly desired, so it is rejected and {instead}:"
            f" {sentences.listed(asked, _MOST_SHOWN)}: {self._why()}; mend it, it is tried again"
            " when it changes, or by `pf-agent apply`"
        )

    def _rescued_sentence(self, changed: Sequence[str]) -> str:
        return (
            f"Postfix was down, so what nobody desires and it did not serve with before was put"
            f" back: {sentences.listed(changed)}: {self._why()}; what was replaced is kept"
        )

    def _why(self) -> str:
        """What happened, in Postfix's words as far as it said any."""
        log = _of_the_start(self.not_up.log)
        ended = [line for line in log if any(word in line for word in _FATAL)]
        warnings = [line for line in log if "warning: " in line]
        theirs = [line for line in log if not line.startswith(_SYSTEMD)]
        # The first fatal line is the cause, those after it are what came of it.
        telling = ended[:1] or warnings[-1:] or theirs[-1:] or log[-1:]
        return "; ".join((self.not_up.reason, *telling))


def _of_the_start(log: Sequence[str]) -> Sequence[str]:
    """The lines from the last start on that had something to say: the stop's are not the cause."""
    last = max((row for row, line in enumerate(log) if not line.startswith(_SYSTEMD)), default=0)
    starts = [row for row, line in enumerate(log[:last]) if line.startswith(_STARTING)]
    return log[starts[-1] :] if starts else log
