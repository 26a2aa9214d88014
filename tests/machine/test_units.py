"""What the core decides by, of systemd's units: the checks of inside_units.py, and a boot."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.machine.checking import Checks, checks, checks_in
from tests.machine.nspawn import Machine
from tests.machine.site import Site

pytestmark = pytest.mark.long

WAS_STOPPED = """
from pf_agent import names
from pf_agent.postfix.errands import Errands
from pf_agent.bus.systemd import Systemd
unit = Systemd(print).units_of("postfix.service")[-1]
print(unit.phase.value, Errands("/etc/postfix", names.ERRANDS_SOCKET).was_stopped(unit), flush=True)
import os
os._exit(0)
"""


@pytest.fixture(scope="module")
def quiet_machine(agent_machine: Machine) -> Machine:
    """A machine whose Postfix serves, and whose pf-agent does not interfere."""
    Site.prepared(agent_machine)
    agent_machine.run(["systemctl", "disable", "--now", "pf-agent"])
    return agent_machine


@pytest.fixture(scope="module")
def inside(quiet_machine: Machine) -> Iterator[Checks]:
    with checks(quiet_machine, "inside_units", ["inside_systemd"]) as inside:
        yield inside


@pytest.mark.parametrize("check", checks_in("inside_units"))
def test_inside(inside: Checks, check: str) -> None:
    assert f"ok   {check}\n" in inside.run(check)


def was_stopped(machine: Machine) -> str:
    return machine.run(["python3", "-c", WAS_STOPPED]).stdout


def test_the_stop_at_shutdown_is_nobodys(quiet_machine: Machine, inside: Checks) -> None:
    """systemd stops each unit by a job then, too, and the journal keeps that over the boot."""
    inside.close()
    quiet_machine.sh("mkdir -p /var/log/journal && systemctl restart systemd-journald")
    quiet_machine.sh("journalctl --flush; systemctl restart postfix; journalctl --sync")
    quiet_machine.shutdown()
    quiet_machine.boot()
    quiet_machine.sh("systemctl start pf-agent-errands.socket; journalctl --sync")
    stops = "journalctl -b -1 -o cat JOB_TYPE=stop JOB_RESULT=done | grep -c Postfix"
    assert int(quiet_machine.sh(stops)) > 0
    assert was_stopped(quiet_machine) == "up False\n"
    quiet_machine.sh("systemctl stop postfix 'postfix@*'")
    assert was_stopped(quiet_machine) == "down True\n"
