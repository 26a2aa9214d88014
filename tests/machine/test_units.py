"""What the core decides by, of systemd's units: the checks of inside_units.py, and a boot."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checkout import CHECKOUT
from tests.machine.nspawn import Machine

pytestmark = pytest.mark.long

FOLDER = "/root/units"
HERE = CHECKOUT / "tests" / "machine"
CHECKS = [
    line.split()[1].partition("(")[0]
    for line in (HERE / "inside_units.py").read_text().splitlines()
    if line.startswith("def check_")
]
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
def inside(internet_site: Machine, deb: Path) -> Machine:
    """A machine whose Postfix serves, and whose pf-agent does not interfere."""
    machine = internet_site
    machine.serve_apt([deb])
    machine.apt_install("pf-agent")
    machine.run(["systemctl", "disable", "--now", "pf-agent"])
    machine.copy_in([CHECKOUT / "agent"], FOLDER)
    machine.copy_in(
        [HERE / "inside_systemd.py", HERE / "inside_units.py"], f"{FOLDER}/tests/machine"
    )
    return machine


def python(machine: Machine, *arguments: str) -> str:
    paths = f"PYTHONPATH={FOLDER}/agent:{FOLDER}"
    command = ["env", paths, "PYTHONDONTWRITEBYTECODE=1", "python3", *arguments]
    done = machine.run(command, timeout=240, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("check", CHECKS)
def test_inside(inside: Machine, check: str) -> None:
    printed = python(inside, "-m", "tests.machine.inside_units", check)
    assert f"ok   {check}\n" in printed


def test_the_stop_at_shutdown_is_nobodys(inside: Machine) -> None:
    """systemd stops each unit by a job then, too, and the journal keeps that over the boot."""
    inside.sh("mkdir -p /var/log/journal && systemctl restart systemd-journald")
    inside.sh("journalctl --flush; systemctl restart postfix; journalctl --sync")
    inside.shutdown()
    inside.boot()
    inside.sh("systemctl start pf-agent-errands.socket; journalctl --sync")
    stops = inside.sh("journalctl -b -1 -o cat JOB_TYPE=stop JOB_RESULT=done | grep -c Postfix")
    assert int(stops) > 0
    assert python(inside, "-c", WAS_STOPPED) == "up False\n"
    inside.sh("systemctl stop postfix 'postfix@*'")
    assert python(inside, "-c", WAS_STOPPED) == "down True\n"
