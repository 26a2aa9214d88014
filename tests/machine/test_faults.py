"""When the desired state, an intruder or the machine itself gets in the way of Postfix."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pf_agent import names
from tests.machine.nspawn import Machine
from tests.machine.site import EXTRA, INTRUDE, MAIN_CF, SETTLE_SECONDS, Site, eventually

pytestmark = pytest.mark.long

# What the site has of its own, and the desired state does not name.
OWN = """
# our own certificate
smtpd_tls_cert_file = /etc/ssl/certs/mail.pem
smtpd_tls_key_file = /etc/ssl/private/mail.key
smtpd_helo_required = yes
"""

TAKE_PORT_25 = """
import socket, time
port = socket.socket()
port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
port.bind(("0.0.0.0", 25))
port.listen()
print("taken", flush=True)
time.sleep(3600)
"""


@pytest.fixture(scope="module")
def site(agent_machine: Machine) -> Site:
    site = Site.prepared(agent_machine)
    site.machine.write_bytes(MAIN_CF, site.good + OWN.encode())
    site.good += OWN.encode()
    site.wait_remembered()
    return site


@pytest.fixture(autouse=True)
def _at_rest(site: Site) -> Iterator[None]:
    site.forget_restarts()
    yield
    site.take_back_extra()
    site.machine.wait_until("pf-agent diff")
    if site.read() != site.good:
        site.put(site.good)
    site.wait_settled()


def failures(site: Site, since: str) -> list[str]:
    return [r[names.FIELD_REASON] for r in site.records("activation-failed", since)]


def wait_for_failure(site: Site, since: str) -> str:
    eventually(lambda: bool(failures(site, since)), "a record of the failure")
    return failures(site, since)[0]


def wait_for_activation(site: Site, since: str) -> None:
    eventually(lambda: bool(site.records("activated", since)), "an activation", SETTLE_SECONDS)
    site.wait_settled()
    assert site.serves()


@contextmanager
def program_at_port_25(site: Site) -> Iterator[None]:
    """Another program listens there, and never says a word."""
    command = ["timeout", "300", "python3", "-c", TAKE_PORT_25]
    with site.machine.start(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"taken\n"
        yield
        site.machine.sh("kill $(ss -Hltnp 'sport = :25' | grep -o 'pid=[0-9]*' | cut -d= -f2)")


# The desired state itself


def test_a_value_that_no_judge_sees_shows_at_the_port(site: Site) -> None:
    """A table that fails when it is asked: the units are up, and every RCPT gets a 451."""
    before, since = site.read(), site.cursor()
    site.machine.write_text(
        EXTRA, '[settings]\nsmtpd_recipient_restrictions = "check_client_access fail:down"\n'
    )
    reason = wait_for_failure(site, since)
    assert "RCPT got 451" in reason
    # It was not so before, so it is rejected.
    wait_for_activation(site, since)
    site.wait_right(before)
    assert reason in site.agent("status").stdout
    assert "1 configuration error" in site.show("pf-agent", "StatusText")
    since = site.cursor()
    site.machine.write_text(
        EXTRA, '[settings]\nsmtpd_recipient_restrictions = "reject_unauth_destination"\n'
    )
    wait_for_activation(site, since)
    assert site.agent("status").returncode == 0


def test_a_value_that_postfix_refuses_is_not_installed(site: Site) -> None:
    before, since = site.read(), site.cursor()
    invocation = site.show(site.unit, "InvocationID")
    site.machine.write_text(EXTRA, '[settings]\nmessage_size_limit = "ten"\n')
    eventually(lambda: bool(site.records("config-rejected", since)), "a rejection")
    (record,) = site.records("config-rejected", since)
    assert "message_size_limit" in record["MESSAGE"]
    assert "ten" in record["MESSAGE"]
    assert site.read() == before
    eventually(lambda: "message_size_limit" in site.agent("status").stdout, "a status of it")
    # What was in force before is in force still.
    site.machine.sh(INTRUDE)
    site.wait_right(before)
    check = site.agent("check")
    assert check.returncode == 2
    assert "message_size_limit" in check.stdout
    site.take_back_extra()
    site.wait_settled()
    assert "message_size_limit" not in site.agent("status").stdout
    assert invocation != site.show(site.unit, "InvocationID")  # for the intruder's drift alone
    assert site.serves()


# An intruder


@pytest.mark.parametrize("line", ["default_privs = root", "data_directory ="])
def test_what_postfix_cannot_run_with_goes_with_the_drift(site: Site, line: str) -> None:
    """The desired state does not name it: the last good text comes back in its place."""
    since = site.cursor()
    wrong = site.good.replace(b"smtpd_banner = $myhostname ESMTP\n", b"smtpd_banner = oops\n")
    name = line.split(" ")[0]
    lines = [text for text in wrong.split(b"\n") if not text.startswith(f"{name} =".encode())]
    wrong = b"\n".join(lines) + f"{line}\n".encode()
    site.put(wrong)
    site.wait_right()
    kinds = {r[names.FIELD_KIND]: r for r in site.drift_of(since)}
    assert kinds["changed"][names.FIELD_PARAMETER] == "smtpd_banner"
    assert name in kinds["absent-file"][names.FIELD_ACTUAL]
    eventually(lambda: bool(site.records("drift-corrected", since)), "the correction")
    (record,) = site.records("drift-corrected", since)
    assert site.machine.read_bytes(record[names.FIELD_DISPLACED]) == wrong
    wait_for_activation(site, since)


@pytest.mark.parametrize(
    "way",
    [
        f"rm {MAIN_CF}",
        f": > {MAIN_CF}",
        f"truncate --size=900 {MAIN_CF}",
        f"rm {MAIN_CF}; ln -s /nowhere {MAIN_CF}",
    ],
)
def test_a_destroyed_main_cf_comes_back_whole(site: Site, way: str) -> None:
    site.wait_remembered()
    since = site.cursor()
    site.machine.sh(way)
    site.wait_right()
    wait_for_activation(site, since)
    assert site.explicit()["smtpd_tls_cert_file"] == "/etc/ssl/certs/mail.pem"


# Postfix's unit


def test_the_start_limit_does_not_keep_mail_down(site: Site) -> None:
    # Where a start takes two seconds, systemd's ten would be over before the limit is reached.
    site.dropin(site.unit, "limit", "[Unit]\nStartLimitIntervalSec=60\n")
    site.machine.sh(
        f"for i in 1 2 3 4 5 6 7; do systemctl restart {names.POSTFIX_UNIT}; done", check=False
    )
    assert site.show(site.unit, "Result") == "start-limit-hit"
    assert not site.serves()
    since = site.cursor()
    site.machine.sh(INTRUDE)
    site.wait_right()
    wait_for_activation(site, since)
    assert site.show(site.unit, "ActiveState") == "active"
    site.dropin(site.unit, "limit", "")


def test_a_port_that_another_program_holds(site: Site) -> None:
    site.machine.run(["systemctl", "stop", names.POSTFIX_UNIT, site.unit])
    with program_at_port_25(site):
        since = site.cursor()
        # Stopped, it would be left so; it is to be up, and cannot.
        site.machine.run(["systemctl", "start", site.unit], check=False)
        site.machine.sh(INTRUDE)
        site.wait_right()
        assert wait_for_failure(site, since)
        eventually(lambda: site.agent("status").returncode == 1, "a status that says so")
        assert "Postfix does not serve as it should" in site.agent("status").stdout
    # Nobody does anything: the agent tries again by itself.
    wait_for_activation(site, since)
    assert site.agent("status").returncode == 0


def test_a_postfix_that_was_killed_comes_up_with_a_correction(site: Site) -> None:
    site.machine.run(["systemctl", "kill", "--signal=KILL", site.unit])
    since = site.cursor()
    site.machine.sh(INTRUDE)
    site.wait_right()
    wait_for_activation(site, since)


# systemd, D-Bus, the journal

TURMOIL = {
    "systemd re-executed": "systemctl daemon-reexec",
    "units reloaded": "systemctl daemon-reload",
    "dbus killed": "systemctl kill --signal=KILL --kill-who=main dbus.service",
    "dbus restarted": "systemctl restart dbus.service",
    "journald restarted": "systemctl restart systemd-journald",
    "journald killed": "systemctl kill --signal=KILL --kill-who=main systemd-journald",
}


@pytest.mark.parametrize("what", TURMOIL)
def test_the_agent_goes_on_after(site: Site, what: str) -> None:
    agent_before = site.show("pf-agent", "MainPID")
    since = site.cursor()
    site.machine.sh(TURMOIL[what])
    site.machine.wait_until("systemctl is-system-running | grep -qE 'running|degraded'")
    site.machine.sh(INTRUDE)
    site.wait_right()
    wait_for_activation(site, since)
    assert len(site.drift_of(since)) == 1
    assert site.show("pf-agent", "MainPID") == agent_before
    status = json.loads(site.agent("status", "--json").stdout)
    assert status["last_drift"]["parameters"] == ["mynetworks"]
    assert site.show("pf-agent", "StatusText").startswith("in sync: 21 parameters")
