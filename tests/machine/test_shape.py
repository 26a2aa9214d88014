"""The units of Postfix change their shape under the agent, as in an upgrade of Debian 12 to 13."""

from __future__ import annotations

import pytest

from tests.machine.nspawn import Machine
from tests.machine.site import Site

ETC = "/etc/systemd/system"
UMBRELLA, INSTANCE = "postfix.service", "postfix@-.service"
# Debian 12: an umbrella, and a template for every instance.
OF_12 = {
    UMBRELLA: f"""
[Unit]
Wants={INSTANCE}
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
[Install]
WantedBy=multi-user.target
""",
    "postfix@.service": f"""
[Unit]
PartOf={UMBRELLA}
Before={UMBRELLA}
[Service]
Type=forking
GuessMainPID=no
ExecStart=/usr/sbin/postmulti -i %i -p start
ExecStop=/usr/sbin/postmulti -i %i -p stop
""",
}
# Debian 13: the default instance has the unit to itself, and the template is for the others.
OF_13 = {
    UMBRELLA: f"""
[Unit]
Conflicts={INSTANCE}
[Service]
Type=forking
Environment=MAIL_CONFIG=/etc/postfix
ExecStart=/usr/sbin/postfix start
ExecStop=/usr/sbin/postfix stop
[Install]
WantedBy=multi-user.target
""",
    "postfix@.service": f"""
[Unit]
PartOf={UMBRELLA}
Before={UMBRELLA}
[Service]
Type=forking
Environment=MAIL_CONFIG=/etc/postfix-%I
ExecStart=/usr/sbin/postfix start
ExecStop=/usr/sbin/postfix stop
""",
}


def install(machine: Machine, units: dict[str, str]) -> None:
    for name, text in units.items():
        machine.write_text(f"{ETC}/{name}", text)
    machine.run(["systemctl", "daemon-reload"])


@pytest.fixture(scope="module")
def site(agent_machine: Machine) -> Site:
    """Postfix runs by the units of 12, and those of 13 are there by now."""
    # Of 12; the link that it makes would outlast the unit that it is for.
    agent_machine.sh("mkdir -p /etc/systemd/system-generators")
    agent_machine.sh("ln -s /dev/null /etc/systemd/system-generators/postfix-instance-generator")
    agent_machine.run(["systemctl", "stop", UMBRELLA])
    install(agent_machine, OF_12)
    agent_machine.run(["systemctl", "start", UMBRELLA])
    site = Site.prepared(agent_machine)
    assert site.unit == INSTANCE
    install(agent_machine, OF_13)
    site.wait_settled()
    return site


def test_a_drift_after_it_takes_one_restart_and_leaves_no_failed_unit(site: Site) -> None:
    # What Debian 13's maintainer script is told, too.
    refused = site.machine.run(["systemctl", "restart", UMBRELLA], check=False)
    assert refused.returncode != 0
    assert site.show(INSTANCE, "ActiveState") == "active"
    since, site.unit = site.cursor(), UMBRELLA
    site.drift_once()
    assert len(site.starts(since)) == 1
    assert site.records("activation-failed", since) == []
    assert site.unit_of_master() == UMBRELLA
    assert site.serves()
    assert site.show(INSTANCE, "ActiveState") == "inactive"
    assert site.machine.run(["systemctl", "is-system-running"]).stdout == "running\n"


def test_from_then_on_a_drift_is_what_it_was(site: Site) -> None:
    since = site.cursor()
    site.drift_once()
    assert len(site.starts(since)) == 1
    assert site.records("activation-failed", since) == []
