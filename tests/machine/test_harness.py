"""The harness itself: machines boot, stay apart, keep their files, leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.checkout import CHECKOUT
from tests.machine.image import cache_dir
from tests.machine.nspawn import CommandFailed, Machine, MachineError

GROUPS = "/sys/fs/cgroup"
GREET = """
import smtplib
with smtplib.SMTP("127.0.0.1", 25, timeout=20) as smtp:
    print(smtp.noop()[0])
"""


def traces(name: str) -> list[str]:
    """Everything on this host that bears a machine's name."""
    # Not rglob: on some Pythons it fails where a folder goes while it looks, and these all do.
    every = (os.path.join(at, folder) for at, inner, _ in os.walk(GROUPS) for folder in inner)
    groups = [path for path in every if os.path.basename(path).startswith(name)]
    folders = [str(path) for path in (cache_dir() / "machines").glob(f"{name}*")]
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if name in line]
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return groups + folders + mounts + [p for p in processes.stdout.splitlines() if name in p]


def test_a_machine_runs_systemd_and_has_no_main_cf(machine: Machine) -> None:
    failed = machine.sh("systemctl list-units --failed --plain --no-legend | cut -d' ' -f1")
    # Debian 12 starts this instance unit even where postfix.service is held back.
    assert failed.split() in ([], ["postfix@-.service"])
    assert machine.sh("ls /etc/postfix/main.cf 2>/dev/null; true") == ""


def test_postfix_of_an_internet_site_greets(internet_site: Machine) -> None:
    assert "alias_maps = hash:/etc/aliases" in internet_site.read_text("/etc/postfix/main.cf")
    assert internet_site.run(["python3", "-c", GREET]).stdout == "250\n"


def test_files_keep_their_bytes(machine: Machine) -> None:
    data = bytes(range(256))
    machine.write_bytes("/srv/new folder/data", data)
    assert machine.read_bytes("/srv/new folder/data") == data


def test_a_failed_command_says_what_it_printed(machine: Machine) -> None:
    with pytest.raises(CommandFailed, match=r"exit code 3\nout\nerr"):
        machine.sh("echo out; echo err >&2; exit 3")


def test_a_command_that_takes_too_long_is_ended_inside(machine: Machine) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        machine.run(["sleep", "4711"], timeout=0.2)
    assert machine.sh("pgrep -f '^sleep 4711'; true") == ""


def test_two_machines_do_not_see_each_other(new_machine: Callable[[], Machine]) -> None:
    one, other = new_machine(), new_machine()
    one.run(["systemd-run", "--unit=mine", "sleep", "4712"])
    assert "mine.service" not in other.sh("systemctl list-units --all")
    # Each systemd kills by control group: it must find its own processes alone.
    other.run(["systemd-run", "--unit=mine", "sleep", "4713"])
    other.run(["systemctl", "stop", "mine"])
    assert one.sh("systemctl is-active mine").strip() == "active"
    assert "sleep 4712" in one.sh("systemd-cgls --unit mine.service --no-pager")
    assert other.sh("pgrep -f '[s]leep 471'; true") == ""


def test_a_power_cut_keeps_the_files_and_a_shutdown_is_orderly(
    new_machine: Callable[[], Machine],
) -> None:
    machine = new_machine()
    machine.write_text("/etc/kept", "text")
    machine.kill()
    assert not machine.is_running
    with pytest.raises(MachineError, match="switched off"):
        machine.run(["true"])
    machine.boot()
    assert machine.read_text("/etc/kept") == "text"
    machine.shutdown()
    machine.boot()
    assert len(machine.sh("journalctl --list-boots --no-pager -q").splitlines()) == 3


@pytest.mark.parametrize("end", ["raise KeyboardInterrupt", "os.kill(os.getpid(), 9)"])
def test_nothing_is_left_behind(base: Path, end: str) -> None:
    """However the harness ends, in good order, by Ctrl-C or by SIGKILL."""
    script = f"""
import os
from pathlib import Path
from tests.machine.nspawn import Machine
with Machine(Path({str(base)!r})) as machine:
    machine.start(["sleep", "4714"])
    print(machine.name, flush=True)
    {end}
"""
    harness = subprocess.run(
        [sys.executable, "-c", script],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        stderr=subprocess.DEVNULL,
    )
    assert harness.returncode
    name = harness.stdout.strip()
    assert name.startswith("pf-agent-")
    for _ in range(100):
        if not (left := traces(name)):
            return
        subprocess.run(["sleep", "0.1"], check=True)
    pytest.fail("\n".join(left))


def test_apt_installs_from_the_local_repository(machine: Machine, tmp_path: Path) -> None:
    control = tmp_path / "hello" / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    control.write_text(
        "Package: pf-agent-hello\nVersion: 1\nArchitecture: all\nDepends: postfix, python3-pydbus\n"
        "Maintainer: Nobody <nobody@example.test>\nDescription: a package of the test's own\n"
    )
    subprocess.run(["dpkg-deb", "--build", "hello"], cwd=tmp_path, check=True)
    machine.serve_apt([tmp_path / "hello.deb"])
    machine.apt_install("pf-agent-hello")
    assert "Status: install ok installed" in machine.sh("dpkg -s pf-agent-hello")
