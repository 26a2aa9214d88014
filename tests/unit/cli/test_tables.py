"""Tables: plain for programs and without rich, drawn on a terminal that has it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from pf_agent.cli.tables import columns
from pf_agent.words import history
from tests.unit.cli.test_main import command, environment

HOSTILE = "[red]x[/red] :smile: \x1b[31m\x1b]0;title\x07\r\x9b2J" + "y" * 10_000
# What stands for it wherever it is shown.
SHOWN = "[red]x[/red] :smile: \\x1b[31m\\x1b]0;title\\x07\\x0d\\x9b2J" + "y" * 10_000
TABLE = f"""
from pf_agent.cli.tables import print_table
print_table(["NAME", "IS"], [["a", "short"], ["b", {HOSTILE!r}]])
"""
FIELDS = f"""
from pf_agent.cli.tables import print_fields
print_fields([("wanted", "1"), ("/etc/p/main.cf", {HOSTILE!r})])
"""
PLAIN = {
    TABLE: f"NAME  IS\na     short\nb     {SHOWN}\n",
    FIELDS: f"  wanted:     1\n  /etc/p/main.cf: {SHOWN}\n",
}
BOTH = pytest.mark.parametrize("code", [TABLE, FIELDS], ids=["table", "fields"])
WITHOUT_RICH = "import sys; sys.modules['rich'] = None\n"
MAIN_CF = "a = 2\nd = 4\nd = 5\n"
DESIRED = '[settings]\na = "1"\nd = "5"\nm = "yes"\n'
SENTENCES = (
    'a is "2", must be "1" (line 1)\n'
    'd is set more than once, first to "4" (line 2)\n'
    'm is not set, must be "yes"\n'
)
SGR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(autouse=True)
def _needs_rich(request: pytest.FixtureRequest) -> None:
    """Debian has python3-rich; without it a skip, and a failure under CI."""
    if request.node.get_closest_marker("rich") is None:
        return
    try:
        import rich  # noqa: F401
    except ImportError:
        reason = "no rich on this host; install python3-rich"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


def on_terminal(argv: Sequence[str], width: int = 80, output: int | None = None, **env: str) -> str:
    """Run it on a terminal of that width, or with `output` for its output; what the screen got."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    unwanted = ("NO_COLOR", "COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE")
    kept = {name: value for name, value in environment().items() if name not in unwanted}
    with subprocess.Popen(
        argv,
        stdin=its,
        stdout=its if output is None else output,
        stderr=its,
        env={**kept, "TERM": "xterm", "PYTHONIOENCODING": "utf-8", **env},
    ):
        os.close(its)
        screen = b""
        with suppress(OSError):  # Linux's way to say that nothing more will come
            while data := os.read(ours, 65536):
                screen += data
    os.close(ours)
    return screen.decode().replace("\r\n", "\n")


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def bare(screen: str) -> str:
    """All that was drawn but blanks, lines and colours, in one."""
    return re.sub(r"[\s\u2500]", "", SGR.sub("", screen))


@pytest.fixture
def diff(tmp_path: Path) -> list[str]:
    """`pf-agent diff` of a file that differs in three ways."""
    main_cf, desired = tmp_path / "main.cf", tmp_path / "desired.toml"
    main_cf.write_text(MAIN_CF, encoding="utf-8")
    desired.write_text(DESIRED, encoding="utf-8")
    return command("diff", "--main-cf", str(main_cf), "--desired", str(desired))


def test_each_column_is_as_wide_as_its_widest_cell() -> None:
    assert columns([["A", "BC"], ["abc", "d"]]) == ["A    BC", "abc  d"]


@pytest.mark.parametrize(
    ("parameters", "writer", "outcome"),
    [
        ("mynetworks", "sed", "activated"),
        (
            "out: smtpd_relay_restrictions, mynetworks and 7 more",
            "ansible-playbook (anna)",
            "refused",
        ),
        ("x" * 300, "y" * 300, "Postfix failed"),
        ("x", "y" * 60, "rolled back"),
    ],
)
def test_history_fits_a_terminal_without_rich(parameters: str, writer: str, outcome: str) -> None:
    row = ("1234567", "2026-01-31 14:30", parameters, writer, "119 min", outcome)
    heading, line = columns([history.HEADINGS, row], history.YIELDING)
    assert len(heading) <= 80
    assert len(line) <= 80
    assert line.startswith("1234567  2026-01-31 14:30  ")
    assert line.endswith(f"  119 min   {outcome}")
    cells = re.split(r"  +", line)
    for cell, whole in zip(cells, row, strict=True):
        assert cell == whole or whole.startswith(cell.removesuffix("..."))
    wide = len("  ".join(row)) > 80
    assert ("..." in line) == wide


def test_a_table_of_columns_that_do_not_yield_is_shown_whole() -> None:
    rows = [["A", "B"], ["x" * 70, "y" * 70]]
    assert columns(rows)[1] == "x" * 70 + "  " + "y" * 70
    assert len(columns(rows, ["B"])[1]) == 80 - 2 - 70 + 72
    assert columns([["A"], ["x" * 70]], ["B"])[1] == "x" * 70


@pytest.mark.rich
def test_history_fits_a_terminal_with_rich() -> None:
    row = ("1234567", "2026-01-31 14:30", "mynetworks, " * 9, "sed (anna)", "119 min", "activated")
    code = f"""
from pf_agent.cli.tables import print_table
from pf_agent.words import history
print_table(history.HEADINGS, [{row!r}], history.YIELDING)
"""
    screen = SGR.sub("", on_terminal(python(code)))
    assert max(map(len, screen.splitlines())) <= 80
    assert re.search(r"1234567 +2026-01-31 14:30 +mynetworks.*sed.* +119 min +activated", screen)
    assert bare(screen).count("mynetworks,") == 9


@BOTH
def test_programs_get_plain_text(code: str) -> None:
    done = subprocess.run(
        python(code), stdout=subprocess.PIPE, env=environment(COLUMNS="40"), check=True
    )
    assert done.stdout.decode() == PLAIN[code]


@BOTH
def test_a_terminal_without_rich_gets_plain_text(code: str) -> None:
    assert on_terminal(python(WITHOUT_RICH + code)) == PLAIN[code]


@BOTH
def test_a_terminal_too_narrow_for_rich_gets_plain_text(code: str) -> None:
    assert on_terminal(python(code), width=39) == PLAIN[code]


@BOTH
@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.rich
def test_rich_shows_all_and_obeys_nothing(code: str, width: int) -> None:
    screen = on_terminal(python(code), width)
    assert bare(screen).endswith(bare(SHOWN))
    assert max(map(len, SGR.sub("", screen).splitlines())) <= width
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", SGR.sub("", screen))


@pytest.mark.rich
def test_colours_are_of_the_column_and_not_of_the_value() -> None:
    screen = on_terminal(python(TABLE))
    assert "\x1b[31mshort" in screen
    assert SGR.search(on_terminal(python(FIELDS))) is None
    plain = on_terminal(python(TABLE), NO_COLOR="1")
    assert bare(plain) == bare(screen)
    assert "\x1b[3" not in plain


@pytest.mark.rich
def test_diff_on_a_terminal_ends_with_a_table(diff: list[str]) -> None:
    screen = on_terminal(diff)
    assert "\x1b[31m-a = 2\x1b[m\n" in screen
    table = bare(screen[SGR.sub("", screen).index("PARAMETER") :])
    rows = ('a"2""1"1', 'd"4",thensetagain"5",once2', 'mnotset"yes"')
    assert table.endswith("".join(("PARAMETERISMUSTBELINE", *rows)))
    assert "must be" not in screen
    assert "\x1b[3" not in on_terminal(diff, NO_COLOR="1")


@pytest.mark.rich
def test_diff_into_a_file_is_as_it_is_without_rich(diff: list[str], tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as output:
        assert on_terminal(diff, output=output.fileno()) == SENTENCES
    done = subprocess.run(diff, capture_output=True, env=environment(), check=False)
    assert done.stderr.decode() == SENTENCES
    assert (tmp_path / "out").read_bytes() == done.stdout
    assert b"\x1b" not in done.stdout


def test_rich_is_not_imported_where_nothing_is_drawn(diff: list[str]) -> None:
    arguments = diff[diff.index("diff") :]
    code = f"import sys; from pf_agent.cli.main import main; main({arguments})"
    code += "; print(*sys.modules)"
    done = subprocess.run(python(code), capture_output=True, env=environment(), check=True)
    loaded = done.stdout.decode().split()
    assert "pf_agent.cli.tables" in loaded
    assert "rich" not in loaded
