"""The documents for which Postfix must be started: when it is, and what becomes of them then.

They have markers of their own, and main.cf's marker stands for all of them: one start serves both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pf_agent import names
from pf_agent.daemon.document import Document
from pf_agent.files.store import FileStore
from pf_agent.maincf.service_parts import taken_apart
from pf_agent.model import NotUp, PendingActivation
from pf_agent.reconcile.ports import Policy


class Started:
    """Those of one instance: `documents` returns them, `state` is main.cf's."""

    def __init__(self, documents: Callable[[], Sequence[Document]], state: FileStore) -> None:
        self._documents = documents
        self._state = state

    def managed(self) -> tuple[str, ...]:
        """Return the services of master.cf that are to be on. Raises HostError."""
        found: dict[str, None] = {}
        for document in self._documents():
            desired = document.in_force.desired(document.asked)
            for name, value in ({} if desired is None else desired.settings).items():
                if value == names.SERVICE_ENABLED and not taken_apart(name)[1]:
                    found[name] = None
        return tuple(found)

    def mark(self) -> None:
        """Have Postfix started, if one has changed and main.cf's marker does not say so yet.

        Raises HostError.
        """
        for document in self._documents():
            pending = document.state.pending()
            if pending is not None and self._state.pending() is None:
                self._mark(pending)

    def _mark(self, pending: PendingActivation) -> None:
        """Make it main.cf's marker: what follows is on record as the end of its cycle."""
        with self._state.lock():
            self._state.mark_pending(pending)

    def note_served(self, served: PendingActivation | None) -> None:
        """Note that Postfix serves with those that were right before main.cf's marker was `served`.

        Raises HostError.
        """
        since = None if served is None else served.exposure.corrected_at
        for document in self._documents():
            pending = document.state.pending()
            at = None if pending is None else pending.exposure.corrected_at
            if pending is not None and since is not None and (at is None or at <= since):
                document.note_served()

    def mend(self, end: NotUp) -> bool:
        """Take back what is to blame in one of them; False if nothing is. Raises HostError."""
        for document in self._documents():
            pending, text = document.state.pending(), document.host.read().text
            not_up = NotUp(pending, end.standing, end.reason, text, end.log, end.fatal)
            if document.in_force.ended(not_up, Policy(judge=document.judge)):
                again = document.state.pending()
                if again is not None:
                    self._mark(again)
                return True
        return False
