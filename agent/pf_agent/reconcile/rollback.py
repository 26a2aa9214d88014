"""Postfix does not come up: revert the wish that is to blame, or whatever else keeps it down.

A wish goes back to the state that Postfix was last seen to serve with, and nothing else changes.
What is desired under an unchanged state is never reverted: if Postfix is down all the same, other
parameters go back, first those that its log names, then all that differ from the text that it last
served with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from pf_agent import names
from pf_agent.errors import HostError
from pf_agent.maincf import service_parts
from pf_agent.maincf.grammar import Document, grammar_of
from pf_agent.maincf.mentions import mentioned as named_in
from pf_agent.model import (
    ActualState,
    DesiredState,
    DocumentKind,
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

# In the sentence of a rollback: a person wrote these, so there are seldom more.
_MOST_SHOWN = 20
_FATAL = ("fatal: ", "panic: ", "error: ")  # msg(3)
_SYSTEMD = "systemd: "
_STARTING = f"{_SYSTEMD}Starting "

_Sentence = Callable[[Wishes, DesiredState, Sequence[str]], str]


@dataclass(frozen=True)
class Rollback:
    """What a rollback works with: main.cf, the state on disk, and what was seen of Postfix."""

    host: Host
    policy: Policy
    store: Store
    emit: Emit
    not_up: NotUp

    def take_back(self, missing: Sequence[str] = ()) -> bool:
        """Reject what was asked for since Postfix last served; False if that is impossible.

        `missing` are the files and addresses that it lacks. To be called under the agent's lock.
        Raises HostError.
        """
        return self._take_back(missing, self._rejected_sentence)

    def take_back_with_another(self) -> bool:
        """Do the same for a wish not yet served when another wish was refused.

        No start failed because of it. It is asked for again with the next state that is not
        refused.
        """
        return self._take_back((), self._beside_sentence)

    def _take_back(self, missing: Sequence[str], sentence: _Sentence) -> bool:
        wishes = self.store.wishes()
        applied = wishes.applied
        if applied is None or (applied.says_the_same(wishes.served) and not is_cut_off(wishes)):
            return False
        kept = wishes.rejected if is_cut_off(wishes) else None
        if kept is None:
            asked = applied.parameters()
            changed = tuple(sorted(wishes.before, key=lambda name: (name not in asked, name)))
            changed = changed[: sentences.MOST_NAMES]
            reason = sentence(wishes, applied, changed)
            kept = Rejected(applied, reason, changed, tuple(missing))
        with self.host.locked():
            actual = self._tried()
            if actual is None or actual.text is None:
                return False
            text = taken_back(applied.kind, actual.text, wishes)
            if text == actual.text and is_cut_off(wishes):
                self.store.keep_wishes(rejected(wishes, kept))
                return True
            if text == actual.text or self.policy.judge(text).fatal:
                return False
            # First of all: after a crash from here on, a look reverts the rest.
            self.store.keep_wishes(replace(wishes, rejected=kept))
            if not self._swap(actual, text, kept.parameters, kept.reason):
                self.store.keep_wishes(wishes)
                return False
            self.store.keep_wishes(rejected(wishes, kept))
            return True

    def withdraw(self, desired: DesiredState) -> None:
        """Revert what a wish changed that was never served and is no longer asked for.

        Left in place, nothing would manage it, and it may keep Postfix from serving. To be called
        under the agent's lock. Raises HostError.
        """
        wishes = self.store.wishes()
        gone = withdrawn(wishes, desired)
        if not gone:
            return
        with self.host.locked():
            actual = self.host.read()
            if actual.text is not None:
                back = sorted(untouched(desired.kind, wishes, gone, actual.text))
                text = put_back(desired.kind, actual.text, {n: gone[n] for n in back})
                is_usable = text != actual.text and not self.policy.judge(text).fatal
                what = "no longer asked for before Postfix had served with it"
                what = f"{what}: {sentences.listed(back, _MOST_SHOWN)}"
                if is_usable and not self._swap(actual, text, back, what):
                    return
            rest = {name: lines for name, lines in wishes.before.items() if name not in gone}
            self.store.keep_wishes(replace(wishes, before=rest))

    def rescue(self) -> bool:
        """Revert what keeps Postfix down and is not desired; False if there is nothing.

        To be called under the agent's lock. Raises HostError.
        """
        served, desired = self.store.ran_with(), self.store.wishes().applied
        served = served or self.store.last_good()
        if served is None or desired is None:
            return False
        with self.host.locked():
            actual = self._tried()
            if actual is None or actual.text is None:
                return False
            grammar = grammar_of(desired.kind)
            said = grammar.parse(served)
            for suspects in self._suspects(actual.text, said, desired):
                before = {name: said.lines_of(name) for name in suspects}
                back = grammar.parse(put_back(desired.kind, actual.text, before))
                text = corrected(back, desired).render()
                if text != actual.text and not self.policy.judge(text).fatal:
                    # A wish beside it has not been tried by itself yet: it may be to blame as well.
                    marker = self.store.pending()
                    wished = () if marker is None else marker.wished
                    sentence = self._rescued_sentence(suspects)
                    return self._swap(actual, text, suspects, sentence, wished)
        return False

    def _suspects(
        self, text: bytes, served: Document, desired: DesiredState
    ) -> Sequence[tuple[str, ...]]:
        """Return what may keep Postfix down: what its log names, then all that is not desired."""
        now = grammar_of(desired.kind).parse(text).parameters()
        before = served.parameters()
        others = {name: now.get(name) for name in now.keys() | before.keys()}
        differs = {name for name in others if others[name] != before.get(name)}
        changed: Mapping[str, str] = {
            name: others[name] or ""
            for name in differs - desired.parameters()
            if not _whole(name) & differs  # a service goes back with its parts
        }
        said = (self.not_up.reason, *self.not_up.fatal)
        blamed = {name for line in said for name in named_in(line, changed)}
        return [found for found in (tuple(sorted(blamed)), tuple(sorted(changed))) if found]

    def _tried(self) -> ActualState | None:
        """Return main.cf if it is still what was tried; a changed one has its own start to come."""
        actual, marker = self.host.read(), self.store.pending()
        cycle = None if marker is None else marker.cycle
        tried_in = None if self.not_up.pending is None else self.not_up.pending.cycle
        return actual if cycle == tried_in and actual.text == self.not_up.tried else None

    def _kind(self) -> DocumentKind:
        applied = self.store.wishes().applied
        return DocumentKind.MAIN_CF if applied is None else applied.kind

    def _swap(
        self,
        actual: ActualState,
        text: bytes,
        changed: Sequence[str],
        reason: str,
        wished: tuple[str, ...] = (),
    ) -> bool:
        """Put `text` in place, with a marker that has Postfix started with it."""
        changed = changed[: sentences.MOST_NAMES]
        marker = self.store.pending()
        number, now = self.store.next_cycle(), self.policy.clock()
        exposure = Exposure(now, now) if marker is None else marker.exposure
        exposure = replace(exposure, corrected_at=None)
        found = PendingActivation(number, (*changed, *wished), exposure, True, wished=wished)
        self.store.mark_pending(found)
        swap = Swap(self.host, self.store, number)
        if not swap.put_unless_overtaken(actual, text):
            self.store.mark_pending(replace(marker or found, cycle=number))
            return False
        with suppress(HostError):  # it is reported whatever else fails
            # Not earlier: what was started while it was written may run with the old text.
            at = self.policy.clock()
            self.store.mark_pending(replace(found, exposure=replace(exposure, corrected_at=at)))
        fields = {
            names.FIELD_REASON: self.not_up.reason,
            names.FIELD_LOG: "\n".join(self.not_up.log),
            names.FIELD_DIFF: unified_diff(actual.text, text, self.host.path, self._kind()),
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
        instead = "the previous state is in force again"
        if wishes.served is None:
            instead = f"{applied.kind.value} is as it was before, and is only watched"
        return (
            f"Postfix did not come up with the new desired state, so it is rejected and {instead}:"
            f" {_asked(applied, changed)}: {self._why()}; fix it; it is tried again"
            " when it changes, or by `pf-agent apply`"
        )

    def _beside_sentence(
        self, _wishes: Wishes, applied: DesiredState, changed: Sequence[str]
    ) -> str:
        return (
            f"put back: {_asked(applied, changed)}: Postfix was not yet seen to serve with it when"
            " something else that is desired was refused; both are tried again once that is fixed:"
            f" {self.not_up.reason}"
        )

    def _rescued_sentence(self, changed: Sequence[str]) -> str:
        return (
            f"Postfix was down, so unmanaged settings that it had not served with before"
            f" were put back: {sentences.listed(changed)}: {self._why()}; what was replaced is kept"
        )

    def _why(self) -> str:
        """Say what happened, in Postfix's words if it logged any."""
        log = _of_the_start(self.not_up.log)
        ended = [line for line in log if any(word in line for word in _FATAL)]
        warnings = [line for line in log if "warning: " in line]
        theirs = [line for line in log if not line.startswith(_SYSTEMD)]
        # The first fatal line is the cause, those after it are consequences.
        telling = ended[:1] or warnings[-1:] or theirs[-1:] or log[-1:]
        return "; ".join((self.not_up.reason, *telling))


def _whole(name: str) -> set[str]:
    """Return the service of master.cf that this is a part of; no parameter's name has a `/`."""
    service, part = service_parts.taken_apart(name)
    return {service} if part else set()


def _asked(applied: DesiredState, changed: Sequence[str]) -> str:
    places = applied.provenance
    asked = [f"{name} ({places[name]})" if name in places else name for name in changed]
    return sentences.listed(asked, _MOST_SHOWN)


def _of_the_start(log: Sequence[str]) -> Sequence[str]:
    """Return the lines from the last start that logged anything; a stop's lines are no cause."""
    last = max((row for row, line in enumerate(log) if not line.startswith(_SYSTEMD)), default=0)
    starts = [row for row, line in enumerate(log[:last]) if line.startswith(_STARTING)]
    return log[starts[-1] :] if starts else log
