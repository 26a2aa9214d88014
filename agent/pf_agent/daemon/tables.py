"""Whether there are indexed tables: without any, nothing is imported and nothing is watched."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from pf_agent.daemon.shared import Shared
from pf_agent.files.exchange import MainCfFile
from pf_agent.files.linux import stamp
from pf_agent.files.whole import read_if_fit
from pf_agent.maincf.indexed import Table, indexed_in, wanted
from pf_agent.model import Emit, Reason, TableRules
from pf_agent.postfix.errands import Errands

if TYPE_CHECKING:
    from pf_agent.daemon.table_files import TableFiles

_LOOKS: Final = frozenset(
    {Reason.START, Reason.TIMER, Reason.RELOAD, Reason.NAMED, Reason.DOCUMENT}
)


class Tables:
    """The tables that main.cf and master.cf of one instance name, handled as agent.toml says."""

    def __init__(
        self,
        name: str,
        host: MainCfFile,
        postfix: Errands,
        emit: Emit,
        shared: Shared,
        awaits: Callable[[str], bool],
    ) -> None:
        self._name = name
        self._host = host
        self._postfix = postfix
        self._emit = emit
        self._shared = shared
        self._awaits = awaits
        self._master_cf = os.path.join(os.path.dirname(host.path), "master.cf")
        self._known: tuple[object, ...] = ()
        self._settled: bytes | None = None
        self._files: TableFiles | None = None

    @property
    def stale(self) -> Mapping[str, str]:
        """Why tables are stale, a sentence for each source."""
        return {} if self._files is None else self._files.stale

    def patience(self) -> float | None:
        """Seconds until a retry is due; None: when a trigger says so."""
        return None if self._files is None else self._files.patience()

    def turn(self, reasons: set[Reason], text: bytes | None) -> None:
        """Look for stale tables if there is a reason to. Raises HostError.

        `text` is that of the last main.cf that was in sync or only observed.
        """
        self._settled = text
        is_to_look = bool(reasons & _LOOKS)
        if text is not None and (is_to_look or self._known[:1] != (text,)):
            is_to_look |= self._meet(text, Reason.RELOAD in reasons)
        if self._files is not None:
            self._files.turn(is_to_look)

    def _meet(self, text: bytes, is_asked: bool) -> bool:
        """Follow changes of main.cf, master.cf and the options; tell whether there were any."""
        rules = self._shared.configuration.options.tables
        known = (text, stamp(self._master_cf), rules)
        if known == self._known and not is_asked:
            return False
        is_to_forget = is_asked or known[-1:] != self._known[-1:]
        self._known = known
        if not self.named(text):
            if self._files is not None:
                self._shared.watch.follow_tables(self._name, ())
            self._files = None
            return False
        if self._files is None:
            from pf_agent.daemon.table_files import TableFiles

            self._files = TableFiles(
                self._name,
                self._host,
                self._postfix,
                self._emit,
                self._shared,
                self.named,
                lambda: self._settled,
                self._awaits,
            )
        if is_to_forget:  # otherwise what failed waits for its source
            self._files.try_again()
        return True

    def named(self, text: bytes) -> tuple[Table, ...]:
        """Return the tables to look after."""
        return named_in(text, self._master_cf, self._shared.configuration.options.tables)


def named_in(text: bytes, master_cf: str, rules: TableRules) -> tuple[Table, ...]:
    """Return the tables to look after that `text` of main.cf and the file master.cf name."""
    found = indexed_in(text, read_if_fit(master_cf), os.path.dirname(master_cf))
    return wanted(found, rules)
