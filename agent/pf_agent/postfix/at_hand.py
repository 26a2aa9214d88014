"""Postfix for `apply`: does in this process what the daemon has another unit do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from pf_agent.errors import HostError
from pf_agent.maincf.aliases import Built
from pf_agent.maincf.indexed import Draft, Table
from pf_agent.model import Greeting, Heard, OnWarning, Package, UnitState
from pf_agent.postfix import dpkg, presence, probe
from pf_agent.postfix.installed import Postfix
from pf_agent.postfix.log import fatal_lines, log_tail
from pf_agent.postfix.postalias import AliasBuilder
from pf_agent.postfix.unit_log import was_stopped


class AtHand(Postfix):
    """The Postfix that uses the main.cf in a directory: its programs, port and log."""

    def newaliases(self, databases: Sequence[str] = ()) -> tuple[Built, ...]:
        """Rebuild alias databases."""
        return AliasBuilder(self._directory).newaliases(databases)

    def table(self, database: str, rule: OnWarning) -> tuple[Draft, BinaryIO | None]:
        """Build the index of a table again, next to the one in use. Raises HostError."""
        from pf_agent.postfix.postmap import draft  # few hosts have tables that change

        try:
            return draft(self._directory, database, rule)
        except OSError as error:  # a system call that is not expected to fail
            place = error.filename or database
            raise HostError(f"{place}: {error.strerror}; check its file system") from error

    def try_source(self, table: Table, text: bytes) -> Draft:
        """Try a text as the source of a table. Raises HostError."""
        from pf_agent.postfix.postmap import tried

        try:
            return tried(self._directory, table, text)
        except OSError as error:
            raise HostError(f"{table.path}: {error.strerror}; check /tmp") from error

    def probe(self, greeting: Greeting) -> Heard:
        """Return what the port answers."""
        return probe.probe(greeting)

    def log_tail(self, units: Sequence[str], since: float) -> tuple[str, ...]:
        """Return the end of Postfix's log."""
        return log_tail(units, since, self.mail_log())

    def fatal_lines(self, units: Sequence[str], since: float) -> tuple[str, ...]:
        """Return why programs of Postfix exited."""
        return fatal_lines(units, since, self.mail_log())

    def was_stopped(self, unit: UnitState) -> bool | None:
        """Tell whether a unit was stopped by hand."""
        return was_stopped(unit.name, unit.invocation)

    def package(self) -> Package:
        """Return the state of dpkg and of the package postfix."""
        return dpkg.package()

    def is_there(self, thing: str) -> bool:
        """Tell whether a file or an address exists."""
        return presence.is_there(thing)
