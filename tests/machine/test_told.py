"""The installed service tells all who want to know of a real drift: D-Bus, metrics, a unit."""

from __future__ import annotations

import subprocess

import pytest

from pf_agent.bus.agent1 import NAME, PATH
from tests.machine.nspawn import Machine
from tests.machine.site import AGENT_TOML, SETTLE_SECONDS, Site, eventually

pytestmark = pytest.mark.usefixtures("at_rest")

TEXTFILE = "/var/lib/prometheus/node-exporter/pf-agent.prom"
PLACE = "127.0.0.1:9825"
# A unit of the administrator's own.
UNIT = "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo %i >> /run/told'\n"
TOLD = f"""
[metrics]
textfile = "{TEXTFILE}"
listen = "{PLACE}"
[notify]
unit = "told@.service"
"""
FETCH = f"""
import urllib.request
print(urllib.request.urlopen("http://{PLACE}/metrics", timeout=20).read().decode())
"""


@pytest.fixture(scope="module")
def site(agent_machine: Machine) -> Site:
    site = Site.prepared(agent_machine)
    site.machine.run(["mkdir", "-p", TEXTFILE.rpartition("/")[0]])
    site.machine.write_text("/etc/systemd/system/told@.service", UNIT)
    site.machine.run(["systemctl", "daemon-reload"])
    site.machine.write_text(AGENT_TOML, TOLD)
    site.machine.run(["systemctl", "reload", "pf-agent"])
    return site


def shown(site: Site, name: str) -> str:
    asked = ["busctl", "get-property", NAME, PATH, NAME, name]
    return site.machine.run(asked).stdout.strip()


def call(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    return site.machine.run(["busctl", "call", NAME, PATH, NAME, *arguments], check=False)


def test_one_drift_is_told_to_all(site: Site) -> None:
    cycle = site.drift_once()
    # Each listener is told by itself: the file may say it before the bus does.
    eventually(lambda: shown(site, "Phase") == 's "in-sync"', "the phase on the bus")
    assert shown(site, "InSync") == "b true"
    assert shown(site, "LastCycle") == f"t {cycle}"
    assert shown(site, "LastDrift") == 'as 1 "mynetworks"'

    def counted() -> list[str]:
        lines = site.machine.read_text(TEXTFILE).splitlines()
        drifts = (line for line in lines if line.startswith("pf_agent_drifts_total{"))
        return [line for line in drifts if '"mynetworks"' in line]

    eventually(lambda: bool(counted()), "the drift in the textfile")
    assert [line.rpartition(" ")[2] for line in counted()] == ["1"]
    assert counted()[0] in site.run_python(FETCH)
    site.machine.wait_until(f"grep -x {cycle} /run/told")


def test_whoever_may_suspends_over_the_bus(site: Site) -> None:
    assert call(site, "Suspend", "ts", "3600", "the queue moves").returncode == 0
    site.machine.wait_until("pf-agent status | grep 'suspended by .*: the queue moves'")
    assert shown(site, "Suspended") == "b true"
    site.machine.run(["postconf", "-e", "mynetworks=10.0.0.0/8"])
    assert call(site, "Reconcile").returncode == 0
    site.machine.wait_until("pf-agent status | grep 'would change: mynetworks'")
    assert "mynetworks = 10.0.0.0/8" in site.read().decode()
    refused = site.machine.run(
        ["runuser", "-u", "nobody", "--", "busctl", "call", NAME, PATH, NAME, "Resume"],
        check=False,
    )
    assert refused.returncode != 0
    assert shown(site, "Suspended") == "b true"
    assert call(site, "Resume").returncode == 0
    site.wait_right()
    eventually(lambda: shown(site, "Suspended") == "b false", "the end of it")


def test_a_reload_returns_once_the_agent_has_taken_it_up(site: Site) -> None:
    """However late it hears of it."""
    pid = site.show("pf-agent", "MainPID")
    site.machine.run(["kill", "-STOP", pid])
    try:
        site.machine.write_text(AGENT_TOML, 'mode = "observe"\n')
        with site.machine.start(["systemctl", "reload", "pf-agent"]) as reloading:
            # The signal waits for it, and the commands of ExecReload= have ended.
            pending = f"grep -q '^ShdPnd:.*1$' /proc/{pid}/status"
            is_sent = "test $(systemctl show -P ControlPID pf-agent) = 0"
            site.machine.wait_until(f"{pending} && {is_sent}")
            assert site.show("pf-agent", "ActiveState") == "reloading"
            site.machine.run(["kill", "-CONT", pid])
            assert reloading.wait(60) == 0
    finally:
        site.machine.run(["kill", "-CONT", pid])
    assert site.status()["phase"] == "observing"
    site.machine.write_text(AGENT_TOML, TOLD)
    site.machine.run(["systemctl", "reload", "pf-agent"])
    assert site.status()["phase"] == "in-sync"


def test_what_agent_toml_no_longer_names_is_told_no_more(site: Site) -> None:
    site.machine.write_text(AGENT_TOML, "")
    site.machine.run(["systemctl", "reload", "pf-agent"])
    site.drift_once()
    assert "pf_agent_up 0" in site.machine.read_text(TEXTFILE)
    done = site.machine.run(["python3", "-c", FETCH], check=False)
    assert "refused" in done.stderr


def test_a_window_delays_the_restart_and_not_the_correction(site: Site) -> None:
    window = site.closed_window()
    site.machine.write_text(AGENT_TOML, window)
    site.machine.run(["systemctl", "reload", "pf-agent"])
    since = site.cursor()
    site.machine.run(["postconf", "-e", "mynetworks=10.0.0.0/8"])
    site.wait_right()
    opens = window.partition('"')[2][:3]
    site.machine.wait_until(f"pf-agent status | grep 'due after {opens}'")
    assert site.starts(since) == []
    site.machine.write_text(AGENT_TOML, "")
    site.machine.run(["systemctl", "reload", "pf-agent"])
    eventually(lambda: bool(site.records("activated", since)), "an activation", SETTLE_SECONDS)
    assert len(site.starts(since)) == 1
