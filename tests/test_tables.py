"""Tables: plain for programs and without rich, drawn on a terminal that has it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

import pf_agent
from pf_agent.tables import columns

AGENT = Path(pf_agent.__file__).parents[1]
PRINT = """
from pf_agent.tables import print_table
print_table(["NAME", "VALUE"], [["a", "[red]x[/red]"], ["b", "\\x1b[31m" + "long " * 30]])
"""
PLAIN = "NAME  VALUE\na     [red]x[/red]\nb     \\x1b[31m" + ("long " * 30).rstrip() + "\n"


def printed(setup: str = "", width: str = "40", **env: str) -> str:
    """What the table looks like on a terminal."""
    master, terminal = pty.openpty()
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(AGENT), "TERM": "xterm", **env}
    with os.fdopen(master, "rb") as screen:
        code = [sys.executable, "-c", setup + PRINT]
        done = subprocess.Popen(code, stdout=terminal, env={**env, "COLUMNS": width})
        os.close(terminal)
        said = b""
        try:
            while data := screen.read1():
                said += data
        except OSError:
            pass  # EIO: the other end is closed
        assert done.wait(timeout=60) == 0
    return said.decode().replace("\r\n", "\n")


def test_each_column_is_as_wide_as_its_widest_cell() -> None:
    assert columns([["A", "BC"], ["abc", "d"]]) == ["A    BC", "abc  d"]


def test_programs_get_plain_columns() -> None:
    env = {**os.environ, "PYTHONPATH": str(AGENT)}
    done = subprocess.run(
        [sys.executable, "-c", PRINT], stdout=subprocess.PIPE, env=env, check=True
    )
    assert done.stdout.decode() == PLAIN


def test_a_terminal_without_rich_gets_plain_columns() -> None:
    assert printed("import sys; sys.modules['rich'] = None\n") == PLAIN


def test_rich_draws_on_a_terminal() -> None:
    pytest.importorskip("rich")
    screen = printed()
    lines = screen.splitlines()
    assert "\x1b[1m" in screen  # the headings are bold
    assert "[red]x[/red]" in screen  # no markup
    assert "\\x1b[31m" in screen  # escaped, as everywhere
    assert screen.count("long") == 30  # folded, nothing is cut off
    assert len(lines) > 5


def test_no_colour_where_none_is_wanted() -> None:
    pytest.importorskip("rich")
    assert "\x1b[3" not in printed(NO_COLOR="1")
