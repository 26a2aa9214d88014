"""A simulated year of looks, drift and trouble: what the agent holds then is what it held at first.

The loop's own order of calls over the fakes, a real FileStore, and clocks that the test moves.
Memory is what the interpreter counts: each object that is kept is a block or more.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest

from pf_agent import names
from pf_agent.activation import pacing
from pf_agent.activation.activation import Activation
from pf_agent.activation.alias_database import Newaliases
from pf_agent.activation.course import Course
from pf_agent.activation.databases import Databases
from pf_agent.activation.ports import Clocks, Turn
from pf_agent.activation.surroundings import Surroundings
from pf_agent.errors import HostError
from pf_agent.files.displaced_texts import DISPLACED_COUNT
from pf_agent.files.linux import stamp
from pf_agent.files.store import FileStore
from pf_agent.maincf.document import MainCf
from pf_agent.model import (
    ActualState,
    Contest,
    DesiredState,
    Event,
    FileKind,
    Greeting,
    Judgement,
    Late,
    NotUp,
    Outcome,
    Phase,
    Record,
    Result,
    Standing,
    Status,
    Suspension,
    Trigger,
    UnitPhase,
    UnitState,
    Unmanaged,
)
from pf_agent.reconcile.drift import find_drift
from pf_agent.reconcile.in_force import InForce
from pf_agent.reconcile.judge import Judge
from pf_agent.reconcile.ports import Policy
from pf_agent.reconcile.suspension import followed
from pf_agent.reporting.tally import Tally
from pf_agent.words import sentences
from pf_agent.words.status import status_dict
from tests.fakes import (
    FakeClock,
    FakeHost,
    FakePrograms,
    FakeService,
    is_queueing,
    newaliases_at_once,
)

pytestmark = pytest.mark.once

HOUR, DAY = 3600.0, 86400.0
TEMPLATE = "/etc/postfix/main.cf.proto"
DESIRED = DesiredState(
    {"myorigin": "$myhostname", "mynetworks": "127.0.0.0/8", "message_size_limit": "10485760"},
    frozenset({"sendmail_path"}),
    TEMPLATE,
    unmanaged=Unmanaged.REPORT,
)
GOOD = b"""\
# by hand
myorigin = $myhostname
mynetworks = 127.0.0.0/8
message_size_limit = 10485760
"""
UNITS = [
    UnitState(name, UnitPhase.UP, "success", "the first")
    for name in ("postfix.service", "postfix@-.service")
]
# One object for each correction of the last half of the year would be more than this. Python 3.10
# gives a function that is called a thousand times a cache of its own, and some are called seldom.
SLACK_BLOCKS = 330


def judge_of_grammar(text: bytes) -> Judgement:
    """A Postfix that reads its file in earnest, and runs with all but what it cannot read."""
    MainCf.parse(text).parameters()
    return Judgement(fatal="bad value: poison" if b"poison" in text else "")


@dataclass(frozen=True)
class Held:
    """What the agent's process holds at one moment, and what lies in its folders."""

    blocks: int
    descriptors: int
    threads: int
    files: int
    bytes_on_disk: int


def held(folder: Path, others: Set[threading.Thread]) -> Held:
    """What is held now; `others` are the threads that other tests have left behind."""
    # One that has told that its work is done may be about to end.
    for thread in ours(others):
        thread.join(60)
    gc.collect()
    kept = [path for path in folder.rglob("*") if path.is_file()]
    return Held(
        sys.getallocatedblocks(),
        len(os.listdir("/proc/self/fd")),
        len(ours(others)),
        len(kept),
        sum(path.stat().st_size for path in kept),
    )


def ours(others: Set[threading.Thread]) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread not in others]


class Host:
    """One main.cf, the Postfix that obeys it, and the agent, whose loop is `pass_time`.

    The next `failures` starts of Postfix fail.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = FileStore(str(folder / "lib"), str(folder / "run"))
        self.state.prepare()
        self.clock, self.ticks = FakeClock(1_700_000_000.0), FakeClock(100.0)
        self.main_cf = FakeHost(GOOD)
        self.main_cf.templates[TEMPLATE] = b"# template\nmyorigin = $mydomain\n"
        self.service = FakeService(*UNITS, clock=self.clock)
        self.failures = 0
        self.corrections = self.activations = self.rollbacks = self.contests = 0
        self.refused = 0
        self.lost: list[str] = []
        self.remarks: list[str] = []
        self.tally = Tally()
        self.mailbox: SimpleQueue[Trigger] = SimpleQueue()
        self.policy = Policy(judge=Judge(judge_of_grammar), clock=self.clock)
        self.last: Outcome | None = None
        self.suspended: Suspension | None = None
        self.contest: Contest | None = None
        self.programs = FakePrograms(Greeting("127.0.0.1", 25, "mail.example.net ESMTP"))
        aliases = Databases(
            Newaliases(self.programs, lambda _path: False),
            self.mailbox.put,
            self.note,
            self.remarks.append,
            stamp,
            newaliases_at_once,
            self.ticks,
        )
        self.around = Surroundings(
            names.POSTFIX_UNIT,
            self.service,
            self.programs,
            self.state,
            self.main_cf.read,
            Clocks(self.clock, self.ticks),
        )
        self.activation = Activation(Course(self.around, aliases, self.mailbox.put, self.note))
        self.in_force = InForce(self.main_cf, self.state, self.note, self.programs.is_there)

    def note(self, record: Record) -> None:
        self.tally.note(record)
        displaced = record.fields.get(names.FIELD_DISPLACED, "").splitlines()
        self.lost += [path for path in displaced if not os.path.exists(path)]
        self.corrections += record.event is Event.DRIFT_CORRECTED
        self.activations += record.event is Event.ACTIVATED
        self.rollbacks += record.event is Event.ROLLED_BACK

    def pass_time(self, seconds: float) -> None:
        """Look, do the steps that come due, and let the time go by; as the daemon's loop does."""
        end = self.ticks.now + seconds
        if not self.activation.is_under_way():
            # The fakes remember every job, and what they were asked.
            for asked in (self.programs.asked, self.programs.built, self.programs.log_since):
                asked.clear()
            units = self.service.units
            self.service = self.around.service = FakeService(*units, clock=self.clock)
        self.activation.doubt()  # as the timer does
        self.look()
        while (due := self.activation.patience()) is not None and self.ticks.now + due <= end:
            self.tick(due)
            self.step()
        self.tick(end - self.ticks.now)

    def tick(self, seconds: float) -> None:
        self.clock.now += seconds
        self.ticks.now += seconds

    def look(self) -> None:
        now = self.clock()
        self.suspended = followed(self.state.suspended, self.note, self.suspended, now)
        policy = replace(self.policy, observe_only=self.suspended is not None)
        with self.state.lock():
            outcome = self.in_force.cycle(DESIRED, policy, self.last)
        self.last = outcome
        before, self.contest = self.contest, pacing.contest(self.state.drifts(), now)
        if outcome.result is Result.CORRECTED and outcome.exposure is not None:
            at = outcome.exposure.seen_at
            drifts = pacing.noted(self.state.drifts(), sentences.drifted_names(outcome.drift), at)
            self.state.note_drifts(drifts)
            self.contest = pacing.contest(drifts, now)
            self.contests += self.contest is not None and before is None
        self.state.write_status(status_dict(self.status(), now))
        self.tally.families(self.status(), {}, now)

    def status(self) -> Status:
        return Status(Phase.FAILING if self.activation.memory.failure else Phase.IN_SYNC, 0.0)

    def step(self) -> None:
        """One step of the activation; what systemd and the probe do comes before the next."""
        with suppress(Empty):
            while True:
                self.mailbox.get_nowait()
        jobs, reloads = len(self.service.jobs), len(self.service.reloaded)
        apart = self.contest.apart if self.contest else 0.0
        turn = Turn(may_act=self.suspended is None, apart=apart)
        end = self.activation.advance(turn)
        while is_queueing(self.activation):
            self.mailbox.get(timeout=60)
            end = self.activation.advance(turn)
        if isinstance(end, NotUp) and self.suspended is None:
            self.mend(end)
        if end is not None:
            self.look()
        elif len(self.service.reloaded) > reloads:
            self.service.finish(starts=False)
        elif len(self.service.jobs) > jobs:
            self.start()
        elif self.activation.is_under_way():
            self.mailbox.get(timeout=60)

    def start(self) -> None:
        """systemd starts Postfix, which comes up or does not."""
        works = self.failures == 0
        self.failures = max(0, self.failures - 1)
        self.service.finish("done" if works else "failed", starts=works)
        self.programs.is_alive = works
        if not works:
            self.service.become(UnitPhase.FAILED, "exit-code")

    def mend(self, end: NotUp) -> None:
        if not self.in_force.ended(end, self.policy) and end.standing is Standing.DOWN:
            with self.state.lock():
                if self.state.pending() is None:
                    self.in_force.mark_unserved((), self.clock())

    def is_right(self) -> bool:
        """Whether main.cf is as desired."""
        return not find_drift(DESIRED, self.main_cf.read())


class Life:
    """What happens to a host, by the dice; in `unrest` of all hours anything does."""

    def __init__(self, host: Host, seed: int, unrest: float) -> None:
        self.host = host
        self.dice = random.Random(seed)
        self.unrest = unrest
        self.names = 0
        self.others = frozenset(threading.enumerate())

    def hour(self) -> None:
        """Nothing, or drift, or now and then trouble."""
        happenings = [self.drift, self.fight, self.outage, self.full_disk, self.overtake]
        happenings += [self.set_clock, self.suspend, self.write_late]
        weights = [150, 3, 3, 3, 5, 4, 4, 5]
        if self.dice.random() < self.unrest:
            self.dice.choices(happenings, weights)[0]()
        self.host.pass_time(HOUR)

    def days(self, count: int) -> Held:
        for _ in range(24 * count):
            self.hour()
        return held(self.host.folder, self.others)

    def end_well(self) -> None:
        """Whatever stood in the way is over, and somebody lets main.cf drift once more."""
        self.host.failures = 0
        self.host.main_cf.before_exchange = []
        self.host.pass_time(DAY)
        self.host.main_cf.write(GOOD.replace(b"$myhostname", b"$mydomain"))
        self.host.pass_time(DAY)

    def drift(self) -> None:
        self.host.main_cf.actual = self.dice.choice(self.drifted())

    def drifted(self) -> list[ActualState]:
        self.names += 1
        actual = self.host.main_cf.actual
        text = actual.text or b""
        number = b"%d" % self.names
        texts = [
            text.replace(b"127.0.0.0/8", number + b".0.0.0/8"),
            text + b"mynetworks = 10.%s.0.0/16\n" % number,
            text.replace(b"myorigin = $myhostname\n", b""),
            text + b"sendmail_path = /bin/false\n",
            text + b"no parameter at all\n",
            # Names that somebody makes up: nothing may keep them all.
            GOOD + b"made_up_%s = yes\n" % number,
            GOOD + b"inet_interfaces = poison\nmynetworks = ::/0\n",
            b"",
        ]
        others = [
            ActualState(None, FileKind.ABSENT),
            ActualState(GOOD, FileKind.SYMLINK),
            replace(actual, mode=0o666),
            replace(actual, owner=1000),
        ]
        return [*(replace(actual, text=each) for each in texts), *others]

    def fight(self) -> None:
        """Another tool puts its own value back for some hours."""
        for _ in range(self.dice.randrange(4, 40)):
            self.host.main_cf.write(GOOD.replace(b"127.0.0.0/8", b"0.0.0.0/0"))
            self.host.pass_time(600)

    def outage(self) -> None:
        """Postfix does not come up, and nobody desires what stands there besides."""
        self.host.failures = max(self.host.failures, self.dice.randrange(1, 8))
        actual = self.drifted()[5]
        text = (actual.text or b"") + b"mynetworks = ::/0\n"
        self.host.main_cf.actual = replace(actual, text=text)

    def full_disk(self) -> None:
        def refuse() -> None:
            self.host.refused += 1
            raise HostError("main.cf: No space left on device; free space")

        self.drift()
        self.host.main_cf.before_exchange = [refuse]
        with suppress(HostError):  # what drifted may need no exchange
            self.host.look()
        self.host.main_cf.before_exchange = []

    def overtake(self) -> None:
        """Others write right before each of the next exchanges."""
        self.drift()
        write = self.host.main_cf.write
        texts = [actual.text for actual in self.drifted() if actual.text]
        self.host.main_cf.before_exchange = [partial(write, text) for text in texts]

    def set_clock(self) -> None:
        """Set back, it leaves files behind that are dated in the future."""
        ahead = self.dice.choice([-DAY, DAY, -HOUR, HOUR])
        self.host.clock.now += ahead
        for entry in os.scandir(self.host.state.displaced_directory):
            written = entry.stat().st_mtime - ahead
            os.utime(entry.path, (written, written))

    def suspend(self) -> None:
        now = self.host.clock()
        self.host.state.suspended.keep_suspension(Suspension(now, now + 5 * HOUR, "anna", "a test"))
        self.drift()

    def write_late(self) -> None:
        self.host.main_cf.closed = Late(self.drifted()[1].text or b"", is_newest=True)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory, where a year of synced writes takes seconds."""
    shared = "/dev/shm"
    path = tempfile.mkdtemp(dir=shared if os.access(shared, os.W_OK) else None)
    yield Path(path)
    shutil.rmtree(path)


def assert_no_more(first: Held, last: Held) -> None:
    assert last.blocks <= first.blocks + SLACK_BLOCKS
    assert last.descriptors <= first.descriptors
    assert last.threads <= first.threads
    assert last.files <= DISPLACED_COUNT + 10
    assert last.bytes_on_disk <= last.files * 300


def test_a_year_leaves_no_more_than_its_first_half(folder: Path) -> None:
    host = Host(folder)
    life = Life(host, 4711, unrest=0.1)
    first = life.days(180)
    last = life.days(185)
    assert_no_more(first, last)
    assert host.lost == []
    assert min(host.corrections, host.activations) > 700
    assert min(host.rollbacks, host.contests, host.refused) >= 3
    life.end_well()
    assert host.is_right()
    assert host.state.pending() is None
    assert host.state.ran_with() == host.main_cf.read().text


def test_a_postfix_that_never_comes_up_again_costs_no_more_each_day(folder: Path) -> None:
    host = Host(folder)
    life = Life(host, 42, unrest=0.9)
    host.failures = sys.maxsize
    first = life.days(10)  # what is kept within bounds has filled up by then
    last = life.days(10)
    assert_no_more(first, last)
    assert host.lost == []
    assert host.activations == 0
    life.end_well()
    assert host.is_right()
    assert host.state.pending() is None
