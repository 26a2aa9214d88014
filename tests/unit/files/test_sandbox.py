"""What is read-only to our unit alone, by what the kernel says of its mounts."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from pf_agent.files.sandbox import OPEN, closed, way_out
from tests.checkout import CHECKOUT

UNIT = "9:name=systemd:/system.slice/pf-agent.service\n0::/system.slice/pf-agent.service\n"
# As systemd 252 leaves it with ProtectSystem=strict, ReadWritePaths=/etc /var.
MOUNTS = r"""
1213 1100 0:65 / / ro,nosuid,relatime shared:428 master:126 - overlay overlay rw,lowerdir=/x
1273 1213 0:70 / /sys ro,nosuid,nodev,noexec shared:446 master:152 - sysfs sysfs rw
1413 1213 0:65 /etc /etc rw,nosuid,relatime shared:614 master:126 - overlay overlay rw,lowerdir=/x
1279 1213 0:65 /var /var rw,nosuid,relatime shared:616 master:126 - overlay overlay rw,lowerdir=/x
1500 1213 8:2 / /srv/image ro,relatime shared:5 - ext4 /dev/sdb1 ro
1501 1213 8:3 / /srv/with\040blank ro,relatime - ext4 /dev/sdb2 rw
1502 1213 8:4 / /srv/open rw,relatime - ext4 /dev/sdb3 rw
1503 1213 8:4 / /srv/twice ro,relatime - ext4 /dev/sdb3 rw
1504 1503 8:4 / /srv/twice rw,relatime - ext4 /dev/sdb3 rw
""".lstrip()


@pytest.mark.parametrize(
    ("folder", "written"),
    [
        ("/srv/cluster/postfix", "/srv/cluster/postfix"),
        ("/home/alice", "/home/alice"),
        ("/etcetera", "/etcetera"),
        ("/srv/with blank/postfix", '"/srv/with blank/postfix"'),
        ("/srv/100%", "/srv/100%%"),
    ],
)
def test_the_record_names_the_dropin_to_write(folder: str, written: str) -> None:
    assert closed(folder, MOUNTS, UNIT) == (
        "it is read-only for pf-agent.service only: add the lines `[Service]` and"
        f" `ReadWritePaths={written}` to"
        " /etc/systemd/system/pf-agent.service.d/writable.conf, and run `systemctl daemon-reload`"
        " and `systemctl restart pf-agent.service`"
    )


@pytest.mark.parametrize(
    "folder",
    [
        "/etc/postfix",  # the unit's own file has it writable: somebody else has made it so
        "/var/lib/pf-agent",
        "/srv/image/postfix",  # its file system is read-only
        "/srv/open",
        "/srv/twice",  # of two mounts the upper one counts
    ],
)
def test_it_is_not_the_sandbox(folder: str) -> None:
    assert closed(folder, MOUNTS, UNIT) == ""


@pytest.mark.parametrize(
    "cgroups", ["", "0::/user.slice/session-1.scope\n", "0::/system.slice/other-pf-agent.service"]
)
def test_who_is_in_no_unit_of_ours_has_no_sandbox(cgroups: str) -> None:
    assert closed("/srv/cluster", MOUNTS, cgroups) == ""


def test_the_other_unit_has_a_dropin_of_its_own() -> None:
    said = closed("/srv/x", MOUNTS, "0::/system.slice/pf-agent-errands.service\n")
    assert "/etc/systemd/system/pf-agent-errands.service.d/writable.conf" in said


def test_without_mounts_nothing_can_be_told() -> None:
    assert closed("/srv", "", UNIT) == ""


def test_only_what_is_read_only_has_another_way_out(tmp_path: Path) -> None:
    path = str(tmp_path / "main.cf")
    assert way_out(path, OSError(errno.ENOSPC, "no space"), "free space") == "free space"
    found = way_out(path, OSError(errno.EROFS, "read-only"), "free space")
    assert found == "make its file system writable"


@pytest.mark.parametrize("unit", ["pf-agent.service", "pf-agent-errands.service"])
def test_what_the_units_leave_open_is_known(unit: str) -> None:
    text = (CHECKOUT / "units" / unit).read_text(encoding="utf-8")
    assert f"\nReadWritePaths={' '.join(OPEN)}\n" in text
