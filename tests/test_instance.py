"""One instance's turns of the loop: what it has done beside them, and how long it may be left."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import cast

import pytest

from pf_agent import alias_database, names
from pf_agent.configuration import Configuration
from pf_agent.errands import Errands
from pf_agent.errors import HostError
from pf_agent.instance import Instance, Shared
from pf_agent.journal import Journal
from pf_agent.model import Event, Judgement, Phase, Reason, Trigger
from pf_agent.pacing import Backoff
from pf_agent.state import State
from pf_agent.systemd import Systemd
from pf_agent.watch import Watch
from pf_agent.writer import Writers
from tests.fakes import FakePrograms, FakeService, Records

RIGHT, WRONG = b"mynetworks = 127.0.0.0/8\n", b"mynetworks = 0.0.0.0/0\n"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="main.cf must be root's")


class Asked(FakePrograms):
    """Postfix, which is asked in threads, too: `judged` has each text, `trouble` keeps it mute."""

    def __init__(self) -> None:
        super().__init__(None)
        self.judged: SimpleQueue[bytes] = SimpleQueue()
        self.trouble = ""
        self.is_stale = False
        self.may_build = threading.Event()
        self.may_build.set()

    def judge(self, text: bytes) -> Judgement:
        self.judged.put(text)
        if self.trouble:
            raise HostError(self.trouble)
        return Judgement()

    def aliases_are_stale(self, _path: str) -> bool:
        return self.is_stale

    def newaliases(self, path: str) -> tuple[str, ...]:
        self.may_build.wait(60)
        return super().newaliases(path)

    def probe(self, _greeting: object) -> str:
        raise AssertionError("Postfix is not restarted here")


class Host:
    """A main.cf with a desired state, and a Postfix that was seen to run with it before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.main_cf = folder / "postfix" / "main.cf"
        etc = folder / "etc"
        for made in (self.main_cf.parent, etc):
            made.mkdir()
        (etc / names.DESIRED_TOML).write_text('[settings]\nmynetworks = "127.0.0.0/8"\n')
        self.write(RIGHT)
        self.state = State(str(folder / "lib"), str(folder / "run"))
        self.state.prepare()
        self.state.keep_last_good(RIGHT)
        self.postfix, self.records = Asked(), Records()
        self.posted: SimpleQueue[Trigger] = SimpleQueue()
        self.instance = self.started(etc)

    def started(self, etc: Path) -> Instance:
        shared = Shared(
            Configuration(str(etc), self.state, self.complain),
            cast(Systemd, FakeService()),
            Watch(str(etc), self.posted.put),
            Writers(),
            self.records,
            Journal(place=str(self.folder / "no journal")),
            self.posted.put,
            lambda: None,
            lambda _directory: cast(Errands, self.postfix),
        )
        shared.configuration.refresh()
        return Instance(names.DEFAULT_INSTANCE, str(self.main_cf), self.state, shared)

    def complain(self, problem: str) -> None:
        raise AssertionError(problem)

    def write(self, text: bytes) -> None:
        self.main_cf.write_bytes(text)
        self.main_cf.chmod(0o644)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


# --- judged ahead ---------------------------------------------------------------------------------


def test_a_drift_need_not_wait_for_a_text_that_was_judged_at_the_start(host: Host) -> None:
    host.instance.turn({Reason.START})
    host.instance.judge_ahead()
    assert host.postfix.judged.get(timeout=60) == RIGHT
    host.write(WRONG)
    host.instance.turn({Reason.MAIN_CF})
    assert host.main_cf.read_bytes() == RIGHT
    assert host.postfix.judged.get(timeout=60) == WRONG, "is it what Postfix ran with?"
    assert host.postfix.judged.empty()


def test_who_cannot_judge_at_the_start_is_asked_again(host: Host) -> None:
    host.postfix.trouble = "no answer; see `systemctl status pf-agent-errands`"
    host.instance.turn({Reason.START})
    with pytest.raises(HostError, match="no answer"):
        host.instance.judge_ahead()
    assert host.postfix.judged.get(timeout=60) == RIGHT
    assert host.records == []
    host.postfix.trouble = ""
    host.write(WRONG)
    host.instance.turn({Reason.MAIN_CF})
    assert host.main_cf.read_bytes() == RIGHT
    assert host.postfix.judged.get(timeout=60) == RIGHT


def test_a_drift_found_at_the_start_leaves_nothing_to_judge_ahead(host: Host) -> None:
    host.write(WRONG)
    host.instance.turn({Reason.START})
    assert Event.DRIFT_CORRECTED in host.records.events()
    while not host.postfix.judged.empty():
        host.postfix.judged.get()
    host.instance.judge_ahead()
    assert host.postfix.judged.empty(), "what was corrected was judged"


# --- how it stands --------------------------------------------------------------------------------


def test_what_could_not_be_told_is_told_soon(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.instance.turn({Reason.START})
    assert host.instance.status(0.0).phase is Phase.IN_SYNC
    assert host.instance.patience() > 5.0

    def unreadable() -> None:
        raise HostError("pending.json: Permission denied; run as root")

    with monkeypatch.context() as patch:
        patch.setattr(host.state, "pending", unreadable)
        status = host.instance.status(0.0)
    assert (status.phase, status.detail) == (
        Phase.STALLED,
        "pending.json: Permission denied; run as root",
    )
    assert host.instance.patience() <= 5.0
    assert host.instance.status(0.0).phase is Phase.IN_SYNC


# --- patience -------------------------------------------------------------------------------------


def test_while_newaliases_runs_its_next_run_is_not_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alias_database, "Backoff", lambda first: Backoff(first * 0))
    host = Host(tmp_path)
    host.postfix.is_stale, host.postfix.aliases_trouble = True, "postalias: fatal: disk full"
    host.instance.turn({Reason.START})
    assert host.posted.get(timeout=60).reason is Reason.NEWALIASES
    host.instance.turn({Reason.NEWALIASES})
    assert host.instance.patience() == 0.0, "it failed, and is to be run again at once"
    host.postfix.may_build.clear()
    host.instance.turn(set())
    assert host.instance.patience() > 0.0
    host.postfix.may_build.set()
    assert host.posted.get(timeout=60).reason is Reason.NEWALIASES
