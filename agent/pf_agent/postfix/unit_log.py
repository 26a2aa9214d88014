"""What stopped a unit: systemd's own log entries about its last start or stop.

For the daemon errands_unit.py reads them, like the end of Postfix's log (log.py).
"""

from __future__ import annotations

from typing import Any

from pf_agent.postfix.log import synchronize

# systemd's sd-messages.h. Seen on systemd 252 and 257: a restart logs JOB_TYPE=stop in
# UNIT_STOPPING on 252, and JOB_TYPE=restart in UNIT_STOPPED on both; a start prevented by a
# condition is UNIT_STARTED; a crash, `postfix stop` and `systemctl kill` log none of these.
_STARTING = "7d4958e842da4a758f6c1cdc7b36dcc5"
_STARTED = "39f53479d3a045ac8e11786248231fbf"
_FAILED = "be02cf6855d2428ba40df7e9d022f03d"
_STOPPED = "9d1aaa27d60140bd96365438aad20286"


def was_stopped(unit: str, invocation: str) -> bool | None:
    """Whether a stop job ended the unit's `invocation`, and no start was tried since.

    A restart does not count, so none of our own jobs does. None if the journal does not say: it
    cannot be read, is not kept, or lost these entries. `invocation` is the unit's latest, from
    UnitState: the entry of an earlier boot, which also ended with a stop, says nothing about it.
    """
    if not invocation:
        return None
    try:
        from systemd import journal

        synchronize()
        with journal.Reader() as reader:
            # journald itself sets the fields with a "_"; any process may write the others.
            reader.add_match(_PID="1", _UID="0", UNIT=unit)
            for message in (_STARTING, _STARTED, _FAILED, _STOPPED):
                reader.add_match(MESSAGE_ID=message)
            reader.seek_tail()
            entry = reader.get_previous()
    except (ImportError, OSError):
        return None
    if not entry:
        return None
    if _word(entry, "MESSAGE_ID") != _STOPPED:
        return False
    if _word(entry, "INVOCATION_ID") != invocation:
        return None
    return (entry.get("JOB_TYPE"), entry.get("JOB_RESULT")) == ("stop", "done")


def _word(entry: Any, field: str) -> str:
    """Return an identifier as 32 hex digits: python3-systemd turns some into UUIDs."""
    return str(entry.get(field, "")).replace("-", "")
