"""One document beside main.cf: looked at, corrected, and in use once it is seen to be.

A table has no activation of its own: its index is rebuilt when its source has changed (tables.py),
and Postfix's processes notice that by themselves. With master.cf Postfix must be started, and seen
to serve, as with main.cf.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
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
    DesiredState,
    DocumentKind,
    Emit,
    Judgement,
    Outcome,
    Result,
)
from pf_agent.reconcile.in_force import InForce
from pf_agent.reconcile.plan import plan
from pf_agent.reconcile.ports import Policy

# postmap(1) builds no table of the type texthash, and reads its source as that of any other.
_INSTEAD: Final = "hash"


class Tries(Protocol):
    """Postfix's programs, in the daemon's way or in that of `apply`."""

    def try_source(self, table: Table, text: bytes) -> Draft: ...
    def judge_services(self, text: bytes) -> Judgement: ...
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

    def cycle(self, policy: Policy, last: Outcome | None, actual: ActualState) -> Outcome:
        """Run one cycle with what is in force. Raises HostError."""
        with self.state.lock():
            asked = self.asked or self.in_force_now()
            if asked is None:
                return Outcome(Result.REJECTED, "; ".join(self.problems))
            outcome = self.in_force.cycle(asked, policy, last, actual)
        is_right = outcome.result in (Result.IN_SYNC, Result.CORRECTED)
        if is_right and not policy.observe_only and not self.is_started:
            self._note_used(self.host.read().text, is_good=True)
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
        found, wanted = self.in_force.desired(self.asked), self.wanted
        # Which document it is for is not kept with it.
        return found and replace(found, document=self.name, is_secret=wanted.is_secret)

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
        return not plan(self.host, desired, actual, self.state.last_good()).drift

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

    def is_as(self, other: Document) -> bool:
        """Whether the other one would manage the same file in the same way."""
        ours, theirs = (self.wanted, self.problems), (other.wanted, other.problems)
        return ours == theirs and self.host.path == other.host.path

    def trouble(self, outcome: Outcome) -> str:
        """Return why it is not as desired after a cycle; "" if it is."""
        rejected = None if self.asked is None else self.in_force.rejected(self.asked)
        if rejected is not None:
            return rejected.reason
        if outcome.result in (Result.IN_SYNC, Result.CORRECTED):
            return "; ".join(self.problems)
        return outcome.summary


def document_of(
    name: str,
    desired: DesiredState,
    host: MainCfFile,
    state: FileStore,
    postfix: Tries,
    emit: Emit,
    ended: Callable[[], None] = lambda: None,
) -> Document:
    """Return what manages the document `name` of the instance with this main.cf and state.

    `ended` is called, in another thread, once a text was tried that `judge` did not know.
    Raises ConfigError if others than root could change it, and OSError.
    """
    found = document_on_disk(name, desired, host.path)
    kept = state.of_document(name, found.note)
    in_force = InForce(found.host, kept, emit_of_document(name, emit), postfix.is_there)
    if found.desired.is_secret:
        note_settings(kept.wishes())
    judge = Trials(tries_of(found, postfix), ended)
    return Document(found.desired, found.problems, found.host, kept, judge, in_force)


def tries_of(found: OtherDocument, postfix: Tries) -> Callable[[bytes], Judgement]:
    """Return what has Postfix's programs try a text of the document."""
    if found.desired.kind is DocumentKind.MASTER_CF:
        return postfix.judge_services
    kind, _, path = found.desired.document.partition(":")
    is_of_aliases = found.desired.kind is DocumentKind.ALIASES
    table = Table(kind if kind in BUILT else _INSTEAD, path, is_of_aliases)

    def ask(text: bytes) -> Judgement:
        draft = postfix.try_source(table, text)
        return Judgement(fatal=draft.trouble, warnings=draft.remarks)

    return ask
