"""What bus.py and its parts claim, checked inside a machine on a real bus: inside_bus.py."""

from __future__ import annotations

import pytest

from pf_agent.bus.agent1 import NAME
from tests.checkout import CHECKOUT
from tests.machine.nspawn import Machine

FOLDER = "/root/inside"
INSIDE = CHECKOUT / "tests" / "machine" / "inside_bus.py"
CHECKS = [
    line.split()[1].partition("(")[0]
    for line in INSIDE.read_text().splitlines()
    if line.startswith("def check_")
]


@pytest.fixture(scope="module")
def inside(machine: Machine) -> Machine:
    """A machine without pf-agent, whose bus has its policy."""
    machine.copy_in([CHECKOUT / "agent", INSIDE], FOLDER)
    machine.copy_in([CHECKOUT / "units" / f"{NAME}.conf"], "/usr/share/dbus-1/system.d")
    machine.run(["systemctl", "reload", "dbus"])
    return machine


@pytest.mark.parametrize("check", CHECKS)
def test_inside(inside: Machine, check: str) -> None:
    command = ["env", f"PYTHONPATH={FOLDER}/agent", "PYTHONDONTWRITEBYTECODE=1", "python3"]
    done = inside.run([*command, f"{FOLDER}/inside_bus.py", check], check=False, timeout=240)
    assert f"ok   {check}\n" in done.stdout, done.stdout + done.stderr
    # What GLib has to complain of goes there.
    assert "Traceback" not in done.stderr, done.stderr
    assert "CRITICAL" not in done.stderr, done.stderr
