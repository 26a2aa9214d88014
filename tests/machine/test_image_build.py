"""The package in a root folder where nothing runs, as image builds have it; then the first boot.

The same machine all along, switched off until the last tests.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pf_agent import names
from tests.machine.nspawn import Machine
from tests.machine.site import MAIN_CF, SETTLE_SECONDS, Site
from tests.machine.tree import LOOK, changes, parsed

DEB = "/srv/pf-agent.deb"
INSTALL = f"DEBIAN_FRONTEND=noninteractive dpkg -i {DEB}"
PURGE = "DEBIAN_FRONTEND=noninteractive dpkg --purge pf-agent"
WANTED = "/etc/systemd/system/multi-user.target.wants/pf-agent.service"
# What dpkg notes of anything.
OTHERS = ("/var/log", "/var/lib/dpkg/triggers", "/run")
# deb-systemd-helper goes without systemctl; a container's image has none.
WITHOUT_SYSTEMD = (
    "mv /usr/bin/systemctl /usr/bin/journalctl /root; trap 'mv /root/*ctl /usr/bin' EXIT;"
)


@pytest.fixture(scope="module")
def built(new_machine: Callable[[], Machine], deb: Path) -> Machine:
    machine = new_machine()
    machine.write_bytes(DEB, deb.read_bytes())
    machine.write_text("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")
    machine.run(["chmod", "755", "/usr/sbin/policy-rc.d"])
    machine.write_text("/root/look.py", LOOK)
    machine.shutdown()
    return machine


def tree(machine: Machine) -> dict[str, str]:
    return parsed(machine.run_offline("python3 -IB /root/look.py /"))


@pytest.mark.parametrize("hidden", ["", WITHOUT_SYSTEMD], ids=["systemd", "no-systemd"])
def test_it_installs_and_purges_where_nothing_runs(built: Machine, hidden: str) -> None:
    before = tree(built)
    said = built.run_offline(f"{hidden} set -e; {INSTALL}; {INSTALL}; dpkg --audit")
    during = tree(built)
    assert during[WANTED].endswith("systemd/system/pf-agent.service")
    assert MAIN_CF not in during
    assert f"{names.CONFIG_DIRECTORY}/{names.AGENT_TOML}" in during
    lines = [line for line in said.lower().splitlines() if "fail" in line or "error" in line]
    assert lines == []
    said = built.run_offline(f"{hidden} set -e; {PURGE}; dpkg --audit")
    assert "fail" not in said.lower()
    left = [line for line in changes(before, tree(built)) if not line[1:].startswith(OTHERS)]
    assert left == []


def test_the_image_can_be_corrected_as_it_is_built(built: Machine) -> None:
    built.run_offline(
        f"set -e; {INSTALL}; cp /etc/postfix/main.cf.proto {MAIN_CF}\n"
        "pf-agent diff > /dev/null && exit 1; pf-agent apply --no-activate; pf-agent diff"
    )


def test_on_the_first_boot_it_is_in_force(built: Machine) -> None:
    built.run_offline(f"rm -f /usr/sbin/policy-rc.d {MAIN_CF}")
    built.boot()
    built.wait_until("systemctl is-active pf-agent && pf-agent diff", SETTLE_SECONDS)
    site = Site(built, b"", "")
    site.wait_settled()
    assert site.is_obeyed()
    assert site.serves()
