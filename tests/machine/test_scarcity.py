"""Too little memory, no more watches, and a clock that jumps: what the agent itself lives on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.machine.calm import Calm
from tests.machine.site import INTRUDE, MAIN_CF, Site, eventually

pytestmark = pytest.mark.long

# Limits of a user namespace hold for whoever is in it: the machine's neighbours keep theirs.
USERS = "[Service]\nPrivateUsers=yes\n"
LIMIT = "echo {} > /proc/sys/user/max_inotify_watches"
# An inode that no watch is on.
NEW_FOLDER = "mv /etc/postfix /etc/postfix.old; cp -a /etc/postfix.old /etc/postfix"

# A machine's clock is its host's. The agent gets one of its own, which a file says how to set.
CLOCK = """
import time
now, local = time.time, time.localtime

def shifted():
    with open("/etc/shift") as file:
        return now() + float(file.read())

time.time = shifted
time.time_ns = lambda: int(shifted() * 1e9)
time.localtime = lambda seconds=None: local(shifted() if seconds is None else seconds)
from pf_agent.cli.main import entry
entry()
"""
WITH_CLOCK = "[Service]\nExecStart=\nExecStart=/usr/bin/python3 /etc/clock.py run\n"
DAY = 86_400

LARGE = 'python3 -c \'print("note = " + "x" * 8000000)\' >> ' + MAIN_CF


@pytest.fixture(autouse=True)
def _as_before(site: Site) -> Iterator[None]:
    site.wait_remembered()
    site.end_contest()
    site.forget_restarts()
    yield
    site.wait_settled()


def host_pid(site: Site, pid: str) -> str:
    """The number that the host has for a process of the machine (proc(5), NSpid)."""
    same = ["pgrep", "--ns", str(site.machine.leader), "--nslist", "pid", "--full", "pf-agent run"]
    for found in subprocess.run(same, capture_output=True, text=True, check=True).stdout.split():
        with open(f"/proc/{found}/status") as file:
            if any(line.split() == ["NSpid:", found, pid] for line in file):
                return found
    raise AssertionError(f"the host knows no {pid} of the machine")


def test_no_more_watches(site: Site) -> None:
    """What it does not hear of it finds by looking, and says that it is deaf."""
    site.dropin("pf-agent.service", "users", USERS)
    site.machine.run(["systemctl", "restart", "pf-agent"])
    calm = Calm.before(site)
    inside = ["nsenter", "--user", "-t", host_pid(site, calm.pid), "sh", "-c"]
    subprocess.run([*inside, LIMIT.format(0)], check=True)
    site.machine.sh(NEW_FOLDER)
    calm.noted("cannot watch /etc/postfix, /etc/postfix/main.cf: inotify watch limit reached; ")
    site.machine.sh(INTRUDE)
    calm.returns()
    calm.is_kept()
    subprocess.run([*inside, LIMIT.format(1000)], check=True)
    calm.noted("now watching /etc/postfix")
    site.machine.sh("rm -r /etc/postfix.old")
    site.dropin("pf-agent.service", "users", "")
    site.machine.run(["systemctl", "restart", "pf-agent"])


def test_memory_that_a_look_cannot_have(site: Site) -> None:
    calm = Calm.before(site)
    limit = f"--as=$(( $(grep VmSize: /proc/{calm.pid}/status | tr -dc 0-9) * 1024 + 1000000 ))"
    site.machine.sh(f"prlimit --pid {calm.pid} {limit}:")
    site.machine.sh(f"{LARGE}; {INTRUDE}")
    calm.told("correction-failed", "main.cf: not enough memory for a look; raise")
    calm.is_kept()
    site.machine.run(["prlimit", "--pid", calm.pid, "--as=unlimited:"])
    site.machine.wait_until(f"grep -q '^mynetworks = 127' {MAIN_CF}")
    site.put(site.good)
    calm.returns()


def test_a_main_cf_beyond_measure(site: Site) -> None:
    calm = Calm.before(site)
    site.machine.run(["truncate", "--size=100M", MAIN_CF])
    calm.told("drift-detected", "it is larger than")
    calm.returns()
    calm.is_kept()


def test_a_start_with_too_little_memory_says_so(site: Site) -> None:
    """What finds none first depends on the release: the start fails, or goes on with less."""
    site.dropin("pf-agent.service", "memory", "[Service]\nLimitAS=34M\n")
    since = site.cursor()
    site.machine.run(["systemctl", "restart", "--no-block", "pf-agent"])

    def shown() -> str:
        return "\n".join(site.said(since))

    # A thread that gets none to begin with is waited for by Python (Thread.start) until systemd's
    # TimeoutStartSec=, 90 s.
    eventually(lambda: " raise its limit" in shown(), "it says so", 400)
    assert "Traceback" not in shown()
    site.machine.sh(INTRUDE)
    site.dropin("pf-agent.service", "memory", "")
    # Where it waits for its next start, there is none to be killed.
    site.machine.run(["systemctl", "kill", "--signal=KILL", "pf-agent"], check=False)
    site.wait_right()


@pytest.mark.parametrize("first", [DAY, -DAY])
def test_a_clock_that_jumps(site: Site, first: int) -> None:
    """There, and back again."""
    site.machine.write_text("/etc/clock.py", CLOCK)
    site.machine.write_text("/etc/shift", "0")
    site.dropin("pf-agent.service", "clock", WITH_CLOCK)
    site.machine.run(["systemctl", "restart", "pf-agent"])
    calm = Calm.before(site)
    for shift in (first, 0):
        site.machine.sh(f"echo {shift} > /etc/shift.new; mv /etc/shift.new /etc/shift")
        site.machine.sh(INTRUDE)
        calm.returns()
        told = site.show("pf-agent", "StatusText")
        assert told.startswith("in sync: 21 parameters; last drift less than a minute ago")
    calm.is_kept()
    assert len(site.drift_of(calm.since)) == 2
    assert not site.records("contested", calm.since)
    site.dropin("pf-agent.service", "clock", "")
    site.machine.run(["systemctl", "restart", "pf-agent"])
