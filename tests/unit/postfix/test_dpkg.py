"""Whether dpkg is at work: its lock is looked at and never taken."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from pf_agent.errors import HostError
from pf_agent.model import Package
from pf_agent.postfix.dpkg import is_locked

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("name", ["lock", "lock-frontend"])
def test_the_lock_of_another_process_is_seen(tmp_path: Path, name: str) -> None:
    assert not is_locked(str(tmp_path))
    for each in ("lock", "lock-frontend"):
        (tmp_path / each).touch(0o640)
    assert not is_locked(str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / name)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert is_locked(str(tmp_path))
        holder.stdin.close()
    assert not is_locked(str(tmp_path))


def test_to_look_takes_nothing_from_who_wants_it(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    assert not is_locked(str(tmp_path))
    with open(tmp_path / "lock", "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_lock_that_cannot_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to("lock")
    with pytest.raises(HostError, match="lock: "):
        is_locked(str(tmp_path))


@pytest.mark.parametrize(
    ("state", "is_whole"),
    [
        ("installed", True),
        ("triggers-pending", True),
        ("triggers-awaited", True),
        ("", True),
        ("half-configured", False),
        ("unpacked", False),
        ("half-installed", False),
        ("config-files", False),
    ],
)
def test_how_far_it_is_installed(state: str, is_whole: bool) -> None:
    assert Package(False, state).is_whole() is is_whole
