"""One document beside main.cf: looked at and corrected, without any activation of its own.

Its index is rebuilt when its source has changed (tables.py), and Postfix's processes notice that by
themselves: there is nothing to restart, and no start that could fail because of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pf_agent.daemon.telling import emit_of_document
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
    Result,
)
from pf_agent.reconcile.drift import corrected, find_drift, taken_apart
from pf_agent.reconcile.in_force import InForce
from pf_agent.reconcile.judge import Judge
from pf_agent.reconcile.ports import Policy

# postmap(1) builds no table of the type texthash, and reads its source as that of any other.
_INSTEAD: Final = "hash"


class Tries(Protocol):
    """Postfix's programs, in the daemon's way or in that of `apply`."""

    def try_source(self, table: Table, text: bytes) -> Draft: ...
    def is_there(self, thing: str) -> bool: ...


@dataclass(frozen=True)
class Document:
    """What manages one document. `asked` is what the files ask for, by main.cf as it is.

    None: they ask for what cannot be, as `problems` says.
    """

    asked: DesiredState | None
    problems: tuple[str, ...]
    host: MainCfFile
    state: FileStore
    judge: Judge
    in_force: InForce
    attributes: Attributes | None

    def cycle(self, policy: Policy, last: Outcome | None, actual: ActualState) -> Outcome:
        """Run one cycle with what is in force; once it is right, it is in use. Raises HostError."""
        with self.state.lock():
            asked = self.asked or self.in_force.desired(None)
            if asked is None:
                return Outcome(Result.REJECTED, "; ".join(self.problems))
            outcome = self.in_force.cycle(asked, policy, last, actual)
        if outcome.result in (Result.IN_SYNC, Result.CORRECTED) and not policy.observe_only:
            self._note_in_use(asked)
        return outcome

    def _note_in_use(self, asked: DesiredState) -> None:
        """Note that what is there is in use, unless it was written again, which is seen next."""
        actual, pending = self.host.read(), self.state.pending()
        desired = self.in_force.desired(asked)
        is_known = pending is None and actual.text == self.state.last_good()
        if desired is None or actual.text is None or actual.is_open:
            return
        if is_known or not find_drift(desired, actual, attributes=None):
            cycle = None if pending is None else pending.cycle
            self.state.note_served(cycle, actual.text, is_started=True, is_good=True)

    def is_as(self, other: Document) -> bool:
        """Whether the other one would manage the same file in the same way."""
        ours, theirs = (self.asked, self.problems), (other.asked, other.problems)
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
    """The instance that documents belong to: its main.cf, its state, and Postfix's programs."""

    main_cf: str
    state: FileStore
    postfix: Tries
    emit: Emit


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
    asked = None if found.problems else found.desired
    judge = judge_of(found, postfix)
    return Document(asked, found.problems, found.host, kept, judge, in_force, found.attributes)


def judge_of(found: OtherDocument, postfix: Tries) -> Judge:
    """Return what has Postfix's programs try a text of the document."""
    kind, _, path = found.desired.document.partition(":")
    is_of_aliases = found.desired.kind is DocumentKind.ALIASES
    table = Table(kind if kind in BUILT else _INSTEAD, path, is_of_aliases)

    def ask(text: bytes) -> Judgement:
        draft = postfix.try_source(table, text)
        return Judgement(fatal=draft.trouble, warnings=draft.remarks)

    return Judge(ask, found.desired.kind)
