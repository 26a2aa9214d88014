"""What a cycle replaced: the text that was kept, and the parameters that drifted."""

from __future__ import annotations

from contextlib import suppress

from pf_agent import names
from pf_agent.cli.verbs_act import prepare
from pf_agent.errors import HostError, PfAgentError
from pf_agent.files.displaced_texts import DISPLACED_COUNT, path_of
from pf_agent.files.store import FileStore
from pf_agent.reporting.history import read_back
from pf_agent.words import history, keeping
from pf_agent.words.history import CycleName, PastCycle


class Replaced:
    """The text that a cycle of an instance replaced. Raises HostError.

    `state` is that of the document, by default main.cf's.
    """

    def __init__(self, instance: str, cycle: CycleName, state: FileStore | None = None) -> None:
        folders = (names.STATE_DIRECTORY, names.RUN_DIRECTORY)
        self.state = state or FileStore.of_instance(instance, *folders)
        self._instance, self._cycle = instance, cycle
        prepare(self.state)

    @property
    def path(self) -> str:
        """The path of the text, whether it exists or not."""
        return path_of(self.state.displaced_directory, self._cycle.number)

    def text(self) -> bytes:
        """Return the text. Raises HostError if there is none, or no longer, for this instance.

        The texts of an earlier life were removed with it.
        """
        is_ours = self._cycle.life in (None, self.state.life())
        text = self.state.displaced(self._cycle.number) if is_ours else None
        if text is None:
            folder = self.state.displaced_directory
            raise HostError(
                f"cycle {self._cycle}: {folder} has no text of it (the newest {DISPLACED_COUNT} are"
                f" kept){self._elsewhere() or '; see `pf-agent history`'}"
            )
        return text

    def drifted(self) -> tuple[str, ...]:
        """Return the parameters that drifted, as the journal has them. Raises PfAgentError."""
        found = [past for past in self._on_record() if past.instance == self._instance]
        if not found:
            raise HostError(
                f"cycle {self._cycle}: the journal has no record of it; name the parameters"
            )
        names_of = keeping.keepable(found[-1].drift)
        if not names_of:
            raise PfAgentError(
                f"cycle {self._cycle}: no parameter drifted in it that could be adopted;"
                f" see `pf-agent history {self._cycle}`"
            )
        return names_of

    def _elsewhere(self) -> str:
        with suppress(HostError):  # the journal is only needed for a hint here
            for past in self._on_record():
                if past.instance != self._instance and past.displaced:
                    return f"; it is of another instance: --instance {past.instance}"
        return ""

    def _on_record(self) -> list[PastCycle]:
        name = CycleName(self.state.life(), self._cycle.number)
        return history.named(history.cycles(read_back(0.0)), name)
