"""status.json on a file system that hangs: nobody waits, and the newest is written in the end."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pf_agent.daemon.shown_status import ShownStatus
from pf_agent.errors import HostError
from pf_agent.files.status_file import read_status
from pf_agent.files.store import FileStore
from pf_agent.model import Phase, Status

PATIENCE = 30.0
STATUS = Status(Phase.IN_SYNC, 1_800_000_000.0, version="1.2.3", pid=1)
LATER = 1_800_000_001.0


class Slow(FileStore):
    """A store whose run folder hangs, or refuses."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder), str(folder))
        self.goes_on = threading.Event()
        self.refusal = ""
        self.written: list[Phase] = []

    def write_status(self, status: Mapping[str, Any]) -> None:
        assert self.goes_on.wait(PATIENCE)
        if self.refusal:
            raise HostError(self.refusal)
        self.written.append(Phase(status["phase"]))
        super().write_status(status)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Slow]:
    store = Slow(tmp_path)
    yield store
    store.goes_on.set()


def test_nobody_waits_and_the_newest_is_written_when_it_goes_on(store: Slow) -> None:
    shown = ShownStatus(store, pytest.fail)
    for phase in (Phase.IN_SYNC, Phase.STALLED, Phase.ACTIVATING, Phase.IN_SYNC):
        shown.show(replace(STATUS, phase=phase), LATER)
    assert store.written == []
    store.goes_on.set()
    shown.settle(PATIENCE)
    found = read_status(store.run_directory)
    assert found is not None
    assert found["phase"] == store.written[-1].value == "in-sync"
    assert len(store.written) <= 2
    shown.remove()
    assert read_status(store.run_directory) is None


def test_what_has_not_changed_is_not_written_again(store: Slow) -> None:
    store.goes_on.set()
    shown = ShownStatus(store, pytest.fail)
    for next_look in (1.0, 2.0):
        shown.show(replace(STATUS, next_look=next_look), LATER)
        shown.settle(PATIENCE)
    assert store.written == [Phase.IN_SYNC]
    assert shown.patience() is None


def test_what_cannot_be_written_is_told_once_and_tried_again(store: Slow) -> None:
    store.goes_on.set()
    store.refusal = "no room; free some"
    said: list[str] = []
    shown = ShownStatus(store, said.append)
    for _ in range(3):
        shown.show(STATUS, LATER)
        shown.settle(PATIENCE)
        assert shown.patience() is not None
    assert said == ["no room; free some"]
    store.refusal = ""
    shown.show(STATUS, LATER)
    shown.settle(PATIENCE)
    assert store.written == [Phase.IN_SYNC]
    assert shown.patience() is None
