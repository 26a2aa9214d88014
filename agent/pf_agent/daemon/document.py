"""One document beside main.cf: looked at, corrected, and in use once it is seen to be.

A table has no activation of its own: its index is rebuilt when its source has changed (tables.py),
and Postfix's processes notice that by themselves. With master.cf Postfix must be started, and seen
to serve, as with main.cf.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pf_agent.daemon.telling import emit_of_document
from pf_agent.daemon.trials import Trials
from pf_agent.files.exchange import MainCfFile
from pf_agent.files.other_documents import OtherDocument, document_on_disk, note_settings
from pf_agent.files.store import FileStore
from pf_agent.maincf.aliases import BUILT
from pf_agent.maincf.indexed import Draft, Table
from pf_agent.model import (
    ActualState,
    Attributes,
    DesiredState,
    DocumentKind,
    Emit,
    Judgement,
    Outcome,
    PendingActivation,
    Result,
)
from pf_agent.reconcile.drift import corrected, find_drift, taken_apart
from pf_agent.reconcile.in_force import InForce
from pf_agent.reconcile.plan import plan
from pf_agent.reconcile.ports import Policy

# postmap(1) builds no table of the type texthash, and reads its source as that of any other.
_INSTEAD: Final = "hash"


class Tries(Protocol):
    """Postfix's programs, in the daemon's way or in that of `apply`."""

    def try_source(self, table: Table, text: bytes) -> Draft: ...
    def judge_services(self, text: bytes, served: Sequence[bytes]) -> Judgement: ...
    def is_there(self, thing: str) -> bool: ...


@dataclass(frozen=True)
class Document:
    """What manages one document. `wanted` is what the files ask for, by main.cf as it is.

    `problems` says what of it cannot be: then it is not in force.
    """

    wanted: DesiredState
    problems: tuple[str, ...]
    host: MainCfFile
    state: FileStore
    judge: Trials
    in_force: InForce
    attributes: Attributes | None

    def cycle(self, policy: Policy, last: Outcome | None, actual: ActualState) -> Outcome:
        """Run one cycle with what is in force. Raises HostError."""
        with self.state.lock():
            asked = self.asked or self.in_force_now()
            if asked is None:
                return Outcome(Result.REJECTED, "; ".join(self.problems))
            outcome = self.in_force.cycle(asked, policy, last, actual)
        is_right = outcome.result in (Result.IN_SYNC, Result.CORRECTED)
        if is_right and not policy.observe_only and not self.is_started:
            self._note_in_use()
        elif outcome.result is Result.IN_SYNC and not policy.observe_only:
            self._keep_if_good(actual.text)
        return outcome

    def _keep_if_good(self, text: bytes | None) -> None:
        """Keep it in case it is destroyed, with what others have written since the last start."""
        if text is None or text == self.state.last_good() or self.state.pending() is not None:
            return
        said = self.judge(text)
        if not said.fatal and not said.faults:
            self.state.keep_last_good(text)

    @property
    def name(self) -> str:
        """Its name in the desired state."""
        return self.wanted.document

    @property
    def asked(self) -> DesiredState | None:
        """What is to be in force; None: what the files ask for cannot be."""
        return None if self.problems else self.wanted

    def in_force_now(self) -> DesiredState | None:
        """Return what is enforced; None if nothing is. Raises HostError."""
        found = self.in_force.desired(self.asked)
        return found and found.as_of(self.wanted)

    @property
    def is_started(self) -> bool:
        """Whether Postfix must be started to use it."""
        return self.wanted.kind is DocumentKind.MASTER_CF

    def note_served(self, began_at: float) -> None:
        """Note that Postfix, started at that time, serves with it. Raises HostError.

        Not if it was written since: what Postfix would be with that is not known yet.
        """
        actual = self.host.read()
        if actual.text is not None and actual.written_at <= began_at:
            self._note_used(actual.text, self._is_right(actual))

    def _is_right(self, actual: ActualState) -> bool:
        desired = self.in_force_now()
        if desired is None or not desired.says_the_same(self.state.wishes().applied):
            return False
        return not self._drifts(desired, actual)

    def _drifts(self, desired: DesiredState, actual: ActualState) -> bool:
        return bool(plan(self.host, desired, actual, self.state.last_good()).drift)

    def to_be_started(self) -> PendingActivation | None:
        """Return the marker of what Postfix is to be started for; None if there is nothing.

        Nor while the file drifts: it may be that it could not be corrected, and master would read
        it at the next start or reload. Raises HostError.
        """
        pending = self.state.pending()
        if pending is None or pending.rolled_back:
            return pending
        desired = self.in_force_now()
        if desired is not None and self._drifts(desired, self.host.read()):
            return None
        return pending

    def _note_used(self, text: bytes | None, is_good: bool) -> None:
        pending = self.state.pending()
        cycle = None if pending is None else pending.cycle
        self.state.note_served(cycle, text, is_started=True, is_good=is_good)

    def would_say(self, actual: ActualState) -> bytes:
        """Return the text that would be right. Raises HostError."""
        desired = self.in_force_now()
        if desired is None:
            return actual.text or b""
        return plan(self.host, desired, actual, self.state.last_good()).candidate

    def _note_in_use(self) -> None:
        """Note that what is there is in use, unless it was written again, which is seen next."""
        actual, desired = self.host.read(), self.in_force_now()
        if desired is None or actual.text is None or actual.is_open:
            return
        is_known = self.state.pending() is None and actual.text == self.state.last_good()
        if is_known or not find_drift(desired, actual, attributes=None):
            self._note_used(actual.text, is_good=True)

    def is_as(self, other: Document) -> bool:
        """Whether the other one would manage the same file in the same way."""
        ours, theirs = (self.wanted, self.problems), (other.wanted, other.problems)
        is_file = (self.host.path, self.attributes) == (other.host.path, other.attributes)
        return ours == theirs and is_file

    def trouble(self, outcome: Outcome) -> str:
        """Return why it is not as desired after a cycle; "" if it is."""
        rejected = None if self.asked is None else self.in_force.rejected(self.asked)
        if rejected is not None:
            return rejected.reason
        if outcome.result is Result.CORRECTED:
            return "; ".join(self.problems)
        return "; ".join(self.problems) or outcome.summary.removeprefix("but ")


@dataclass(frozen=True)
class Owner:
    """The instance that documents belong to: its main.cf, its state, and Postfix's programs.

    `ended` is called, in another thread, once a text was tried that `Document.judge` did not know.
    """

    main_cf: str
    state: FileStore
    postfix: Tries
    emit: Emit
    ended: Callable[[], None] = lambda: None


def texts_of(text: bytes | None, desired: DesiredState | None) -> tuple[bytes, ...]:
    """Return main.cf's text and what that is about to be, by what is in force."""
    if not text or desired is None:
        return (text or b"",)
    return text, corrected(taken_apart(DocumentKind.MAIN_CF, text), desired).render()


def document_of(
    name: str,
    desired: DesiredState,
    owner: Owner,
    texts: Sequence[bytes],
    before: Attributes | None = None,
) -> Document:
    """Return what manages the document `name` of an instance, by the `texts` of its main.cf.

    These and `before` are as in `document_on_disk`. Raises ConfigError if others than root could
    change it, HostError, and OSError.
    """
    found = document_on_disk(name, desired, owner.main_cf, texts, before)
    state, postfix, emit = owner.state, owner.postfix, owner.emit
    kept = state.of_document(name, found.note)
    in_force = InForce(found.host, kept, emit_of_document(name, emit), postfix.is_there)
    if found.desired.is_secret:
        note_settings(kept.wishes())
    judge = Trials(tries_of(found, postfix, lambda: may_run(kept)), owner.ended)
    ours = (found.host, kept, judge, in_force, found.attributes)
    return Document(found.desired, found.problems, *ours)


def tries_of(
    found: OtherDocument, postfix: Tries, served: Callable[[], Sequence[bytes]]
) -> Callable[[bytes], Judgement]:
    """Return what has Postfix's programs try a text of the document.

    `served` returns the texts that Postfix may be running with.
    """
    if found.desired.kind is DocumentKind.MASTER_CF:
        return lambda text: postfix.judge_services(text, served())
    kind, _, path = found.desired.document.partition(":")
    is_of_aliases = found.desired.kind is DocumentKind.ALIASES
    table = Table(kind if kind in BUILT else _INSTEAD, path, is_of_aliases)

    def ask(text: bytes) -> Judgement:
        draft = postfix.try_source(table, text)
        return Judgement(fatal=draft.trouble, warnings=draft.remarks)

    return ask


def may_run(state: FileStore) -> tuple[bytes, ...]:
    """Return the texts of the document that Postfix may be running with. Raises HostError."""
    return tuple(text for text in (state.last_good(), state.ran_with()) if text is not None)
