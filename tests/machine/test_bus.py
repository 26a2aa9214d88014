"""What bus.py and its parts claim, checked inside a machine on a real bus: inside_bus.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pf_agent.bus.agent1 import NAME
from tests.checkout import CHECKOUT
from tests.machine.checking import Checks, checks, checks_in
from tests.machine.nspawn import Machine

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def inside(machine: Machine) -> Iterator[Checks]:
    """A machine without pf-agent, whose bus has its policy."""
    machine.copy_in([CHECKOUT / "units" / f"{NAME}.conf"], "/usr/share/dbus-1/system.d")
    machine.run(["systemctl", "reload", "dbus"])
    with checks(machine, "inside_bus") as inside:
        yield inside


@pytest.mark.parametrize("check", checks_in("inside_bus"))
def test_inside(inside: Checks, check: str) -> None:
    assert f"ok   {check}\n" in inside.run(check)
    # What GLib has to complain of goes there.
    assert "Traceback" not in inside.complaints()
    assert "CRITICAL" not in inside.complaints()
