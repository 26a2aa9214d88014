"""Postfix's own package at work while the agent runs: an upgrade, and dpkg-reconfigure."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.machine.nspawn import Machine
from tests.machine.site import MAIN_CF, QUIET, SETTLE_SECONDS, Site

# The same package under a higher version: dpkg then runs every maintainer script of an upgrade.
BUMP = """
set -e
rm -rf /root/bumped && dpkg-deb -R /srv/postfix/postfix_*.deb /root/bumped
sed -i 's/^Version: .*/&+next1/' /root/bumped/DEBIAN/control
dpkg-deb -Znone -b /root/bumped /root/postfix-next.deb
"""
ANSWERS = """\
postfix postfix/main_mailer_type select Internet Site
postfix postfix/mailname string other.example.test
postfix postfix/destinations string other.example.test, localhost
postfix postfix/mynetworks string 10.0.0.0/8
postfix postfix/mailbox_limit string 12345678
postfix postfix/protocols select ipv4
postfix postfix/recipient_delim string -
"""


@pytest.fixture(scope="module")
def site(agent_machine: Machine) -> Site:
    agent_machine.sh(BUMP, timeout=180)
    return Site.prepared(agent_machine)


@pytest.fixture(autouse=True)
def _rested(site: Site) -> Iterator[None]:
    site.forget_restarts()
    yield
    site.machine.wait_until("pf-agent diff", SETTLE_SECONDS)
    site.wait_settled()


def holds(site: Site) -> None:
    """The settings hold, Postfix runs with them, and dpkg has no complaint."""
    site.machine.wait_until("pf-agent diff", SETTLE_SECONDS)
    site.wait_settled()
    assert site.is_obeyed()
    assert site.serves()
    status = site.machine.run(["dpkg-query", "-W", "-f", "${Status}", "postfix"]).stdout
    assert status == "install ok installed"
    assert site.machine.run(["dpkg", "--audit"]).stdout == ""
    stray = site.machine.sh("ls /etc/postfix | grep -e main.cf.tmp -e pf-agent || true")
    assert stray == ""


def test_an_upgrade_of_postfix_succeeds_and_the_settings_hold(site: Site) -> None:
    since = site.cursor()
    site.machine.run(["dpkg", "-i", "/root/postfix-next.deb"], timeout=180, env=QUIET)
    version = site.machine.run(["dpkg-query", "-W", "-f", "${Version}", "postfix"]).stdout
    assert version.endswith("+next1")
    holds(site)
    assert site.records("activation-failed", since) == []
    assert site.machine.run(["systemctl", "is-active", "pf-agent"]).stdout == "active\n"


def test_an_upgrade_amid_drift_succeeds(site: Site) -> None:
    """Drift is written and corrected all the while that the maintainer scripts run."""
    machine = site.machine
    script = (
        "while ! test -e /run/enough; do"
        f" sed -i 's|^mynetworks *=.*|mynetworks = 0.0.0.0/0|' {MAIN_CF}; sleep 0.3; done"
    )
    with machine.start(["timeout", "120", "sh", "-c", script]) as intruder:
        machine.run(["dpkg", "-i", "/root/postfix-next.deb"], timeout=180, env=QUIET)
        machine.run(["touch", "/run/enough"])
        assert intruder.wait(60) == 0
    site.forget_restarts()
    holds(site)


def test_dpkg_reconfigure_succeeds_and_the_settings_hold(site: Site) -> None:
    machine = site.machine
    machine.run(["debconf-set-selections"], input=ANSWERS)
    machine.run(["dpkg-reconfigure", "-f", "noninteractive", "postfix"], timeout=180, env=QUIET)
    holds(site)
    wanted = site.desired().settings
    explicit = site.explicit()
    assert explicit["mynetworks"].split() == wanted["mynetworks"].split()
    assert explicit["inet_protocols"] == "all"
    assert explicit["mailbox_size_limit"] == wanted["mailbox_size_limit"]


def test_what_the_maintainer_scripts_write_of_others_is_kept(site: Site) -> None:
    """postinst writes by `postconf -e` and `sed -i`; what nobody named must come through."""
    machine = site.machine
    for number in range(10):
        machine.run(["postconf", "-e", f"sample_{number} = {number}", "mynetworks = 10.0.0.0/8"])
    site.machine.wait_until("pf-agent diff", SETTLE_SECONDS)
    text = site.read().decode()
    assert [f"sample_{n} = {n}" in text for n in range(10)] == [True] * 10
    assert f"mynetworks = {site.desired().settings['mynetworks']}" in text
