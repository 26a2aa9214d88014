"""What the daemon has not in memory, seen from processes of their own: sys.modules is for all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pf_agent

# What `pf-agent run` imports when it starts, and at its first correction.
USED = (
    "pf_agent.cli, pf_agent.verbs_run, pf_agent.daemon, structlog, watchdog.observers, tomli,"
    " hashlib"
)


def said(code: str) -> str:
    """What a Python prints that has just begun."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\nfrom pf_agent import lean\n{code}"],
        env={**os.environ, "PYTHONPATH": str(Path(pf_agent.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded(first: str) -> set[str]:
    """The modules that stand in memory after `first` and the import of what is used."""
    is_there = "m and type(m) is not lean._PutOff"
    listed = f"print(*(n for n, m in sys.modules.items() if {is_there}))"
    names = said(f"{first}\nimport {USED}\n{listed}")
    return set(names.split())


def test_the_daemon_has_nothing_that_it_does_not_use_in_memory() -> None:
    assert {"_hashlib", "subprocess"} <= loaded(""), "else there is nothing to save"
    lean = loaded("lean.forgo()")
    assert {"pf_agent.daemon", "structlog", "watchdog.observers", "tomli", "hashlib"} <= lean
    roots = {name.partition(".")[0] for name in lean}
    assert not roots & {"_hashlib", "_ssl", "argparse", "bz2", "http", "lzma", "rich", "tempfile"}
    assert not roots & {"asyncio", "shutil", "subprocess", "tokenize", "uuid"}


def test_hashes_are_the_same_without_libcrypto() -> None:
    code = "import hashlib\nprint(hashlib.sha256(b'main.cf').hexdigest())"
    assert said(f"lean.forgo()\n{code}") == said(code)


def test_what_was_put_off_is_there_when_it_is_used() -> None:
    code = """
lean.forgo()
import asyncio
before = "asyncio.events" in sys.modules
print(before, asyncio.run(asyncio.sleep(0, "slept")), "asyncio.events" in sys.modules)
from asyncio import run
import asyncio.events
print(asyncio.events.__name__, sys.modules["asyncio"].run is run)
"""
    assert said(code).splitlines() == ["False slept True", "asyncio.events True"]


def test_a_traceback_shows_its_lines_still() -> None:
    code = """
lean.forgo()
import json, traceback
try:
    json.loads("x")
except ValueError:
    print(traceback.format_exc())
"""
    assert "raise JSONDecodeError(" in said(code)


def test_what_is_loaded_already_stays() -> None:
    first = "import uuid, ssl\nlean.forgo()"
    assert "class" in said(f"{first}\nimport uuid, ssl\nprint(uuid.UUID, ssl.SSLError)")
