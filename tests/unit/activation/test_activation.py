"""What the activation gathers, carries out, remembers and puts on record; what it decides is in
test_steps.py and test_verdict.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

import pytest

from pf_agent import names
from pf_agent.activation import steps
from pf_agent.activation.activation import Activation
from pf_agent.activation.alias_database import Newaliases
from pf_agent.activation.aside import Spawn
from pf_agent.activation.course import Course
from pf_agent.activation.databases import Databases
from pf_agent.activation.ports import Clocks, End, Others, Turn
from pf_agent.activation.states import Queueing
from pf_agent.activation.steps import DPKG_WORKS
from pf_agent.activation.surroundings import Surroundings
from pf_agent.errors import HostError
from pf_agent.files.linux import stamp
from pf_agent.files.store import FileStore
from pf_agent.model import (
    Activated,
    ActivationWay,
    ActualState,
    DesiredState,
    Event,
    Exposure,
    FileKind,
    Greeting,
    Heard,
    NotUp,
    Package,
    PendingActivation,
    Reason,
    Standing,
    Trigger,
    UnitPhase,
    UnitState,
    Wishes,
)
from tests.fakes import (
    FakeClock,
    FakePrograms,
    FakeService,
    Records,
    is_queueing,
    newaliases_at_once,
)

UMBRELLA = UnitState("postfix.service", UnitPhase.UP, "success", "first")
MASTER = UnitState("postfix@-.service", UnitPhase.UP, "success", "second")
GREETING = Greeting("127.0.0.1", 25, "mail.example.net ESMTP")
AUTO = Turn(way=ActivationWay.AUTO)
AWAY = Heard("RCPT got 451", code=451, words="4.7.1 Service unavailable")
SILENT = Heard("no greeting for 10 s", greeted=False)


class World:
    """One activation over scripted fakes and a real FileStore."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = self.a_state()
        self.state.prepare()
        self.clock = FakeClock()
        self.service = FakeService(UMBRELLA, MASTER, clock=self.clock)
        self.programs = FakePrograms(GREETING)
        self.posted: SimpleQueue[Trigger] = SimpleQueue()
        self.records = Records()
        self.spawn: Spawn = newaliases_at_once
        self.text: bytes | None = b"the text\n"
        self.written_at = 0.0
        self.refused = ""
        self.others_refused = ""
        self.others_served: list[tuple[float, bool]] = []
        self.turn = Turn()
        self.activation = self.a_process(self.state)

    def a_state(self) -> FileStore:
        return FileStore(str(self.folder / "lib"), str(self.folder / "run"))

    def a_process(self, state: FileStore) -> Activation:
        post, emit = self.posted.put, self.records
        aliases = Databases(
            Newaliases(self.programs, lambda _path: False),
            post,
            emit,
            print,
            stamp,
            lambda *of: self.spawn(*of),
            self.clock,
        )
        clocks = Clocks(self.clock, self.clock)
        self.around = Surroundings(
            *(names.POSTFIX_UNIT, self.service, self.programs, state, self.read, clocks),
            Others(note_served=self.serve_others),
        )
        return Activation(Course(self.around, aliases, post, emit))

    def read(self) -> ActualState:
        if self.refused:
            return ActualState(None, FileKind.OTHER, refused=self.refused)
        return ActualState(self.text, FileKind.REGULAR, written_at=self.written_at)

    def serve_others(self, began_at: float) -> None:
        """What else Postfix is started for is served: since when, and is main.cf's marker there?"""
        if self.others_refused:
            raise HostError(self.others_refused)
        self.others_served.append((began_at, self.state.pending() is not None))

    def correct(self, cycle: int, *parameters: str, **more: object) -> PendingActivation:
        """main.cf was corrected in `cycle`."""
        exposure = Exposure(990.0, 995.0, self.clock.now)
        pending = PendingActivation(cycle, parameters or ("mynetworks",), exposure)
        pending = replace(pending, **more)  # type: ignore[arg-type]
        self.state.mark_pending(pending)
        return pending

    def wish(self, cycle: int, before: Heard | None) -> PendingActivation:
        """main.cf was made to say what is newly asked for."""
        asked = DesiredState({"smtpd_milters": "inet:localhost:8891"}, frozenset())
        self.state.keep_wishes(Wishes(None, asked))
        return self.correct(cycle, "smtpd_milters", wished=("smtpd_milters",), before=before)

    def advance(self) -> End | None:
        """Take a step, and the one after it where systemd was told something: it answers soon."""
        end = self.activation.advance(self.turn)
        while is_queueing(self.activation):
            while self.posted.get(timeout=60).reason is not Reason.JOB:
                pass  # newaliases has ended
            end = self.activation.advance(self.turn)
        return end

    def heard(self) -> End | None:
        """The port has answered: take the step that follows."""
        while self.posted.get(timeout=60).reason is not Reason.PROBE:
            pass
        return self.advance()

    def verify(self) -> End | None:
        """Whoever started Postfix, see whether it serves."""
        assert self.advance() is None
        return self.heard()

    def activate(self, result: str = "done", starts: bool = True) -> End | None:
        """A whole run: the job ends, and the port answers what it does."""
        self.begin()
        self.service.finish(result, starts)
        return self.verify()

    def fail_once(self) -> NotUp:
        """A whole run of which nobody comes up."""
        self.programs.is_alive = False
        end = self.activate("failed", starts=False)
        self.programs.is_alive = True
        assert isinstance(end, NotUp)
        return end

    def begin(self) -> None:
        """Go on until systemd is at work for us."""
        assert self.advance() is None
        for _ in range(20):
            if self.activation.is_under_way():
                return
            self.pass_time()
            assert self.advance() is None
        raise AssertionError("nothing was begun")

    def pass_time(self) -> None:
        """Until the next step is due."""
        due = self.activation.patience()
        assert due is not None
        assert due > 0
        self.clock.now += due

    def settle(self) -> None:
        """What was seen to serve is at rest once that is seen a second time."""
        self.pass_time()
        assert self.advance() is None
        assert self.activation.is_at_rest()

    def others_start(self) -> None:
        self.clock.now += 1
        self.service.come_up(f"others at {self.clock.now}")
        self.activation.doubt()


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Postfix was seen to serve, and nothing is to be done."""
    world = World(tmp_path)
    assert world.verify() == Activated(None, 1_000.0)
    world.settle()
    world.clock.now = 1_000.0
    world.programs.asked.clear()
    return world


# --- a good run -----------------------------------------------------------------------------------


def test_what_else_it_was_started_for_is_noted_before_the_marker_of_all_goes(world: World) -> None:
    world.correct(1)
    world.begin()
    world.service.finish()
    world.others_served.clear()
    world.others_refused = "disk full"
    assert world.verify() is None
    assert world.state.pending() is not None
    assert world.records.of(Event.ACTIVATED) == []
    world.others_refused = ""
    world.pass_time()
    assert isinstance(world.advance(), Activated)
    assert world.others_served == [(1_000.0, True)]
    assert world.state.pending() is None
    assert len(world.records.of(Event.ACTIVATED)) == 1


def test_at_rest_nothing_is_done(world: World) -> None:
    assert world.activation.is_at_rest()
    assert world.advance() is None
    assert world.activation.patience() is None
    assert (world.service.jobs, world.programs.built, world.records) == ([], [], [])
    assert world.a_state().hold_activation()


def test_a_good_run(world: World) -> None:
    pending = world.correct(1)
    world.begin()
    assert world.programs.built
    assert world.service.forgiven == ["postfix.service", "postfix@-.service"]
    assert not world.a_state().hold_activation()
    assert world.state.pending() == pending
    world.clock.now = 1_000.7
    world.service.finish()
    assert world.verify() == Activated(
        replace(pending, exposure=replace(pending.exposure, activated_at=1_000.7)), 1_000.7
    )
    assert world.programs.asked == [GREETING]
    assert world.state.pending() is None
    assert world.state.ran_with() == world.state.last_good() == world.text
    assert world.activation.patience() is None
    assert world.a_state().hold_activation()
    (record,) = world.records
    assert (record.event, record.cycle) == (Event.ACTIVATED, 1)
    assert record.message == (
        "Postfix runs with the desired settings: restarted, up after 0.7 s,"
        " 11 s after the drift was written"
    )
    assert record.fields[names.FIELD_WRITTEN_AT] == "1970-01-01T00:16:30.000Z"
    assert record.fields[names.FIELD_ACTIVATED_AT] == "1970-01-01T00:16:40.700Z"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"wished": ("mynetworks",)}, "the desired state changed"),
        ({"parameters": ()}, "it was found to be down"),
        ({"rolled_back": True}, "Postfix runs with the text that it last served with"),
    ],
)
def test_the_record_says_what_it_was_for(world: World, more: dict[str, object], words: str) -> None:
    world.correct(1, **more)
    assert isinstance(world.activate(), Activated)
    assert words in world.records[0].message


def test_without_an_smtp_service_the_units_alone_decide(world: World) -> None:
    world.programs.greets_with = None
    world.programs.heard = SILENT
    world.correct(1)
    assert isinstance(world.activate(), Activated)
    assert world.programs.asked == []


def test_newaliases_does_not_hold_up_the_loop(world: World) -> None:
    """Postfix is restarted when it has ended, with what main.cf has become meanwhile."""
    started: list[Callable[[], None]] = []
    world.spawn = lambda _name, run: started.append(run)
    world.correct(1)
    for _ in range(2):
        assert world.advance() is None
        assert world.activation.patience() == 1.0
    world.correct(2)
    assert (len(started), world.programs.built, world.service.jobs) == (1, [], [])
    started[0]()
    assert world.posted.get_nowait().reason is Reason.NEWALIASES
    end = world.activate()
    assert isinstance(end, Activated)
    assert end.pending is not None
    assert end.pending.cycle == 2
    assert len(world.service.jobs) == 1


def test_newaliases_that_waits_for_a_lock_does_not_hold_up_the_restart(world: World) -> None:
    started: list[Callable[[], None]] = []
    world.spawn = lambda _name, run: started.append(run)
    world.correct(1)
    assert world.advance() is None
    world.clock.now += steps.BUILD_SECONDS - 1
    assert world.advance() is None
    assert world.service.jobs == []
    world.clock.now += 1
    assert isinstance(world.activate(), Activated)
    assert (len(started), len(world.service.jobs)) == (1, 1)


def test_a_step_that_gives_way_after_newaliases_does_not_have_it_run_again(world: World) -> None:
    """It may take half a minute, for which the restart would wait once more."""
    started: list[Callable[[], None]] = []
    world.spawn = lambda _name, run: started.append(run)
    world.correct(1)
    assert world.advance() is None
    started[0]()
    world.service.is_awaited = True
    for _ in range(2):
        assert world.service.jobs == []
        assert world.advance() is None
    assert (len(started), len(world.service.jobs)) == (1, 1)


def test_who_stops_postfix_while_newaliases_runs_has_it_left_stopped(world: World) -> None:
    started: list[Callable[[], None]] = []
    world.spawn = lambda _name, run: started.append(run)
    world.correct(1)
    world.advance()
    world.service.become(UnitPhase.DOWN)
    world.programs.stopped = True
    started[0]()
    for _ in range(2):
        assert world.advance() is None
    assert world.service.jobs == []
    assert "was stopped by an administrator" in world.activation.memory.left


def test_newaliases_that_fails_is_on_record_and_postfix_restarted_all_the_same(
    world: World,
) -> None:
    world.programs.aliases_trouble = "newaliases: /etc/aliases, line 3: bad; fix it"
    world.correct(1)
    assert isinstance(world.activate(), Activated)
    assert world.records.events() == [Event.ACTIVATION_FAILED, Event.ACTIVATED]
    assert "; but the aliases are out of date: " in world.records[1].message


def test_an_error_of_ours_in_newaliases_does_not_end_the_restarts(world: World) -> None:
    def broken(_name: str, _run: Callable[[], None]) -> None:
        raise ZeroDivisionError

    world.spawn = broken
    world.correct(1)
    with pytest.raises(ZeroDivisionError):
        world.advance()
    world.spawn = newaliases_at_once
    assert isinstance(world.activate(), Activated)


def test_a_process_that_was_killed_is_taken_up_by_the_next(world: World) -> None:
    world.correct(1)
    world.begin()
    world.state.release_activation()  # as its end does
    world.clock.now += 60
    world.activation = world.a_process(world.a_state())
    assert isinstance(world.activate(), Activated)
    assert world.state.pending() is None


def test_another_instance_has_a_unit_of_its_own(world: World) -> None:
    world.around.unit = unit = "postfix@out.service"
    world.service.units = (replace(MASTER, name=unit),)
    world.correct(1)
    assert isinstance(world.activate(), Activated)
    world.clock.now += 100
    world.turn = AUTO
    world.correct(2, "smtpd_banner")
    assert isinstance(world.activate(starts=False), Activated)
    assert (world.service.restarted, world.service.reloaded) == ([unit], [unit])


# --- what goes wrong ------------------------------------------------------------------------------


def assert_failed(world: World, reason: str) -> None:
    """It is on record once, the marker stands, and the next try is some time off."""
    (record,) = world.records
    assert (record.event, record.cycle) == (Event.ACTIVATION_FAILED, 1)
    assert reason in record.message
    assert record.fields == {names.FIELD_REASON: record.message}
    assert world.activation.memory.failure == record.message
    assert world.state.pending() is not None
    assert not world.activation.is_under_way()
    jobs = len(world.service.jobs)
    assert world.advance() is None
    assert len(world.service.jobs) == jobs
    world.pass_time()


def test_a_failed_job_is_returned_with_the_log_and_the_text(world: World) -> None:
    pending = world.correct(1)
    world.begin()
    began = world.clock.now
    world.clock.now += 3
    world.programs.is_alive = False
    world.programs.log = ("postfix/master: starting", "postfix/master: fatal: x")
    world.programs.fatal = ("postfix/master: fatal: x",)
    world.service.finish("failed", starts=False)
    reason = "the restart of postfix.service ended as failed"
    assert world.verify() == NotUp(
        pending, Standing.DOWN, reason, b"the text\n", world.programs.log, world.programs.fatal
    )
    assert world.programs.log_since == [began]
    assert world.state.ran_with() == b"the text\n"  # from before
    assert_failed(world, reason)
    world.programs.is_alive = True
    assert isinstance(world.activate(), Activated)
    assert world.activation.memory.failure == ""


def test_a_wish_that_is_to_blame_is_returned_as_rejected(world: World) -> None:
    pending = world.wish(1, before=Heard())
    world.programs.heard = AWAY
    world.programs.log = ("postfix/smtpd: warning: connect to inet:localhost:8891: refused",)
    end = world.activate()
    assert isinstance(end, NotUp)
    assert (end.standing, end.pending) == (Standing.REJECTED, pending)
    assert end.log == world.programs.log


def test_systemd_that_refuses_the_restart(world: World) -> None:
    world.correct(1)
    world.service.trouble = "cannot reach systemd over the system bus"
    assert world.advance() is None
    assert_failed(world, "cannot reach systemd")
    assert isinstance(world.activate(), Activated)


def test_systemd_that_is_lost_while_the_job_runs(world: World) -> None:
    world.correct(1)
    world.begin()
    world.service.trouble = "cannot reach systemd over the system bus"
    assert world.advance() is None
    assert_failed(world, "cannot reach systemd")
    assert isinstance(world.activate(), Activated)


@pytest.mark.parametrize("is_begun", [False, True])
def test_systemd_that_is_not_waited_for_is_no_failure(world: World, is_begun: bool) -> None:
    world.correct(1)
    if is_begun:
        world.begin()
    world.service.is_awaited = True
    assert world.advance() is None
    assert not world.service.is_awaited
    assert world.records.of(Event.ACTIVATION_FAILED) == []
    assert isinstance(world.activate(), Activated)


def test_a_probe_that_breaks_off_says_nothing_of_postfix(world: World) -> None:
    class Broken(FakePrograms):
        def probe(self, greeting: Greeting) -> Heard:
            raise ZeroDivisionError

    world.around.postfix = Broken(GREETING)
    world.correct(1)
    assert world.activate() is None
    assert_failed(world, "the probe of Postfix was aborted: ZeroDivisionError()")


def test_each_failure_makes_the_next_wait_longer_until_something_works(world: World) -> None:
    def waited() -> float:
        world.fail_once()
        begun = world.clock.now
        world.pass_time()
        return world.clock.now - begun

    world.correct(1)
    assert [waited() for _ in range(4)] == [10, 20, 40, 80]
    assert isinstance(world.activate(), Activated)
    world.clock.now += 600
    world.correct(2)
    assert waited() == 10


def test_the_same_failure_of_one_cycle_is_on_record_once(world: World) -> None:
    world.correct(1)
    world.fail_once()
    world.pass_time()
    world.fail_once()
    assert world.records.events() == [Event.ACTIVATION_FAILED]
    world.pass_time()
    world.service.trouble = "cannot reach systemd"
    world.advance()
    world.correct(2)
    world.fail_once()
    reasons = [(record.cycle, record.message.split()[0]) for record in world.records]
    assert reasons == [(1, "the"), (1, "cannot"), (2, "the")]


def test_a_wish_does_not_wait_for_what_failed_before_it(world: World) -> None:
    world.correct(1)
    for _ in range(5):
        world.fail_once()
        world.pass_time()
    world.fail_once()
    world.correct(2, "relayhost", wished=("relayhost",))
    begin = world.clock.now
    assert isinstance(world.activate(), Activated)
    assert world.clock.now == begin


# --- failing: nobody to blame ---------------------------------------------------------------------


def test_what_fails_for_no_fault_of_main_cf_is_asked_again_and_ends_by_itself(
    world: World,
) -> None:
    world.correct(1)
    world.programs.heard = AWAY
    assert world.activate() is None
    assert world.activation.memory.failure == "RCPT got 451"
    for _ in range(8):
        world.pass_time()
        assert world.verify() is None
    assert world.state.pending() is not None
    assert world.records.events() == [Event.ACTIVATION_FAILED]
    assert world.programs.log_since[-1] == world.clock.now - 70
    world.programs.heard = Heard()
    world.pass_time()
    assert isinstance(world.verify(), Activated)
    assert len(world.service.jobs) == 1
    assert world.records.events() == [Event.ACTIVATION_FAILED, Event.ACTIVATED]
    assert world.activation.memory.failure == ""


@pytest.mark.parametrize("is_asked", [True, False])
def test_what_is_edited_while_it_fails_gets_one_start_until_postfix_serves(
    world: World, is_asked: bool
) -> None:
    """An smtpd hangs in what the text before named, and asking its port does not end that."""
    world.correct(1)
    world.clock.now += 1
    world.programs.heard = SILENT
    assert world.activate() is None
    if is_asked:
        world.pass_time()
        assert world.advance() is None
    world.text = b"somebody's own edit\n"
    if is_asked:
        assert world.heard() is None
        assert world.records[-1].message.endswith("main.cf has changed since")
    else:
        world.pass_time()
    world.clock.now += 60  # as long as the budget may ask for
    assert world.advance() is None
    assert len(world.service.jobs) == 2
    world.clock.now += 1
    world.service.finish()
    assert world.verify() is None
    world.text = b"another edit\n"
    for _ in range(8):
        world.pass_time()
        assert world.verify() is None
    assert len(world.service.jobs) == 2
    world.programs.heard = Heard()
    world.pass_time()
    assert isinstance(world.verify(), Activated)
    assert len(world.service.jobs) == 2


@pytest.mark.parametrize("wished", [(), ("relayhost",)])
def test_what_is_corrected_while_it_fails_does_not_wait_for_the_next_question(
    world: World, wished: tuple[str, ...]
) -> None:
    world.correct(1)
    world.programs.heard = AWAY
    assert world.activate() is None
    for _ in range(4):
        world.pass_time()
        assert world.verify() is None
    world.correct(2, "relayhost", wished=wished)
    assert world.activation.patience() == 0
    world.programs.heard = Heard()
    begin = world.clock.now
    assert isinstance(world.activate(), Activated)
    assert world.clock.now == begin


def test_a_start_by_others_while_it_fails_is_verified_and_none_of_ours_follows(
    world: World,
) -> None:
    world.correct(1)
    world.programs.heard = AWAY
    assert world.activate() is None
    world.programs.heard = Heard()
    world.others_start()
    world.pass_time()
    assert isinstance(world.verify(), Activated)
    assert len(world.service.jobs) == 1
    assert "started by another process, seen to serve" in world.records[-1].message


# --- starts by others -----------------------------------------------------------------------------


def test_a_start_by_others_is_verified(world: World) -> None:
    world.others_start()
    assert not world.activation.is_at_rest()
    assert world.verify() == Activated(None, world.clock.now)
    began_at = world.service.units_of("postfix.service")[-1].began_at
    assert world.others_served[-1] == (began_at, False)
    world.settle()
    assert (world.service.jobs, world.records) == ([], [])


def test_doubt_without_a_start_asks_nobody(world: World) -> None:
    world.activation.doubt()
    assert world.advance() is None
    assert world.activation.is_at_rest()
    assert world.programs.asked == []


def test_while_main_cf_is_no_file_no_program_of_postfix_is_asked(world: World) -> None:
    """Each would wait at a FIFO, and the next restart for it."""
    world.refused = "it is a FIFO"
    world.others_start()
    assert world.advance() is None
    assert world.programs.asked == []
    world.refused = ""
    world.pass_time()
    assert world.verify() == Activated(None, world.clock.now)
    began_at = world.service.units_of("postfix.service")[-1].began_at
    assert world.others_served[-1] == (began_at, False)


def test_a_start_with_another_text_is_what_postfix_ran_with(world: World) -> None:
    world.text = b"by hand\n"
    world.turn = Turn(may_act=False, is_good=False)
    world.others_start()
    assert isinstance(world.verify(), Activated)
    assert (world.state.ran_with(), world.state.last_good()) == (b"by hand\n", b"the text\n")


def test_a_text_that_came_after_the_start_is_not_what_postfix_ran_with(world: World) -> None:
    world.text = b"by hand\n"
    world.written_at = world.clock.now + 5
    world.others_start()
    assert isinstance(world.verify(), Activated)
    assert world.state.ran_with() == b"the text\n"


def test_after_a_failed_start_of_ours_one_by_others_is_verified(world: World) -> None:
    world.correct(1)
    world.fail_once()
    world.others_start()
    assert isinstance(world.verify(), Activated)
    assert len(world.service.jobs) == 1


def test_a_postfix_that_others_have_down_is_told_of_and_serves_again(world: World) -> None:
    world.service.become(UnitPhase.FAILED, "exit-code")
    world.activation.doubt()
    end = world.advance()
    reason = "postfix@-.service is failed (exit-code); see `journalctl -u postfix@-.service`"
    assert end == NotUp(None, Standing.DOWN, reason, b"the text\n")
    assert [(r.event, r.cycle) for r in world.records] == [(Event.ACTIVATION_FAILED, None)]
    assert world.advance() is None
    world.others_start()
    world.pass_time()
    assert isinstance(world.verify(), Activated)
    assert world.records[-1].message == "Postfix serves again"
    assert world.service.jobs == []


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_start_by_others_while_the_port_is_asked_is_nobodys_failure(
    world: World, is_ours: bool
) -> None:
    """It broke the connection, and master was gone at that moment."""
    if is_ours:
        world.correct(1)
        world.begin()
        world.service.finish()
    else:
        world.others_start()
    world.programs.heard, world.programs.is_alive = SILENT, False
    assert world.advance() is None
    world.clock.now += 1
    world.service.become(UnitPhase.CHANGING)
    assert world.heard() is None
    world.programs.heard, world.programs.is_alive = Heard(), True
    world.service.come_up("others")
    world.activation.doubt()
    assert isinstance(world.verify(), Activated)
    assert Event.ACTIVATION_FAILED not in world.records.events()
    assert len(world.service.jobs) == is_ours


def test_an_old_fatal_line_is_not_why_a_port_is_silent_now(world: World) -> None:
    world.others_start()
    world.clock.now += 86_400
    world.programs.heard = SILENT
    assert world.verify() is None
    assert world.programs.log_since == [world.clock.now - 70]


def test_a_wish_that_comes_while_others_start_is_verified_is_not_to_blame(world: World) -> None:
    world.others_start()
    world.programs.heard = SILENT
    world.programs.fatal = ("postfix/smtpd: fatal: x",)
    assert world.advance() is None
    world.wish(1, before=Heard())
    assert world.heard() is None
    world.programs.heard = Heard()
    assert isinstance(world.activate(), Activated)


def test_at_start_postfix_is_verified(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert world.activation.patience() == 0
    assert not world.activation.is_at_rest()
    assert isinstance(world.verify(), Activated)
    assert world.state.ran_with() == world.text
    assert world.service.jobs == []


# --- left stopped, waited for ---------------------------------------------------------------------


@pytest.mark.parametrize("marks", [True, False])
@pytest.mark.parametrize(
    ("unit", "dpkg", "stopped", "why"),
    [
        (replace(MASTER, phase=UnitPhase.DOWN), Package(), True, "was stopped by an administrator"),
        (replace(MASTER, phase=UnitPhase.DOWN, result=""), Package(), True, "was stopped"),
        (replace(MASTER, phase=UnitPhase.DOWN, may_start=False), Package(), False, "disabled"),
        (replace(MASTER, phase=UnitPhase.FAILED, may_start=False), Package(), None, "masked"),
        (
            replace(MASTER, phase=UnitPhase.DOWN),
            Package(state="half-configured"),
            False,
            "the package postfix is half-configured; run `dpkg --configure -a`",
        ),
    ],
)
def test_what_is_left_stopped(
    world: World, unit: UnitState, dpkg: Package, stopped: bool | None, why: str, marks: bool
) -> None:
    world.service.units = (UMBRELLA, unit)
    world.programs.dpkg, world.programs.stopped = dpkg, stopped
    pending = world.correct(1, rolled_back=True) if marks else None
    world.activation.doubt()
    for _ in range(3):
        assert world.advance() is None
    assert why in world.activation.memory.left
    assert world.service.jobs == []
    assert len(world.records) == 1
    due = world.activation.patience()
    assert due == (600 if marks else None)
    # Whoever starts it, that start is verified like ours.
    world.service.units = (UMBRELLA, MASTER)
    world.others_start()
    end = world.verify()
    assert isinstance(end, Activated)
    assert (end.pending is None) == (pending is None)
    assert world.activation.memory.left == ""
    assert world.service.jobs == []


@pytest.mark.parametrize("marks", [True, False])
def test_what_dpkg_stopped_is_waited_for_and_nobody_is_told(world: World, marks: bool) -> None:
    """Debian 12 stops it, as a person would, when it unpacks it, and starts it at the end."""
    world.service.units = (UMBRELLA, replace(MASTER, phase=UnitPhase.DOWN))
    world.programs.dpkg, world.programs.stopped = Package(True, "half-installed"), True
    if marks:
        world.correct(1, rolled_back=True)
    world.activation.doubt()
    for _ in range(3):
        assert world.advance() is None
    assert world.activation.memory.left == ""
    assert world.records == []
    assert world.service.jobs == []
    # Who stops it while apt works on something else is told as soon as that has ended.
    world.programs.dpkg = Package()
    world.clock.now += 10
    assert world.advance() is None
    assert "was stopped by an administrator" in world.activation.memory.left


def test_what_our_restart_has_taken_down_is_started_though_it_is_disabled(world: World) -> None:
    """Debian 13 has the other instances disabled, and they are started by hand."""
    runs = replace(MASTER, may_start=False)
    world.service.units = (UMBRELLA, runs)
    world.correct(1)
    world.fail_once()
    world.service.units = (UMBRELLA, replace(runs, phase=UnitPhase.FAILED, result="exit-code"))
    world.correct(2, rolled_back=True)
    world.advance()
    assert world.activation.memory.left == ""
    assert len(world.service.jobs) == 2


@pytest.mark.parametrize(
    ("unit", "stopped"),
    [
        (replace(MASTER, phase=UnitPhase.FAILED, result="exit-code"), True),
        (replace(MASTER, phase=UnitPhase.FAILED, result="start-limit-hit"), True),
        (replace(MASTER, phase=UnitPhase.DOWN, result="timeout"), True),
        (replace(MASTER, phase=UnitPhase.DOWN, is_met=False), True),
        (replace(MASTER, phase=UnitPhase.DOWN), False),
        (replace(MASTER, phase=UnitPhase.DOWN), None),
    ],
)
def test_what_is_down_and_was_not_stopped_is_started(
    world: World, unit: UnitState, stopped: bool | None
) -> None:
    world.service.units = (UMBRELLA, unit)
    world.programs.stopped = stopped
    world.correct(1)
    assert isinstance(world.activate(), Activated)
    assert {each.phase for each in world.service.units} == {UnitPhase.UP}


@pytest.mark.parametrize("marks", [True, False])
def test_dpkg_at_work_is_waited_for(world: World, marks: bool) -> None:
    world.service.become(UnitPhase.DOWN)
    world.programs.dpkg = Package(is_locked=True, state="half-configured")
    if marks:
        world.correct(1, rolled_back=True)
    world.activation.doubt()
    for _ in range(3):
        assert world.advance() is None
        world.pass_time()
    assert (world.service.jobs, world.records) == ([], [])
    assert world.activation.memory.awaited == DPKG_WORKS
    world.programs.dpkg = Package()
    world.service.units = (UMBRELLA, MASTER)
    world.others_start()
    assert isinstance(world.verify(), Activated)
    assert world.activation.memory.awaited == ""


def test_what_is_urgent_and_waits_for_a_job_of_others_does_not_spin(world: World) -> None:
    world.correct(1, rolled_back=True)
    world.service.units = (UMBRELLA, replace(MASTER, has_job=True))
    assert world.activation.patience() == 0
    assert world.advance() is None
    assert world.activation.patience() == 1.0


def test_while_suspended_a_marker_does_not_make_the_loop_spin(world: World) -> None:
    world.correct(1)
    world.turn = Turn(may_act=False)
    assert world.advance() is None
    assert world.activation.patience() is None
    world.others_start()
    assert isinstance(world.verify(), Activated)
    assert world.state.pending() is not None
    assert world.service.jobs == []


# --- the budget -----------------------------------------------------------------------------------


def test_three_restarts_a_minute_the_second_soon_the_others_ten_seconds_apart(
    world: World,
) -> None:
    restarted = []
    for cycle in range(1, 8):
        world.correct(cycle)
        world.begin()
        restarted.append(world.clock.now - 1_000)
        world.service.finish()
        assert isinstance(world.verify(), Activated)
    assert restarted == [0, 3, 13, 60, 70, 80, 120]


def test_the_budget_holds_for_the_next_process_too(world: World) -> None:
    world.correct(1)
    assert isinstance(world.activate(), Activated)
    world.clock.now += 2
    world.correct(2)
    world.activation = world.a_process(world.a_state())
    world.advance()
    assert len(world.service.jobs) == 1
    world.pass_time()
    assert world.clock.now == 1_003
    world.begin()
    assert len(world.service.jobs) == 2


def test_a_window_that_opens_sooner_is_not_waited_for(world: World) -> None:
    world.correct(1)
    world.turn = Turn(opens_in=500.0)
    world.advance()
    assert world.programs.built == []
    assert world.activation.patience() == 500.0
    world.turn = Turn()
    world.advance()
    assert world.activation.is_under_way()


@pytest.mark.parametrize(
    ("more", "noted"),
    [
        ({}, (1, 0)),
        ({"wished": ("mynetworks",)}, (0, 1)),
        ({"parameters": ("mynetworks", "relayhost"), "wished": ("relayhost",)}, (1, 0)),
        ({"parameters": ()}, (1, 0)),
        ({"rolled_back": True}, (1, 0)),
    ],
)
def test_restarts_for_drift_and_for_wishes_are_counted_apart(
    world: World, more: dict[str, object], noted: tuple[int, int]
) -> None:
    world.correct(1, **more)
    world.begin()
    files = (names.RESTARTS, names.WISHED_RESTARTS)
    assert tuple(len(world.a_state().restarts(name)) for name in files) == noted


def test_while_systemd_does_not_answer_the_job_is_not_waited_for(world: World) -> None:
    world.correct(1)
    with world.service.hung():
        assert world.activation.advance(world.turn) is None  # newaliases
        assert world.activation.advance(world.turn) is None
        assert isinstance(world.activation.course.under_way, Queueing)
        assert world.activation.advance(world.turn) is None
        assert world.activation.is_under_way()
        again = world.correct(2)  # main.cf is written meanwhile, and corrected
    assert world.advance() is None
    world.service.finish()
    assert world.verify() is None
    assert world.service.restarted == [names.POSTFIX_UNIT]
    assert world.state.pending() == again, "the restart may have come before the correction"
    ended = world.activate()
    assert isinstance(ended, Activated)
    assert world.service.restarted == 2 * [names.POSTFIX_UNIT]
    assert world.state.pending() is None


@pytest.mark.parametrize("way", [ActivationWay.RESTART, ActivationWay.AUTO])
def test_a_job_that_systemd_refuses_is_a_failure(world: World, way: ActivationWay) -> None:
    world.correct(1)
    world.turn = Turn(way=way)
    world.service.refusal = "systemd refuses"
    assert world.advance() is None
    while not world.records:
        world.posted.get(timeout=60)
        assert world.advance() is None
    (record,) = world.records
    assert record.event is Event.ACTIVATION_FAILED
    assert "systemd refuses" in record.message
    assert not world.activation.is_under_way()


@pytest.mark.parametrize("more", [{}, {"wished": ("mynetworks",)}])
@pytest.mark.parametrize("lost", ["", "reset_failed"])
def test_a_restart_that_systemd_has_not_begun_is_not_counted(
    world: World, lost: str, more: dict[str, object]
) -> None:
    world.correct(1, **more)
    assert isinstance(world.activate(), Activated)
    files = (names.RESTARTS, names.WISHED_RESTARTS)
    counted = [world.state.restarts(name) for name in files]
    world.clock.now += 30
    world.service.lost, world.service.refusal = lost, "" if lost else "systemd refuses"
    world.correct(2, **more)
    world.advance()
    assert len(world.records.of(Event.ACTIVATION_FAILED)) == 1
    assert [world.a_state().restarts(name) for name in files] == counted


def test_a_restart_counts_until_systemd_refuses_it(world: World) -> None:
    """This process may end before it knows."""
    world.correct(1)
    world.service.refusal = "systemd refuses"
    with world.service.hung():
        for _ in range(2):  # newaliases is first
            world.activation.advance(world.turn)
        assert world.a_state().restarts() == (world.clock.now,)
    world.advance()
    assert world.a_state().restarts() == ()


def test_a_wish_does_not_wait_for_restarts_that_were_refused(world: World) -> None:
    world.service.refusal = "systemd refuses"
    for cycle in range(1, 4):
        world.correct(cycle, wished=("mynetworks",))
        world.advance()
    assert len(world.records.of(Event.ACTIVATION_FAILED)) == 3
    world.service.refusal = ""
    world.correct(4, wished=("mynetworks",))
    world.advance()
    assert world.activation.is_under_way()


def test_a_restart_whose_answer_is_lost_is_counted(world: World) -> None:
    world.correct(1)
    world.service.lost = "restart"
    world.advance()
    assert world.service.restarted
    assert world.a_state().restarts() == (world.clock.now,)


@pytest.mark.parametrize("is_lost", [False, True])
def test_what_a_refused_restart_has_not_taken_down_is_left_stopped(
    world: World, is_lost: bool
) -> None:
    world.correct(1)
    if is_lost:
        world.service.lost = "restart"
    else:
        world.service.refusal = "systemd refuses"
    world.advance()
    down = replace(MASTER, phase=UnitPhase.DOWN, may_start=False)
    world.service.units = (UMBRELLA, down)
    world.service.refusal = world.service.lost = ""
    world.pass_time()
    world.advance()
    assert ("is disabled or masked" in world.activation.memory.left) is not is_lost


def test_a_reload_is_not_counted_as_a_restart(world: World) -> None:
    world.turn = AUTO
    world.correct(1, "smtpd_banner")
    assert isinstance(world.activate(starts=False), Activated)
    assert world.state.restarts() == ()


# --- corrected once more meanwhile ----------------------------------------------------------------


@pytest.mark.parametrize("is_asked", [True, False])
def test_corrections_during_a_restart_get_one_more_restart(world: World, is_asked: bool) -> None:
    world.correct(1)
    world.begin()
    world.service.finish()
    if is_asked:
        assert world.advance() is None
    world.correct(2)
    last = world.correct(3)
    assert (world.heard() if is_asked else world.verify()) is None
    assert world.state.pending() == last
    assert world.records == []
    assert isinstance(world.activate(), Activated)
    assert [(record.event, record.cycle) for record in world.records] == [(Event.ACTIVATED, 3)]
    assert len(world.service.jobs) == 2


@pytest.mark.parametrize("writes_on", [True, False])
@pytest.mark.parametrize("is_drift", [True, False])
def test_what_came_into_main_cf_since_is_not_to_blame_once(
    world: World, is_drift: bool, writes_on: bool
) -> None:
    """Postfix may have read what stood there in between, and the text of now was not tried."""
    world.turn = Turn(apart=300.0)
    world.correct(1)
    world.begin()
    if is_drift:
        world.correct(2)
    else:
        world.text = b"somebody's own edit\n"
    world.programs.is_alive = False
    world.service.finish("failed", starts=False)
    assert world.verify() is None
    (record,) = world.records
    assert (record.event, record.cycle) == (Event.ACTIVATION_FAILED, 1)
    assert record.message.endswith("ended as failed; main.cf has changed since")
    # Mail is down: the new text waits for the budget alone, and what comes of that counts.
    begin = world.clock.now
    world.begin()
    assert world.clock.now < begin + 300
    if writes_on:
        world.text = b"another edit\n"
    world.service.finish("failed", starts=False)
    end = world.verify()
    assert isinstance(end, NotUp)
    assert (end.pending, end.tried) == (world.state.pending(), world.text)


def test_one_restart_is_excused_until_postfix_is_up(world: World) -> None:
    for cycle in (1, 3):
        world.correct(cycle)
        world.begin()
        world.correct(cycle + 1)
        world.programs.is_alive = False
        world.service.finish("failed", starts=False)
        assert world.verify() is None
        world.programs.is_alive = True
        assert isinstance(world.activate(), Activated)


# --- two processes --------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"rolled_back": True}])
def test_while_another_process_activates_nothing_is_done(
    world: World, more: dict[str, object]
) -> None:
    other = world.a_state()
    assert other.hold_activation()
    world.correct(1, **more)
    assert world.advance() is None
    assert (world.service.jobs, world.programs.built, world.records) == ([], [], [])
    world.pass_time()
    other.release_activation()
    assert isinstance(world.activate(), Activated)


def test_what_another_process_has_done_is_not_followed_any_more(world: World) -> None:
    world.correct(1)
    world.fail_once()
    other = world.a_state()
    world.others_start()
    assert other.note_served(1, world.text, is_started=True, is_good=True)
    assert isinstance(world.verify(), Activated)
    assert world.activation.memory.failure == ""
    world.settle()
    assert world.activation.patience() is None
    assert other.hold_activation()


# --- what cannot be written down ------------------------------------------------------------------


class FullMarkers(FileStore):
    """Its folders are full as long as `is_full`, and cannot be read while `is_unreadable`."""

    is_full = is_unreadable = False

    def note_restarts(self, moments: Sequence[float], name: str = names.RESTARTS) -> None:
        self._write_at_all()
        super().note_restarts(moments, name)

    def keep_ran_with(self, text: bytes) -> None:
        self._write_at_all()
        super().keep_ran_with(text)

    def note_reloaded(self, cycle: int) -> None:
        self._write_at_all()
        super().note_reloaded(cycle)

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
    world.pass_time()
    assert world.advance() is None
    full.is_full = False
    world.pass_time()
    assert isinstance(world.advance(), Activated)
    assert world.service.restarted == ["postfix.service"]
    assert world.records.events() == [Event.ACTIVATION_FAILED, Event.ACTIVATED]
    assert not world.activation.is_served()


def test_restarts_that_cannot_be_noted_count_all_the_same(world: World, full: FullMarkers) -> None:
    world.correct(1)
    world.begin()
    assert full.restarts() == ()
    world.programs.is_alive = False
    world.service.finish("failed", starts=False)
    assert isinstance(world.verify(), NotUp)
    world.correct(2)
    full.is_full = False
    world.begin()
    assert len(full.restarts()) == 2


def test_a_marker_that_cannot_be_read_is_looked_at_again_soon(
    world: World, full: FullMarkers
) -> None:
    full.is_unreadable = True
    assert world.activation.patience() == 1.0
    with pytest.raises(HostError, match="Input/output error"):
        world.advance()


# --- a text that was brought back -----------------------------------------------------------------


def test_a_text_brought_back_gets_its_restart_at_once(world: World) -> None:
    world.correct(1)
    world.fail_once()
    world.correct(2, rolled_back=True)
    assert world.activation.patience() == 0
    assert isinstance(world.activate(), Activated)
    assert len(world.service.jobs) == 2


def test_the_next_process_knows_that_the_old_text_failed_too(world: World) -> None:
    world.correct(1)
    assert isinstance(world.activate(), Activated)
    world.clock.now += 1
    world.correct(2, rolled_back=True)
    world.fail_once()
    pending = world.state.pending()
    assert pending is not None
    assert pending.failed
    world.state.release_activation()  # the end of this process
    world.activation = world.a_process(world.a_state())
    # It does not hurry: that restart has been made.
    assert world.advance() is None
    assert not world.activation.is_under_way()
    assert isinstance(world.activate(), Activated)


def test_where_systemd_could_not_be_asked_the_old_text_has_not_failed(world: World) -> None:
    world.correct(2, rolled_back=True)
    world.service.trouble = "no bus"
    assert world.advance() is None
    pending = world.state.pending()
    assert pending is not None
    assert not pending.failed
    assert isinstance(world.activate(), Activated)


# --- reloads --------------------------------------------------------------------------------------


def test_where_a_reload_suffices_the_unit_that_holds_master_is_reloaded(world: World) -> None:
    world.turn = AUTO
    before = world.service.units
    world.correct(1, "smtpd_banner")
    assert isinstance(world.activate(starts=False), Activated)
    assert (world.service.reloaded, world.service.restarted) == (["postfix@-.service"], [])
    assert world.service.units == before
    assert "reloaded, serves after" in world.records[0].message
    assert world.state.ran_with() == world.text


def reload_fails(world: World) -> None:
    world.begin()
    world.service.finish("failed", starts=False)
    assert world.advance() is None


def reload_does_not_serve(world: World) -> None:
    world.begin()
    world.clock.now += 10
    world.programs.heard = AWAY
    world.service.finish(starts=False)
    assert world.verify() is None
    world.programs.heard = Heard()


@pytest.mark.parametrize("goes_wrong", [reload_fails, reload_does_not_serve])
def test_where_a_reload_does_not_do_a_restart_follows_at_once(
    world: World, goes_wrong: Callable[[World], None]
) -> None:
    """Also where those who were there before it would answer as if nothing were wrong."""
    world.turn = AUTO
    world.correct(1, "smtpd_banner")
    goes_wrong(world)
    assert world.records == []
    assert world.activation.patience() == 0
    assert isinstance(world.activate(), Activated)
    assert len(world.service.reloaded) == len(world.service.restarted) == 1
    (record,) = world.records
    assert "restarted, up after" in record.message
    assert "; a reload was not enough: " in record.message


def test_a_master_that_has_not_got_to_the_reload_yet_is_asked_again(world: World) -> None:
    """The job ends when the signal was sent; an smtpd from before may still greet."""
    world.turn = AUTO
    world.correct(1, "smtpd_banner")
    world.programs.heard = AWAY
    assert world.activate(starts=False) is None
    assert world.activation.is_under_way()
    world.programs.heard = Heard()
    assert isinstance(world.verify(), Activated)
    assert world.service.restarted == []


def test_after_a_reload_that_did_not_do_a_systemd_that_is_away_is_waited_for(
    world: World,
) -> None:
    world.turn = AUTO
    world.correct(1, "smtpd_banner")
    reload_fails(world)
    world.service.trouble = "cannot reach systemd over the system bus"
    assert world.advance() is None
    assert_failed(world, "cannot reach systemd")
    assert isinstance(world.activate(), Activated)
    assert world.service.restarted == [names.POSTFIX_UNIT]


def clear(world: World, result: str = "done") -> None:
    """Drift in a closed window: Postfix is reloaded, and the restart waits."""
    world.turn = Turn(opens_in=500.0)
    world.correct(1, live=True)
    world.begin()
    world.service.finish(result, starts=False)
    assert world.advance() is None


def test_a_protective_reload_is_noted_and_the_restart_stays_due(world: World) -> None:
    clear(world)
    assert world.service.reloaded == ["postfix@-.service"]
    pending = world.state.pending()
    assert pending is not None
    assert not pending.live
    assert world.advance() is None
    assert world.activation.patience() == 500
    assert (world.service.restarted, world.programs.built, world.records) == ([], [], [])
    world.turn = Turn()
    assert isinstance(world.activate(), Activated)


def test_more_drift_is_cleared_a_second_later(world: World) -> None:
    clear(world)
    world.correct(2, live=True)
    assert world.advance() is None
    assert len(world.service.reloaded) == 1
    assert world.activation.patience() == 1.0
    world.pass_time()
    assert world.advance() is None
    assert len(world.service.reloaded) == 2


def test_a_protective_reload_that_fails_is_on_record_once_and_the_restart_due(
    world: World,
) -> None:
    clear(world, "failed")
    for wait in (2.0, 4.0, 8.0):
        assert world.advance() is None
        assert world.activation.patience() == wait
        world.pass_time()
        world.begin()
        world.service.finish("failed", starts=False)
        assert world.advance() is None
    assert [(r.event, r.cycle) for r in world.records] == [(Event.ACTIVATION_FAILED, 1)]
    assert "reload of postfix.service ended as failed" in world.records[0].message
    world.turn = Turn()
    assert isinstance(world.activate(), Activated)


def test_a_reload_that_cannot_be_noted_is_not_repeated_at_each_turn(
    world: World, full: FullMarkers
) -> None:
    clear(world)
    for _ in range(3):
        assert world.advance() is None
    assert len(world.service.reloaded) == 1
