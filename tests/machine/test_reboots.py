"""The machine is switched off and on again: Postfix is started no more often than it has to be."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.machine.site import AGENT_TOML, INTRUDE, MAIN_CF, PENDING, Site

pytestmark = pytest.mark.long

OBSERVE = 'mode = "observe"\n'
AGENT = "pf-agent.service"
SOCKET = "pf-agent-errands.socket"


@pytest.fixture(autouse=True)
def _at_rest(site: Site) -> Iterator[None]:
    site.forget_restarts()
    yield
    site.machine.run(["rm", "-f", AGENT_TOML])
    site.machine.run(["systemctl", "reload", AGENT])
    site.agent("resume", check=True)
    site.forget_restarts()
    site.put(site.good)
    site.wait_right()
    site.wait_settled()


def reboot(site: Site) -> None:
    site.machine.shutdown()
    site.machine.boot()


def moment(site: Site, unit: str, name: str) -> int:
    """When a unit came so far, in microseconds since the boot."""
    return int(site.show(unit, f"{name}TimestampMonotonic"))


def starts(site: Site) -> int:
    """How often Postfix was started in this boot; the agent started after the first of these."""
    came_up = [moment(site, unit, "ActiveEnter") for unit in (SOCKET, AGENT)]
    assert moment(site, AGENT, "InactiveExit") >= came_up[0]
    assert site.show(AGENT, "NRestarts") == "0"
    entries = site.machine.journal("-b")
    assert [e["MESSAGE"] for e in entries if "Traceback" in str(e.get("MESSAGE"))] == []
    started = site.starts_of_boot()
    order = [
        e.get("INVOCATION_ID") if e.get("UNIT") == site.unit else AGENT
        for e in entries
        if e.get("INVOCATION_ID") in started or e.get("UNIT") == AGENT
    ]
    assert order.index(started[0]) < order.index(AGENT)
    return len(started)


def test_at_rest_it_is_started_once(site: Site) -> None:
    reboot(site)
    site.wait_settled()
    assert starts(site) == 1
    assert site.serves()


def test_suspended_it_is_started_once_and_the_drift_stays(site: Site) -> None:
    site.agent("suspend", check=True)
    site.machine.sh(INTRUDE)
    drifted = site.read()
    reboot(site)
    site.wait_phase("suspended")
    assert site.read() == drifted
    assert starts(site) == 1
    # What was started with drifted values is not left with them.
    site.agent("resume", check=True)
    site.wait_right()
    site.wait_settled()
    assert starts(site) == 2


def test_observing_it_is_started_once_and_the_drift_stays(site: Site) -> None:
    site.machine.write_text(AGENT_TOML, OBSERVE)
    site.machine.run(["systemctl", "reload", AGENT])
    site.wait_phase("observing")
    site.machine.sh(INTRUDE)
    drifted = site.read()
    reboot(site)
    site.wait_phase("observing")
    assert site.read() == drifted
    assert starts(site) == 1


def test_a_restart_that_was_to_come_is_the_one_of_the_boot(site: Site) -> None:
    """The window is closed: no other could be."""
    site.machine.write_text(AGENT_TOML, site.closed_window())
    site.machine.run(["systemctl", "reload", AGENT])
    site.machine.sh(INTRUDE)
    site.wait_right()
    site.wait_phase("activating")
    cycle = json.loads(site.machine.read_text(PENDING))["cycle"]
    assert cycle
    reboot(site)
    site.wait_settled()
    assert starts(site) == 1
    site.machine.run(["test", "!", "-e", PENDING])


def test_power_that_fails_amid_the_restart_takes_no_second_one(site: Site) -> None:
    with site.gate() as gate:
        site.machine.sh(INTRUDE)
        gate.wait_reached()
        site.wait_right()
        site.machine.kill()
    site.machine.run_offline(f"rm -r /etc/systemd/system/{site.unit}.d")
    site.machine.boot()
    site.wait_right()
    site.wait_settled()
    assert starts(site) == 1


def test_what_drifted_while_it_was_off_takes_one_restart(site: Site) -> None:
    """Postfix is up before the agent looks: it has to be started once more."""
    site.machine.shutdown()
    site.machine.run_offline(INTRUDE)
    assert b"0.0.0.0/0" in site.machine.at(MAIN_CF).read_bytes()
    site.machine.boot()
    site.wait_right()
    site.wait_settled()
    assert starts(site) == 2
    assert site.serves()
