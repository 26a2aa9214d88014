"""`activation = "auto"`: a reload where Postfix's documents say that it suffices."""

from __future__ import annotations

import subprocess

import pytest

from tests.machine.nspawn import Machine
from tests.machine.site import AGENT_TOML, EXTRA, SETTLE_SECONDS, Site, eventually

BANNER = """
import socket
with socket.create_connection(("127.0.0.1", 25), timeout=20) as talk:
    print(talk.makefile().readline().strip())
"""

# Leaves as many smtpd processes, which wait for a next client (postconf(5), max_idle). Then master
# is slow to hear of a reload: it has a quarter of a second to wait once SIGHUP was sent to it.
IDLE_AND_SLOW = """
import os, signal, socket, time
talks = [socket.create_connection(("127.0.0.1", 25), timeout=20) for _ in range(20)]
for talk in talks:
    talk.makefile().readline()
for talk in talks:
    talk.sendall(b"QUIT\\r\\n")
    talk.makefile().readline()
    talk.close()
with open("/var/spool/postfix/pid/master.pid") as file:
    master = int(file.read())
os.kill(master, signal.SIGSTOP)
print("stopped", flush=True)
try:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with open(f"/proc/{master}/status") as file:
            (pending,) = [line.split()[1] for line in file if line.startswith("ShdPnd:")]
        if int(pending, 16) & 1:
            time.sleep(0.25)
            break
finally:
    os.kill(master, signal.SIGCONT)
"""


@pytest.fixture(scope="module")
def site(agent_machine: Machine) -> Site:
    site = Site.prepared(agent_machine)
    site.machine.write_text(AGENT_TOML, 'activation = "auto"\n')
    site.machine.run(["systemctl", "reload", "pf-agent"])
    return site


def activated(site: Site, since: str) -> str:
    """What the record of the activation says."""
    eventually(lambda: bool(site.records("activated", since)), "an activation", SETTLE_SECONDS)
    (record,) = site.records("activated", since)
    return str(record["MESSAGE"])


@pytest.mark.parametrize("number", range(3))
def test_a_banner_is_reloaded(site: Site, number: int) -> None:
    site.forget_restarts()
    since, before = site.cursor(), site.show(site.unit, "InvocationID")
    banner = f"number{number}.example.test ESMTP"
    site.machine.write_text(EXTRA, f'[settings]\nsmtpd_banner = "{banner}"\n')
    assert "reloaded, serves after" in activated(site, since)
    assert site.show(site.unit, "InvocationID") == before
    assert site.run_python(BANNER).strip() == f"220 {banner}"


def test_an_idle_smtpd_from_before_does_not_answer_for_a_reload(site: Site) -> None:
    """It greets as before and knows nothing of the filter that the new ones cannot reach."""
    site.forget_restarts()
    # A smtpd that has the alias table open ends where newaliases has changed it.
    local, since = '[settings]\nlocal_recipient_maps = ""\n', site.cursor()
    site.machine.write_text(EXTRA, local)
    activated(site, since)
    # Judged and reloaded without a complaint: outside Debian's chroot the socket may be there.
    before, since = site.read(), site.cursor()
    command = ["timeout", "100", "python3", "-c", IDLE_AND_SLOW]
    with site.machine.start(command, stdout=subprocess.PIPE) as slow:
        assert slow.stdout is not None
        assert slow.stdout.readline() == b"stopped\n"
        site.machine.write_text(EXTRA, f'{local}smtpd_milters = "unix:/run/filter.sock"\n')
        eventually(lambda: bool(site.records("activated", since)), "an activation", SETTLE_SECONDS)
    # One of the parameter, one that sums it up.
    assert len(site.records("rolled-back", since)) == 2
    assert site.read() == before
    assert site.serves()


def test_an_interface_needs_a_restart(site: Site) -> None:
    site.forget_restarts()
    since, before = site.cursor(), site.show(site.unit, "InvocationID")
    site.machine.write_text(EXTRA, '[settings]\ninet_interfaces = "127.0.0.1"\n')
    assert "restarted, up after" in activated(site, since)
    assert site.show(site.unit, "InvocationID") != before


def test_a_postfix_that_is_down_is_started(site: Site) -> None:
    site.forget_restarts()
    since = site.cursor()
    site.machine.run(["systemctl", "kill", "--signal=KILL", site.unit])
    site.machine.write_text(EXTRA, "[settings]\nsmtpd_helo_required = true\n")
    assert "restarted, up after" in activated(site, since)
    assert site.serves()
