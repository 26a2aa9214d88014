"""The text that Postfix last ran with comes back, and stays until something changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pf_agent import names
from pf_agent.activation import NotUp
from pf_agent.errors import HostError
from pf_agent.model import (
    DesiredState,
    Event,
    Exposure,
    Judgement,
    Outcome,
    PendingActivation,
    Record,
    Result,
    RolledBack,
)
from pf_agent.plan import Policy
from pf_agent.reconcile import reconcile
from pf_agent.rollback import roll_back, rolled_back_sentence, standing
from pf_agent.state import State
from tests.fakes import FakeHost, Records

BEFORE = b"inet_interfaces = 127.0.0.1\n"
TRIED = b"inet_interfaces = 127.0.0.1, 127.0.0.9\n"
OTHER = b"inet_interfaces = all\n"
EXPOSURE = Exposure(990.0, 995.0, 999.0)
PENDING = PendingActivation(3, ("inet_interfaces",), EXPOSURE)
REASON = "postfix@-.service is failed (exit-code); see `journalctl -u postfix@-.service`"
NOT_UP = NotUp(PENDING, REASON, 999.0, ("postfix.service", "postfix@-.service"), TRIED)
LOG = (
    "systemd: Starting postfix@-.service...",
    "postfix/master: fatal: bind 127.0.0.9 port 25: Address already in use",
    "systemd: postfix@-.service: Failed with result 'exit-code'.",
)


class World:
    """A main.cf in memory with a real State. Postfix did not come up with `TRIED`."""

    def __init__(self, folder: Path) -> None:
        self.host = FakeHost(TRIED)
        self.state = State(str(folder / "lib"), str(folder / "run"))
        self.state.prepare()
        self.state.keep_ran_with(BEFORE)
        self.state.mark_pending(PENDING)
        self.state.keep_displaced(PENDING.cycle, b"older\n")  # so that cycles count on from there
        self.records = Records()
        self.unusable: set[bytes] = set()
        self.policy = Policy(judge=self.judge, clock=lambda: 1_000.0)
        self.not_up = NOT_UP

    def judge(self, text: bytes) -> Judgement:
        return Judgement("it cannot run" if text in self.unusable else "")

    def roll_back(self) -> bool:
        return roll_back(self.host, self.policy, self.state, self.records, self.not_up, LOG)

    def fail(self) -> None:
        """Postfix does not come up with what stands there now, either."""
        pending = self.state.pending()
        assert pending is not None
        self.not_up = replace(NOT_UP, pending=pending, tried=self.host.read().text)

    def look(self, desired: DesiredState) -> Outcome:
        return reconcile(self.host, desired, self.policy, self.state, self.records)

    def begin_anew(self) -> None:
        """Another process, after a crash."""
        self.state = State(self.state.directory, self.state.run_directory)
        self.records = Records()

    def displaced(self) -> list[bytes]:
        return [entry.read_bytes() for entry in Path(self.state.displaced_directory).iterdir()]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_text_comes_back_and_asks_for_a_restart(world: World) -> None:
    assert world.roll_back()
    assert world.host.read().text == BEFORE
    exposure = replace(EXPOSURE, corrected_at=1_000.0)
    assert world.state.pending() == PendingActivation(4, ("inet_interfaces",), exposure, True)
    tried = world.state.rolled_back()
    assert tried is not None
    assert (tried.cycle, tried.reason, tried.log) == (4, REASON, LOG)


def test_one_record_says_why_and_what_to_do(world: World) -> None:
    world.roll_back()
    (record,) = world.records
    assert (record.event, record.cycle) == (Event.ROLLED_BACK, 4)
    assert record.message == (
        "Postfix did not come up with what is desired, so the text that it last ran with was"
        f" brought back: {REASON};"
        " postfix/master: fatal: bind 127.0.0.9 port 25: Address already in use;"
        " mend the desired state or main.cf, it is tried again when either changes"
    )
    assert record.fields[names.FIELD_REASON] == REASON
    assert record.fields[names.FIELD_LOG] == "\n".join(LOG)
    diff = record.fields[names.FIELD_DIFF]
    assert "-inet_interfaces = 127.0.0.1, 127.0.0.9\n+inet_interfaces = 127.0.0.1\n" in diff
    assert Path(record.fields[names.FIELD_DISPLACED]).read_bytes() == TRIED


@pytest.mark.parametrize(
    ("log", "telling"),
    [
        (("one", "a: fatal: cause", "b: fatal: it failed", "two"), "; a: fatal: cause"),
        (("a: warning: old", "b: warning: new", "two"), "; b: warning: new"),
        (("one", "two"), "; two"),
        ((), ""),
    ],
)
def test_the_sentence_has_the_line_that_tells_most(log: tuple[str, ...], telling: str) -> None:
    sentence = rolled_back_sentence(RolledBack(4, "it is failed", log, "", ""))
    assert f"brought back: it is failed{telling}; mend" in sentence


def test_the_sentence_of_a_long_log_is_one_line_with_an_end() -> None:
    log = tuple(f"postfix/master: fatal: {number} {'x' * 370}" for number in range(10))
    sentence = rolled_back_sentence(RolledBack(4, REASON, log, "", ""))
    assert "fatal: 0 " in sentence
    assert "\n" not in sentence
    assert len(sentence) < 1_000


def nothing_known(world: World) -> None:
    world.state = State(world.state.directory + "/other", world.state.run_directory)
    world.state.prepare()
    world.state.mark_pending(PENDING)


def it_stands_there(world: World) -> None:
    world.host.write(BEFORE)


def it_cannot_run_either(world: World) -> None:
    world.unusable.add(BEFORE)


def main_cf_is_gone(world: World) -> None:
    world.host.remove()


def it_was_corrected_since(world: World) -> None:
    world.state.mark_pending(replace(PENDING, cycle=4))


def it_was_edited_since(world: World) -> None:
    world.host.write(TRIED + b"# by hand\n")


def it_was_activated_since(world: World) -> None:
    world.state.clear_pending(PENDING.cycle)


@pytest.mark.parametrize(
    "because",
    [
        nothing_known,
        it_stands_there,
        it_cannot_run_either,
        main_cf_is_gone,
        it_was_corrected_since,
        it_was_edited_since,
        it_was_activated_since,
    ],
)
def test_where_there_is_nothing_to_go_back_to_nothing_is_touched(
    world: World, because: Callable[[World], None]
) -> None:
    because(world)
    before = world.host.read(), world.state.pending()
    assert not world.roll_back()
    assert (world.host.read(), world.state.pending()) == before
    assert world.records == []
    assert world.state.rolled_back() is None


def test_what_somebody_writes_at_that_moment_is_tried_instead(world: World) -> None:
    """That is a change of main.cf, and may be what mends it."""
    world.host.before_exchange = [lambda: world.host.write(OTHER)]
    assert not world.roll_back()
    assert world.host.read().text == OTHER
    assert world.state.pending() == replace(PENDING, cycle=4)
    assert world.state.rolled_back() is None
    assert world.records == []


def test_what_is_still_being_written_comes_back_when_it_is_whole(world: World) -> None:
    world.host.before_exchange = [lambda: world.host.hold_open(b"inet_inter")]
    assert world.roll_back()
    assert world.host.read().text == BEFORE


# --- a crash on the way ---------------------------------------------------------------------------


class Crash(Exception):
    """The process ends here."""


def crash() -> None:
    raise Crash


STEPS = ("next_cycle", "keep_rolled_back", "mark_pending", "keep_displaced")


def end_at(world: World, step: str, is_done: bool) -> None:
    """The process ends at a step of `State`: before it is done, or right after."""
    does = getattr(world.state, step)

    def ends(*arguments: object) -> None:
        if is_done:
            does(*arguments)
        crash()

    setattr(world.state, step, ends)


def end_with_the_record(world: World) -> None:
    class Broken(Records):
        def __call__(self, record: Record) -> None:
            crash()

    world.records = Broken()


CRASHES: dict[str, Callable[[World], None]] = {
    **{f"before {step}": partial(end_at, step=step, is_done=False) for step in STEPS},
    **{f"after {step}": partial(end_at, step=step, is_done=True) for step in STEPS},
    "after the exchange": end_with_the_record,
}


@pytest.mark.parametrize("at", CRASHES)
def test_a_crash_at_any_step_loses_nothing(world: World, at: str) -> None:
    """The next process finds one text of the two and a marker for it, and goes on from there."""
    CRASHES[at](world)
    with pytest.raises(Crash):
        world.roll_back()
    world.begin_anew()
    outcome = world.look(ASKED)
    if world.host.read().text == TRIED:
        assert outcome.result is Result.IN_SYNC
        assert world.state.rolled_back() is None  # not counted as tried
        world.fail()
        assert world.roll_back()
        outcome = world.look(ASKED)
    assert outcome.result is Result.ROLLED_BACK
    assert world.host.read().text == BEFORE
    assert TRIED in world.displaced()
    pending = world.state.pending()
    assert pending is not None  # Postfix gets its restart
    assert (pending.rolled_back, pending.parameters) == (True, PENDING.parameters)


def test_a_crash_before_the_exchange_leaves_it_to_the_next_process(world: World) -> None:
    """The marker asks for a restart with the text that stands; when that fails, it is gone back."""
    world.host.before_exchange = [crash]
    with pytest.raises(Crash):
        world.roll_back()
    assert world.host.read().text == TRIED
    assert standing(world.state, TRIED, TRIED) is None  # nothing is in the way of another try
    pending = world.state.pending()
    assert pending is not None
    not_up = replace(NOT_UP, pending=pending)
    assert roll_back(world.host, Policy(), world.state, world.records, not_up, LOG)
    assert world.host.read().text == BEFORE
    assert standing(world.state, BEFORE, TRIED) is not None


def test_a_disk_that_refuses_leaves_it_to_the_next_try(world: World) -> None:
    def refuse() -> None:
        raise HostError("main.cf: no space left on device; free some")

    world.host.before_exchange = [refuse]
    with pytest.raises(HostError):
        world.roll_back()
    assert world.host.read().text == TRIED
    assert world.records == []
    assert world.state.pending() is not None


# --- whether it stands ----------------------------------------------------------------------------


def test_what_was_tried_is_not_tried_again(world: World) -> None:
    assert standing(world.state, BEFORE, TRIED) is None
    world.roll_back()
    tried = standing(world.state, BEFORE, TRIED)
    assert tried is not None
    assert (tried.reason, tried.log) == (REASON, LOG)
    assert standing(world.state, BEFORE, TRIED) == tried
    world.state.clear_pending(tried.cycle)
    assert standing(world.state, BEFORE, TRIED) == tried


def test_what_others_had_written_is_not_what_is_asked_for(world: World) -> None:
    """It went with the rollback: what the desired state makes of the old text is another one."""
    world.roll_back()
    for _ in range(2):
        assert standing(world.state, BEFORE, OTHER) is not None
    assert standing(world.state, BEFORE, TRIED) is None


def test_where_the_desired_state_was_not_to_blame_it_stands_too(world: World) -> None:
    """Somebody's own line broke the start, and the restored text is all that is desired."""
    world.roll_back()
    for _ in range(2):
        assert standing(world.state, BEFORE, BEFORE) is not None
    assert standing(world.state, BEFORE, OTHER) is None


def test_a_desired_state_that_was_taken_back_is_met_again(world: World) -> None:
    world.roll_back()
    assert standing(world.state, BEFORE, TRIED) is not None
    assert standing(world.state, BEFORE, BEFORE) is None
    assert world.state.rolled_back() is None


@pytest.mark.parametrize(
    ("text", "candidate"),
    [
        pytest.param(BEFORE, OTHER, id="the desired state changed"),
        pytest.param(OTHER, TRIED, id="main.cf changed"),
        pytest.param(TRIED, TRIED, id="somebody wrote just what was tried"),
        pytest.param(None, TRIED, id="main.cf is gone"),
    ],
)
def test_what_changed_is_tried(world: World, text: bytes | None, candidate: bytes) -> None:
    world.roll_back()
    assert standing(world.state, BEFORE, TRIED) is not None
    assert standing(world.state, text, candidate) is None
    assert world.state.rolled_back() is None


# --- together with a cycle ------------------------------------------------------------------------

ASKED = DesiredState({"inet_interfaces": "127.0.0.1, 127.0.0.9"}, frozenset())


def test_a_cycle_leaves_what_was_brought_back(world: World) -> None:
    world.roll_back()
    (record,) = world.records
    for _ in range(2):
        outcome = world.look(ASKED)
        assert (outcome.result, outcome.cycle) == (Result.ROLLED_BACK, 4)
        assert outcome.summary == record.message
    assert world.host.read().text == BEFORE
    assert world.records == [record]


def test_a_cycle_corrects_again_when_the_desired_state_changes(world: World) -> None:
    world.roll_back()
    world.look(ASKED)
    mended = DesiredState({"inet_interfaces": "all"}, frozenset())
    assert world.look(mended).result is Result.CORRECTED
    assert world.host.read().text == OTHER
    pending = world.state.pending()
    assert pending is not None
    assert (pending.cycle, pending.rolled_back) == (5, False)


def test_a_cycle_tries_again_when_main_cf_changes(world: World) -> None:
    world.roll_back()
    world.look(ASKED)
    world.host.write(b"# by hand\n" + BEFORE)
    assert world.look(ASKED).result is Result.CORRECTED
    assert world.host.read().text == b"# by hand\n" + TRIED
    assert world.state.ran_with() == BEFORE


def test_what_fails_once_more_is_brought_back_once_more(world: World) -> None:
    world.roll_back()
    world.look(ASKED)
    world.host.write(b"# by hand\n" + BEFORE)
    world.look(ASKED)
    world.fail()
    assert world.roll_back()
    assert world.host.read().text == BEFORE
    outcome = world.look(ASKED)
    assert (outcome.result, outcome.cycle) == (Result.ROLLED_BACK, 6)


def test_a_cycle_with_nothing_to_correct_leaves_it_too(world: World) -> None:
    """Somebody's own line broke the start; nothing that is desired is missing since it went."""
    desired = DesiredState({"inet_interfaces": "127.0.0.1"}, frozenset())
    world.host.write(BEFORE + b"smtpd_milters = unix:/nowhere\n")
    world.fail()
    world.roll_back()
    for _ in range(2):
        assert world.look(desired).result is Result.ROLLED_BACK
    assert world.host.read().text == BEFORE
    world.host.write(BEFORE + b"# by hand\n")
    assert world.look(desired).result is Result.IN_SYNC


def test_observing_changes_nothing_and_forgets_nothing(world: World) -> None:
    world.roll_back()
    world.look(ASKED)
    world.policy = replace(world.policy, observe_only=True)
    assert world.look(ASKED).result is Result.OBSERVED
    world.policy = replace(world.policy, observe_only=False)
    assert world.look(ASKED).result is Result.ROLLED_BACK


def test_a_damaged_memory_of_it_is_none_and_the_next_look_tries_again(world: World) -> None:
    world.roll_back()
    Path(world.state.directory, "rolled-back.json").write_bytes(b'{"cycle": 4, "log"')
    assert world.look(ASKED).result is Result.CORRECTED
    assert world.host.read().text == TRIED


def test_what_the_stop_said_is_not_the_cause() -> None:
    log = (
        "postfix/postfix-script: warning: stopping the Postfix mail system with force",
        "systemd: Starting postfix@-.service...",
        "postfix/master: fatal: bind 127.0.0.9 port 25: Address already in use",
        "systemd: postfix@-.service: Failed with result 'exit-code'.",
        "systemd: Starting postfix.service...",
    )
    sentence = rolled_back_sentence(RolledBack(1, "it is down", log, "", ""))
    assert "Address already in use" in sentence
    assert "with force" not in sentence
