"""The indexed tables as `apply` looks after them: once, as the daemon does, without a watch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from pf_agent import names
from pf_agent.activation.databases import Databases
from pf_agent.activation.table_database import Postmap
from pf_agent.daemon.table_files import Builder, Drafts
from pf_agent.daemon.tables import named_in
from pf_agent.files.linux import stamp
from pf_agent.maincf.indexed import Table
from pf_agent.model import Emit, Event, Record, TableRules, Trigger
from pf_agent.postfix.ways import is_anothers

# A source that changes while others are built is built again, so many times in all.
_TURNS = 3
_WOULD = "its index is out of date and would be rebuilt, unless Postfix warns about the file"


class TablesOnce:
    """The tables of one main.cf, handled as agent.toml says; `lock`: see `Builder`.

    `rebuilt` has a sentence for each source whose index was rebuilt, `stale` one for each whose
    index still does not match it: why.
    """

    def __init__(
        self, main_cf: str, rules: TableRules, postfix: Drafts, emit: Emit, lock: str
    ) -> None:
        self._master_cf = os.path.join(os.path.dirname(main_cf), "master.cf")
        self._rules = rules
        self._emit = emit
        self.rebuilt: dict[str, str] = {}
        builder = Builder(postfix, lambda: rules, lambda: False, lock)
        self._databases = Databases(
            Postmap(self._named, builder.build, is_anothers),
            _ignore,
            self._note,
            lambda _doubts: None,  # the record has them
            stamp,
            # In this thread: if the command is interrupted, no copy of a source is left behind.
            spawn=_at_once,
        )

    @property
    def stale(self) -> Mapping[str, str]:
        """Why tables are stale, a sentence for each source."""
        return self._databases.troubles

    def due(self, text: bytes) -> Mapping[str, str]:
        """Return what `rebuild` would do, a sentence for each source; nothing is built."""
        self._databases.follow(text)
        stale = self._databases.stale()
        return {source.path: f"{source.path}: {_WOULD}" for source in stale}

    def rebuild(self, text: bytes, of_others: bool = False) -> None:
        """Rebuild what is stale of root's, or of others, who may hold it up."""
        self._databases.follow(text)
        for _ in range(_TURNS):
            stale = self._databases.apart(self._databases.stale()).get(of_others, ())
            if not stale:
                break
            self._databases.rebuild(stale, of_others=of_others).worked()

    def _named(self, text: bytes) -> tuple[Table, ...]:
        return named_in(text, self._master_cf, self._rules)

    def _note(self, record: Record) -> None:
        if record.event is Event.TABLE_REBUILT:
            self.rebuilt[record.fields[names.FIELD_PATH]] = record.message
        self._emit(record)


def _ignore(_trigger: Trigger) -> None:
    """Do nothing: nobody waits."""


def _at_once(_name: str, run: Callable[[], None]) -> None:
    run()
