"""The indexed tables of one instance: drafts are built, checked, and installed.

Imported only if main.cf or master.cf names one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO, Protocol

from pf_agent import names
from pf_agent.activation.databases import Databases
from pf_agent.activation.table_database import Postmap
from pf_agent.daemon.shared import Shared
from pf_agent.daemon.source_files import SourceFiles
from pf_agent.errors import HostError
from pf_agent.files.exchange import MainCfFile
from pf_agent.files.indexes import put_index
from pf_agent.files.linux import stamp
from pf_agent.files.locks import held
from pf_agent.maincf.aliases import Built, Source
from pf_agent.maincf.indexed import Draft, Table, not_built
from pf_agent.model import Emit, Event, OnWarning, Record, TableRules
from pf_agent.postfix.ways import is_anothers

# A source that changes while it is read is read again, so many times in all.
_TRIES = 3
_STAYS = "the old index stays"
_OBSERVES = "newer than its index, and pf-agent only observes"


class Drafts(Protocol):
    """Postfix's programs, in the daemon's way or in that of `apply`."""

    def table(self, database: str, rule: OnWarning) -> tuple[Draft, BinaryIO | None]:
        """Build the index again, next to the one that Postfix reads. Raises HostError."""


class TableFiles(SourceFiles):
    """The tables that main.cf and master.cf name, handled as agent.toml says."""

    def __init__(
        self,
        name: str,
        host: MainCfFile,
        postfix: Drafts,
        emit: Emit,
        shared: Shared,
        named: Callable[[bytes], tuple[Table, ...]],
        settled: Callable[[], bytes | None],
        awaits: Callable[[str], bool],
    ) -> None:
        self._emit = emit
        self._settled = settled
        self._unbuilt: dict[str, str] = {}
        builder = Builder(
            postfix,
            lambda: shared.configuration.options.tables,
            lambda: shared.may_only_observe(name),
            shared.tables_lock,
        )
        databases = Databases(
            Postmap(named, builder.build, is_anothers),
            shared.post,
            emit,
            lambda _doubts: None,  # the record has them
            stamp,
            retry_seconds=shared.retry_seconds,
        )
        super().__init__(name, host, databases, shared, awaits)

    @property
    def stale(self) -> Mapping[str, str]:
        """Why tables are stale, a sentence for each source."""
        return {**self._databases.troubles, **self._unbuilt}

    def _watch(self, paths: tuple[str, ...]) -> str:
        return self._shared.watch.follow_tables(self._name, paths)

    def _text(self) -> bytes | None:
        # Of a main.cf that drifts, what the tables were found to be would be forgotten.
        return self._settled()

    def try_again(self) -> None:
        """Clear all failures, so that the next look tries again."""
        self._databases.try_again()

    def _look(self) -> None:
        known, self._unbuilt = self._unbuilt, {}
        super()._look()
        for path, told in self._unbuilt.items():
            if path not in known:
                fields = {names.FIELD_PATH: path, names.FIELD_REASON: told}
                self._emit(Record(Event.TABLE_STALE, told, fields=fields))

    def _begin(self, stale: Sequence[Source], of_others: bool) -> None:
        if not self._shared.may_only_observe(self._name):
            super()._begin(stale, of_others)
            return
        self._unbuilt |= {s.path: f"{s.path}: {_OBSERVES}; run postmap" for s in stale}


class Builder:
    """Builds the index of one table after the other, judged before it is installed.

    `apply` has one, too. Only one process at a time installs; it holds the lock at `lock`.
    """

    def __init__(
        self,
        postfix: Drafts,
        rules: Callable[[], TableRules],
        may_only_observe: Callable[[], bool],
        lock: str,
    ) -> None:
        self._postfix = postfix
        self._rules = rules
        self._may_only_observe = may_only_observe
        self._lock = lock

    def build(self, table: Table) -> Built:
        """Build and install one; if its old index stays, `trouble` says why."""
        source, began = table.source, time.monotonic()
        rule = self._rules().on_warning
        for _ in range(_TRIES):
            index = None
            try:
                draft, index = self._postfix.table(source.database, rule)
                why = not_built(draft, rule)
                if why:
                    told = self._kept(table, why, "" if draft.trouble else "fix the file")
                    return Built(source, told, draft.remarks, is_final=not draft.trouble)
                if not draft.is_put and self._may_only_observe():  # since a moment ago
                    return Built(source, self._kept(table, _OBSERVES, ""))
                if draft.is_put or (index is not None and self._install(source, draft, index)):
                    seconds = time.monotonic() - began
                    counts = (draft.before, draft.after)
                    return Built(source, "", draft.remarks, False, *counts, seconds)
            except HostError as error:
                return Built(source, self._kept(table, str(error), ""))
            finally:
                if index is not None:
                    index.close()
        return Built(source, self._kept(table, "it changes while it is read", ""))

    def _install(self, source: Source, draft: Draft, index: BinaryIO) -> bool:
        with held(self._lock):
            return put_index(source, draft.seen, index.fileno(), draft.owner)

    def _kept(self, table: Table, why: str, way_out: str) -> str:
        there = _STAYS if os.path.lexists(table.source.database) else "there is no index"
        where = "" if why.startswith(table.path) else f"{table.path}: "
        return "; ".join(filter(None, (f"{where}{why}", there, way_out)))
