"""The verb run: the daemon, with no more in memory than it uses."""

from __future__ import annotations

import sys

from pf_agent import names
from pf_agent.daemon import imports
from pf_agent.errors import ConfigError, ExitCode


def cmd_run(_arguments: object = None) -> ExitCode:
    """The daemon, until SIGTERM. There is nothing that it could be told."""
    imports.forgo()
    from pf_agent.daemon.loop import Daemon, Paths
    from pf_agent.model import Event, Record
    from pf_agent.reporting.journal import Journal, console_of

    journal = Journal(console_of(sys.stderr))
    try:
        daemon = Daemon(Paths(), journal)
    except ConfigError as error:
        for problem in error.problems:
            fields = {names.FIELD_REASON: problem}
            journal.emit(Record(Event.CONFIG_REJECTED, problem, fields=fields))
        return error.exit_code
    return daemon.run()
