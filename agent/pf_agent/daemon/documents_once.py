"""The documents beside main.cf for `apply`: one cycle of each, without the daemon's loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pf_agent.daemon.document import Document, Owner, document_of
from pf_agent.errors import HostError, PfAgentError
from pf_agent.model import DesiredState, Outcome, Result
from pf_agent.reconcile.ports import Policy


class DocumentsOnce:
    """Those of one instance; `note` gets remarks."""

    def __init__(self, owner: Owner, note: Callable[[str], None]) -> None:
        self._owner = owner
        self._note = note
        self._found: list[Document] = []

    def started(self) -> list[Document]:
        """Return those for which Postfix must be started, once they were corrected."""
        return [document for document in self._found if document.is_started]

    def correct(
        self, wanted: Mapping[str, DesiredState], main_cfs: Sequence[bytes]
    ) -> dict[str, Outcome]:
        """Run one cycle of each; none keeps another from its own. `main_cfs` are `texts_of`."""
        outcomes = {}
        for name, desired in wanted.items():
            try:
                outcomes[name] = self._cycle(name, desired, main_cfs)
            except HostError as error:
                outcomes[name] = Outcome(Result.FAILED, str(error))
            except PfAgentError as error:
                outcomes[name] = Outcome(Result.REJECTED, str(error))
            except OSError as error:
                outcomes[name] = Outcome(Result.FAILED, f"{error.filename}: {error.strerror}")
        return outcomes

    def taken_back(self) -> dict[str, Outcome]:
        """Return those that Postfix did not come up with once they were corrected, and why."""
        refused = {
            document.name: document.in_force.rejected(document.asked) for document in self._found
        }
        return {
            name: Outcome(Result.REJECTED, rejected.reason)
            for name, rejected in refused.items()
            if rejected is not None
        }

    def _cycle(self, name: str, desired: DesiredState, main_cfs: Sequence[bytes]) -> Outcome:
        found = document_of(name, desired, self._owner, main_cfs)
        for moved in found.state.prepare():
            self._note(moved)
        found.state.tidy()
        self._found.append(found)
        # The person who runs it wants it tried, whatever happened to it before.
        found.in_force.try_again()
        return found.cycle(Policy(judge=found.judge), None, found.host.read())
