"""Postfix removed, broken or slow: the agent says so, waits, and goes on by itself once it can."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pf_agent import names
from tests.machine.calm import Calm, wait_in_status
from tests.machine.site import INTRUDE, MAIN_CF, SETTLE_SECONDS, Site, eventually

pytestmark = pytest.mark.long

UNITS = ("pf-agent.service", "pf-agent-errands.service")
POSTCONF = "/usr/sbin/postconf"
# Settings that no program of Postfix has judged yet, where the number is new.
UNJUDGED = f"sed -i '$ a max_use = {{}}' {MAIN_CF}; {INTRUDE}"
AWAY = f"mv {POSTCONF} /srv/postconf"
BACK = f"rm -rf {POSTCONF}; mv /srv/postconf {POSTCONF}"
INSTEAD = f"{AWAY}; printf '#!/bin/sh\\n{{}}\\n' > {POSTCONF}; chmod 755 {POSTCONF}"
BAD = (
    "mkdir -p /srv/bad; for name in postconf postmap newaliases sh systemctl; do"
    " printf '#!/bin/sh\\ntouch /srv/bad/ran\\nexit 1\\n' > /srv/bad/$name;"
    " chmod 755 /srv/bad/$name; done"
)
# Long enough for a few more corrections meanwhile.
SLOW = "[Service]\nExecStop=\nExecStop=/bin/sleep {}\nTimeoutStopSec=120\n"

# What stands in postconf's place, and what is said of it.
BROKEN = {
    "missing": (AWAY, "/postconf: No such file or directory; install the package postfix"),
    "crashes": (INSTEAD.format("kill -SEGV $$"), "it fails whatever it reads: ended"),
    "says nothing": (INSTEAD.format("exit 0"), "it printed no parameters; reinstall postfix"),
    "floods": (INSTEAD.format("exec cat /dev/zero"), "whatever it reads: printed more than"),
}


@pytest.fixture(autouse=True)
def _as_before(site: Site) -> Iterator[None]:
    site.wait_remembered()
    site.end_contest()
    site.wait_settled()
    yield
    site.put(site.good)
    site.wait_right()
    site.forget_restarts()
    site.wait_settled()


@pytest.mark.parametrize("how", BROKEN)
def test_a_postconf_that(site: Site, how: str) -> None:
    """main.cf is not touched on its word, and right again when it is itself again."""
    begin, told = BROKEN[how]
    number = 101 + list(BROKEN).index(how)
    calm = Calm.before(site)
    site.machine.sh(begin)
    try:
        site.machine.sh(UNJUDGED.format(number))
        calm.told("correction-failed", told)
        calm.told("drift-detected", 'mynetworks is "0.0.0.0/0"')
        calm.is_kept()
        assert f"max_use = {number}" in site.machine.read_text(MAIN_CF)
    finally:
        site.machine.sh(BACK)
    site.machine.wait_until(f"grep '^mynetworks = 127' {MAIN_CF}")
    assert f"max_use = {number}" in site.machine.read_text(MAIN_CF)
    site.wait_settled()
    assert site.serves()
    assert not site.records("rolled-back", calm.since)


@pytest.mark.parametrize("way", ["--remove", "--purge"])
def test_postfix_taken_away_and_installed_again(site: Site, way: str) -> None:
    calm = Calm.before(site)
    site.machine.run(["dpkg", way, "--force-depends", "postfix"], timeout=180)
    if way == "--remove":
        site.machine.sh(INTRUDE)
        calm.told("activation-failed", "systemd has no such unit; is Postfix installed? See")
        wait_in_status(site, "is Postfix installed?")
    else:
        calm.told(
            "correction-failed", "/etc/postfix: No such file or directory; restore the directory"
        )
    calm.is_kept()
    site.machine.install_kept("postfix")
    site.machine.run(["systemctl", "start", "postfix"])
    calm.returns()


def test_an_alias_database_that_cannot_be_made(site: Site) -> None:
    calm = Calm.before(site)
    site.machine.sh("chattr +i /etc/aliases.*; echo 'hostmaster: root' >> /etc/aliases")
    calm.told("activation-failed", "Operation not permitted; fix it and run newaliases")
    wait_in_status(site, "the aliases are out of date: newaliases: ")
    site.machine.sh(INTRUDE)
    site.wait_right()
    calm.told("activated", "but the aliases are out of date: newaliases: ")
    calm.is_kept()
    site.machine.sh("chattr -i /etc/aliases.*")
    calm.told("activated", "newaliases succeeded after an earlier failure")
    wait_in_status(site, "the aliases are out of date", is_there=False)
    assert site.machine.run(["postmap", "-q", "hostmaster", "/etc/aliases"]).stdout == "root\n"
    calm.returns()


def test_a_bad_program_first_in_the_path_is_not_run(site: Site) -> None:
    site.machine.sh(BAD)
    for unit in UNITS:
        site.dropin(unit, "path", "[Service]\nEnvironment=PATH=/srv/bad:/usr/bin\n")
    site.machine.run(["systemctl", "restart", *UNITS])
    calm = Calm.before(site)
    site.machine.sh(f"touch /etc/aliases; {UNJUDGED.format(100)}")
    calm.told("activated", "Postfix runs with the desired settings")
    assert site.machine.run(["test", "-e", "/srv/bad/ran"], check=False).returncode == 1
    for unit in UNITS:
        site.dropin(unit, "path", "")
    site.machine.run(["systemctl", "restart", *UNITS])


def test_a_postfix_that_takes_long_to_stop(site: Site) -> None:
    """Drift is corrected meanwhile, and what that asks for is one more restart."""
    site.dropin(site.unit, "slow", SLOW.format(8))
    calm = Calm.before(site)
    site.machine.sh(INTRUDE)
    eventually(lambda: site.show(site.unit, "ActiveState") == "deactivating", "it stops")
    calm.is_kept()
    for _ in range(3):
        site.machine.sh(INTRUDE)
        site.wait_right()
    wait_in_status(site, "main.cf is correct; Postfix is restarting")
    site.dropin(site.unit, "slow", "")
    eventually(lambda: bool(site.records("activated", calm.since)), "an end", SETTLE_SECONDS)
    calm.returns()
    assert len(site.starts(calm.since)) <= 2
    assert len(site.records("drift-corrected", calm.since)) == 4
    assert not site.records("activation-failed", calm.since)
    site.machine.run(["systemctl", "is-active", names.POSTFIX_UNIT])
