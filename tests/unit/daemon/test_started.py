"""One start of Postfix for main.cf and master.cf: what it stands for, proves, and takes back."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pf_agent import names
from pf_agent.daemon.document import Document, Owner, document_of
from pf_agent.daemon.started import Started, joined
from pf_agent.files.store import FileStore
from pf_agent.maincf.indexed import Draft, Table
from pf_agent.model import (
    DesiredState,
    DocumentKind,
    Exposure,
    Heard,
    Judgement,
    NotUp,
    Outcome,
    PendingActivation,
    Result,
    Standing,
)
from pf_agent.reconcile.ports import Policy
from tests.fakes import Records

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="master.cf must be root's")

MAIN_CF = b"mydomain = example.test\n"
STOCK = b"smtp inet n - y - - smtpd\n#submission inet n - y - - smtpd\n"
ENABLED = {"submission/inet": "enabled", "submission/inet/chroot": "n"}
RIGHT = b"smtp inet n - y - - smtpd\nsubmission inet n - n - - smtpd\n"
BY_HAND = b"2525 inet n - y - - smtpd\n"


class World:
    """A main.cf of which nothing is asked, and a master.cf with `submission`, both real files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "master.cf"
        self.path.write_bytes(STOCK)
        (folder / "main.cf").write_bytes(MAIN_CF)
        self.state = FileStore(str(folder / "lib"), str(folder / "run"))
        self.state.prepare()
        self.records = Records()
        self.document = self.asking(ENABLED)
        self.started = Started(lambda: (self.document,), self.state)

    def asking(self, settings: Mapping[str, str]) -> Document:
        desired = DesiredState(dict(settings), frozenset(), kind=DocumentKind.MASTER_CF)
        owner = Owner(str(self.folder / "main.cf"), self.state, self, self.records)
        found = document_of("master.cf", desired, owner, [MAIN_CF])
        found.state.prepare()
        return found

    def wish(self, **options: str) -> None:
        more = {f"submission/inet/{name}": value for name, value in options.items()}
        self.document = self.asking(ENABLED | more)

    def cycle(self) -> Outcome:
        policy = Policy(judge=self.document.judge)
        return self.document.cycle(policy, None, self.document.host.read())

    def serve(self) -> None:
        """As after a start with all that is there now."""
        self.state.note_served(cycle_of(self.state), b"", is_started=True, is_good=True)
        self.started.note_served(time.time() + 1)

    def not_up(self, standing: Standing, *fatal: str) -> NotUp:
        return NotUp(self.state.pending(), standing, "it is down", b"", fatal, fatal)

    def try_source(self, table: Table, text: bytes) -> Draft:
        raise AssertionError(table, text)

    def judge_services(self, text: bytes, served: Sequence[bytes] = ()) -> Judgement:
        return Judgement("poison" if b"poison" in text else "")

    def is_there(self, thing: str) -> bool:
        return bool(thing)


def cycle_of(state: FileStore) -> int | None:
    pending = state.pending()
    return None if pending is None else pending.cycle


@pytest.fixture
def world(tmp_path: Path) -> World:
    """The wish is made, and not yet served."""
    world = World(tmp_path)
    assert world.cycle().result is Result.CORRECTED
    assert world.path.read_bytes() == RIGHT
    return world


@pytest.fixture
def served(world: World) -> World:
    world.started.mark()
    world.serve()
    return world


def test_what_is_to_be_on_is_managed(world: World) -> None:
    world.document = world.asking({**ENABLED, "smtp/inet/chroot": "n"})
    assert world.started.managed() == ("submission/inet",)


def test_a_change_of_master_cf_is_a_marker_of_main_cf(world: World) -> None:
    assert world.state.pending() is None
    world.started.mark()
    assert world.state.pending() == world.document.state.pending()
    assert cycle_of(world.state) is not None


def test_what_could_not_be_corrected_asks_for_no_start(served: World) -> None:
    """The marker is there before the exchange: master would read what drifted."""
    drifted = RIGHT.replace(b"n - n", b"n - y")
    served.path.write_bytes(drifted)
    exposure = Exposure(time.time(), time.time())
    served.document.state.mark_pending(PendingActivation(9, ("submission/inet/chroot",), exposure))
    served.started.mark()
    assert served.state.pending() is None
    assert served.cycle().result is Result.CORRECTED
    served.started.mark()
    assert served.state.pending() is not None


def test_where_postfix_did_not_serve_before_that_is_known_of_a_wish(world: World) -> None:
    world.started.mark("no greeting")
    world.started.mark("no greeting, and later another reason")
    found = world.state.pending()
    assert found is not None
    assert found.before == Heard("no greeting", greeted=False)


def test_what_is_not_changed_asks_for_no_start(served: World) -> None:
    assert served.cycle().result is Result.IN_SYNC
    served.started.mark()
    assert served.state.pending() is None


def test_one_start_is_for_both_while_main_cf_waits(world: World) -> None:
    at = Exposure(10.0, 11.0, 12.0)
    world.state.mark_pending(PendingActivation(1, ("mynetworks",), at, live=True))
    world.started.mark()
    found, own = world.state.pending(), world.document.state.pending()
    assert found is not None
    assert own is not None
    assert (found.cycle, found.live) == (max(1, own.cycle), True)
    assert found.parameters == ("mynetworks", *own.parameters)
    assert found.exposure == Exposure(10.0, 11.0, own.exposure.corrected_at)


def test_what_is_in_the_marker_is_not_written_again(world: World) -> None:
    world.state.mark_pending(PendingActivation(1, ("mynetworks",), Exposure(10.0, 11.0, 12.0)))
    world.started.mark()
    before = os.stat(world.folder / "lib" / "pending.json")
    world.started.mark()
    assert os.stat(world.folder / "lib" / "pending.json").st_ino == before.st_ino


def test_what_stood_there_for_a_moment_may_run(served: World) -> None:
    served.path.write_bytes(RIGHT.replace(b"n - n", b"n - y"))
    policy = Policy(judge=served.document.judge, in_sync_at=time.time() - 60)
    served.document.cycle(policy, None, served.document.host.read())
    served.started.mark()
    found = served.state.pending()
    assert found is not None
    assert found.live


def test_what_a_reload_has_cleared_stays_so(world: World) -> None:
    own = world.document.state.pending()
    assert own is not None
    world.document.state.mark_pending(replace(own, live=True))
    world.started.mark()
    world.state.note_reloaded(own.cycle)
    world.started.mark()
    found = world.state.pending()
    assert found is not None
    assert not found.live


def test_corrected_again_during_the_restart_it_needs_another(served: World) -> None:
    served.path.write_bytes(RIGHT.replace(b"n - n", b"n - y"))
    served.cycle()
    served.started.mark()
    under_way = cycle_of(served.state)
    began_at = time.time()
    while time.time() < began_at + 0.02:  # the clock of files is coarser
        pass
    served.path.write_bytes(STOCK)
    served.cycle()
    served.started.mark()
    assert not served.state.note_served(under_way, b"", is_started=True, is_good=True)
    served.started.note_served(began_at)
    assert cycle_of(served.state) == cycle_of(served.document.state) != under_way


def test_it_is_served_with_what_was_there_when_postfix_was_started(world: World) -> None:
    world.started.mark()
    world.started.note_served(time.time() - 60)
    assert world.document.state.pending() is not None
    assert world.document.state.ran_with() is None
    world.serve()
    state = world.document.state
    assert state.pending() is None
    assert state.ran_with() == state.last_good() == RIGHT
    assert world.document.wanted.says_the_same(state.wishes().served)
    assert state.wishes().before == {}


def test_a_marker_that_a_crash_left_unfinished_does_not_stay(world: World) -> None:
    own = world.document.state.pending()
    assert own is not None
    unfinished = replace(own, exposure=Exposure(10.0, 11.0))
    world.document.state.mark_pending(unfinished)
    world.started.mark()
    assert world.state.pending() == unfinished
    world.serve()
    assert world.document.state.pending() is None


def test_what_was_right_from_the_beginning_is_known_to_serve(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.path.write_bytes(RIGHT)
    assert world.cycle().result is Result.IN_SYNC
    world.started.note_served(time.time() + 1)
    assert world.document.state.last_good() == RIGHT
    assert world.document.wanted.says_the_same(world.document.state.wishes().served)


def test_what_drifted_before_the_start_is_not_good(served: World) -> None:
    wrong = RIGHT.replace(b"n - n", b"n - y")
    served.path.write_bytes(wrong)
    served.started.note_served(time.time() + 1)
    assert served.document.state.ran_with() == wrong
    assert served.document.state.last_good() == RIGHT


def test_a_wish_goes_back_and_asks_for_a_start(served: World) -> None:
    served.wish(smtpd_timeout="7s")
    assert served.cycle().result is Result.CORRECTED
    served.started.mark()
    assert served.started.mend(served.not_up(Standing.REJECTED))
    assert served.path.read_bytes() == RIGHT
    found = served.state.pending()
    assert found is not None
    assert (found.rolled_back, found.wished) == (True, ())
    assert served.document.in_force.rejected(served.document.asked) is not None
    assert "it is down" in served.document.trouble(Outcome(Result.IN_SYNC, ""))


def test_what_is_said_after_a_rejected_wish_is_of_master_cf(served: World) -> None:
    served.wish(smtpd_timeout="poison")
    assert served.cycle().result is Result.IN_SYNC
    assert served.path.read_bytes() == RIGHT
    served.path.write_bytes(STOCK)
    outcome = served.cycle()
    assert outcome.result is Result.CORRECTED
    assert {drift.document for drift in outcome.drift} == {"master.cf"}
    assert served.document.in_force.rejected(served.document.asked) is not None


def test_the_first_wish_of_all_leaves_master_cf_as_it_was(world: World) -> None:
    assert world.started.mend(world.not_up(Standing.REJECTED))
    assert world.path.read_bytes() == STOCK
    assert "master.cf is as it was before" in world.records[-1].message
    assert world.cycle().result is Result.OBSERVED
    world.serve()
    assert world.cycle().result is Result.OBSERVED
    assert world.document.state.pending() is None


def test_a_wish_for_main_cf_beside_it_is_still_one(served: World) -> None:
    served.wish(smtpd_timeout="7s")
    served.cycle()
    at = Exposure(10.0, 11.0, 12.0)
    served.state.mark_pending(PendingActivation(1, ("mynetworks",), at, wished=("mynetworks",)))
    served.started.mark()
    assert served.started.mend(served.not_up(Standing.REJECTED))
    found = served.state.pending()
    assert found is not None
    assert found.wished == ("mynetworks",)
    assert "mynetworks" in found.parameters


def test_what_nobody_asks_for_and_keeps_it_down_goes_back(served: World) -> None:
    served.path.write_bytes(RIGHT + BY_HAND)
    assert served.cycle().result is Result.IN_SYNC
    assert served.started.mend(served.not_up(Standing.DOWN))
    assert served.path.read_bytes() == RIGHT
    assert cycle_of(served.state) is not None


def test_a_service_goes_back_with_all_its_parts_and_one_record(served: World) -> None:
    served.path.write_bytes(RIGHT + BY_HAND)
    served.cycle()
    served.records.clear()
    assert served.started.mend(served.not_up(Standing.DOWN))
    said = [record.fields.get(names.FIELD_PARAMETER) for record in served.records]
    assert said == ["2525/inet", None]


def test_what_others_wrote_since_the_start_comes_back_as_well(served: World) -> None:
    served.path.write_bytes(RIGHT + BY_HAND)
    assert served.cycle().result is Result.IN_SYNC
    served.path.unlink()
    assert served.cycle().result is Result.CORRECTED
    assert served.path.read_bytes() == RIGHT + BY_HAND


def test_what_postfix_would_refuse_is_not_what_comes_back(served: World) -> None:
    served.path.write_bytes(RIGHT + b"# poison\n")
    assert served.cycle().result is Result.IN_SYNC
    served.path.unlink()
    assert served.cycle().result is Result.CORRECTED
    assert served.path.read_bytes() == RIGHT


def test_what_postfix_served_with_stays(served: World) -> None:
    served.path.write_bytes(RIGHT + BY_HAND)
    assert served.cycle().result is Result.IN_SYNC
    served.started.note_served(time.time() + 1)
    assert not served.started.mend(served.not_up(Standing.DOWN))
    assert served.path.read_bytes() == RIGHT + BY_HAND


def test_a_wish_for_main_cf_is_to_blame_before_what_is_only_there(served: World) -> None:
    served.path.write_bytes(RIGHT + BY_HAND)
    assert not served.started.mend(served.not_up(Standing.REJECTED))
    assert served.path.read_bytes() == RIGHT + BY_HAND


def test_where_there_never_was_one_it_begins_as_debians(tmp_path: Path) -> None:
    proto = tmp_path / "master.cf.proto"
    proto.write_bytes(STOCK)
    world = World(tmp_path)
    world.path.unlink()
    wanted = replace(world.document.wanted, template=str(proto))
    world.document = replace(world.document, wanted=wanted)
    assert world.cycle().result is Result.CORRECTED
    assert world.path.read_bytes() == RIGHT


def test_markers_join_once(world: World) -> None:
    own = world.document.state.pending()
    assert own is not None
    before = PendingActivation(own.cycle + 5, ("a",), Exposure(1.0, 1.0), wished=("a",))
    once = joined(before, own)
    assert joined(once, own) == once
    assert once.exposure.corrected_at is None
    assert set(own.parameters) | {"a"} == set(once.parameters)
    assert joined(None, own) == own
