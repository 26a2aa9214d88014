"""newaliases, restart, verify: what Postfix ends up as, whatever fails on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

import pytest

from pf_agent import names
from pf_agent.activation import Activated, Activation, NotUp
from pf_agent.alias_database import AliasDatabase
from pf_agent.aside import Spawn
from pf_agent.errors import HostError
from pf_agent.model import (
    ActivationWay,
    Event,
    Exposure,
    Greeting,
    PendingActivation,
    Reason,
    RolledBack,
    Trigger,
    UnitPhase,
    UnitState,
)
from pf_agent.state import State
from tests.fakes import FakeClock, FakePrograms, FakeService, Records, newaliases_at_once

UMBRELLA = UnitState("postfix.service", UnitPhase.UP, "success", "first")
MASTER = UnitState("postfix@-.service", UnitPhase.UP, "success", "second")
GREETING = Greeting("127.0.0.1", 25, "mail.example.net ESMTP")
EXPOSURE = Exposure(990.0, 995.0, 999.0)


class World:
    """One activation over scripted fakes and a real State. `answer` is what the probe says."""

    def __init__(self, folder: Path) -> None:
        self.state = State(str(folder / "lib"), str(folder / "run"))
        self.state.prepare()
        self.service = FakeService(UMBRELLA, MASTER)
        self.programs = FakePrograms(GREETING)
        self.posted: SimpleQueue[Trigger] = SimpleQueue()
        self.records = Records()
        self.remarks: list[str] = []
        self.spawn: Spawn = newaliases_at_once
        self.clock = FakeClock()
        self.aliases = AliasDatabase(
            self.programs,
            self.posted.put,
            self.records,
            self.remarks.append,
            lambda name, run: self.spawn(name, run),
            self.clock,
        )
        self.answer = ""
        self.answers: SimpleQueue[str] = SimpleQueue()
        self.asked: list[Greeting] = []
        self.pauses: list[float] = []
        self.text: bytes | None = b"the text\n"
        self.way = ActivationWay.RESTART
        self.apart = 0.0
        self.activation = self.a_process(self.state)

    def a_process(self, state: State) -> Activation:
        return Activation(
            service=self.service,
            greeter=self.programs,
            aliases=self.aliases,
            markers=state,
            probe=self.probe,
            post=self.posted.put,
            emit=self.records,
            text=lambda: self.text,
            way=lambda: self.way,
            apart=lambda: self.apart,
            clock=self.clock,
            ticks=self.clock,
            pause=self.pauses.append,
        )

    def probe(self, greeting: Greeting) -> str:
        self.asked.append(greeting)
        return self.answers.get(timeout=60)

    def correct(self, cycle: int, *parameters: str) -> PendingActivation:
        """main.cf was corrected in `cycle`."""
        pending = PendingActivation(cycle, parameters or ("mynetworks",), EXPOSURE)
        self.state.mark_pending(pending)
        return pending

    def probed(self) -> Activated | NotUp | None:
        """Let the probe answer, and take the step that follows."""
        assert self.activation.advance() is None
        self.answers.put(self.answer)
        while self.posted.get(timeout=60).reason is not Reason.PROBE:
            pass
        return self.activation.advance()

    def activate(self) -> Activated | NotUp | None:
        """A whole run: the units come up, and the probe says what it says."""
        assert self.activation.advance() is None
        self.service.finish()
        return self.probed()

    def bring_back(self, cycle: int) -> PendingActivation:
        """The text that Postfix last ran with was brought back in `cycle`."""
        pending = PendingActivation(cycle, ("mynetworks",), EXPOSURE, rolled_back=True)
        self.state.keep_rolled_back(RolledBack(cycle, "why", (), "1", "2"))
        self.state.mark_pending(pending)
        return pending

    def fail_once(self) -> NotUp:
        """A whole run of which Postfix does not come up."""
        assert self.activation.advance() is None
        self.service.finish("failed", starts=False)
        end = self.activation.advance()
        assert isinstance(end, NotUp)
        return end

    def restart(self) -> None:
        """Go on until Postfix is being restarted."""
        assert self.activation.advance() is None
        while not self.activation.is_under_way():
            self.wait_for_next_step()
            assert self.activation.advance() is None

    def wait_for_next_step(self) -> None:
        due = self.activation.patience()
        assert due is not None
        assert due > 0
        self.clock.now += due


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# --- a good run -----------------------------------------------------------------------------------


def test_without_a_marker_nothing_is_done(world: World) -> None:
    assert world.activation.advance() is None
    assert world.activation.patience() is None
    assert (world.service.jobs, world.programs.built, world.records) == ([], [], [])


def test_a_good_run(world: World) -> None:
    pending = world.correct(1)
    assert world.activation.patience() is not None
    assert world.activation.advance() is None
    assert world.programs.built == [names.DEFAULT_ALIASES]
    assert world.activation.is_under_way()
    world.clock.now = 1_000.7
    world.service.finish()
    activated = world.probed()
    assert activated == Activated(
        replace(pending, exposure=replace(EXPOSURE, activated_at=1_000.7)), 1_000.7
    )
    assert world.asked == [GREETING]
    assert len(world.service.jobs) == 1
    assert world.state.pending() is None
    assert not world.activation.is_under_way()
    assert world.activation.patience() is None


def test_a_good_run_has_one_record(world: World) -> None:
    world.correct(1)
    world.activation.advance()
    world.clock.now = 1_000.7
    world.service.finish()
    world.probed()
    (record,) = world.records
    assert (record.event, record.cycle) == (Event.ACTIVATED, 1)
    assert record.message == (
        "Postfix runs with the desired settings: restarted, up after 0.7 s,"
        " 11 s after the drift was written"
    )
    assert record.fields[names.FIELD_WRITTEN_AT] == "1970-01-01T00:16:30.000Z"
    assert record.fields[names.FIELD_ACTIVATED_AT] == "1970-01-01T00:16:40.700Z"


def test_the_marker_stays_until_postfix_was_seen_to_greet(world: World) -> None:
    pending = world.correct(1)
    world.activation.advance()
    assert world.state.pending() == pending
    world.activation.advance()  # the job is not over
    assert world.state.pending() == pending
    world.service.finish()
    world.activation.advance()  # the probe is asked
    assert world.state.pending() == pending
    assert world.records == []


def test_a_process_that_was_killed_is_taken_up_by_the_next(world: World, tmp_path: Path) -> None:
    world.correct(1)
    world.activation.advance()
    world.state.release_activation()  # as its end does
    world.clock.now += 60
    state = State(str(tmp_path / "lib"), str(tmp_path / "run"))
    world.activation = world.a_process(state)
    assert world.activate() is not None
    assert state.pending() is None


def test_without_an_smtp_service_the_units_alone_decide(world: World) -> None:
    world.programs.greets_with = None
    world.answer = "nobody is asked"
    world.correct(1)
    assert world.activate() is not None
    assert world.asked == []


@pytest.mark.parametrize("result", ["gone", "canceled"])
def test_a_job_whose_end_tells_nothing_is_judged_by_the_units(world: World, result: str) -> None:
    world.correct(1)
    world.activation.advance()
    world.service.finish(result)
    assert world.probed() is not None


def test_a_unit_that_still_changes_is_waited_for(world: World) -> None:
    world.correct(1)
    world.activation.advance()
    world.service.finish()
    up = world.service.units
    world.service.units = (up[0], replace(up[1], phase=UnitPhase.CHANGING))
    assert world.activation.advance() is None
    assert (world.records, world.asked) == ([], [])
    world.service.units = up
    assert world.probed() is not None


# --- what goes wrong ------------------------------------------------------------------------------


def assert_failed(world: World, reason: str) -> None:
    """The failure is on record, the marker stands, and the next try is some time off."""
    (record,) = world.records
    assert (record.event, record.cycle) == (Event.ACTIVATION_FAILED, 1)
    assert reason in record.message
    assert record.fields == {names.FIELD_REASON: record.message}
    assert world.activation.failure == record.message
    assert world.state.pending() is not None
    assert not world.activation.is_under_way()
    world.wait_for_next_step()


def test_a_failed_job(world: World) -> None:
    world.correct(1)
    world.fail_once()
    assert_failed(world, "the restart of postfix.service ended as failed")
    assert world.activate() is not None
    assert world.activation.failure == ""


def test_a_failed_unit_behind_a_job_that_is_done(world: World) -> None:
    world.correct(1)
    world.activation.advance()
    world.service.finish()
    up, master = world.service.units
    world.service.units = (up, replace(master, phase=UnitPhase.FAILED, result="exit-code"))
    world.activation.advance()
    assert_failed(world, "postfix@-.service is failed (exit-code)")
    assert world.activate() is not None


def test_a_unit_that_was_not_started_anew(world: World) -> None:
    world.correct(1)
    world.activation.advance()
    world.service.finish()
    world.service.units = (world.service.units[0], MASTER)
    assert world.activation.advance() is None
    assert_failed(world, "postfix@-.service was not started anew")
    assert world.asked == []


def test_a_postfix_that_is_up_but_does_not_serve(world: World) -> None:
    world.correct(1)
    world.answer = "127.0.0.1:25: 451 4.3.5 Server configuration error"
    end = world.activate()
    assert isinstance(end, NotUp)
    assert "451 4.3.5" in end.reason
    assert end.since == 1000.0
    assert end.units == ("postfix.service", "postfix@-.service")
    assert_failed(world, "451 4.3.5 Server configuration error")
    world.answer = ""
    assert world.activate() is not None


def test_a_probe_that_breaks_off(world: World) -> None:
    def broken(_greeting: Greeting) -> str:
        raise ZeroDivisionError

    world.activation.probe = broken
    world.correct(1)
    # Our own fault says nothing of Postfix.
    assert world.activate() is None
    assert_failed(world, "the probe of Postfix broke off: ZeroDivisionError()")


def test_systemd_that_refuses_the_restart(world: World) -> None:
    world.correct(1)
    world.service.trouble = "no talk with systemd over the system bus"
    world.activation.advance()
    assert_failed(world, "no talk with systemd")
    assert world.activate() is not None


def test_systemd_that_is_lost_while_the_job_runs(world: World) -> None:
    world.correct(1)
    world.activation.advance()
    world.service.trouble = "no talk with systemd over the system bus"
    world.activation.advance()
    assert_failed(world, "no talk with systemd")
    assert world.activate() is not None


def test_newaliases_that_fails_is_recorded_and_postfix_restarted_all_the_same(
    world: World,
) -> None:
    world.programs.aliases_trouble = "newaliases: /etc/aliases, line 3: bad; mend it"
    world.correct(1)
    assert world.activate() is not None
    assert world.records.events() == [Event.ACTIVATION_FAILED, Event.ACTIVATED]
    assert world.records[0].message == world.programs.aliases_trouble
    assert world.state.pending() is None


def test_a_unit_at_its_start_limit_comes_up(world: World) -> None:
    world.service.units = (
        UMBRELLA,
        replace(MASTER, phase=UnitPhase.FAILED, result="start-limit-hit"),
    )
    world.correct(1)
    assert world.activate() is not None
    assert {unit.phase for unit in world.service.units} == {UnitPhase.UP}


def test_starts_that_others_asked_for_are_not_counted_against_ours(world: World) -> None:
    world.correct(1)
    assert world.activate() is not None
    assert world.service.forgiven == ["postfix.service", "postfix@-.service"]


def test_each_failure_makes_the_next_wait_longer_until_something_works(world: World) -> None:
    world.correct(1)
    waits = []
    for _ in range(4):
        world.fail_once()
        begun = world.clock.now
        world.wait_for_next_step()
        waits.append(world.clock.now - begun)
    assert waits == [10, 20, 40, 80]
    assert world.activate() is not None
    world.clock.now += 600
    world.correct(2)
    world.fail_once()
    begun = world.clock.now
    world.wait_for_next_step()
    assert world.clock.now - begun == 10


def test_nothing_is_tried_before_it_is_due(world: World) -> None:
    world.correct(1)
    world.fail_once()
    world.clock.now = world.activation.retry_at - 0.1
    world.activation.advance()
    assert len(world.service.jobs) == 1


# --- the restart budget ---------------------------------------------------------------------------


def test_three_restarts_a_minute_the_second_soon_the_others_ten_seconds_apart(world: World) -> None:
    restarted = []
    for cycle in range(1, 8):
        world.correct(cycle)
        world.restart()
        restarted.append(world.clock.now - 1_000)
        world.service.finish()
        assert world.probed() is not None
    assert restarted == [0, 3, 13, 60, 70, 80, 120]


def test_the_budget_holds_for_the_next_process_too(world: World, tmp_path: Path) -> None:
    world.correct(1)
    assert world.activate() is not None
    world.clock.now += 2
    world.correct(2)
    world.activation = world.a_process(State(str(tmp_path / "lib"), str(tmp_path / "run")))
    world.activation.advance()
    assert len(world.service.jobs) == 1
    world.wait_for_next_step()
    assert world.clock.now == 1_003
    world.activation.advance()
    assert len(world.service.jobs) == 2


# --- corrected once more meanwhile ----------------------------------------------------------------


def finish_the_job(world: World) -> None:
    world.service.finish()


def ask_the_probe(world: World) -> None:
    world.service.finish()
    assert world.activation.advance() is None


@pytest.mark.parametrize("so_far", [finish_the_job, ask_the_probe])
def test_corrections_during_a_restart_get_one_more_restart(
    world: World, so_far: Callable[[World], None]
) -> None:
    world.correct(1)
    world.activation.advance()
    so_far(world)
    world.correct(2)
    last = world.correct(3)
    assert world.probed() is None
    assert world.state.pending() == last
    assert world.records == []
    world.restart()
    world.service.finish()
    activated = world.probed()
    assert activated is not None
    assert activated.pending.cycle == 3
    assert [(record.event, record.cycle) for record in world.records] == [(Event.ACTIVATED, 3)]
    assert len(world.service.jobs) == 2
    assert world.state.pending() is None


def test_what_another_process_corrects_while_we_verify_is_not_forgotten(world: World) -> None:
    """`pf-agent apply` marks its cycle, and leaves the restart to the daemon that is at it."""

    class MeanwhileApply(FakePrograms):
        def greeting(self) -> Greeting | None:
            world.correct(2)
            return None

    world.activation.greeter = MeanwhileApply(None)
    world.correct(1)
    assert world.activate() is None
    pending = world.state.pending()
    assert pending is not None
    assert pending.cycle == 2


# --- two processes --------------------------------------------------------------------------------


def test_while_another_process_activates_nothing_is_done(world: World, tmp_path: Path) -> None:
    other = State(str(tmp_path / "lib"), str(tmp_path / "run"))
    assert other.hold_activation()
    world.correct(1)
    assert world.activation.advance() is None
    assert (world.service.jobs, world.programs.built, world.records) == ([], [], [])
    other.release_activation()
    world.wait_for_next_step()
    assert world.activate() is not None


def test_after_an_activation_another_process_may(world: World, tmp_path: Path) -> None:
    world.correct(1)
    world.activation.advance()
    other = State(str(tmp_path / "lib"), str(tmp_path / "run"))
    assert not other.hold_activation()
    world.service.finish()
    world.probed()
    assert other.hold_activation()


def test_a_marker_that_went_away_leaves_nothing_to_do_or_to_complain_of(
    world: World, tmp_path: Path
) -> None:
    world.correct(1)
    world.fail_once()
    other = State(str(tmp_path / "lib"), str(tmp_path / "run"))
    other.clear_pending(1)
    assert world.activation.advance() is None
    assert world.activation.failure == ""
    assert world.activation.patience() is None
    assert other.hold_activation()


# --- the window -----------------------------------------------------------------------------------


def test_a_closed_window_delays_the_restart(world: World) -> None:
    closed = [500.0]
    world.activation.opens_in = lambda: closed[0]
    world.correct(1)
    world.activation.advance()
    assert not world.activation.is_under_way()
    assert world.programs.built == []
    assert world.activation.patience() == 500.0
    world.clock.now += 500
    closed[0] = 0.0
    world.restart()
    assert world.activation.is_under_way()


def test_a_window_that_is_opened_sooner_is_not_waited_for(world: World) -> None:
    closed = [500.0]
    world.activation.opens_in = lambda: closed[0]
    world.correct(1)
    world.activation.advance()
    closed[0] = 0.0
    world.activation.advance()
    assert world.activation.is_under_way()


def test_where_postfix_is_down_no_window_is_waited_for(world: World) -> None:
    world.service.units = (UMBRELLA, replace(MASTER, phase=UnitPhase.FAILED))
    world.activation.opens_in = lambda: 500.0
    world.correct(1)
    world.activation.advance()
    assert world.activation.is_under_way()


# --- not up, and the text that it ran with --------------------------------------------------------


def test_the_text_that_stood_when_the_restart_began_is_what_postfix_ran_with(world: World) -> None:
    world.correct(1)
    world.activation.advance()
    world.text = b"written meanwhile\n"
    assert world.state.ran_with() is None
    world.service.finish()
    world.probed()
    assert world.state.ran_with() == b"the text\n"


def test_a_text_that_postfix_does_not_come_up_with_is_not_what_it_ran_with(world: World) -> None:
    pending = world.correct(1)
    world.clock.now = 1_000.5
    world.activation.advance()
    world.clock.now = 1_003
    world.service.finish("failed", starts=False)
    reason = "the restart of postfix.service ended as failed"
    units = ("postfix.service", "postfix@-.service")
    assert world.activation.advance() == NotUp(pending, reason, 1_000.5, units, b"the text\n")
    assert world.state.ran_with() is None


@pytest.mark.parametrize("writes_on", [True, False])
@pytest.mark.parametrize("is_drift", [True, False])
def test_what_came_into_main_cf_since_is_not_to_blame(
    world: World, is_drift: bool, writes_on: bool
) -> None:
    """Postfix may have read what stood there in between, and the text of now was not tried."""
    world.apart = 300.0
    world.correct(1)
    world.restart()
    if is_drift:
        world.correct(2)
    else:
        world.text = b"somebody's own edit\n"
    world.service.finish("failed", starts=False)
    assert world.activation.advance() is None
    (record,) = world.records
    assert (record.event, record.cycle) == (Event.ACTIVATION_FAILED, 1)
    assert record.message.endswith("ended as failed; main.cf has changed since")
    assert not world.activation.failure
    # Mail is down: the new text waits for the budget alone, and what comes of that counts.
    begin = world.clock.now
    world.restart()
    assert world.clock.now < begin + world.apart
    if writes_on:
        world.text = b"another edit\n"
    world.service.finish("failed", starts=False)
    end = world.activation.advance()
    assert isinstance(end, NotUp)
    assert (end.pending, end.tried) == (world.state.pending(), world.text)


def test_one_restart_is_excused_until_postfix_is_up(world: World) -> None:
    for cycle in (1, 3):
        world.correct(cycle)
        world.restart()
        world.correct(cycle + 1)
        world.service.finish("failed", starts=False)
        assert world.activation.advance() is None
        world.restart()
        world.service.finish()
        assert isinstance(world.probed(), Activated)


@pytest.mark.parametrize("result", ["dependency", "skipped", "assert"])
def test_a_job_that_was_not_even_tried_says_nothing_of_the_text(world: World, result: str) -> None:
    world.correct(1)
    world.activation.advance()
    world.service.finish(result, starts=False)
    assert world.activation.advance() is None
    assert_failed(world, f"the restart of postfix.service ended as {result}")


def test_a_postfix_that_somebody_stopped_says_nothing_of_the_text(world: World) -> None:
    world.correct(1)
    world.activation.advance()
    world.service.finish("canceled", starts=False)
    world.service.units = (UMBRELLA, replace(MASTER, phase=UnitPhase.DOWN))
    assert world.activation.advance() is None
    assert_failed(world, "postfix@-.service is down")


def test_the_same_failure_of_one_cycle_is_on_record_once(world: World) -> None:
    world.correct(1)
    world.fail_once()
    world.wait_for_next_step()
    world.fail_once()
    assert world.records.events() == [Event.ACTIVATION_FAILED]
    world.wait_for_next_step()
    world.service.trouble = "no talk with systemd"
    world.activation.advance()
    world.correct(2)
    world.wait_for_next_step()
    world.fail_once()
    reasons = [(record.cycle, record.message.split()[0]) for record in world.records]
    assert reasons == [(1, "the"), (1, "no"), (2, "the")]


class FullMarkers(State):
    """Its folders are full as long as `is_full`, and cannot be read while `is_unreadable`."""

    is_full = is_unreadable = False

    def note_restarts(self, moments: Sequence[float]) -> None:
        self._write_at_all()
        super().note_restarts(moments)

    def keep_ran_with(self, text: bytes) -> None:
        self._write_at_all()
        super().keep_ran_with(text)

    def pending(self) -> PendingActivation | None:
        if self.is_unreadable:
            raise HostError("pending.json: Input/output error; move away what is there")
        return super().pending()

    def _write_at_all(self) -> None:
        if self.is_full:
            raise HostError("no space left on device; free space")


@pytest.fixture
def full(world: World) -> FullMarkers:
    markers = FullMarkers(world.state.directory, world.state.run_directory)
    world.activation = world.a_process(markers)
    markers.is_full = True
    return markers


def test_what_cannot_be_written_down_is_no_reason_for_another_restart(
    world: World, full: FullMarkers
) -> None:
    world.correct(1)
    assert world.activate() is None
    assert world.activation.is_served()
    assert world.records.events() == [Event.ACTIVATION_FAILED]
    world.wait_for_next_step()
    assert world.activation.advance() is None
    full.is_full = False
    world.wait_for_next_step()
    assert isinstance(world.activation.advance(), Activated)
    assert world.service.restarted == ["postfix.service"]
    assert world.records.events() == [Event.ACTIVATION_FAILED, Event.ACTIVATED]
    assert world.state.ran_with() == world.text
    assert not world.activation.is_served()


def test_restarts_that_cannot_be_noted_count_all_the_same(world: World, full: FullMarkers) -> None:
    world.correct(1)
    world.restart()
    assert full.restarts() == ()
    world.service.finish("failed", starts=False)
    assert isinstance(world.activation.advance(), NotUp)
    world.correct(2)
    full.is_full = False
    world.restart()
    assert len(full.restarts()) == 2


def test_a_marker_that_cannot_be_read_is_looked_at_again_soon(
    world: World, full: FullMarkers
) -> None:
    full.is_unreadable = True
    assert world.activation.patience() == 1.0
    with pytest.raises(HostError, match="Input/output error"):
        world.activation.advance()


def test_newaliases_that_failed_is_run_again_by_itself(world: World) -> None:
    """It may have left half a database, and Postfix waits for a whole one."""
    aliases = world.aliases

    def fail() -> float | None:
        assert aliases.rebuild(names.DEFAULT_ALIASES).worked() is False
        return aliases.patience()

    assert aliases.patience() is None
    world.programs.aliases_trouble = "no space left"
    assert [fail(), fail()] == [10.0, 20.0]
    assert not aliases.is_due()
    world.clock.now += 20.0
    assert [aliases.is_due(), aliases.is_due()] == [True, False]
    world.programs.aliases_trouble = ""
    assert aliases.rebuild(names.DEFAULT_ALIASES).worked()
    assert aliases.patience() is None


def test_aliases_that_stay_bad_are_on_record_once_until_they_are_mended(world: World) -> None:
    def rebuild() -> bool | None:
        return world.aliases.rebuild(names.DEFAULT_ALIASES).worked()

    world.programs.aliases_trouble = "bad; mend it"
    assert [rebuild() for _ in range(3)] == [False] * 3
    assert len(world.records) == 1
    world.programs.aliases_trouble = ""
    assert rebuild()
    world.programs.aliases_trouble = "bad; mend it"
    rebuild()
    assert len(world.records) == 2


def test_aliases_that_stay_bad_are_tried_again_more_and_more_seldom(world: World) -> None:
    assert world.aliases.patience() is None
    waits = []
    for _ in range(7):
        world.aliases.note("bad; mend it", None)
        waits.append(world.aliases.patience())
        world.clock.now += waits[-1] or 0.0
        assert world.aliases.patience() == 0
    assert waits == [10, 20, 40, 80, 160, 300, 300]
    assert len(world.records) == 1
    world.aliases.note("", None)
    assert world.aliases.patience() is None


def test_aliases_that_stay_bad_are_on_record_once_more_for_each_correction(world: World) -> None:
    for number in (None, 1, None, 1, 2, None):
        world.aliases.note("bad; mend it", number)
    assert [record.cycle for record in world.records] == [None, 1, 2]


def test_what_newaliases_leaves_out_is_told_once_until_it_changes(world: World) -> None:
    def rebuild(*doubts: str) -> None:
        world.programs.aliases_doubts = doubts
        assert world.aliases.rebuild(names.DEFAULT_ALIASES).worked()

    rebuild()
    rebuild("/a, line 1: no", "/a, line 2: no")
    rebuild("/a, line 1: no", "/a, line 2: no")
    world.programs.aliases_trouble = "bad"
    assert world.aliases.rebuild(names.DEFAULT_ALIASES).worked() is False
    world.programs.aliases_trouble = ""
    rebuild("/a, line 1: no", "/a, line 2: no")
    rebuild("/a, line 2: no")
    rebuild()
    rebuild("/a, line 2: no")
    second = "newaliases: /a, line 2: no; mend the file"
    first = second.replace("/a, line 2", "/a, line 1: no; /a, line 2")
    assert world.remarks == [first, second, second]


def test_newaliases_does_not_hold_up_the_loop(world: World) -> None:
    """Postfix is restarted when it has ended, with what main.cf has become meanwhile."""
    started: list[Callable[[], None]] = []
    world.spawn = lambda _name, run: started.append(run)
    world.correct(1)
    for _ in range(2):
        assert world.activation.advance() is None
        assert world.activation.patience() == 1.0
    world.correct(2)
    assert (len(started), world.programs.built, world.service.jobs) == (1, [], [])
    started[0]()
    assert world.posted.get_nowait().reason is Reason.NEWALIASES
    activated = world.activate()
    assert isinstance(activated, Activated)
    assert activated.pending.cycle == 2
    assert len(world.service.jobs) == 1


def test_an_error_of_ours_in_newaliases_does_not_end_the_restarts(world: World) -> None:
    class Broken:
        def newaliases(self, path: str) -> tuple[str, ...]:
            raise ZeroDivisionError(path)

    world.activation.aliases = AliasDatabase(
        Broken(), world.posted.put, world.records, world.remarks.append, newaliases_at_once
    )
    world.correct(1)
    with pytest.raises(ZeroDivisionError):
        world.activation.advance()
    world.activation.aliases = world.aliases
    assert world.activate() is not None


def test_a_text_brought_back_gets_its_restart_at_once(world: World) -> None:
    world.correct(1)
    world.fail_once()
    world.bring_back(2)
    assert world.activation.patience() == 0
    assert world.activate() is not None
    assert len(world.service.jobs) == 2
    assert world.records[-1].message.startswith(
        "Postfix runs with the text that it last ran with: restarted, up after"
    )
    assert world.state.rolled_back() is not None
    assert world.activation.failure == ""


def test_where_the_old_text_fails_too_what_was_tried_is_forgotten_once_postfix_is_up(
    world: World,
) -> None:
    world.bring_back(2)
    world.fail_once()
    assert world.state.rolled_back() is not None
    world.wait_for_next_step()
    assert world.activate() is not None
    assert world.state.rolled_back() is None


def test_the_next_process_knows_that_the_old_text_failed_too(world: World) -> None:
    world.bring_back(2)
    world.fail_once()
    world.state.release_activation()  # the end of this process
    world.activation = world.a_process(State(world.state.directory, world.state.run_directory))
    # It does not hurry: that restart has been made.
    assert world.activation.advance() is None
    assert not world.activation.is_under_way()
    world.wait_for_next_step()
    assert world.activate() is not None
    assert world.state.rolled_back() is None


def test_where_systemd_could_not_be_asked_the_old_text_has_not_failed(world: World) -> None:
    world.bring_back(2)
    world.service.trouble = "no bus"
    assert world.activation.advance() is None
    world.wait_for_next_step()
    assert world.activate() is not None
    assert world.state.rolled_back() is not None


# --- contested ------------------------------------------------------------------------------------


def test_while_contested_restarts_are_further_apart(world: World) -> None:
    world.correct(1)
    world.activate()
    world.apart = 160.0
    world.correct(2)
    world.restart()
    assert world.clock.now == 1_160


def test_while_mail_is_down_the_budget_is_enough(world: World) -> None:
    world.apart = 160.0
    world.correct(1)
    world.fail_once()
    world.correct(2)
    world.restart()
    assert world.clock.now == 1_010


# --- the least that serves ------------------------------------------------------------------------


def test_where_a_reload_suffices_the_unit_that_holds_master_is_reloaded(world: World) -> None:
    world.way = ActivationWay.AUTO
    before = world.service.units
    world.correct(1, "smtpd_banner")
    world.activation.advance()
    world.service.finish(starts=False)
    assert isinstance(world.probed(), Activated)
    # Who was there before the reload must not answer for it.
    assert len(world.pauses) == 1
    assert (world.service.reloaded, world.service.restarted) == (["postfix@-.service"], [])
    assert world.service.units == before
    assert "reloaded, serves after" in world.records[0].message
    assert world.state.ran_with() == world.text


@pytest.mark.parametrize(
    "parameters", [("inet_interfaces",), ("smtpd_banner", "main.cf"), ("no_such_parameter",)]
)
def test_where_it_does_not_suffice_postfix_is_restarted(
    world: World, parameters: tuple[str, ...]
) -> None:
    world.way = ActivationWay.AUTO
    world.correct(1, *parameters)
    assert world.activate() is not None
    assert (world.service.reloaded, world.service.restarted) == ([], [names.POSTFIX_UNIT])
    assert world.pauses == []


def test_a_damaged_marker_asks_for_a_restart(world: World) -> None:
    world.way = ActivationWay.AUTO
    world.state.mark_pending(PendingActivation(1, (), EXPOSURE))
    assert world.activate() is not None
    assert world.service.restarted == [names.POSTFIX_UNIT]


def test_a_postfix_that_is_down_is_restarted(world: World) -> None:
    world.way = ActivationWay.AUTO
    world.service.units = (UMBRELLA, replace(MASTER, phase=UnitPhase.DOWN))
    world.correct(1, "smtpd_banner")
    assert world.activate() is not None
    assert world.service.restarted == [names.POSTFIX_UNIT]


def test_a_text_brought_back_is_restarted(world: World) -> None:
    world.way = ActivationWay.AUTO
    world.bring_back(1)
    assert world.activate() is not None
    assert world.service.restarted == [names.POSTFIX_UNIT]


def reload_fails(world: World) -> None:
    world.service.finish("failed", starts=False)
    assert world.activation.advance() is None


def reload_does_not_serve(world: World) -> None:
    world.service.finish(starts=False)
    world.clock.now += 10
    world.answer = "127.0.0.1:25: it greets as somebody"
    assert world.probed() is None
    world.answer = ""


@pytest.mark.parametrize("goes_wrong", [reload_fails, reload_does_not_serve])
def test_where_a_reload_does_not_do_a_restart_follows_at_once(
    world: World, goes_wrong: Callable[[World], None]
) -> None:
    world.way = ActivationWay.AUTO
    world.correct(1, "smtpd_banner")
    world.activation.advance()
    goes_wrong(world)
    assert world.records == []
    assert world.activation.patience() == 0
    assert isinstance(world.activate(), Activated)
    assert len(world.service.reloaded) == len(world.service.restarted) == 1
    (record,) = world.records
    assert "restarted, up after" in record.message
    assert "; a reload did not do: " in record.message


def test_a_master_that_has_not_got_to_the_reload_yet_is_asked_again(world: World) -> None:
    """The job ends when the signal was sent; an smtpd from before may still greet."""
    world.way = ActivationWay.AUTO
    world.correct(1, "smtpd_banner")
    world.activation.advance()
    world.service.finish(starts=False)
    world.answer = "127.0.0.1:25: it greets as before"
    assert world.probed() is None
    assert world.activation.is_under_way()
    world.answer = ""
    world.clock.now += 1
    assert isinstance(world.probed(), Activated)
    assert world.service.restarted == []


def test_what_fails_with_the_restart_as_well_is_a_failure(world: World) -> None:
    world.way = ActivationWay.AUTO
    world.correct(1, "smtpd_banner")
    world.activation.advance()
    reload_fails(world)
    world.fail_once()
    assert world.records.events() == [Event.ACTIVATION_FAILED]
    world.wait_for_next_step()
    assert world.activate() is not None
    assert len(world.service.reloaded) == 1


def test_another_instance_has_a_unit_of_its_own(world: World) -> None:
    unit = "postfix@out.service"
    world.service.units = (replace(MASTER, name=unit),)
    world.activation.unit = unit
    world.correct(1)
    assert world.activate() is not None
    world.way = ActivationWay.AUTO
    world.clock.now += 100
    world.correct(2, "smtpd_banner")
    assert world.activate() is not None
    assert (world.service.restarted, world.service.reloaded) == ([unit], [unit])


# --- urgent, and yet not without a pause ----------------------------------------------------------


def test_what_is_urgent_waits_while_another_process_is_at_it(world: World, tmp_path: Path) -> None:
    world.bring_back(1)
    other = State(str(tmp_path / "lib"), str(tmp_path / "run"))
    assert other.hold_activation()
    assert world.activation.advance() is None
    due = world.activation.patience()
    assert due is not None
    assert due > 0
    other.release_activation()
    assert world.activate() is not None


def test_after_a_reload_that_did_not_do_a_systemd_that_is_away_is_waited_for(
    world: World,
) -> None:
    world.way = ActivationWay.AUTO
    world.correct(1, "smtpd_banner")
    world.activation.advance()
    reload_fails(world)
    world.service.trouble = "no talk with systemd over the system bus"
    assert world.activation.advance() is None
    assert_failed(world, "no talk with systemd")  # the next try is some time off
    assert isinstance(world.activate(), Activated)
    assert world.service.restarted == [names.POSTFIX_UNIT]
