"""What bus/systemd.py and postfix/probe.py claim, checked inside a machine: inside_systemd.py."""

from __future__ import annotations

import pytest

from tests.checkout import CHECKOUT
from tests.machine.nspawn import Machine
from tests.machine.site import Site

pytestmark = pytest.mark.long

FOLDER = "/root/inside"
INSIDE = CHECKOUT / "tests" / "machine" / "inside_systemd.py"
CHECKS = sorted(
    line.split()[1].partition("(")[0]
    for line in INSIDE.read_text().splitlines()
    if line.startswith("def check_")
)


@pytest.fixture(scope="module")
def inside(agent_machine: Machine) -> Machine:
    """A machine whose Postfix serves, and whose pf-agent does not interfere."""
    Site.prepared(agent_machine)
    agent_machine.run(["systemctl", "disable", "--now", "pf-agent"])
    agent_machine.copy_in([CHECKOUT / "agent", INSIDE], FOLDER)
    return agent_machine


@pytest.mark.parametrize("check", CHECKS)
def test_inside(inside: Machine, check: str) -> None:
    command = ["env", f"PYTHONPATH={FOLDER}/agent", "PYTHONDONTWRITEBYTECODE=1", "python3"]
    printed = inside.run([*command, f"{FOLDER}/inside_systemd.py", check], timeout=240).stdout
    assert f"ok   {check}\n" in printed
