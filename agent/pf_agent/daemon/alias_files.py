"""The alias files of one instance: watched, and their databases rebuilt, without a restart."""

from __future__ import annotations

from collections.abc import Callable

from pf_agent import names
from pf_agent.activation.databases import Databases
from pf_agent.daemon.shared import Shared
from pf_agent.daemon.source_files import SourceFiles
from pf_agent.files.exchange import MainCfFile


class AliasFiles(SourceFiles):
    """The alias files that main.cf names; not checked while the agent only observes."""

    def __init__(
        self,
        name: str,
        host: MainCfFile,
        database: Databases,
        shared: Shared,
        awaits: Callable[[str], bool],
    ) -> None:
        super().__init__(name, host, database, shared, awaits)
        self._watch((names.DEFAULT_ALIASES,))

    def _watch(self, paths: tuple[str, ...]) -> str:
        return self._shared.watch.follow(self._name, self._host.path, paths)

    def _look(self) -> None:
        if not self._shared.may_only_observe(self._name):
            super()._look()
