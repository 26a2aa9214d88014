"""Reads our own records back from the journal, through python3-systemd: its history of main.cf."""

from __future__ import annotations

from collections.abc import Iterator

from pf_agent.errors import HostError
from pf_agent.reporting.journal import MESSAGE_IDS
from pf_agent.words.history import Entry


def read_back(since: float) -> Iterator[Entry]:
    """Yield our own records since a moment (seconds since the epoch), oldest first.

    Only those sent by a process of root's: any user may write to the journal in our name, and only
    journald knows which user it was (systemd.journal-fields(7), trusted fields). What the caller
    may not read is missing. Raises HostError if the journal cannot be opened.
    """
    try:
        from systemd import journal
    except ImportError as error:
        raise HostError(f"the journal: {error}; install python3-systemd") from error
    events = {message_id: event for event, message_id in MESSAGE_IDS.items()}
    try:
        with journal.Reader() as reader:
            for message_id in events:
                reader.add_match(MESSAGE_ID=message_id)
            reader.add_match(_UID="0")
            reader.seek_realtime(since)
            for found in reader:
                fields = {n: str(v) for n, v in found.items() if n.startswith("PF_AGENT_")}
                event = events[found["MESSAGE_ID"].hex]
                at = found["__REALTIME_TIMESTAMP"].timestamp()
                yield Entry(at, event, str(found.get("MESSAGE", "")), fields)
    except OSError as error:
        raise HostError(f"the journal: {error.strerror}; run as root") from error
