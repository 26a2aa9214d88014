"""What bus/systemd.py and postfix/probe.py claim, checked inside a machine: inside_systemd.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.machine.checking import Checks, checks, checks_in
from tests.machine.nspawn import Machine
from tests.machine.site import Site

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def inside(agent_machine: Machine) -> Iterator[Checks]:
    """A machine whose Postfix serves, and whose pf-agent does not interfere."""
    Site.prepared(agent_machine)
    agent_machine.run(["systemctl", "disable", "--now", "pf-agent"])
    with checks(agent_machine, "inside_systemd") as inside:
        yield inside


@pytest.mark.parametrize("check", checks_in("inside_systemd"))
def test_inside(inside: Checks, check: str) -> None:
    assert f"ok   {check}\n" in inside.run(check)
