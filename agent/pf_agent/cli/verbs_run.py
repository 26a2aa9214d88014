"""The verb run: the daemon, with no more in memory than it uses."""

from __future__ import annotations

import sys

from pf_agent.daemon import imports
from pf_agent.errors import ExitCode

# At the end, for records that the journal did not take at once.
_RECORDS_SECONDS = 1.0


def cmd_run(_arguments: object = None) -> ExitCode:
    """Run the daemon until SIGTERM. It takes no arguments."""
    imports.forgo()
    from pf_agent.daemon.loop import Daemon, Paths
    from pf_agent.reporting.journal import Journal, console_of

    journal = Journal(console_of(sys.stderr))
    try:
        return Daemon(Paths(), journal).run()
    finally:
        journal.settle(_RECORDS_SECONDS)
