"""/etc/postfix as a link to elsewhere: corrected all the same, or told how that comes to be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pf_agent import names
from tests.machine.calm import Calm, wait_in_status
from tests.machine.site import INTRUDE, MAIN_CF, Site, eventually

CLUSTER = "/srv/cluster/postfix"
ALONE = (
    "Read-only file system; it is read-only for pf-agent.service only:"
    " add the lines `[Service]` and"
)
DROPIN = re.compile(r"`(ReadWritePaths=\S+)` to (\S+), and run `([^`]+)` and `([^`]+)`")
MOVE = f"mkdir -p /srv/cluster && mv /etc/postfix {CLUSTER} && ln -s {CLUSTER} /etc/postfix"
BACK = f"rm /etc/postfix && mv {CLUSTER} /etc/postfix"
IN_PLACE = f"sed 's|^mynetworks *=.*|mynetworks = 0.0.0.0/0|' {MAIN_CF} > /srv/new"


@pytest.fixture(autouse=True)
def _as_before(site: Site) -> Iterator[None]:
    yield
    site.machine.sh("rm -rf /etc/systemd/system/pf-agent.service.d")
    site.machine.sh(f"systemctl stop pf-agent; test ! -h /etc/postfix || ({BACK})")
    site.machine.sh("systemctl daemon-reload; systemctl start pf-agent")
    site.wait_right()
    site.forget_restarts()
    site.wait_settled()


def test_it_is_corrected_where_the_agent_starts_with_the_link(site: Site) -> None:
    site.machine.sh(f"systemctl stop pf-agent; {MOVE}")
    site.machine.sh("systemctl daemon-reload; systemctl start pf-agent")
    site.wait_settled()
    calm = Calm.before(site)
    site.machine.sh(INTRUDE)
    site.wait_right()
    calm.returns()
    assert site.records("drift-corrected", calm.since)
    assert not site.records("correction-failed", calm.since)
    assert site.machine.run(["readlink", "/etc/postfix"]).stdout == f"{CLUSTER}\n"
    # That folder is open to the agent, and what is beside it is not.
    for path, may in ((f"{CLUSTER}/x", 0), ("/srv/x", 1), ("/srv/cluster/x", 1), ("/usr/x", 1)):
        inside = ["nsenter", "-t", calm.pid, "--mount", "touch", path]
        assert site.machine.run(inside, check=False).returncode == may, path


def test_the_folder_is_no_mount_point_where_it_is_no_link(site: Site) -> None:
    """Else the agent would not see it being moved."""
    mounts = f"/proc/{site.show('pf-agent', 'MainPID')}/mountinfo"
    assert site.machine.run(["grep", " /etc/postfix ", mounts], check=False).returncode == 1
    assert not site.machine.sh("ls /run/systemd/generator/pf-agent.service.d 2> /dev/null; true")


def test_the_record_says_how_where_the_link_comes_later(site: Site) -> None:
    """What it says is done to the letter, and main.cf is corrected."""
    calm = Calm.before(site)
    site.machine.sh(MOVE)
    site.machine.sh(f"{IN_PLACE}; cat /srv/new > {MAIN_CF}")
    said = calm.told("correction-failed", ALONE)["MESSAGE"]
    assert "make its file system writable" not in said
    assert "\n" not in said
    wait_in_status(site, "it is read-only for pf-agent.service only")
    calm.is_kept()
    found = DROPIN.search(said)
    assert found is not None, said
    line, path, *commands = found.groups()
    assert line == f"ReadWritePaths={CLUSTER}"
    site.machine.write_text(path, f"[Service]\n{line}\n")
    for command in commands:
        site.machine.sh(command)
    site.wait_right()
    site.wait_settled()


def test_a_file_system_that_is_read_only_is_called_one(site: Site) -> None:
    site.machine.sh("mkdir -p /srv/cluster && mount -t tmpfs none /srv/cluster")
    site.machine.sh(f"systemctl stop pf-agent; {MOVE}; {IN_PLACE}; cat /srv/new > {MAIN_CF}")
    site.machine.sh("mount -o remount,ro /srv/cluster")
    since = site.cursor()
    site.machine.sh("systemctl daemon-reload; systemctl start pf-agent")
    calm = replace(Calm.before(site), since=since)
    calm.told("correction-failed", "Read-only file system; make its file system writable")
    calm.is_kept()
    site.machine.sh("mount -o remount,rw /srv/cluster")
    # The unit's own mount of it was made read-only with the unit, and stays so as long.
    site.machine.run(["systemctl", "restart", names.PROGRAM])
    site.wait_right()
    site.wait_settled()
    site.machine.sh(f"systemctl stop pf-agent; {BACK}; umount /srv/cluster")


def test_a_textfile_elsewhere_is_told_of_in_the_same_words(site: Site) -> None:
    options = f"{names.CONFIG_DIRECTORY}/{names.AGENT_TOML}"
    kept = site.machine.read_text(options)
    words = "`ReadWritePaths=/srv/metrics` to /etc/systemd/system/pf-agent.service.d"
    since = site.cursor()

    def is_told() -> bool:
        entries = site.entries(since)
        return any(words in entry.get("MESSAGE", "") for entry in entries)

    site.machine.run(["mkdir", "-p", "/srv/metrics"])
    site.machine.write_text(options, f'{kept}\n[metrics]\ntextfile = "/srv/metrics/p.prom"\n')
    site.machine.run(["systemctl", "reload", names.PROGRAM])
    eventually(is_told, words)
    site.machine.write_text(options, kept)
    site.machine.run(["systemctl", "reload", names.PROGRAM])


def test_main_cf_alone_as_a_link_is_corrected_in_its_folder(site: Site) -> None:
    calm = Calm.before(site)
    site.machine.sh(f"{IN_PLACE}; chmod 644 /srv/new; ln -sf /srv/new {MAIN_CF}")
    eventually(lambda: bool(site.records("drift-corrected", calm.since)), "a correction")
    site.wait_right()
    calm.returns()
