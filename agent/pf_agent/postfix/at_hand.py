"""Postfix as `apply` has it: what the daemon has done by another unit, done in this process."""

from __future__ import annotations

from collections.abc import Sequence

from pf_agent.maincf.aliases import Built
from pf_agent.model import Greeting, Heard, Package, UnitState
from pf_agent.postfix import dpkg, presence, probe
from pf_agent.postfix.installed import Postfix
from pf_agent.postfix.log import fatal_lines, log_tail
from pf_agent.postfix.postalias import AliasBuilder
from pf_agent.postfix.unit_log import was_stopped


class AtHand(Postfix):
    """The Postfix that obeys the main.cf in a folder, its programs, port and log."""

    def newaliases(self, databases: Sequence[str] = ()) -> tuple[Built, ...]:
        """Rebuild alias databases."""
        return AliasBuilder(self._directory).newaliases(databases)

    def probe(self, greeting: Greeting) -> Heard:
        """Return what the port answers."""
        return probe.probe(greeting)

    def log_tail(self, units: Sequence[str], since: float) -> tuple[str, ...]:
        """Return the end of Postfix's log."""
        return log_tail(units, since, self.mail_log())

    def fatal_lines(self, units: Sequence[str], since: float) -> tuple[str, ...]:
        """Return why programs of Postfix ended."""
        return fatal_lines(units, since, self.mail_log())

    def was_stopped(self, unit: UnitState) -> bool | None:
        """Tell whether somebody stopped a unit."""
        return was_stopped(unit.name, unit.invocation)

    def package(self) -> Package:
        """Return what dpkg is about."""
        return dpkg.package()

    def is_there(self, thing: str) -> bool:
        """Tell whether a file or an address is there."""
        return presence.is_there(thing)
