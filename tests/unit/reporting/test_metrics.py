"""The metrics' two ways out: the textfile, and HTTP on loopback."""

from __future__ import annotations

import os
import socket
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from pf_agent.config.saved import digests
from pf_agent.files.whole import write_textfile
from pf_agent.model import DesiredState, Event, Phase, Place, Record, Status
from pf_agent.reporting.courier import Courier
from pf_agent.reporting.metrics import Metrics

STATUS = Status(Phase.IN_SYNC, 1_800_000_000.0, parameters=1, version="1.2.3", pid=1)
DESIRED = DesiredState({"mynetworks": "127.0.0.0/8"}, frozenset({"sendmail_path"}))
CORRECTED = Record(Event.DRIFT_CORRECTED, "corrected: mynetworks", 1)


@pytest.fixture
def textfile(tmp_path: Path) -> Path:
    return tmp_path / "pf-agent.prom"


PATIENCE = 30.0


def listening(place: str) -> socket.socket:
    host, _, port = place.rpartition(":")
    return socket.create_server((host, int(port)))


class Bench:
    """Metrics whose textfile is on disk when a call returns; `said` is what was reported."""

    def __init__(self, textfile: Path) -> None:
        self.said: list[str] = []
        self.courier = Courier("textfile", self.said.append)
        told = digests({"-": DESIRED})
        path = str(textfile)
        self.metrics = Metrics(path, "", lambda: told, listening, write_textfile, self.courier)
        self.note = self.metrics.note

    def publish(self, status: Status) -> None:
        self.metrics.publish(status)
        assert self.courier.settle(PATIENCE)

    def close(self) -> None:
        self.metrics.close()
        assert self.courier.settle(PATIENCE)


def corrections(path: Path) -> int:
    (line,) = (x for x in path.read_text().splitlines() if x.startswith("pf_agent_corrections_"))
    return int(line.split()[-1])


# --- the textfile ---------------------------------------------------------------------------------


def test_the_textfile_is_whole_and_for_everybody(textfile: Path) -> None:
    before = os.umask(0o077)
    try:
        Bench(textfile).publish(STATUS)
    finally:
        os.umask(before)
    text = textfile.read_text()
    assert text.startswith("# HELP pf_agent_up ")
    assert text.endswith("\n")
    assert stat.S_IMODE(textfile.stat().st_mode) == 0o644
    assert os.listdir(textfile.parent) == [textfile.name]


def test_what_happened_is_written_at_the_next_turn(textfile: Path) -> None:
    metrics = Bench(textfile)
    metrics.publish(STATUS)
    assert corrections(textfile) == 0
    metrics.note(CORRECTED)
    metrics.publish(STATUS)
    assert corrections(textfile) == 1


def test_a_change_of_phase_is_written_and_a_turn_that_changed_nothing_is_not(
    textfile: Path,
) -> None:
    metrics = Bench(textfile)
    metrics.publish(STATUS)
    first = textfile.stat().st_ino
    metrics.publish(replace(STATUS, next_look=5.0))
    assert textfile.stat().st_ino == first
    metrics.publish(replace(STATUS, instances={"out": replace(STATUS, phase=Phase.STALLED)}))
    assert 'pf_agent_phase{postfix_instance="out",phase="stalled"} 1' in textfile.read_text()


def test_a_stopped_agent_leaves_word(textfile: Path) -> None:
    metrics = Bench(textfile)
    metrics.publish(STATUS)
    metrics.close()
    text = textfile.read_text()
    assert "pf_agent_up 0\n" in text
    assert "in_sync" not in text


def test_a_missing_folder_is_told_of_once(tmp_path: Path) -> None:
    metrics = Bench(tmp_path / "nowhere" / "pf-agent.prom")
    metrics.publish(STATUS)
    metrics.note(CORRECTED)
    metrics.publish(STATUS)
    (said,) = metrics.said
    assert "pf-agent.prom: " in said
    assert "; install prometheus-node-exporter" in said


def test_a_fault_that_comes_back_is_told_of_again(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    metrics = Bench(folder / "pf-agent.prom")
    for is_there, said in ((False, 1), (True, 1), (False, 2)):
        if is_there:
            folder.mkdir()
        elif folder.exists():
            (folder / "pf-agent.prom").unlink()
            folder.rmdir()
        metrics.note(CORRECTED)
        metrics.publish(STATUS)
        assert len(metrics.said) == said
        if is_there:
            assert corrections(folder / "pf-agent.prom") == 2


def test_a_file_system_that_hangs_holds_nobody_up_and_then_gets_the_newest(textfile: Path) -> None:
    begun, answers = threading.Event(), threading.Event()
    written: list[bytes] = []

    def write(path: str, text: bytes) -> None:
        begun.set()
        assert answers.wait(PATIENCE)
        write_textfile(path, text)
        written.append(text)

    courier = Courier("textfile", pytest.fail)
    metrics = Metrics(str(textfile), "", dict, listening, write, courier)
    for _ in range(5):
        metrics.note(CORRECTED)
        metrics.publish(STATUS)
        assert begun.wait(PATIENCE)
    assert not textfile.exists()
    answers.set()
    assert courier.settle(PATIENCE)
    assert len(written) == 2
    assert corrections(textfile) == 5


def test_no_link_is_followed(tmp_path: Path, textfile: Path) -> None:
    other = tmp_path / "other"
    other.write_text("kept")
    textfile.symlink_to(other)
    (tmp_path / ".pf-agent.prom.new").symlink_to(other)
    write_textfile(str(textfile), b"x 1\n")
    assert other.read_text() == "kept"
    assert not textfile.is_symlink()
    assert textfile.read_bytes() == b"x 1\n"


# --- the digest -----------------------------------------------------------------------------------


def test_the_digest_is_of_what_is_desired_and_not_of_where_it_stands() -> None:
    moved = replace(DESIRED, provenance={"mynetworks": Place("elsewhere.toml", 9)})
    other = replace(DESIRED, settings={"mynetworks": "10.0.0.0/8"})
    (first, second, third) = (digests({"-": state})["-"] for state in (DESIRED, moved, other))
    assert first == second != third
    assert len(first) == 16
