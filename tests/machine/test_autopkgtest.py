"""autopkgtest runs debian/tests on a booted machine, as Debian's own infrastructure would."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.checkout import CHECKOUT
from tests.machine.nspawn import Machine


@pytest.fixture(scope="module")
def autopkgtest() -> str:
    found = shutil.which("autopkgtest")
    if not found:
        if os.environ.get("CI") == "true":
            pytest.fail("this host lacks autopkgtest")
        pytest.skip("this host lacks autopkgtest; `sudo tools/test machine` installs it")
    return found


def test_the_tests_in_debian_pass(
    machine: Machine, deb: Path, autopkgtest: str, tmp_path: Path
) -> None:
    machine.serve_apt([deb])
    source = tmp_path / "pf-agent"
    shutil.copytree(CHECKOUT / "debian", source / "debian")
    # By this file autopkgtest knows a tree that was built, and needs no dpkg-dev in the machine.
    (source / "debian/files").touch()
    command = [autopkgtest, "--no-built-binaries", "--output-dir", str(tmp_path / "output")]
    command += [str(source), "--"]
    command += [str(Path(__file__).with_name("testbed.py")), *machine.entering(["env"])]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=400, check=False, stdin=subprocess.DEVNULL
    )
    said = f"{done.stdout[-8000:]}{done.stderr[-8000:]}"
    assert done.returncode == 0, said
    summary = (tmp_path / "output/summary").read_text().splitlines()
    assert [line.split() for line in summary] == [["smoke", "PASS"], ["service", "PASS"]], said
