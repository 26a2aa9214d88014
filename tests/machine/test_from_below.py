"""Faults from below: told once, no loop of crashes or of work, and their end is found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from pf_agent import names
from tests.machine.calm import Calm
from tests.machine.site import INTRUDE, MAIN_CF, Site

# In place, since that is all that an immutable folder lets anybody do.
IN_PLACE = (
    f"sed 's|^mynetworks *=.*|mynetworks = 0.0.0.0/0|' {MAIN_CF} > /srv/new; cat /srv/new > {{}}"
)
LIB, RUN = names.STATE_DIRECTORY, names.RUN_DIRECTORY
# A file system of a mebibyte on one of the agent's folders, with what lay in it.
SMALL = (
    "systemctl stop pf-agent; cp -a {0} /srv/kept; mount -t tmpfs -o size=1m,mode=755 none {0};"
    " cp -a /srv/kept/. {0}; systemctl start pf-agent"
)
SIGNAL = "systemctl kill --kill-who=main --signal={} pf-agent"
FILL = "dd if=/dev/zero of={0}/filler bs=4k 2>/dev/null; test -s {0}/filler"
LARGE = (
    "systemctl stop pf-agent; umount {0}; rm -rf /srv/kept;"
    " systemctl start pf-agent; systemctl reset-failed"
)
# For the agent alone, whose mounts are its own.
MOUNTED = "nsenter -t $(systemctl show -P MainPID pf-agent) --mount mount -o remount,bind,{} /etc"


@dataclass(frozen=True)
class Fault:
    """How it comes to be, how it ends, and what the record says of it.

    `stops`: main.cf cannot be corrected while it lasts; else only notes are not written.
    `before` and `after` have nothing to do with it and are waited for.
    """

    begin: str
    end: str
    told: str
    stops: bool = True
    before: str = "true"
    after: str = "true"
    drift: str = IN_PLACE.format(MAIN_CF)


FAULTS = {
    "the state folder is full": Fault(
        FILL.format(LIB), f"rm {LIB}/filler", LIB, True, SMALL.format(LIB), LARGE.format(LIB)
    ),
    "the folder of the moment is full": Fault(
        FILL.format(RUN), f"rm {RUN}/filler", RUN, False, SMALL.format(RUN), LARGE.format(RUN)
    ),
    "main.cf is immutable": Fault(
        # The agent would have it right before the second command runs.
        f"{SIGNAL.format('STOP')}; {INTRUDE}; chattr +i {MAIN_CF}; {SIGNAL.format('CONT')}",
        f"chattr -i {MAIN_CF}",
        MAIN_CF,
        drift="true",
    ),
    "the folder is immutable": Fault(
        "chattr +i /etc/postfix", "chattr -i /etc/postfix", "check its directory with `lsattr"
    ),
    "/etc is read-only": Fault(
        MOUNTED.format("ro"), MOUNTED.format("rw"), "Read-only file system; make its file system"
    ),
}

# More than the kernel keeps for one listener: created, closed, deleted.
MANY_EVENTS = """
import os
with open("/proc/sys/fs/inotify/max_queued_events") as file:
    limit = int(file.read())
for _ in range(limit // 3 + 100):
    open("/etc/postfix/other", "w").close()
    os.unlink("/etc/postfix/other")
"""


@pytest.fixture(autouse=True)
def _as_before(site: Site) -> Iterator[None]:
    yield
    site.wait_right()
    site.wait_settled()
    site.forget_restarts()


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_is_told_and_its_end_is_found(site: Site, what: str) -> None:
    fault = FAULTS[what]
    site.machine.sh(fault.before)
    site.wait_settled()
    site.wait_remembered()
    calm = Calm.before(site)
    site.machine.sh(fault.begin)
    site.machine.sh(fault.drift)
    if fault.stops:
        calm.told("correction-failed", fault.told)
    else:
        calm.noted(fault.told)
    calm.is_kept()
    site.machine.sh(fault.end)
    calm.returns()
    site.machine.sh(fault.after)


def test_drift_is_on_record_while_nothing_can_be_written(site: Site) -> None:
    """A relay that stays open for as long as /etc is read-only must not go unnamed."""
    calm = Calm.before(site)
    site.machine.sh(MOUNTED.format("ro"))
    site.machine.sh(INTRUDE)
    record = calm.told("drift-detected", 'mynetworks is "0.0.0.0/0"')
    assert record[names.FIELD_PARAMETER] == "mynetworks"
    site.machine.sh(MOUNTED.format("rw"))
    calm.returns()
    assert len(site.drift_of(calm.since)) == 1


def test_drift_among_more_events_than_the_kernel_keeps(site: Site) -> None:
    calm = Calm.before(site)
    site.machine.run(["kill", "-STOP", calm.pid])
    site.run_python(MANY_EVENTS)
    site.machine.sh(INTRUDE)
    site.machine.run(["kill", "-CONT", calm.pid])
    calm.returns()
    calm.is_kept()
    assert len(site.drift_of(calm.since)) == 1
