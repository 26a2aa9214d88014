"""The unit's sandbox, as systemd itself rates it and as the kernel keeps it."""

from __future__ import annotations

import re

import pytest

from pf_agent import names
from tests.machine.nspawn import Machine
from tests.machine.site import MAIN_CF, Site

# What `systemd-analyze security` says of the unit, at most. The probe of port 25 and Postfix's own
# programs need the host's network (0.9), reading and replacing anybody's main.cf needs root and
# its rights over files (0.9), and newaliases that of becoming the owner of its source (0.5).
EXPOSURE = 2.5
ALIASES = "/etc/postfix/list-aliases"


@pytest.fixture(scope="module")
def site(agent_machine: Machine) -> Site:
    return Site.prepared(agent_machine)


def test_the_exposure_does_not_rise(site: Site) -> None:
    said = site.machine.run(["systemd-analyze", "security", "--no-pager", "pf-agent"]).stdout
    found = re.search(r"Overall exposure level for pf-agent\.service: ([0-9.]+)", said)
    assert found is not None, said
    assert float(found[1]) <= EXPOSURE, said


def inside(site: Site, command: str) -> tuple[int, str]:
    """Run a command with the sandbox of the unit, as a unit of its own that has all its lines."""
    unit = site.machine.read_text("/usr/lib/systemd/system/pf-agent.service")
    service = unit.split("[Service]")[1].split("[Install]")[0]
    own = (
        r"(?m)^(Type|NotifyAccess|ExecStart|ExecReload|WatchdogSec|Restart\w*|\w+Directory\w*)=.*$"
    )
    site.machine.write_text(
        "/run/systemd/system/inside.service",
        "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\n"
        f"ExecStart=/bin/sh -c '{command}'\n{re.sub(own, '', service)}",
    )
    site.machine.run(["systemctl", "daemon-reload"])
    since = site.cursor()
    done = site.machine.run(["systemctl", "start", "inside"], check=False)
    site.machine.run(["journalctl", "--sync"])
    arguments = ["journalctl", "-q", "-o", "cat", "--after-cursor", since, "-u", "inside"]
    return done.returncode, site.machine.run(arguments).stdout


@pytest.mark.parametrize(
    "command",
    [
        "echo x > /usr/x",
        "echo x > /root/x",
        "mount -t tmpfs none /mnt",
        "unshare --user true",
        "chrt --fifo 1 true",
        "date -s 12:00",
        "hostname other",
        "mknod /var/x b 8 0",
        "chmod u+s /etc/hosts",
        "chown 1 /etc/hosts",
        "test -e /proc/sys",
    ],
)
def test_the_sandbox_refuses(site: Site, command: str) -> None:
    code, said = inside(site, f"echo begun; {command}")
    assert code != 0, said
    assert "begun" in said
    assert site.machine.run(["stat", "-c", "%a %u", "/etc/hosts"]).stdout == "644 0\n"


def test_what_was_left_open_is_enough(site: Site) -> None:
    code, said = inside(site, f"cat {MAIN_CF} > /etc/x; rm /etc/x; postconf -n; ls /root")
    assert code == 0, said
    assert "mynetworks = " in said


def test_an_alias_file_of_another_owner_is_made_his_database(site: Site) -> None:
    site.machine.sh(f"echo 'list: root' > {ALIASES}; install -d -o 1 -g 1 /etc/postfix/lists")
    site.machine.sh(
        f"mv {ALIASES} /etc/postfix/lists/aliases; chown 1:1 /etc/postfix/lists/aliases"
    )
    kind = site.machine.run(["postconf", "-h", "default_database_type"]).stdout.strip()
    dropin = f"{names.CONFIG_DIRECTORY}/{names.DESIRED_DROPINS}/60-lists.toml"
    site.machine.write_text(
        dropin, f'[settings]\nalias_database = "{kind}:/etc/postfix/lists/aliases"\n'
    )
    site.machine.wait_until("ls /etc/postfix/lists/aliases.*")
    owner = site.machine.sh("stat -c %u /etc/postfix/lists/aliases.*")
    assert owner == "1\n"
    site.machine.run(["rm", dropin])
    site.put(site.good)
    site.wait_right()
    site.wait_settled()
