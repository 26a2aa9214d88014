"""What happens to a server at night: unattended-upgrades, a dpkg that breaks off, needrestart."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from pf_agent import names
from pf_agent.activation.steps import DPKG_WORKS
from tests.machine.nspawn import Machine
from tests.machine.site import INTRUDE, QUIET, SETTLE_SECONDS, Site, eventually
from tests.machine.test_upgrade import holds

pytestmark = pytest.mark.long

AGENT = "pf-agent.service"
# The packages of now under higher versions, built in /srv/night. One of Postfix fails to be
# configured as long as /srv/fails is there, and waits as long as /srv/waits is.
MAKE = r"""
set -e
mkdir -p /srv/night
next() {
    rm -rf /srv/work && dpkg-deb -R "$1" /srv/work && cd /srv/work
    sed -i "s/^Version: .*/Version: $3/" DEBIAN/control
    eval "$4"
    dpkg-deb -Znone -b . "/srv/night/$2.deb" && cd / && rm -rf /srv/work
}
version=$(dpkg-query -W -f '${Version}' postfix)
next /srv/postfix/postfix_*.deb postfix-next "$version+next1"
next /srv/apt/pf-agent_*.deb pf-agent-next 99.0
next /srv/postfix/postfix_*.deb postfix-late "$version+next2" '
    sed -i "2i touch /run/configures; while test -e /srv/waits; do sleep 0.1; done" DEBIAN/postinst
    sed -i "3i if test -e /srv/fails; then exit 1; fi" DEBIAN/postinst'
"""
LATE = "/srv/night/postfix-late.deb"
NIGHTLY = """\
APT::Periodic::Enable "1";
APT::Periodic::Unattended-Upgrade "always";
Unattended-Upgrade::Origins-Pattern { "origin=*"; };
"""
# As an upgrade of a library does: what runs has the old file mapped, which has no name any more.
REPLACE = 'for file in {files}; do cp -p "$file" "$file.new" && mv "$file.new" "$file"; done'
AGENTS_OWN = "/usr/lib/python3/dist-packages/gi/_gi.cpython-*.so"
EVERYBODYS = "/usr/lib/*-linux-gnu/libc.so.6"
# Batch mode tells what is to be restarted, and does not do it.
TELL, DO = ["needrestart", "-b"], ["needrestart", "-r", "a"]


@pytest.fixture(scope="module")
def site(agent_machine: Machine) -> Site:
    agent_machine.sh(MAKE, timeout=180)
    return Site.prepared(agent_machine)


@pytest.fixture(autouse=True)
def _at_rest(site: Site) -> Iterator[None]:
    site.forget_restarts()
    since = site.cursor()
    yield
    holds(site)
    site.wait_right()
    assert no_traceback(site, since)


def no_traceback(site: Site, since: str) -> bool:
    said = site.machine.journal(f"--after-cursor={since}")
    return not any("Traceback" in str(entry.get("MESSAGE")) for entry in said)


def version(site: Site, package: str) -> str:
    return site.machine.run(["dpkg-query", "-W", "-f", "${Version}", package]).stdout


def state(site: Site, package: str) -> str:
    return site.machine.run(["dpkg-query", "-W", "-f", "${db:Status-Status}", package]).stdout


def configure(site: Site) -> None:
    """What an administrator does in the morning."""
    site.machine.run(["dpkg", "--configure", "-a"], timeout=180, env=QUIET)


def test_unattended_upgrades_take_postfix_and_the_agent(site: Site) -> None:
    machine = site.machine
    machine.install_kept("unattended-upgrades")
    machine.write_text("/etc/apt/apt.conf.d/90night", NIGHTLY)
    machine.serve_apt(
        [machine.at(f"/srv/night/{name}-next.deb") for name in ("postfix", "pf-agent")]
    )
    site.wait_settled()
    since, before = site.cursor(), len(site.starts_of_boot())
    machine.run(["systemctl", "start", "apt-daily-upgrade.service"], timeout=300)
    log = machine.sh("cat /var/log/unattended-upgrades/*.log")
    assert version(site, "postfix").endswith("+next1"), log
    assert version(site, "pf-agent") == "99.0", log
    holds(site)
    # By Postfix's own package; the agent has no reason for another one.
    assert len(site.starts_of_boot()) - before == 1
    assert site.records("drift-detected", since) == []
    assert site.records("activation-failed", since) == []
    assert site.show(AGENT, "NRestarts") == "0"


def test_a_postinst_that_fails_is_mended_in_the_morning(site: Site) -> None:
    machine = site.machine
    machine.run(["touch", "/srv/fails"])
    done = machine.run(["dpkg", "-i", LATE], check=False, timeout=180, env=QUIET)
    assert done.returncode == 1
    assert state(site, "postfix") == "half-configured"
    # Debian 12 stops Postfix first and starts it last; on Debian 13 it runs on, until it dies. The
    # night goes on: main.cf is kept right, and nobody starts a package that is half there.
    machine.run(["pkill", "-9", "-x", "master"], check=False)
    since = site.cursor()
    machine.sh(INTRUDE)
    site.wait_right()
    site.wait_phase("stopped")
    assert "run `dpkg --configure -a`" in site.told()["detail"]
    assert site.starts(since) == []
    machine.run(["rm", "/srv/fails"])
    configure(site)
    site.wait_settled()
    assert len(site.starts(since)) == 1
    assert site.serves()


def test_a_dpkg_that_is_killed_is_mended_in_the_morning(site: Site) -> None:
    machine = site.machine
    machine.run(["rm", "-f", "/run/configures"])
    machine.run(["touch", "/srv/waits"])
    since = site.cursor()
    # With all that it started, as a machine does that is out of memory or loses its power.
    command = ["setsid", "env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "-i", LATE]
    with machine.start(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as dpkg:
        try:
            machine.wait_until("test -e /run/configures")
            machine.run(["pkill", "-9", "-x", "master"], check=False)
            machine.sh(INTRUDE)
            site.wait_right()
            machine.run(["systemctl", "reload", AGENT])
            # dpkg is at work, and starts it in the end: nobody is told of a stop that is none.
            site.wait_phase("activating")
            eventually(lambda: site.told()["awaited"] == DPKG_WORKS, "dpkg in the status")
            assert site.starts(since) == []
            assert site.records("activation-failed", since) == []
            machine.sh("pkill -9 -g $(pgrep -o -x dpkg)")
            dpkg.wait(60)
        finally:
            machine.run(["rm", "/srv/waits"])
    assert state(site, "postfix") == "half-configured"
    site.wait_phase("stopped")
    assert site.starts(since) == []
    configure(site)
    site.wait_settled()
    assert len(site.starts(since)) == 1
    assert site.serves()


def restarted(site: Site, since_boot: int, invocation: str) -> tuple[int, bool]:
    """How often Postfix was started since then, and whether the agent is another one."""
    site.wait_settled()
    count = len(site.starts_of_boot()) - since_boot
    return count, site.show(AGENT, "InvocationID") != invocation


def test_needrestart_restarts_the_agent_without_harm(site: Site) -> None:
    machine = site.machine
    machine.install_kept("needrestart")
    machine.sh(REPLACE.format(files=AGENTS_OWN))
    before, invocation = len(site.starts_of_boot()), site.show(AGENT, "InvocationID")
    said = machine.run(TELL, timeout=180).stdout
    machine.run(DO, timeout=180, env=QUIET)
    assert f"NEEDRESTART-SVC: {AGENT}" in said.splitlines()
    assert restarted(site, before, invocation) == (0, True)
    assert AGENT not in machine.run(TELL, timeout=180).stdout


def test_needrestart_restarts_all_that_runs(site: Site) -> None:
    """With a library that everybody has, Postfix is restarted, once, and not by the agent."""
    machine = site.machine
    machine.sh(REPLACE.format(files=EVERYBODYS))
    before, invocation = len(site.starts_of_boot()), site.show(AGENT, "InvocationID")
    said = machine.run(TELL, timeout=180).stdout
    machine.run(DO, timeout=180, env=QUIET)
    assert {f"NEEDRESTART-SVC: {unit}" for unit in (AGENT, site.unit)} <= set(said.splitlines())
    eventually(site.serves, "Postfix serves", SETTLE_SECONDS)
    assert restarted(site, before, invocation) == (1, True)
    assert machine.run(["systemctl", "is-active", names.POSTFIX_UNIT]).stdout == "active\n"
