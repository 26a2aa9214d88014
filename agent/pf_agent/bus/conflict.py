"""Restarts a unit even if systemd refuses to because a part of the unit conflicts with it.

After an upgrade from Debian 12 to 13 with Postfix running, postfix@-.service still holds the master
of 12. According to the template of 13 it is restarted together with postfix.service (PartOf=), and
according to that unit of 13 it must be stopped for it (Conflicts=). systemd refuses both at once,
for Debian's own maintainer script as for us: TransactionJobsConflicting. So it is stopped first; a
stopped unit is not restarted along with the other (systemd.unit(5), PartOf=).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from pf_agent.bus.failures import SYSTEMD, BusError, explain, is_refusal, words_of
from pf_agent.bus.manager import Manager

_CONFLICTING: Final = f"{SYSTEMD}.TransactionJobsConflicting"
# systemd does not call postfix.service down meanwhile: the marker stays, and a retry follows.
_TRIES, _PAUSE_SECONDS = 50, 0.1


def restart(manager: Manager, unit: str) -> str:
    """Queue a restart and return the job's path, after stopping what is in its way.

    That may take five seconds. Raises GLib.Error: the refusal, if it persists; and BusError if
    systemd refuses after something may have been stopped.
    """
    from gi.repository import GLib

    try:
        return manager.restart(unit)
    except GLib.Error as error:
        if words_of(error)[0] != _CONFLICTING:
            raise
        parts = parts_in_the_way(manager.properties(unit))
        if not parts:
            raise
    try:
        for part in parts:
            _stop(manager, part)
        return manager.restart(unit)
    except GLib.Error as error:
        if not is_refusal(error):
            raise
        name, text = words_of(error)
        raise BusError(explain("restart", unit, name, text), name) from error


def parts_in_the_way(properties: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the units that a restart of the unit would both restart and stop."""
    return tuple(name for name in properties["ConsistsOf"] if name in properties["Conflicts"])


def _stop(manager: Manager, unit: str) -> None:
    """Stop a unit, wait until it has stopped, and clear its failed state.

    ExecStop= in the template of 13 looks for /etc/postfix-/main.cf and fails; systemd itself then
    ends the master.
    """
    manager.stop(unit)
    for _ in range(_TRIES):
        state = manager.properties(unit)["ActiveState"]
        if state == "failed":
            manager.reset_failed(unit)
        if state in ("failed", "inactive"):
            return
        time.sleep(_PAUSE_SECONDS)
