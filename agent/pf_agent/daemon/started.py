"""The documents for which Postfix must be started: when it is, and what becomes of them then.

They have markers of their own, and main.cf's marker stands for all of them: one start serves both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from pf_agent import names
from pf_agent.daemon.document import Document
from pf_agent.files.store import FileStore
from pf_agent.maincf.service_parts import taken_apart
from pf_agent.model import Exposure, Heard, NotUp, PendingActivation, Standing
from pf_agent.reconcile.ports import Policy
from pf_agent.words import sentences


class Started:
    """Those of one instance: `documents` returns them, `state` is main.cf's."""

    def __init__(self, documents: Callable[[], Sequence[Document]], state: FileStore) -> None:
        self._documents = documents
        self._state = state

    def managed(self) -> tuple[str, ...]:
        """Return the services of master.cf that are to be on. Raises HostError."""
        found: dict[str, None] = {}
        for document in self._documents():
            desired = document.in_force_now()
            for name, value in ({} if desired is None else desired.settings).items():
                if value == names.SERVICE_ENABLED and not taken_apart(name)[1]:
                    found[name] = None
        return tuple(found)

    def mark(self, trouble: str = "") -> None:
        """Have Postfix started, if one has changed and main.cf's marker does not say so yet.

        `trouble` says why Postfix does not serve: no fault of a wish, then. Raises HostError.
        """
        for document in self._documents():
            pending = document.to_be_started()
            if pending is not None:
                heard = Heard(trouble, greeted=False) if trouble else None
                self._mark(self._state.pending(), replace(pending, before=heard))

    def _mark(self, before: PendingActivation | None, pending: PendingActivation) -> None:
        marker = joined(before, pending)
        with self._state.lock():
            if marker != self._state.pending():
                self._state.mark_pending(marker)

    def note_served(self, began_at: float) -> None:
        """Note that Postfix, started at that time, was seen to serve. Raises HostError."""
        for document in self._documents():
            document.note_served(began_at)

    def mend(self, end: NotUp) -> bool:
        """Take back what is to blame in one of them; False if nothing is. Raises HostError.

        A wish for main.cf is taken back before anything else that is not desired.
        """
        for document in self._documents():
            pending, wishes = document.state.pending(), document.state.wishes()
            if end.standing is Standing.REJECTED and not wishes.before:
                continue
            not_up = replace(end, pending=pending, tried=document.host.read().text)
            if document.in_force.ended(not_up, Policy(judge=document.judge)):
                again = document.state.pending()
                if again is not None:
                    self._mark(_without(self._state.pending(), pending), again)
                return True
        return False


def joined(before: PendingActivation | None, pending: PendingActivation) -> PendingActivation:
    """Return main.cf's marker, so far `before`, once it stands for another document's as well.

    A start in progress is for the cycle before: it does not end this one.
    """
    if before is None:
        return pending
    is_full = len(before.parameters) >= sentences.MOST_NAMES
    is_in = is_full or set(pending.parameters) <= set(before.parameters)
    if pending.cycle <= before.cycle and is_in:
        return before
    named = tuple(dict.fromkeys((*before.parameters, *pending.parameters)))
    wished = tuple(dict.fromkeys((*before.wished, *pending.wished)))
    return PendingActivation(
        max(before.cycle, pending.cycle),
        named[: sentences.MOST_NAMES],
        _both(before.exposure, pending.exposure),
        before.rolled_back or pending.rolled_back,
        before.failed and pending.cycle <= before.cycle,
        wished[: sentences.MOST_NAMES],
        before.before or pending.before,
        before.live or pending.live,
    )


def _both(one: Exposure, other: Exposure) -> Exposure:
    corrected = (one.corrected_at, other.corrected_at)
    known = [at for at in corrected if at is not None]
    return Exposure(
        min(one.written_at, other.written_at),
        min(one.seen_at, other.seen_at),
        max(known) if len(known) == len(corrected) else None,
    )


def _without(
    marker: PendingActivation | None, gone: PendingActivation | None
) -> PendingActivation | None:
    """Return main.cf's marker without what stood in it for a document's own; None for no rest."""
    if marker is None or gone is None:
        return marker
    named = tuple(name for name in marker.parameters if name not in gone.parameters)
    wished = tuple(name for name in marker.wished if name not in gone.parameters)
    return replace(marker, parameters=named, wished=wished) if named else None
