"""units/90-pf-agent: it prints a line for each thing that is wrong, and otherwise nothing."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pf_agent import names
from pf_agent.files.store import FileStore
from pf_agent.model import LastDrift, Phase, Status, Suspension
from pf_agent.words.status import status_dict
from tests.checkout import CHECKOUT

SEE = "; see `pf-agent status`\n"
NOW = time.time()
DAY = 86_400.0
WELL = Status(Phase.IN_SYNC, NOW, 21, last=LastDrift(3, NOW, ("mynetworks",)))
QUIET = [Phase.STARTING, Phase.IN_SYNC, Phase.ACTIVATING, Phase.OBSERVING, Phase.SUSPENDED]


def suspended(seconds: float) -> Status:
    return replace(
        WELL, phase=Phase.SUSPENDED, suspension=Suspension(time.time() - seconds, None, "anna", "x")
    )


@pytest.fixture(scope="module")
def agent() -> Iterator[int]:
    """The PID of a process that has the agent's name (proc_pid_comm(5))."""
    script = f"printf {names.PROGRAM} > /proc/$$/comm && echo named && read -r end"
    with subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"named\n"
        yield process.pid
        process.communicate(b"\n")


def told(folder: Path, status: Status) -> str:
    """Return what is printed at a login with this status."""
    store = FileStore(str(folder / "kept"), str(folder))
    store.write_status(status_dict(status, NOW))
    done = run(folder / "status.json")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def run(path: Path) -> subprocess.CompletedProcess[str]:
    script = str(CHECKOUT / "units/90-pf-agent")
    return subprocess.run([script, str(path)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("phase", QUIET)
def test_where_all_is_well_nothing_is_said(tmp_path: Path, agent: int, phase: Phase) -> None:
    assert told(tmp_path, replace(WELL, phase=phase, pid=agent)) == ""


def test_every_other_phase_has_its_line(tmp_path: Path, agent: int) -> None:
    for phase in set(Phase) - set(QUIET):
        line = told(tmp_path, replace(WELL, phase=phase, pid=agent))
        assert line.startswith(f"pf-agent: {phase.value}: ")
        assert line.endswith(SEE)
        assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.5 * DAY, ""),
        (0.99 * DAY, ""),
        (1.1 * DAY, f"pf-agent: suspended for 1 day{SEE}"),
        (9.5 * DAY, f"pf-agent: suspended for 9 days{SEE}"),
    ],
)
def test_a_suspension_is_told_of_after_a_day(
    tmp_path: Path, agent: int, seconds: float, said: str
) -> None:
    assert told(tmp_path, replace(suspended(seconds), pid=agent)) == said


def test_an_instance_is_named_and_what_holds_for_all_is_said_once(
    tmp_path: Path, agent: int
) -> None:
    inner = {"out": replace(WELL, phase=Phase.STOPPED), "in": WELL, "x_y-2": suspended(3.5 * DAY)}
    stopped = f"stopped: somebody stopped Postfix{SEE}"
    assert told(tmp_path, replace(WELL, pid=agent, instances=inner)) == (
        f"pf-agent: out: {stopped}pf-agent: x_y-2: suspended for 3 days{SEE}"
    )
    both = replace(suspended(2.5 * DAY), pid=agent, instances={"out": suspended(2.5 * DAY)})
    assert told(tmp_path, both) == f"pf-agent: suspended for 2 days{SEE}"


def test_tables_that_are_out_of_date_are_counted(tmp_path: Path, agent: int) -> None:
    lie = '/t\n  "x": {\n "phase": "stalled",'
    stale = {lie: lie, "/t/two": "/t/two:2: odd"}
    inner = replace(WELL, stale={"/t/three": "}"})
    both = replace(WELL, pid=agent, stale=stale, instances={"out": inner, "in": WELL})
    several = f"pf-agent: 2 tables are out of date{SEE}"
    assert told(tmp_path, both) == f"{several}pf-agent: out: 1 table is out of date{SEE}"
    stopped = replace(both, phase=Phase.STOPPED, instances={"out": replace(both, stale=stale)})
    line = f"pf-agent: stopped: somebody stopped Postfix{SEE}"
    assert told(tmp_path, stopped) == f"{line}{several}"


def test_files_beside_main_cf_that_are_not_as_desired_are_counted(
    tmp_path: Path, agent: int
) -> None:
    table, why = "hash:/etc/postfix/transport", 'refused: ""'
    both = replace(WELL, pid=agent, documents={"master.cf": why, table: why, "hash:/t": ""})
    inner = {"in": replace(WELL, documents={table: ""}), "out": replace(both, documents={"x": "y"})}
    wrong = "other files of Postfix are not as desired"
    assert told(tmp_path, replace(both, instances=inner)) == (
        f"pf-agent: 2 {wrong}{SEE}pf-agent: out: 1 other file of Postfix is not as desired{SEE}"
    )
    assert told(tmp_path, replace(both, phase=Phase.OBSERVING)) == ""
    assert told(tmp_path, replace(WELL, pid=agent, documents={"master.cf": ""})) == ""


@pytest.mark.parametrize("phase", [Phase.OBSERVING, Phase.SUSPENDED])
def test_where_no_table_is_built_none_is_told_of(tmp_path: Path, agent: int, phase: Phase) -> None:
    assert told(tmp_path, replace(WELL, phase=phase, pid=agent, stale={"/t": "/t: odd"})) == ""


def test_no_value_passes_for_a_phase(tmp_path: Path, agent: int) -> None:
    lie = '\n "phase": "stalled",\n'
    status = replace(
        WELL,
        pid=agent,
        detail=lie,
        problems=(lie, ' "phase": "stalled",'),
        absent=('"phase": "stalled"',),
        suspension=Suspension(NOW, None, lie, "\x1b[2J"),
    )
    assert told(tmp_path, status) == ""


def test_what_a_killed_agent_left_behind_is_no_status(tmp_path: Path) -> None:
    line = "pf-agent: not running, so nothing watches main.cf; see `systemctl status pf-agent`\n"
    # Another process may have the number.
    for pid in (2**22, 1):
        assert told(tmp_path, replace(WELL, phase=Phase.STALLED, pid=pid)) == line


def test_without_an_agent_or_with_a_damaged_file_nothing_is_said(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    assert (run(path).returncode, run(path).stdout) == (0, "")
    for text in ("", "{", json.dumps(status_dict(WELL, NOW)), "\0" * 4096):
        path.write_text(text)
        done = run(path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    path.unlink()
    path.mkdir()
    assert run(path).returncode == 0
