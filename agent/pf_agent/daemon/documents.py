"""The documents of one instance beside its main.cf, each looked at when there is a reason to.

Each fails and recovers by itself: none holds up main.cf, nor another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Final

from pf_agent import names
from pf_agent.activation.pacing import Backoff
from pf_agent.daemon.document import Document, Owner, document_of, texts_of
from pf_agent.daemon.saving import Saving
from pf_agent.daemon.shared import Shared
from pf_agent.daemon.telling import emit_of_document
from pf_agent.errors import HostError, PfAgentError
from pf_agent.files.exchange import MainCfFile
from pf_agent.files.linux import stamp
from pf_agent.files.other_documents import path_of
from pf_agent.files.store import FileStore
from pf_agent.model import (
    Attributes,
    DesiredState,
    Emit,
    Event,
    Outcome,
    Reason,
    Record,
    Result,
    Stamp,
    Trigger,
    Wishes,
)
from pf_agent.postfix.errands import Errands
from pf_agent.reconcile.plan import CorrectionFailed
from pf_agent.reconcile.ports import Policy

_LOOKS: Final = frozenset(
    {Reason.START, Reason.TIMER, Reason.RELOAD, Reason.CONFIGURATION, Reason.DOCUMENT}
)
_RETRIES: Final = frozenset({Reason.TIMER, Reason.RELOAD})
# Until the first look is done: if the agent ended before, what is desired would not be remembered.
_UNTRIED: Final = "Postfix's programs have yet to try it"
_AGAIN_SECONDS: Final = 0.05
_AWAITED_SECONDS: Final = 0.5
# So many corrections within so many seconds are a contest; from then on they are spaced.
_MOST_CORRECTIONS: Final = 20
_CONTEST_SECONDS: Final = 30.0
_APART_SECONDS: Final = 1.0
_CONTESTED_WAY: Final = "once a second until that ends; `pf-agent history` says what writes it"


class Documents:
    """Those of the instance `name`, whose main.cf is `host`; `note` gets what was corrected."""

    def __init__(
        self,
        name: str,
        host: MainCfFile,
        state: FileStore,
        postfix: Errands,
        emit: Emit,
        shared: Shared,
        note: Callable[[Outcome], None],
    ) -> None:
        self._name = name
        self._shared = shared
        self._note = note
        self._host = host
        self._owner = Owner(host.path, state, postfix, emit, self._tried)
        self._documents: dict[str, _Followed] = {}
        self._watched: tuple[str, ...] = ()
        self._main_cfs: tuple[bytes, ...] = ()
        self._known: tuple[bytes | None, DesiredState | None] | None = None
        self._is_begun = False

    def _tried(self) -> None:
        self._shared.post(Trigger(Reason.DOCUMENT, "a text was tried", self._name))

    def _taken_up(self, name: str) -> _Followed:
        def found(desired: DesiredState, before: Attributes | None) -> Document:
            return document_of(name, desired, self._owner, self._main_cfs, before)

        emit = emit_of_document(name, self._owner.emit)
        return _Followed(self._name, emit, self._shared, found, self._note)

    def troubles(self) -> Mapping[str, str]:
        """Return for each document why it is not as desired, "" if it is."""
        return {name: document.trouble for name, document in self._documents.items()}

    def awaits(self, path: str) -> bool:
        """Whether the file at `path` is to be compared first: it may be about to be corrected."""
        followed = (d for name, d in self._documents.items() if self._path_of(name) == path)
        return any(d.is_behind() for d in followed)

    def _path_of(self, name: str) -> str:
        return path_of(name, self._host.path)

    def patience(self) -> float | None:
        """Seconds until one is due without any trigger; None: when a trigger says so."""
        due = [d.next_look for d in self._documents.values() if d.next_look is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def started(self) -> tuple[Document, ...]:
        """Return those for which Postfix must be started, as the last look found them."""
        found = (followed.document for followed in self._documents.values())
        return tuple(each for each in found if each is not None and each.is_started)

    def turn(
        self,
        reasons: set[Reason],
        settled: bytes | None,
        in_force: Callable[[], DesiredState | None],
    ) -> None:
        """Look at each that there is a reason to look at.

        `settled` is the last main.cf that was in sync or only observed, None if there was none yet;
        `in_force` returns what it must say. Raises HostError.
        """
        asked = self._shared.asked(self._name)
        wanted = {} if asked is None else dict(asked.documents)
        if asked is not None and not self._is_begun:
            self._forget_others(wanted)
        if not wanted and not self._documents:
            return
        # Of a main.cf that drifts, a file of aliases could be taken for a table.
        text = self._host.read().text if settled is None else settled
        is_to_look = self._is_other_main_cf(text, in_force()) or bool(reasons & _LOOKS)
        for name in self._documents.keys() - wanted.keys():
            rest = self._documents[name].rest()
            if rest is None:
                self._documents.pop(name).leave()
            else:
                wanted[name] = rest
        new = wanted.keys() - self._documents.keys()
        self._documents |= {name: self._taken_up(name) for name in wanted if name in new}
        for name, document in self._documents.items():
            if name in new or is_to_look or document.is_due():
                document.look(wanted[name], bool(reasons & _RETRIES))

    def follow(self) -> None:
        """Watch them from now on; what changed before that is seen by one more look."""
        paths = tuple(map(self._path_of, self._documents))
        if paths != self._watched:
            self._watched = paths
            self._shared.watch.follow_documents(self._name, paths)
            self._shared.post(Trigger(Reason.DOCUMENT, "now watched", self._name))

    def _is_other_main_cf(self, text: bytes | None, in_force: DesiredState | None) -> bool:
        """Follow main.cf, which decides what is a table of passwords, or of aliases.

        Not each look at it is one at all tables, which may be large.
        """
        before = self._main_cfs
        if self._known != (text, in_force):
            self._main_cfs, self._known = texts_of(text, in_force), (text, in_force)
        return self._main_cfs != before

    def _forget_others(self, wanted: Collection[str]) -> None:
        """Forget what was desired of those that are managed no more since before the start."""
        state = self._owner.state
        self._is_begun = True
        for name in set(state.documents()).difference(wanted):
            kept = state.of_document(name, lambda _text: None)
            try:
                kept.prepare()
                with kept.lock():
                    kept.keep_wishes(Wishes())
            except HostError as error:
                self._shared.journal.note(str(error))

    def leave(self) -> None:
        """Stop managing any."""
        for document in self._documents.values():
            document.leave()
        self._documents = {}


class _Followed:
    """One document, and what came of the last look at it."""

    def __init__(
        self,
        instance: str,
        emit: Emit,
        shared: Shared,
        found: Callable[[DesiredState, Attributes | None], Document],
        note: Callable[[Outcome], None],
    ) -> None:
        self._instance = instance
        self._note = note
        self._emit = emit
        self._shared = shared
        self._find = found
        self.document: Document | None = None
        self._attributes: Attributes | None = None
        self._outcome: Outcome | None = None
        self._in_sync_at: float | None = None
        self._seen: Stamp | None = None  # the file at the last look that came to a decision
        self._is_tidied = False  # of what a crash has left in its store
        self._saving = Saving()
        self._corrected: list[float] = []  # when, of late
        self._is_contested = False
        self._backoff = Backoff()
        self.trouble = _UNTRIED
        self.path = ""
        self.next_look: float | None = None

    def is_behind(self) -> bool:
        """Whether the file is not the one that the last decision was about."""
        return self._seen != stamp(self.path)

    def is_due(self) -> bool:
        """Whether the time of a look has come."""
        return self.next_look is not None and time.monotonic() >= self.next_look

    def look(self, desired: DesiredState, again: bool) -> None:
        """Look once, and correct what drifted. Never raises, but for an error of ours.

        `again`: what was refused is tried once more.
        """
        self.next_look = None
        contested = self._contested()
        if contested and time.monotonic() < self._corrected[-1] + _APART_SECONDS:
            self.trouble, self.next_look = contested, self._corrected[-1] + _APART_SECONDS
            return
        try:
            trouble = self._look(desired, again)
            self._backoff.reset()
        except CorrectionFailed as error:
            self._outcome = error.outcome
            trouble = self._failed(str(error))
        except PfAgentError as error:
            trouble = self._failed(str(error))
        except OSError as error:
            trouble = self._failed(f"{error.filename or self.path}: {error.strerror or error}")
        self.trouble = trouble or contested
        if contested and self.next_look is None:
            self.next_look = time.monotonic() + _CONTEST_SECONDS  # it may have ended by then

    def _contested(self) -> str:
        """Return why its corrections are spaced; "" if they are not.

        For each one the index is built anew, so that more of them would help nobody.
        """
        now = time.monotonic()
        self._corrected = [at for at in self._corrected if at > now - _CONTEST_SECONDS]
        if len(self._corrected) < _MOST_CORRECTIONS:
            self._is_contested = False
            return ""
        told = f"another program keeps changing it, and it is corrected {_CONTESTED_WAY}"
        if not self._is_contested:
            self._emit(Record(Event.CONTESTED, told))
        self._is_contested = True
        return told

    def rest(self) -> DesiredState | None:
        """Return what is to be desired of it until it may be left alone; None: it may be now.

        What a wish changed that Postfix was never seen to serve with is to go back first.
        """
        document = self.document
        if document is None or not document.is_started:
            return None
        is_done = document.state.pending() is None and not document.state.wishes().before
        if is_done or self._shared.may_only_observe(self._instance):
            return None
        return replace(document.wanted, settings={}, use_default=frozenset(), provenance={})

    def leave(self) -> None:
        """Stop managing it; the file stays as it is."""
        if self.document is None:
            return
        try:
            self.document.in_force.forget()
        except HostError as error:
            self._shared.journal.note(str(error))

    def _look(self, desired: DesiredState, again: bool) -> str:
        document = self._managed(desired)
        if again and self.trouble:
            document.judge.forget()
            document.in_force.try_again()
        self.path = document.host.path
        for moved in document.state.prepare():
            self._shared.journal.note(moved)
        if not self._is_tidied:
            document.state.tidy()
            self._is_tidied = True
        seen = stamp(self.path)
        actual = document.host.read()
        if self._saving.is_under_way(actual, self._shared.configuration.options.settle_seconds):
            self.next_look = time.monotonic() + _AGAIN_SECONDS
            return self.trouble
        if not document.judge.is_known(document.would_say(actual)):
            return self.trouble  # a look follows once it is
        self._outcome = document.cycle(self._policy(document), self._outcome, actual)
        self._seen = seen
        if self._outcome.result is Result.IN_SYNC:
            self._in_sync_at = time.time()
        if self._outcome.result is Result.CORRECTED:
            self._corrected.append(time.monotonic())
            if not document.wanted.is_secret:  # every user reads the last drift in the status
                self._note(self._outcome)
        if document.host.is_awaited():
            self.next_look = time.monotonic() + _AWAITED_SECONDS
        return document.trouble(self._outcome)

    def _managed(self, desired: DesiredState) -> Document:
        """Return what manages it, anew only if that has changed: it remembers judgements."""
        found = self._find(desired, self._attributes)
        self._attributes = found.attributes
        if self.document is None or not self.document.is_as(found):
            self.document = found
            for problem in found.problems:
                self._emit(Record(Event.CONFIG_REJECTED, problem))
        return self.document

    def _policy(self, document: Document) -> Policy:
        path = document.host.path
        self._shared.writers.follow(path)
        return Policy(
            self._shared.may_only_observe(self._instance),
            judge=document.judge,
            writer=lambda written_at: self._shared.writers.fields(path, written_at),
            in_sync_at=self._in_sync_at,
        )

    def _failed(self, reason: str) -> str:
        """Record a failed look, once, and try again after a while."""
        self._seen = stamp(self.path)  # what is built from it does not wait for that
        if reason != self.trouble:
            fields = {names.FIELD_REASON: reason}
            self._emit(Record(Event.CORRECTION_FAILED, reason, fields=fields))
        self.next_look = time.monotonic() + self._backoff.grow()
        return reason
