"""dpkg installs, upgrades, interrupts, downgrades and purges the package; mail runs on.

One machine; a test that needs the package at work takes it from the test before, if it was left so.
There is no version before the first: an older and a newer one are the same package with other
conffiles under another number. The older one has modules where the present one has folders, as the
package had once.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from pf_agent import __version__, names
from tests.machine.nspawn import Machine
from tests.machine.site import (
    AGENT_TOML,
    DESIRED_TOML,
    DROPIN,
    MAIN_CF,
    QUIET,
    Site,
    eventually,
)
from tests.machine.tree import changes, tree

pytestmark = pytest.mark.long

PRESENT, OLDER, NEWER, BROKEN = (
    f"/srv/{name}.deb" for name in ("present", "older", "newer", "broken")
)
README = f"{names.CONFIG_DIRECTORY}/{names.DESIRED_DROPINS}/README"
MODULES = "/usr/lib/python3/dist-packages/pf_agent"
SCRIPTS = "/var/lib/dpkg/info/pf-agent"
# make NAME VERSION [COMMAND]
MAKE = f"""
set -e
make() {{
    rm -rf /srv/work && dpkg-deb -R {PRESENT} /srv/work && cd /srv/work
    sed -i "s/^Version: .*/Version: $2/" DEBIAN/control
    sed -i "1i # As version $2 has it." .{DESIRED_TOML} .{README}
    eval "$3"
    dpkg-deb -Znone -b . "$1"
}}
make {OLDER} 0.0.9 'for room in .{MODULES}/*/; do echo "raise ImportError" > "${{room%/}}.py"; done'
make {NEWER} 99.0
make {BROKEN} 99.1 "printf '#!/bin/sh\\nexit 1\\n' > DEBIAN/preinst; chmod 755 DEBIAN/preinst"
rm -rf /srv/work
"""
AS_IT_CAME = f"""
systemctl --quiet is-enabled pf-agent && systemctl --quiet is-active pf-agent &&
    cmp -s /usr/share/pf-agent/agent.toml {AGENT_TOML} &&
    test -z "$(dpkg --verify pf-agent)" && echo yes
"""
# Kills dpkg, and all that it started, as it tells of the N-th state of the package.
KILL_AT = """
import os, signal, subprocess, sys
number, deb = int(sys.argv[1]), sys.argv[2]
states, told = os.pipe()
command = ["dpkg", "--status-fd", str(told), "-i", deb]
dpkg = subprocess.Popen(command, pass_fds=[told], stdin=subprocess.DEVNULL, start_new_session=True)
os.close(told)
for line in os.fdopen(states):
    number -= line.startswith("status: pf-agent: ")
    if not number:
        os.killpg(dpkg.pid, signal.SIGKILL)
        break
sys.exit(dpkg.wait() != -signal.SIGKILL)
"""
# What Postfix makes when it starts, and what systemd and dpkg note of anything.
OTHERS = (
    *("/etc/aliases", MAIN_CF, "/var/lib/postfix", "/var/spool/postfix", "/var/log"),
    *("/run/systemd", "/var/lib/dpkg/triggers", "/var/lib/dpkg/lock"),
)


@pytest.fixture(scope="module")
def server(machine: Machine, deb: Path) -> Machine:
    machine.write_bytes(PRESENT, deb.read_bytes())
    machine.sh(MAKE)
    machine.write_text("/etc/aliases", "postmaster: root\n")
    return machine


@pytest.fixture
def purged(server: Machine) -> None:
    """Nothing is left of the package."""
    purge(server)


@pytest.fixture
def site(server: Machine) -> Site:
    """The package as it came, at work: an earlier test has left it so, or it is installed anew."""
    if status(server) == f"installed {__version__}" and server.sh(AS_IT_CAME, check=False):
        return settled(server)
    purge(server)
    dpkg(server, "-i", PRESENT)
    return works(server, __version__)


def dpkg(
    machine: Machine, *arguments: str, answer: str = "", check: bool = True
) -> subprocess.CompletedProcess[str]:
    return machine.run(["dpkg", *arguments], input=answer, check=check, timeout=180, env=QUIET)


def purge(machine: Machine) -> None:
    dpkg(machine, "--purge", "pf-agent")
    machine.run(["rm", "-rf", names.CONFIG_DIRECTORY])


def status(machine: Machine) -> str:
    """dpkg's word, such as "installed 0.1.0"."""
    form = "${db:Status-Status} ${Version}"
    return machine.run(["dpkg-query", "-W", "-f", form, "pf-agent"], check=False).stdout


def settled(machine: Machine) -> Site:
    site = Site(machine, b"", "")
    # Each of these tests restarts Postfix more often than systemd lets anybody.
    machine.run(["systemctl", "reset-failed", "postfix*"])
    site.wait_settled()
    site.unit = site.unit_of_master()
    site.forget_restarts()
    return site


def works(machine: Machine, version: str) -> Site:
    """It is installed as a whole, the service runs, drift is corrected, and mail is served."""
    assert status(machine) == f"installed {version}"
    assert machine.run(["dpkg", "--audit"]).stdout == ""
    site = settled(machine)
    machine.run(["pf-agent", "diff"])
    site.drift_once()
    assert site.is_obeyed()
    assert machine.run(["find", "/etc", "-name", "*.dpkg-new"]).stdout == ""
    return site


def former_modules(machine: Machine) -> set[str]:
    """What stands where the older version has modules, compiled or not."""
    listed = machine.sh(f"cd {MODULES} && ls -d */ *.py __pycache__/*").split()
    rooms = {path.rstrip("/") for path in listed if path.endswith("/")}
    files = {path.removeprefix("__pycache__/").partition(".")[0] for path in listed}
    return rooms & files


# Installed and purged


@pytest.mark.usefixtures("purged")
def test_purge_leaves_nothing_but_mail(server: Machine) -> None:
    before = tree(server)
    dpkg(server, "-i", PRESENT)
    works(server, __version__)
    server.run(["pf-agent", "suspend", "--reason", "a trial"])
    # As of a postinst that died.
    server.run(["touch", f"{AGENT_TOML}.dpkg-new", f"{DROPIN}.dpkg-new"])
    during = tree(server)
    assert "+/usr/bin/pf-agent" in changes(before, during)
    dpkg(server, "--purge", "pf-agent")
    left = [line for line in changes(before, tree(server)) if not line[1:].startswith(OTHERS)]
    assert left == []
    for tool, known in {
        "debconf-show pf-agent": "",
        "grep -ls pf-agent /var/cache/debconf/*.dat || true": "",
        "journalctl --list-catalog | grep -c pf-agent || true": "0\n",
        "systemctl list-unit-files 'pf-agent*' --no-legend || true": "",
        "busctl list --no-legend | grep -c pfagent || true": "0\n",
        "dpkg --audit": "",
    }.items():
        assert server.sh(tool) == known, tool


@pytest.mark.usefixtures("purged")
def test_with_postfix_only_unpacked_it_waits_for_it(server: Machine) -> None:
    """And with "No configuration" there is no main.cf either, until the agent makes it."""
    server.run(["dpkg", "--purge", "postfix"], timeout=120, env=QUIET)
    server.run(["rm", "-rf", "/etc/postfix"])
    server.sh("dpkg --unpack /srv/postfix/postfix_*.deb", timeout=120)
    done = dpkg(server, "-i", PRESENT, check=False)
    assert done.returncode == 1
    assert "Package postfix is not configured yet" in done.stdout + done.stderr
    assert status(server) == f"unpacked {__version__}"
    assert server.run(["systemctl", "is-active", "pf-agent"], check=False).returncode
    dpkg(server, "--configure", "-a")
    assert works(server, __version__).serves()


# Each call that Debian Policy, chapter 6.5, names

# Without Python's own caches, which come and go with prerm and postinst.
OURS = (names.CONFIG_DIRECTORY, names.STATE_DIRECTORY, "/usr/bin", "/etc/systemd")
CALLS = (
    "prerm upgrade 99.0",
    "prerm failed-upgrade 0.0.9 99.0",
    "prerm deconfigure in-favour other 1 removing another 2",
    "prerm remove in-favour other 1",
    "postinst abort-remove in-favour other 1",
    "postinst abort-upgrade 99.0",
    "postinst abort-deconfigure in-favour other 1 removing another 2",
    "postinst abort-remove",
    "postrm upgrade 99.0",
    "postrm failed-upgrade 0.0.9 99.0",
    "postrm abort-install",
    "postrm abort-install 0.0.9",
    "postrm abort-upgrade 0.0.9",
    "postrm disappear other 1",
    "config configure 0.0.9",
    "postinst configure 0.0.9",
    "postinst configure 0.0.9",
)


def test_every_call_of_a_maintainer_script_may_come(server: Machine, site: Site) -> None:
    """None fails, asks, or takes anything away; after the last the service runs."""
    before = tree(server, *OURS)
    frontend = ["env", "DPKG_MAINTSCRIPT_PACKAGE=pf-agent"]
    for call in CALLS:
        script, *arguments = call.split()
        done = server.run(
            [*frontend, f"{SCRIPTS}.{script}", *arguments], check=False, timeout=60, env=QUIET
        )
        assert (call, done.returncode) == (call, 0), done.stderr
        assert (call, changes(before, tree(server, *OURS))) == (call, [])
    works(server, __version__)
    assert site.show("pf-agent", "UnitFileState") == "enabled"


# Failing, removed, and installed again


@pytest.mark.usefixtures("site")
def test_an_upgrade_and_a_removal_that_fail_leave_it_running(server: Machine) -> None:
    assert dpkg(server, "-i", BROKEN, check=False).returncode == 1
    assert status(server) == f"installed {__version__}"
    server.run(["systemctl", "is-active", "pf-agent"])
    prerm = server.read_text(f"{SCRIPTS}.prerm")
    server.write_text(f"{SCRIPTS}.prerm", f"{prerm}\nexit 1\n")
    failed = dpkg(server, "-r", "pf-agent", check=False)
    server.write_text(f"{SCRIPTS}.prerm", prerm)
    assert failed.returncode == 1
    works(server, __version__)


def test_a_removal_amid_drift_leaves_main_cf_whole(server: Machine, site: Site) -> None:
    lines = server.read_bytes(MAIN_CF).count(b"\n")
    # No longer than the agent is there: Debian 12 runs postconf in each daemon-reload, which waits
    # for main.cf to be a second old, and systemd waits for it.
    script = (
        "while pgrep -f '[p]f-agent run'; do"
        f" sed -i 's|^mynetworks *=.*|mynetworks = 0.0.0.0/0|' {MAIN_CF}; sleep 0.1; done"
    )
    since = site.cursor()
    with server.start(["timeout", "60", "sh", "-c", script], stdout=subprocess.DEVNULL) as intruder:
        eventually(lambda: bool(site.records("drift-corrected", since)), "a correction")
        dpkg(server, "-r", "pf-agent")
        assert intruder.wait(60) == 0
    assert server.read_bytes(MAIN_CF).count(b"\n") == lines
    assert server.sh("pgrep -f '[p]f-agent run' || true") == ""
    assert server.sh("ls -A /etc/postfix | grep -e main.cf.tmp -e pf-agent || true") == ""
    assert status(server).startswith("config-files")
    dpkg(server, "-i", PRESENT)
    works(server, __version__)


@pytest.mark.usefixtures("site")
def test_history_tells_apart_what_was_before_a_purge(server: Machine) -> None:
    """The journal keeps both, and each counts from 1."""
    life = f"{names.STATE_DIRECTORY}/life"
    first = server.read_text(life).strip()
    purge(server)
    dpkg(server, "-i", PRESENT)
    works(server, __version__)
    second = server.read_text(life).strip()
    found = json.loads(server.run(["pf-agent", "history", "--json"]).stdout)
    of_first, of_second = (
        {past["cycle"] for past in found if past["life"] == one} for one in (first, second)
    )
    number = min(of_first & of_second)
    before = f"{first}/{number}"
    rows = server.run(["pf-agent", "history"]).stdout.splitlines()
    assert {before, str(number)} <= {row.split()[0] for row in rows}
    told = server.run(["pf-agent", "history", str(number)]).stdout
    assert told.startswith(f"cycle {number}, ")
    assert f"same number: {before}, " in told
    told = server.run(["pf-agent", "history", before]).stdout
    assert told.startswith(f"cycle {before}, ")
    assert "same number" not in told
    refused = server.run(["pf-agent", "restore", before], check=False)
    assert refused.returncode == 1
    assert f"cycle {before}: " in refused.stderr


# Upgraded


def upgraded(server: Machine, answer: str) -> str:
    """From the older version, with desired.toml and agent.toml edited; what dpkg said."""
    dpkg(server, "-i", OLDER)
    server.run(["sed", "-i", "s/10485760/20971520/", DESIRED_TOML])
    server.write_text(AGENT_TOML, "# Ours.\n")
    done = dpkg(server, "-i", PRESENT, answer=answer)
    works(server, __version__)
    return done.stdout + done.stderr


def shipped(server: Machine, archive: str, path: str) -> str:
    return server.sh(f"dpkg-deb --fsys-tarfile {archive} | tar -xO .{path}")


@pytest.mark.usefixtures("purged")
def test_an_upgrade_asks_about_a_file_that_was_edited(server: Machine) -> None:
    said = upgraded(server, "N\n")
    assert said.count("What would you like to do about it") == 1
    assert DESIRED_TOML in said
    kept = shipped(server, OLDER, DESIRED_TOML).replace("10485760", "20971520")
    assert server.read_text(DESIRED_TOML) == kept
    assert server.read_text(f"{DESIRED_TOML}.dpkg-dist") == shipped(server, PRESENT, DESIRED_TOML)
    assert server.read_text(README) == shipped(server, PRESENT, README)
    assert server.read_text(AGENT_TOML) == "# Ours.\n"
    assert server.sh("postconf -h message_size_limit") == "20971520\n"


@pytest.mark.usefixtures("purged")
def test_an_upgrade_takes_the_new_file_where_told_to(server: Machine) -> None:
    upgraded(server, "Y\n")
    assert server.read_text(DESIRED_TOML) == shipped(server, PRESENT, DESIRED_TOML)
    assert "20971520" in server.read_text(f"{DESIRED_TOML}.dpkg-old")
    assert server.sh("postconf -h message_size_limit") == "10485760\n"
    dpkg(server, "--purge", "pf-agent")
    assert server.run(["test", "-e", names.CONFIG_DIRECTORY], check=False).returncode == 1


@pytest.mark.usefixtures("purged")
def test_an_upgrade_and_a_downgrade_leave_mail_and_state_alone(server: Machine) -> None:
    dpkg(server, "-i", OLDER)
    site = works(server, "0.0.9")
    displaced = server.run(["ls", f"{names.STATE_DIRECTORY}/displaced"]).stdout.split()
    unit = site.unit_of_master()
    mail = site.show(unit, "InvocationID")
    agent = site.show("pf-agent", "InvocationID")
    server.run(["pf-agent", "suspend", "--reason", "an upgrade"])
    for archive, version in ((PRESENT, __version__), (NEWER, "99.0"), (OLDER, "0.0.9")):
        dpkg(server, "-i", archive)
        assert status(server) == f"installed {version}"
        assert bool(former_modules(server)) is (archive == OLDER)
        server.wait_until('pf-agent status --json | grep \'"phase": "suspended"\'')
        assert site.show("pf-agent", "InvocationID") != agent, "the new code runs"
        agent = site.show("pf-agent", "InvocationID")
    assert site.show(unit, "InvocationID") == mail
    assert site.show("pf-agent", "NRestarts") == "0"
    server.run(["pf-agent", "resume"])
    works(server, "0.0.9")
    now = server.run(["ls", f"{names.STATE_DIRECTORY}/displaced"]).stdout.split()
    assert set(displaced) < set(now)


def test_a_service_that_was_switched_off_stays_off(server: Machine) -> None:
    dpkg(server, "-i", OLDER)
    for verb, state, archive in (("disable", "disabled", PRESENT), ("mask", "masked", NEWER)):
        server.run(["systemctl", verb, "--now", "pf-agent"])
        dpkg(server, "-i", archive)
        assert Site(server, b"", "").show("pf-agent", "UnitFileState") == state
        active = server.run(["systemctl", "is-active", "pf-agent"], check=False).stdout
        assert active == "inactive\n", verb
        server.run(["systemctl", "unmask", "pf-agent"])
        server.run(["systemctl", "enable", "--now", "pf-agent"])


# Interrupted


# An installation goes through half-installed, unpacked and half-configured, an upgrade through the
# latter two first.
@pytest.mark.parametrize(("old", "number"), [("", 1), ("", 3), (OLDER, 3), (OLDER, 5)])
def test_dpkg_was_killed(server: Machine, old: str, number: int) -> None:
    if old:
        dpkg(server, "-i", old)
    else:
        purge(server)
    server.run(["python3", "-c", KILL_AT, str(number), PRESENT], env=QUIET)
    assert not status(server).startswith("installed")
    mended = dpkg(server, "--configure", "-a", check=False)
    assert mended.returncode == 0 or "reinstall it" in mended.stderr
    if status(server) != f"installed {__version__}":
        dpkg(server, "-i", PRESENT)
    works(server, __version__)


def test_a_power_cut_between_unpacking_and_configuring(server: Machine) -> None:
    dpkg(server, "-i", OLDER)
    dpkg(server, "--unpack", PRESENT)
    server.run(["sync"])
    server.kill()
    server.boot()
    dpkg(server, "--configure", "-a")
    works(server, __version__)
