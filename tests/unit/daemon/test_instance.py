"""One instance's turns of the loop: what it has done beside them, and how long it may be left."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import cast

import pytest

from pf_agent import names
from pf_agent.bus.systemd import Systemd
from pf_agent.daemon.instance import Instance
from pf_agent.daemon.shared import Shared
from pf_agent.daemon.suspensions import Suspensions
from pf_agent.errors import HostError
from pf_agent.files.configuration import Configuration
from pf_agent.files.kept_options import KeptOptions
from pf_agent.files.store import FileStore
from pf_agent.files.trusted import is_guarded
from pf_agent.maincf.aliases import Built
from pf_agent.model import (
    DesiredState,
    Event,
    Greeting,
    Heard,
    Judgement,
    Package,
    Phase,
    Presence,
    Reason,
    Reference,
    Rejected,
    Trigger,
    UnitPhase,
    UnitState,
    Wishes,
)
from pf_agent.postfix.errands import Errands
from pf_agent.reconcile.suspension import suspend
from pf_agent.reporting.journal import Journal
from pf_agent.watch.watch import Watch
from pf_agent.watch.writers import Writers
from tests.fakes import FakePrograms, FakeService, Records

UP = UnitState("postfix.service", UnitPhase.UP, "success", "the first")
SERVED = DesiredState({"mynetworks": "127.0.0.0/8"}, frozenset())
RIGHT, WRONG = b"mynetworks = 127.0.0.0/8\n", b"mynetworks = 0.0.0.0/0\n"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="main.cf must be root's")


class Asked(FakePrograms):
    """Postfix, which is asked in threads, too: `judged` has each text, `trouble` keeps it mute."""

    def __init__(self) -> None:
        super().__init__(None)
        self.judged: SimpleQueue[bytes] = SimpleQueue()
        self.trouble = ""
        self.things: set[str] = set()
        self.needed: tuple[str, ...] = ()
        self.named: tuple[Reference, ...] = ()
        self.references_asked = 0
        self.may_build, self.may_answer = threading.Event(), threading.Event()
        self.may_build.set()
        self.may_answer.set()

    def judge(self, text: bytes) -> Judgement:
        self.judged.put(text)
        if self.trouble:
            raise HostError(self.trouble)
        lacking = [
            path for path in self.needed if path in text.decode() and not os.path.exists(path)
        ]
        return Judgement("".join(f"{path}: cannot open file" for path in lacking))

    def newaliases(self, databases: Sequence[str] = ()) -> tuple[Built, ...]:
        self.may_build.wait(60)
        return super().newaliases(databases)

    def probe(self, greeting: Greeting) -> Heard:
        assert self.greets_with is not None, "without an SMTP service there is no port to ask"
        return super().probe(greeting)

    def greeting(self) -> Greeting | None:
        self.may_answer.wait(60)
        return super().greeting()

    def lives(self) -> bool:
        return True

    def log_tail(self, units: Sequence[str], since: float) -> tuple[str, ...]:
        return ()

    def fatal_lines(self, units: Sequence[str], since: float) -> tuple[str, ...]:
        return ()

    def was_stopped(self, unit: UnitState) -> bool | None:
        return False

    def references(self, _text: bytes) -> tuple[Reference, ...]:
        self.references_asked += 1
        if self.trouble:
            raise HostError(self.trouble)
        return self.named

    def is_there(self, thing: str) -> bool:
        return thing in self.things


class Host:
    """A main.cf with a desired state, and a Postfix that was seen to run with it before."""

    def __init__(self, folder: Path, **limits: float) -> None:
        self.folder = folder
        self.main_cf = folder / "postfix" / "main.cf"
        etc = folder / "etc"
        for made in (self.main_cf.parent, etc):
            made.mkdir()
        (etc / names.DESIRED_TOML).write_text('[settings]\nmynetworks = "127.0.0.0/8"\n')
        self.write(RIGHT)
        self.state = FileStore(str(folder / "lib"), str(folder / "run"))
        self.state.prepare()
        self.state.keep_last_good(RIGHT)
        self.state.keep_ran_with(RIGHT)
        self.state.keep_wishes(Wishes(SERVED, SERVED))
        self.postfix, self.service, self.records = Asked(), FakeService(UP), Records()
        self.posted: SimpleQueue[Trigger] = SimpleQueue()
        self.instance = self.started(etc, limits)

    def started(self, etc: Path, limits: Mapping[str, float]) -> Instance:
        self.watch = Watch(str(etc), self.posted.put, is_guarded)
        self.configuration = Configuration(
            str(etc), {}, KeptOptions(self.state.directory), self.complain
        )
        self.suspensions = Suspensions(self.state.suspended, self.records, self.complain)
        self.suspensions.take_on(names.DEFAULT_INSTANCE, self.state.suspended_alone)
        shared = Shared(
            self.configuration,
            cast(Systemd, self.service),
            self.watch,
            Writers(),
            self.records,
            Journal(place=str(self.folder / "no journal")),
            self.posted.put,
            self.suspensions,
            lambda _directory: cast(Errands, self.postfix),
            str(self.folder / "run" / "tables.lock"),
            **limits,
        )
        shared.configuration.refresh()
        return Instance(names.DEFAULT_INSTANCE, str(self.main_cf), self.state, shared)

    def start(self) -> None:
        """The first look, and Postfix is seen to serve."""
        self.instance.turn({Reason.START})
        self.await_end(Reason.PROBE)
        self.instance.turn({Reason.PROBE})
        while (due := self.instance.patience()) <= 5.0:
            time.sleep(due)  # nothing tells of that: it is asked for once a second at most
            self.instance.turn(set())

    def await_end(self, of: Reason) -> None:
        """What runs beside the loop ends; what else ends before it is taken note of."""
        while (found := self.posted.get(timeout=60)).reason is not of:
            self.instance.turn({found.reason})

    def ask_for(self, text: str) -> None:
        """Somebody writes desired.toml."""
        path = self.folder / "etc" / names.DESIRED_TOML
        path.with_name("new").write_text(text)
        path.with_name("new").rename(path)
        self.configuration.refresh()
        self.instance.turn({Reason.CONFIGURATION})

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


def test_what_could_not_be_told_is_told_soon(host: Host) -> None:
    host.start()
    assert host.instance.status(0.0).phase is Phase.IN_SYNC
    assert host.instance.patience() > 5.0
    unreadable = host.folder / "lib" / "pending.json"
    unreadable.mkdir()
    status = host.instance.status(0.0)
    unreadable.rmdir()
    assert status.phase is Phase.STALLED
    assert status.detail.startswith(f"{unreadable}: ")
    assert host.instance.patience() <= 5.0
    assert host.instance.status(0.0).phase is Phase.IN_SYNC


def test_in_a_contest_it_is_told_when_the_next_restart_is_due(host: Host) -> None:
    host.start()
    now = time.time()
    host.state.note_drifts({"mynetworks": tuple(now - ago for ago in (300, 200, 100))})
    host.state.note_restarts((now,))
    assert host.instance.status(now).restart_due is None
    host.write(WRONG)
    host.instance.turn({Reason.MAIN_CF})
    first, again = (host.instance.status(time.time()) for _ in range(2))
    assert first.phase is Phase.CONTESTED
    assert first.restart_due is not None
    assert now < first.restart_due <= time.time() + 10.0
    assert again == replace(first, next_look=again.next_look), "the same moment reads the same"


def test_that_a_start_waits_for_dpkg_is_told(host: Host) -> None:
    host.start()
    host.service.become(UnitPhase.DOWN)
    host.postfix.dpkg = Package(is_locked=True, state="half-installed")
    host.write(WRONG)
    host.instance.turn({Reason.MAIN_CF})
    status = host.instance.status(time.time())
    waits = "Postfix start is waiting for apt or dpkg to finish"
    assert (status.phase, status.detail, status.awaited) == (Phase.ACTIVATING, waits, waits)
    host.service.trouble = "systemd has no such unit"
    host.instance.turn({Reason.JOB})
    status = host.instance.status(time.time())
    assert (status.phase, status.awaited) == (Phase.FAILING, "")
    host.instance.turn({Reason.JOB})
    status = host.instance.status(time.time())
    assert (status.phase, status.awaited) == (Phase.FAILING, waits)
    host.postfix.dpkg = Package()
    host.instance.turn({Reason.JOB})
    assert host.instance.status(time.time()).awaited == ""


def test_that_a_start_waits_for_dpkg_is_told_in_a_contest_too(host: Host) -> None:
    host.start()
    now = time.time()
    host.state.note_drifts({"mynetworks": tuple(now - ago for ago in (300, 200, 100))})
    host.service.become(UnitPhase.DOWN)
    host.postfix.dpkg = Package(is_locked=True, state="half-installed")
    host.write(WRONG)
    host.instance.turn({Reason.MAIN_CF})
    status = host.instance.status(now)
    assert status.phase is Phase.CONTESTED
    assert status.awaited == "Postfix start is waiting for apt or dpkg to finish"


def test_what_is_only_looked_at_is_as_old_as_it_was_when_it_was_seen_first(host: Host) -> None:
    (host.folder / "etc" / names.AGENT_TOML).write_text('mode = "observe"\n')
    host.configuration.refresh()
    host.write(WRONG)
    host.instance.turn({Reason.START})
    first = host.instance.status(time.time()).last
    assert first is not None
    host.instance.turn({Reason.TIMER})
    assert host.instance.status(time.time()).last == first


# --- suspended ------------------------------------------------------------------------------------


@pytest.mark.parametrize("alone", [True, False])
def test_who_has_suspended_it_before_the_look_is_heard_in_the_midst_of_a_turn(
    host: Host, alone: bool
) -> None:
    """As `restore` does it: it is written down, then the old text is put in place."""
    host.start()
    suspend(host.state.suspended_alone if alone else host.state.suspended, "anna", time.time())
    host.write(WRONG)
    host.instance.turn({Reason.MAIN_CF})
    assert host.main_cf.read_bytes() == WRONG
    assert host.instance.status(time.time()).phase is Phase.SUSPENDED
    assert host.suspensions.changed() == {names.DEFAULT_INSTANCE if alone else None}
    assert Event.SUSPENDED in host.records.events()


# --- patience -------------------------------------------------------------------------------------


def test_while_newaliases_runs_its_next_run_is_not_due(tmp_path: Path) -> None:
    host = Host(tmp_path, retry_seconds=0.0)
    host.write(RIGHT + b"alias_database = hash:%s/aliases\n" % os.fsencode(tmp_path))
    host.start()
    host.postfix.aliases_trouble = "postalias: fatal: disk full"
    (tmp_path / "aliases").touch()
    host.instance.turn({Reason.ALIASES})
    host.await_end(Reason.NEWALIASES)
    host.postfix.may_build.clear()
    host.instance.turn({Reason.NEWALIASES})  # it failed
    assert host.instance.patience() == 0.0
    host.instance.turn(set())  # and is run again at once
    assert host.instance.patience() > 0.0
    host.postfix.may_build.set()
    host.await_end(Reason.NEWALIASES)


# --- wishes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("was_served", [True, False])
def test_a_wish_is_taken_up_as_soon_as_the_file_comes_that_it_names(
    host: Host, was_served: bool
) -> None:
    path = host.folder / "name" / "mailname"
    path.parent.mkdir()
    host.postfix.needed = (str(path),)
    if was_served:
        host.start()
    else:
        host.state.keep_wishes(Wishes())
        host.instance.turn({Reason.START})
    assert host.watch.ensure() == ""
    try:
        host.ask_for(f'[settings]\nmynetworks = "127.0.0.0/8"\nmyorigin = "{path}"\n')
        while b"myorigin" not in host.postfix.judged.get(timeout=60):
            pass
        host.instance.turn({Reason.NEWALIASES})
        assert host.main_cf.read_bytes() == RIGHT
        path.write_text("mail.example.org\n")
        heard = host.posted.get(timeout=60)
        while heard.reason is not Reason.NAMED:
            heard = host.posted.get(timeout=60)
        assert str(path) in heard.detail
        host.instance.turn({Reason.NAMED})
        while b"myorigin" not in host.main_cf.read_bytes():
            time.sleep(max(host.instance.patience(), 0.01))
            host.instance.turn(set())
    finally:
        host.watch.close()


WISH = '[settings]\nmynetworks = "127.0.0.0/8"\nbiff = "no"\n'


def test_a_wish_waits_for_what_the_port_says_before_it(host: Host) -> None:
    host.start()
    host.postfix.may_answer.clear()
    host.ask_for(WISH)
    assert host.main_cf.read_bytes() == RIGHT
    host.postfix.may_answer.set()
    host.await_end(Reason.PROBE)
    host.instance.turn({Reason.PROBE})
    assert host.main_cf.read_bytes() == RIGHT + b"biff = no\n"
    pending = host.state.pending()
    assert pending is not None
    assert (pending.wished, pending.before) == (("biff",), Heard())


def test_of_a_postfix_that_takes_its_time_it_counts_what_it_said_last(tmp_path: Path) -> None:
    host = Host(tmp_path, ask_seconds=0.0)
    host.start()
    host.postfix.may_answer.clear()
    host.ask_for(WISH)
    host.postfix.may_answer.set()
    pending = host.state.pending()
    assert pending is not None
    assert (pending.wished, pending.before) == (("biff",), Heard())


def test_a_postfix_that_somebody_stopped_is_not_asked_before_a_wish(host: Host) -> None:
    host.start()
    course = host.instance._activation.course
    course.memory = replace(course.memory, left="it was stopped by an administrator")
    host.ask_for(WISH)
    pending = host.state.pending()
    assert pending is not None
    assert pending.before == Heard("it was stopped by an administrator", greeted=False)


def test_drift_waits_for_nothing(host: Host) -> None:
    host.start()
    host.write(WRONG)
    host.ask_for(WISH)
    assert host.main_cf.read_bytes() == RIGHT + b"biff = no\n"
    pending = host.state.pending()
    assert pending is not None
    assert (pending.wished, pending.before) == (("biff",), None)


def test_what_a_person_asks_for_is_no_newest_drift(host: Host) -> None:
    host.start()
    host.ask_for(WISH)
    host.await_end(Reason.PROBE)
    host.instance.turn({Reason.PROBE})
    assert host.instance.status(0.0).last is None
    assert host.state.drifts() == {}


def test_what_is_rejected_is_told_of_and_tried_when_what_it_lacked_is_there(host: Host) -> None:
    asked = DesiredState({"mynetworks": "127.0.0.0/8", "biff": "no"}, frozenset())
    kept = Rejected(asked, "it did not come up", ("biff",), ("inet:a:1",))
    host.state.keep_wishes(Wishes(SERVED, SERVED, {}, kept))
    host.ask_for(WISH)
    host.start()
    assert host.instance.rejected() == kept
    assert host.instance.desired() == SERVED
    assert host.main_cf.read_bytes() == RIGHT
    host.postfix.things = {"inet:a:1"}
    host.instance.turn({Reason.RELOAD})
    assert host.instance.rejected() is None
    desired = host.instance.desired()
    assert desired is not None
    assert desired.settings == asked.settings


def test_a_postfix_that_fails_for_its_former_values_is_restarted(host: Host) -> None:
    host.state.keep_ran_with(b"mynetworks = 127.0.0.0/8\nmyhostname = former.example\n")
    host.postfix.greets_with = Greeting("127.0.0.1", 25, "mail.example ESMTP")
    host.postfix.heard = Heard("greets as former.example")
    host.write(RIGHT + b"myhostname = mail.example\n")
    host.ask_for('[settings]\nmynetworks = "127.0.0.0/8"\nmyhostname = "mail.example"\n')
    host.instance.turn({Reason.START})
    host.await_end(Reason.PROBE)
    host.instance.turn({Reason.PROBE})
    pending = host.state.pending()
    assert pending is not None
    assert pending.parameters == ("myhostname",)


def test_who_is_left_is_asked_for_nothing(host: Host) -> None:
    host.start()
    host.instance.leave()
    assert host.state.wishes() == Wishes()
    assert host.main_cf.read_bytes() == RIGHT


# --- what values name -----------------------------------------------------------------------------


def test_what_a_value_names_and_is_not_there_is_told_once_and_forgotten_when_it_is(
    host: Host,
) -> None:
    host.start()
    host.postfix.named = (
        Reference("relay_domains", "table", "hash:/a", Presence.ABSENT, "/a.db", "there is no /a"),
        Reference("mynetworks", "file", "/b", Presence.EXISTS, "/b"),
    )
    for _ in range(3):
        look_at_what_is_named(host)
    (told,) = [record for record in host.records if record.event is Event.REFERENCE_ABSENT]
    assert told.message == "relay_domains: there is no /a"
    assert told.fields[names.FIELD_PARAMETER] == "relay_domains"
    status = host.instance.status(time.time())
    assert (status.phase, status.detail) == (Phase.IN_SYNC, "but relay_domains: there is no /a")
    assert status.absent == ("relay_domains: there is no /a",)
    host.write(WRONG)
    host.instance.turn({Reason.MAIN_CF})  # and it withholds no correction
    assert host.main_cf.read_bytes() == RIGHT
    host.postfix.named = ()
    look_at_what_is_named(host)
    assert host.instance.status(time.time()).absent == ()


def test_where_nobody_tells_what_is_there_nothing_fails(host: Host) -> None:
    host.start()
    host.postfix.trouble = "no answer"
    look_at_what_is_named(host)
    status = host.instance.status(time.time())
    assert (status.phase, status.absent) == (Phase.IN_SYNC, ())
    assert [r for r in host.records if r.event is Event.CORRECTION_FAILED] == []


def look_at_what_is_named(host: Host) -> None:
    """At once, or when it was put off to."""
    asked = host.postfix.references_asked
    host.instance.turn({Reason.NAMED})
    while host.postfix.references_asked == asked:
        time.sleep(max(host.instance.patience(), 0.01))
        host.instance.turn(set())


def test_a_look_that_is_put_off_is_made_though_another_comes_before(host: Host) -> None:
    host.start()
    for _ in range(2):
        host.instance.turn({Reason.NAMED})
    asked = host.postfix.references_asked
    host.write(RIGHT)
    host.instance.turn({Reason.MAIN_CF})  # which does not look at what is named
    assert host.postfix.references_asked == asked
    due = host.instance.patience()
    assert due <= 1.0
    time.sleep(due)
    host.instance.turn(set())
    assert host.postfix.references_asked > asked


def test_a_table_that_is_written_again_and_again_is_not_looked_at_each_time(host: Host) -> None:
    host.start()
    host.instance.turn({Reason.NAMED})
    asked = host.postfix.references_asked
    for _ in range(200):
        host.instance.turn({Reason.NAMED})
    assert host.postfix.references_asked < asked + 50
    host.write(WRONG)
    host.instance.turn({Reason.MAIN_CF, Reason.NAMED})  # drift does not wait
    assert host.main_cf.read_bytes() == RIGHT
    look_at_what_is_named(host)
