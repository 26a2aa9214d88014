"""The documents beside main.cf from turn to turn: master.cf, for which Postfix is started."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import cast

import pytest

from pf_agent.daemon.documents import Documents
from pf_agent.daemon.shared import Shared
from pf_agent.errors import HostError
from pf_agent.files.exchange import MainCfFile
from pf_agent.files.store import FileStore
from pf_agent.model import (
    AgentOptions,
    DesiredState,
    DocumentKind,
    Event,
    Judgement,
    Outcome,
    Reason,
    Result,
    Trigger,
)
from pf_agent.postfix.errands import Errands
from tests.fakes import Records

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="master.cf must be root's")

MAIN_CF = b"mydomain = example.test\n"
STOCK = b"smtp inet n - y - - smtpd\n#submission inet n - y - - smtpd\n"
RIGHT = b"smtp inet n - y - - smtpd\nsubmission inet n - n - - smtpd\n"
ENABLED = {"submission/inet": "enabled", "submission/inet/chroot": "n"}


class World:
    """A folder of Postfix's, and what is asked of its master.cf."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "master.cf"
        self.path.write_bytes(STOCK)
        self.state = FileStore(str(folder / "lib"), str(folder / "run"))
        self.state.prepare()
        self.store = folder / "lib" / "documents"
        self.records = Records()
        self.posted: SimpleQueue[Trigger] = SimpleQueue()
        self.watched: tuple[str, ...] = ()
        self.settings: dict[str, str] = dict(ENABLED)
        self.served: list[tuple[bytes, ...]] = []
        self.observes = False
        self.trouble = ""
        shared = SimpleNamespace(
            configuration=SimpleNamespace(options=AgentOptions()),
            watch=self,
            writers=SimpleNamespace(follow=lambda _path: None, fields=lambda _path, _at: {}),
            journal=self,
            post=self.posted.put,
            asked=lambda _instance: self.asked(),
            may_only_observe=lambda _instance: self.observes,
        )
        host, errands = MainCfFile(str(folder / "main.cf")), cast(Errands, self)
        self.noted: list[Outcome] = []
        self.documents = Documents(
            "-",
            host,
            self.state,
            errands,
            self.records,
            cast(Shared, shared),
            self.noted.append,
        )

    def asked(self) -> DesiredState:
        kind = DocumentKind.MASTER_CF
        wanted = DesiredState(dict(self.settings), frozenset(), kind=kind)
        return DesiredState(
            {}, frozenset(), documents={kind.value: wanted} if self.settings else {}
        )

    def is_there(self, thing: str) -> bool:
        return bool(thing)

    def try_source(self, table: object, text: bytes) -> None:
        raise AssertionError(table, text)

    def follow_documents(self, _instance: str, paths: tuple[str, ...]) -> None:
        self.watched = paths

    def judge_services(self, text: bytes, served: Sequence[bytes] = ()) -> Judgement:
        if self.trouble:
            raise HostError(self.trouble)
        self.served.append(tuple(served))
        return Judgement("refused" if b"poison" in text else "")

    def tried(self) -> None:
        """A look, and another once its text was tried."""
        self.documents.turn({Reason.DOCUMENT}, MAIN_CF, lambda: None)
        assert self.posted.get(timeout=60).reason is Reason.DOCUMENT
        self.documents.turn({Reason.DOCUMENT}, MAIN_CF, lambda: None)

    def serve(self) -> None:
        for document in self.documents.started():
            document.note_served(time.time() + 1)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_who_names_no_service_has_no_store_and_no_watch(world: World) -> None:
    world.settings = {}
    world.documents.turn({Reason.START}, MAIN_CF, lambda: None)
    world.documents.follow()
    assert not world.store.exists()
    assert (world.watched, world.documents.started(), world.posted.empty()) == ((), (), True)


def test_a_wish_is_tried_aside_then_made_and_followed(world: World) -> None:
    world.tried()
    assert world.path.read_bytes() == RIGHT
    assert world.documents.troubles() == {"master.cf": ""}
    world.documents.follow()
    assert world.watched == (str(world.path),)
    (document,) = world.documents.started()
    assert document.state.pending() is not None


def test_a_text_is_judged_beside_those_that_postfix_may_run_with(world: World) -> None:
    world.tried()
    world.serve()
    world.settings = {**world.settings, "smtp/inet/chroot": "n"}
    world.tried()
    assert world.served == [(), (RIGHT, RIGHT)]


def test_what_was_corrected_is_noted(world: World) -> None:
    world.tried()
    assert [outcome.result for outcome in world.noted] == [Result.CORRECTED]
    world.path.write_bytes(RIGHT.replace(b"n - n", b"n - y"))
    world.documents.turn({Reason.DOCUMENT}, MAIN_CF, lambda: None)
    assert [d.parameter for d in world.noted[-1].drift] == ["submission/inet/chroot"]


def test_what_could_not_be_tried_is_told_and_tried_again(world: World) -> None:
    world.trouble = "no such program"
    world.tried()
    assert world.path.read_bytes() == STOCK
    assert world.documents.troubles() == {"master.cf": "no such program"}
    assert world.records.events() == [Event.CORRECTION_FAILED]
    assert world.documents.patience() is not None


def test_what_is_refused_leaves_the_file(world: World) -> None:
    world.settings["submission/inet/smtpd_timeout"] = "poison"
    world.tried()
    assert world.path.read_bytes() == STOCK
    assert "refused" in world.documents.troubles()["master.cf"]


def test_while_it_may_only_observe_the_file_stays(world: World) -> None:
    world.observes = True
    world.tried()
    assert world.path.read_bytes() == STOCK
    assert Event.DRIFT_DETECTED in world.records.events()


def test_what_served_stays_when_nobody_asks_for_it_any_more(world: World) -> None:
    world.tried()
    world.serve()
    world.settings = {}
    world.documents.turn({Reason.CONFIGURATION}, MAIN_CF, lambda: None)
    assert world.path.read_bytes() == RIGHT
    assert world.documents.troubles() == {}


def test_what_never_served_goes_back_when_nobody_asks_for_it_any_more(world: World) -> None:
    world.tried()
    world.settings = {}
    world.tried()
    assert world.path.read_bytes() == STOCK
    (document,) = world.documents.started()
    assert document.state.pending() is not None
    world.serve()
    world.documents.turn({Reason.TIMER}, MAIN_CF, lambda: None)
    assert world.documents.started() == ()
    world.documents.follow()
    assert world.watched == ()


def test_a_rejected_wish_is_not_made_again_and_again(world: World) -> None:
    world.tried()
    world.serve()
    world.settings["submission/inet/smtpd_timeout"] = "poison"
    world.tried()
    for _ in range(3):
        world.documents.turn({Reason.DOCUMENT}, MAIN_CF, lambda: None)
    assert world.path.read_bytes() == RIGHT
    assert world.records.events().count(Event.CONFIG_REJECTED) == 1
    assert "refused" in world.documents.troubles()["master.cf"]


def test_a_line_that_postfix_cannot_read_is_commented_out(world: World) -> None:
    world.tried()
    world.serve()
    with world.path.open("ab") as file:
        file.write(b"oops\n")
    world.tried()
    assert world.path.read_bytes() == RIGHT + b"#oops\n"
