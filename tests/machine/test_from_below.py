"""Faults from below: told once, no loop of crashes or of work, and their end is found."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from pf_agent import names
from tests.machine.nspawn import Machine
from tests.machine.site import INTRUDE, MAIN_CF, Site, eventually

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
FILL = "dd if=/dev/zero of={0}/filler bs=4k 2>/dev/null; test -s {0}/filler"
LARGE = (
    "systemctl stop pf-agent; umount {0}; rm -rf /srv/kept;"
    " systemctl start pf-agent; systemctl reset-failed"
)


@dataclass(frozen=True)
class Fault:
    """How it comes to be, how it ends, and what the record says of it.

    `before` and `after` have nothing to do with it and are waited for.
    """

    begin: str
    end: str
    told: str
    before: str = "true"
    after: str = "true"
    drift: str = IN_PLACE.format(MAIN_CF)


FAULTS = {
    "the state folder is full": Fault(
        FILL.format(LIB), f"rm {LIB}/filler", LIB, SMALL.format(LIB), LARGE.format(LIB)
    ),
    "the folder of the moment is full": Fault(
        FILL.format(RUN), f"rm {RUN}/filler", RUN, SMALL.format(RUN), LARGE.format(RUN)
    ),
    "main.cf is immutable": Fault(
        f"{INTRUDE}; chattr +i {MAIN_CF}", f"chattr -i {MAIN_CF}", MAIN_CF, drift="true"
    ),
    "the folder is immutable": Fault(
        "chattr +i /etc/postfix", "chattr -i /etc/postfix", "/etc/postfix"
    ),
}


@pytest.fixture(scope="module")
def site(agent_machine: Machine) -> Site:
    return Site.prepared(agent_machine)


@pytest.fixture(autouse=True)
def _as_before(site: Site) -> Iterator[None]:
    yield
    site.wait_right()
    site.wait_settled()
    site.forget_restarts()


def ticks(site: Site) -> int:
    """The processor time that the agent has used, in hundredths of a second."""
    pid = site.show("pf-agent", "MainPID")
    fields = site.machine.read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_is_told_and_its_end_is_found(site: Site, what: str) -> None:
    fault = FAULTS[what]
    site.machine.sh(fault.before)
    site.wait_settled()
    site.wait_remembered()
    pid, since = site.show("pf-agent", "MainPID"), site.cursor()
    site.machine.sh(fault.begin)
    site.machine.sh(fault.drift)
    eventually(lambda: bool(site.records("correction-failed", since)), "a record")
    used, begun = ticks(site), time.monotonic()
    time.sleep(4)
    # A hundredth of a processor is what a guard may take; a loop takes all of one.
    assert ticks(site) - used < 20 * (time.monotonic() - begun)
    assert site.show("pf-agent", "MainPID") == pid
    records = site.records("correction-failed", since)
    assert any(fault.told in record["MESSAGE"] for record in records)
    assert all("\n" not in record["MESSAGE"] for record in records)
    assert len({record["MESSAGE"] for record in records}) == len(records) <= 3
    site.machine.sh(fault.end)
    site.wait_right()
    site.wait_settled()
    assert site.serves()
    assert site.is_obeyed()
    site.machine.sh(fault.after)
