"""Record an order in the journal, whether the daemon is running or not."""

from __future__ import annotations

import os

from pf_agent import names
from pf_agent.daemon.telling import emit_in_life, emit_of
from pf_agent.files.store import FileStore
from pf_agent.model import Record

# How long to wait for a journal that does not accept it at once.
_SECONDS = 2.0


def put_on_record(instance: str, record: Record) -> None:
    """Send the record of an order about an instance; nothing if there is no journald."""
    if not os.path.exists(names.JOURNAL_SOCKET):
        return
    # Imported here, so that a host without a journal does not need the library.
    from pf_agent.reporting.journal import Journal

    journal = Journal()
    state = FileStore(names.STATE_DIRECTORY, names.RUN_DIRECTORY)
    emit_of(instance, emit_in_life(state, journal.emit))(record)
    journal.settle(_SECONDS)
