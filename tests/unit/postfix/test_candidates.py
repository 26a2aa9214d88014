"""Where a text lies while it is judged, and what of it is removed."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pf_agent.postfix.candidates import Candidates


def test_the_candidates_of_the_dead_are_removed(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    init = 1  # our parent may be beyond this machine's pids: then it is 0
    for pid in (ended.pid, os.getpid(), init):
        (tmp_path / f"judge-{pid}-x_y").mkdir()
        (tmp_path / f"judge-{pid}-x_y" / "main.cf").touch()
    (tmp_path / "status.json").touch()
    Candidates("/etc/postfix", str(tmp_path)).tidy()
    assert {path.name for path in tmp_path.iterdir()} == {
        "status.json",
        f"judge-{init}-x_y",
    }


def test_what_has_the_name_of_a_candidate_and_is_none_goes_too(tmp_path: Path) -> None:
    run, outside = tmp_path / "run", tmp_path / "outside"
    for folder in (run, outside):
        folder.mkdir()
    (outside / "kept").touch()
    (run / f"judge-{os.getpid()}-link").symlink_to(outside)
    (run / f"judge-{os.getpid()}-file").touch()
    os.mkfifo(run / f"judge-{os.getpid()}-fifo")
    Candidates("/etc/postfix", str(run)).tidy()
    assert list(run.iterdir()) == []
    assert (outside / "kept").exists()


def test_a_candidate_is_removed_though_a_call_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove, failures = os.rmdir, [errno.EIO]

    def failing_once(*arguments: Any, **more: Any) -> None:
        if failures:
            raise OSError(failures.pop(), "Input/output error")
        remove(*arguments, **more)

    monkeypatch.setattr(os, "rmdir", failing_once)
    with Candidates(str(tmp_path), str(tmp_path)).holding(b""):
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []
