"""The agent is killed, stopped, loses power: what was unfinished is taken up, nothing lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pf_agent import names
from pf_agent.files.displaced_texts import DISPLACED_BYTES, DISPLACED_COUNT
from tests.machine.nspawn import Machine
from tests.machine.site import DISPLACED, MAIN_CF, PENDING, Site, eventually

RIGHT = b"mynetworks = 127.0.0.0/8 [::1]/128 172.16.0.0/12 [fe80::]/64\n"
UNIT = "pf-agent.service"

# Writes drift until the file `stop` is there, each text whole and with a number of its own.
_WRITER = r"""
import os, random, sys, time
path, good, right, stop = sys.argv[1], open(sys.argv[2]).read(), sys.argv[3], "/run/stop"
random.seed(4711)
number = 0
while not os.path.exists(stop):
    number += 1
    wrong = f"mynetworks = 10.{number >> 8}.{number & 255}.0/24\n"
    with open(path + ".new", "w") as file:
        file.write(good.replace(right, wrong))
    os.rename(path + ".new", path)
    time.sleep(random.random() * 0.03)
print(number)
"""

# Kills the agent so many times, each time at a random moment of its life.
_KILLER = r"""
import os, random, subprocess, sys, time
random.seed(int(sys.argv[2]))

def main_pid():
    show = ["systemctl", "show", "-P", "MainPID", "pf-agent.service"]
    return int(subprocess.run(show, stdout=subprocess.PIPE, check=True).stdout)

for _ in range(int(sys.argv[1])):
    # It starts after Postfix, and whoever rewrites main.cf all the time holds up a reload of
    # Postfix until systemd ends it, after 90 s.
    deadline = time.monotonic() + 120
    while not (pid := main_pid()):
        assert time.monotonic() < deadline, "the agent was not started again"
    time.sleep(random.random() * 0.6)
    os.kill(pid, 9)
    while main_pid() == pid:
        assert time.monotonic() < deadline
"""

# Makes that many corrections, one after the other, each of a text of its own.
_CORRECTIONS = r"""
import os, sys, time
path, right, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
good = open(path).read()
for number in range(count):
    wrong = f"mynetworks = 10.{number >> 8}.{number & 255}.0/24\n"
    with open(path + ".new", "w") as file:
        file.write(good.replace(right, wrong))
    os.rename(path + ".new", path)
    deadline = time.monotonic() + 30
    while open(path).read() != good:
        assert time.monotonic() < deadline, f"correction {number} was not made"
        time.sleep(0.001)
"""

# The displaced texts: name, size, the value of mynetworks, and whether all else is as it was.
_TEXTS = r"""
import json, os, re, sys
folder, good = sys.argv[1], open(sys.argv[2]).read()
found = []
for name in sorted(n for n in os.listdir(folder) if not n.startswith(".")):
    text = open(os.path.join(folder, name)).read()
    value = re.search(r"^mynetworks = (.*)\n", text, re.M)
    plain = re.sub(r"(?m)^mynetworks = .*\n", sys.argv[3], text)
    found.append([name, len(text), value and value[1], plain == good])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def site(agent_machine: Machine) -> Site:
    prepared = Site.prepared(agent_machine)
    # So that many crashes do not take long; that it is started again is what counts.
    prepared.dropin(UNIT, "quick", "[Service]\nRestartSec=50ms\n")
    agent_machine.write_bytes("/root/good", prepared.good)
    return prepared


def displaced(site: Site) -> list[Any]:
    found: list[Any] = json.loads(site.run_python(_TEXTS, DISPLACED, "/root/good", RIGHT.decode()))
    return found


def displaced_by(site: Site, count: int) -> list[Any]:
    """Make so many corrections; return the texts that are kept after them."""
    site.run_python(_CORRECTIONS, MAIN_CF, RIGHT.decode(), str(count), timeout=200)
    # main.cf is right before the oldest text goes; this returns once that correction has ended.
    site.machine.run(["systemctl", "reload", "pf-agent"])
    return displaced(site)


def drift(site: Site, value: str = "0.0.0.0/0") -> None:
    site.machine.run(["sed", "-i", f"s|^mynetworks *=.*|mynetworks = {value}|", MAIN_CF])


def kill(site: Site) -> str:
    """kill -9; return the process that was killed."""
    killed = site.show(UNIT, "MainPID")
    site.machine.run(["kill", "-9", killed])
    return killed


def wait_started_again(site: Site, killed: str) -> None:
    eventually(
        lambda: (
            site.show(UNIT, "MainPID") not in ("0", killed)
            and site.show(UNIT, "ActiveState") == "active"
        ),
        "systemd starts the agent again",
    )


def is_pending(site: Site) -> bool:
    return site.machine.run(["test", "-e", PENDING], check=False).returncode == 0


def nothing_stray(site: Site) -> None:
    """Not before the next correction: a killed process cannot tidy up."""
    drift(site)
    site.wait_right()
    shown = f"ls -A /etc/postfix {DISPLACED} | grep -e pf-agent- -e main.cf.tmp -e .new; true"
    eventually(lambda: site.machine.sh(shown) == "", "no stray file is left")


def test_killed_between_the_change_and_the_end_of_the_restart(site: Site) -> None:
    since, before = site.cursor(), site.show(site.unit, "InvocationID")
    with site.gate() as gate:
        drift(site)
        gate.wait_reached()
        site.wait_right()
        assert is_pending(site)
        killed = kill(site)
        assert is_pending(site)
        # Ordered after Postfix, the agent comes when that start is over.
        gate.open()
        wait_started_again(site, killed)
        site.wait_settled()
    site.wait_right()
    assert not is_pending(site)
    assert site.show(site.unit, "InvocationID") not in ("", before)
    activated = [r for r in site.records("activated", since) if names.FIELD_CYCLE in r]
    corrected = site.records("drift-corrected", since)
    assert activated[-1][names.FIELD_CYCLE] == corrected[-1][names.FIELD_CYCLE]
    assert site.serves()


def test_killed_between_the_change_and_the_restart(site: Site) -> None:
    """A restart was made a moment ago, so the next one waits: the marker alone knows of it."""
    before = site.show(site.unit, "InvocationID")
    drift(site)
    site.wait_right()
    assert is_pending(site)
    wait_started_again(site, kill(site))
    site.wait_settled()
    assert site.show(site.unit, "InvocationID") not in ("", before)


def test_drift_while_the_agent_is_stopped_is_corrected_at_its_start(site: Site) -> None:
    site.machine.run(["systemctl", "stop", "pf-agent"])
    since = site.cursor()
    site.machine.run(["postconf", "-e", "mynetworks=0.0.0.0/0", "smtpd_banner=x"])
    site.machine.run(["chmod", "600", MAIN_CF])
    site.machine.run(["systemctl", "start", "pf-agent"])
    site.wait_right()
    found = {record[names.FIELD_PARAMETER] for record in site.drift_of(since)}
    assert found == {"", "mynetworks", "smtpd_banner"}


def test_after_a_start_the_right_text_is_judged_before_a_drift_needs_it(site: Site) -> None:
    site.wait_settled()
    site.machine.run(["systemctl", "restart", UNIT])
    # Nothing else has it run an errand where nothing is amiss.
    site.machine.wait_until("systemctl -q is-active pf-agent-errands.service")


def test_killed_at_random_moments_while_drift_is_written(site: Site) -> None:
    site.machine.run(["rm", "-f", "/run/stop"])
    known = {name for name, *_ in displaced(site)}
    command = ["python3", "-c", _WRITER, MAIN_CF, "/root/good", RIGHT.decode()]
    with site.machine.start(command) as writer:
        try:
            site.run_python(_KILLER, "20", "815", timeout=400)
        finally:
            site.machine.run(["touch", "/run/stop"])
        assert writer.wait(timeout=30) == 0
    site.wait_right()
    found = [text for text in displaced(site) if text[0] not in known]
    assert found
    assert [text for text in found if not text[3]] == []
    nothing_stray(site)


def test_the_displaced_texts_are_kept_whole_and_bounded(site: Site) -> None:
    count = DISPLACED_COUNT + 5
    found = displaced_by(site, count)
    assert len(found) == DISPLACED_COUNT
    numbers = range(count - DISPLACED_COUNT, count)
    assert [text[2] for text in found] == [f"10.{n >> 8}.{n & 255}.0/24" for n in numbers]
    assert all(text[3] for text in found)


def test_the_displaced_texts_are_bounded_in_size(site: Site) -> None:
    long = 5_000_000
    site.put(site.good + b"#" * long + b"\n")
    sizes = [text[1] for text in displaced_by(site, 12)]
    assert DISPLACED_BYTES - 2 * long < sum(sizes) <= DISPLACED_BYTES
    site.put(site.good)
    site.wait_right()


def test_power_cut_right_after_a_drift(site: Site) -> None:
    site.end_contest()
    site.wait_settled()
    drift(site)
    site.machine.kill()
    site.machine.boot()
    site.wait_right()
    site.wait_settled()
    assert site.serves()
    nothing_stray(site)


def test_power_cut_before_the_restart_is_over(site: Site) -> None:
    since = site.cursor()
    with site.gate() as gate:
        drift(site)
        gate.wait_reached()
        site.wait_right()
        cycle = json.loads(site.machine.read_text(PENDING))["cycle"]
        site.machine.run(["rm", f"/etc/systemd/system/{site.unit}.d/gate.conf"])
        site.machine.kill()
    site.machine.boot()
    site.wait_right()
    site.wait_settled()
    activated = [record.get(names.FIELD_CYCLE) for record in site.records("activated", since)]
    assert str(cycle) in activated  # the aliases are built again besides
    assert site.serves()
