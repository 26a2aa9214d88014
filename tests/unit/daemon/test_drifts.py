"""What is noted of drifts: the last one, and who fights over what."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pf_agent.daemon.drifts import Drifts
from pf_agent.daemon.shared import Shared
from pf_agent.files.store import FileStore
from pf_agent.model import Drift, DriftKind, Event, Exposure, Outcome, Result
from tests.fakes import Records


class World:
    def __init__(self, folder: Path) -> None:
        self.state = state = FileStore(str(folder / "lib"), str(folder / "run"))
        state.prepare()
        self.records = Records()
        self.drifts = Drifts("-", state, self.records, cast(Shared, SimpleNamespace(journal=self)))

    def correct_again(self, parameter: str, document: str) -> None:
        """Correct what drifted three times within the last minutes."""
        now = time.time()
        self.state.note_drifts({parameter: tuple(now - ago for ago in (300, 200, 100))})
        drift = Drift(parameter, DriftKind.CHANGED, "y", "n", document=document)
        exposure = Exposure(now, now, now)
        self.drifts.note(Outcome(Result.CORRECTED, "", 7, (drift,), "", exposure))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_who_fights_over_master_cf_does_as_over_main_cf(world: World) -> None:
    world.correct_again("submission/inet/chroot", "master.cf")
    assert world.drifts.contest is not None
    assert world.drifts.contest.parameters == ("submission/inet/chroot",)
    assert world.drifts.apart() > 0
    assert len(world.records.of(Event.CONTESTED)) == 1


def test_for_a_table_no_restart_waits(world: World) -> None:
    world.correct_again("example.org", "hash:/etc/postfix/transport")
    assert (world.drifts.contest, world.drifts.apart()) == (None, 0.0)
    assert world.drifts.last is not None
    assert world.drifts.last.parameters == ("example.org",)
    assert "hash:/etc/postfix/transport" in (world.drifts.last.keep or "")
