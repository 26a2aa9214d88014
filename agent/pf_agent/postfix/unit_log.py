"""Who stopped a unit: what systemd itself logged of its last start or stop.

The daemon has it read by errands_unit.py, as it has the end of Postfix's log (log.py).
"""

from __future__ import annotations

from typing import Any

from pf_agent.postfix.log import synchronize

# systemd's sd-messages.h. Seen on systemd 252 and 257: a restart says JOB_TYPE=stop in
# UNIT_STOPPING on 252, and JOB_TYPE=restart in UNIT_STOPPED on both; a start that a condition
# forbade is UNIT_STARTED; a crash, `postfix stop` and `systemctl kill` are none of these.
_STARTING = "7d4958e842da4a758f6c1cdc7b36dcc5"
_STARTED = "39f53479d3a045ac8e11786248231fbf"
_FAILED = "be02cf6855d2428ba40df7e9d022f03d"
_STOPPED = "9d1aaa27d60140bd96365438aad20286"


def was_stopped(unit: str, invocation: str) -> bool | None:
    """Whether a stop job ended the unit's `invocation`, and nobody tried to start it since.

    A restart is none, and so no job of ours is. None where the journal does not say: it cannot be
    read, is not kept, or lost these entries. `invocation` is the unit's newest, as UnitState has
    it: the entry of an earlier boot, which ended in a stop as well, says nothing of this one.
    """
    if not invocation:
        return None
    try:
        from systemd import journal

        synchronize()
        with journal.Reader() as reader:
            # The fields with a "_" are journald's own: anybody may write the others.
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
    """An identifier as 32 digits: python3-systemd makes UUIDs of some."""
    return str(entry.get(field, "")).replace("-", "")
