"""The few fakes: main.cf and a log in memory, systemd and Postfix's programs scripted, a clock.

test_exchange.py holds FakeHost to the real file's contract. No fake counts calls: a test checks the
state of the world afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from pf_agent import names
from pf_agent.activation.activation import Activation
from pf_agent.activation.states import Clearing, Queueing
from pf_agent.errors import GaveWay, HostError, NotBegun
from pf_agent.maincf.aliases import Built, Source
from pf_agent.maincf.document import ATTRIBUTES
from pf_agent.model import (
    ActualState,
    Attributes,
    Displaced,
    Event,
    FileKind,
    Greeting,
    Heard,
    Judgement,
    Late,
    Package,
    Record,
    UnitPhase,
    UnitState,
)

# The same text for every run: `built` keeps each of them.
_DATABASES = (f"{names.DEFAULT_ALIASES}.db",)


class FakeHost:
    """main.cf: its text, owner, mode and kind.

    `closed` is what a writer wrote that had main.cf open during the exchange, and has since closed
    it. `before_exchange` holds what happens right before each of the next exchanges, one callable
    for each: another process writes, or the disk refuses (HostError). `unlockable` says why the
    lock cannot be taken.
    """

    path = "/etc/postfix/main.cf"

    def __init__(self, text: bytes | None = None) -> None:
        self.actual = ActualState(None, FileKind.ABSENT)
        self.templates: dict[str, bytes] = {}
        self.closed: Late | None = None
        self.left: list[bytes] = []  # by interrupted exchanges
        self.before_exchange: list[Callable[[], None]] = []
        self.unlockable = ""
        self.wanted: Attributes | None = ATTRIBUTES
        if text is not None:
            self.write(text)

    def attributes(self, _actual: ActualState) -> Attributes | None:
        return self.wanted

    def write(self, text: bytes) -> None:
        """Another process saves main.cf, keeping its owner and mode."""
        kind = FileKind.REGULAR if self.actual.kind is FileKind.ABSENT else self.actual.kind
        self.actual = replace(self.actual, text=text, kind=kind, is_open=False, refused="")

    def hold_open(self, text: bytes) -> None:
        """Another process has written `text` so far, and still has the file open."""
        self.write(text)
        self.actual = replace(self.actual, is_open=True)

    def put_symlink(self, text: bytes | None) -> None:
        """A symbolic link is put in its place; `text` None means a target that does not exist."""
        self.actual = ActualState(text, FileKind.SYMLINK)

    def remove(self) -> None:
        """Another process deletes it."""
        self.actual = ActualState(None, FileKind.ABSENT)

    def read(self) -> ActualState:
        return self.actual

    def read_template(self, path: str) -> bytes:
        if path not in self.templates:
            raise HostError(f"{path}: no such file; bring it back")
        return self.templates[path]

    def locked(self) -> AbstractContextManager[None]:
        if self.unlockable:
            raise HostError(self.unlockable)
        return nullcontext()

    def is_alone(self) -> bool:
        return not self.left and self.closed is None

    def is_cut_off(self) -> bool:
        return bool(self.left)

    def take_up(self, keep: Callable[[bytes], None]) -> None:
        while self.left:
            keep(self.left[0])
            self.left.pop(0)

    def late(self) -> Late | None:
        return self.closed

    def drop_late(self, late: Late) -> None:
        assert late == self.closed
        self.closed = None

    def exchange(
        self, actual: ActualState, text: bytes, keep: Callable[[bytes], None]
    ) -> Displaced:
        if self.before_exchange:
            self.before_exchange.pop(0)()
        displaced, is_open = self.actual.text, self.actual.is_open
        if displaced is not None:
            keep(displaced)
        self.actual = ActualState(text, FileKind.REGULAR)
        return Displaced(displaced, is_open=is_open)


class FakeService:
    """systemd with `units`. A job runs until `finish`; `trouble` makes the next call fail.

    If main.cf `is_awaited`, the next question gives way. What it is told fails as long as there is
    a `refusal`, and is not answered while it is `hung`. Of the call named `lost`, which is carried
    out, the answer is lost. `reloaded` and `restarted` are the units
    that were, in order; `forgiven` those whose start counts were reset. `clock` returns the time at
    which a start begins.
    """

    def __init__(self, *units: UnitState, clock: Callable[[], float] = lambda: 0.0) -> None:
        self.units = units
        self.clock = clock
        self.jobs: list[str] = []
        self.reloaded: list[str] = []
        self.restarted: list[str] = []
        self.forgiven: list[str] = []
        self.trouble = self.refusal = ""
        self.is_awaited = False
        self.lost = ""
        self._ended: dict[str, str] = {}
        self._may_answer = threading.Event()
        self._may_answer.set()

    def restart(self, unit: str) -> str:
        self._be_told()
        self.restarted.append(unit)
        self._lose("restart")
        return self._job()

    def reload(self, unit: str) -> str:
        self._be_told()
        self.reloaded.append(unit)
        return self._job()

    def _job(self) -> str:
        self.jobs.append(f"/job/{len(self.jobs) + 1}")
        return self.jobs[-1]

    def finish(self, result: str = "done", starts: bool = True) -> None:
        """End the latest job; every unit except those at their start limit is started anew."""
        self._ended[self.jobs[-1]] = result
        if starts:
            self.come_up(self.jobs[-1])

    def come_up(self, by: str) -> None:
        """Start every unit anew, except those at their start limit."""
        self.units = tuple(self._started(unit, by) for unit in self.units)

    def _started(self, unit: UnitState, by: str) -> UnitState:
        if unit.result == "start-limit-hit":
            return unit
        now = self.clock()
        return UnitState(unit.name, UnitPhase.UP, "success", f"{unit.name} by {by}", now, now)

    def become(self, phase: UnitPhase, result: str = "success") -> None:
        """The unit that holds master changes, by itself or because of another process."""
        *others, holder = self.units
        self.units = (*others, replace(holder, phase=phase, result=result))

    def job_result(self, job: str) -> str | None:
        self._answer()
        return self._ended.get(job)

    def units_of(self, unit: str) -> tuple[UnitState, ...]:
        self._answer()
        return self.units

    def reset_failed(self, units: Iterable[str]) -> None:
        self._be_told()
        self._lose("reset_failed")
        self.forgiven += units
        names = set(self.forgiven)
        self.units = tuple(
            replace(unit, result="success") if unit.name in names else unit for unit in self.units
        )

    def _lose(self, call: str) -> None:
        if call == self.lost:
            raise HostError("no answer within 10 s")

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Answer nothing that it is told inside."""
        self._may_answer.clear()
        try:
            yield
        finally:
            self._may_answer.set()

    def _be_told(self) -> None:
        assert self._may_answer.wait(60)
        if self.refusal:
            raise NotBegun(self.refusal)
        self._fail_once()

    def _answer(self) -> None:
        if self.is_awaited:
            self.is_awaited = False
            raise GaveWay("main.cf was written meanwhile")
        self._fail_once()

    def _fail_once(self) -> None:
        trouble, self.trouble = self.trouble, ""
        if trouble:
            raise HostError(trouble)


def is_queueing(activation: Activation) -> bool:
    """Whether systemd was told to queue a job and has not answered: a trigger says when it has."""
    way = activation.course.under_way
    return isinstance(way, Queueing) or (isinstance(way, Clearing) and not way.job)


class FakePrograms:
    """Postfix's programs, port and log, and what dpkg says about the package.

    newaliases fails with `aliases_trouble`, and warns of `aliases_doubts`. The port answers
    `heard`; `is_alive`: master runs; `stopped`: it was stopped by hand. `asked` are the greetings
    that were expected, `log_since` the times from which the log was requested.
    """

    def __init__(self, greeting: Greeting | None) -> None:
        self.greets_with = greeting
        self.heard = Heard()
        self.is_alive = True
        self.log: tuple[str, ...] = ()
        self.fatal: tuple[str, ...] = ()
        self.stopped: bool | None = False
        self.dpkg = Package()
        self.judgement = Judgement()
        self.things: set[str] = set()
        self.aliases_trouble = ""
        self.aliases_doubts: tuple[str, ...] = ()
        self.built: list[str] = []
        self.asked: list[Greeting] = []
        self.log_since: list[float] = []

    def newaliases(self, databases: Sequence[str] = ()) -> tuple[Built, ...]:
        asked = databases or _DATABASES
        if not self.aliases_trouble:
            self.built += asked
        return tuple(
            Built(
                Source(database.removesuffix(".db"), database),
                self.aliases_trouble,
                self.aliases_doubts,
            )
            for database in asked
        )

    def greeting(self) -> Greeting | None:
        return self.greets_with

    def probe(self, greeting: Greeting) -> Heard:
        self.asked.append(greeting)
        return self.heard

    def ask_services(self, _managed: Collection[str]) -> Heard:
        return Heard()

    def lives(self) -> bool:
        return self.is_alive

    def log_tail(self, units: Sequence[str], since: float) -> tuple[str, ...]:
        self.log_since.append(since)
        return self.log

    def fatal_lines(self, units: Sequence[str], since: float) -> tuple[str, ...]:
        return self.fatal

    def was_stopped(self, unit: UnitState) -> bool | None:
        return self.stopped

    def package(self) -> Package:
        return self.dpkg

    def judge(self, text: bytes) -> Judgement:
        return self.judgement

    def is_there(self, thing: str) -> bool:
        return thing in self.things


def newaliases_at_once(name: str, run: Callable[[], None]) -> None:
    """A `Spawn` that runs newaliases to its end before the loop goes on."""
    assert name == "newaliases"
    run()


class FakeLog:
    """python3-systemd's `journal`, read backwards; what matches is tested on a machine."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.fault: OSError | None = None
        self._left: list[dict[str, Any]] = []

    def add(self, at: float, message: str | bytes, priority: int = 6, **fields: str) -> None:
        """Log a message of Postfix's master, or of the program given in `fields`."""
        found = {"_SYSTEMD_UNIT": "postfix.service", "SYSLOG_IDENTIFIER": "postfix/master"}
        moment = datetime.fromtimestamp(at, timezone.utc)
        more = {"MESSAGE": message, "PRIORITY": priority, "__REALTIME_TIMESTAMP": moment}
        self.entries.append({**found, **more, **fields})

    def Reader(self) -> AbstractContextManager[FakeLog]:  # noqa: N802 - its own name
        if self.fault is not None:
            raise self.fault
        return nullcontext(self)

    def add_match(self, **_match: Any) -> None:
        """Ignore it."""

    def add_disjunction(self) -> None:
        """Ignore it."""

    def seek_tail(self) -> None:
        self._left = list(self.entries)

    def get_previous(self) -> dict[str, Any]:
        return self._left.pop() if self._left else {}


class FakeClock:
    """A clock that a test moves."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Records(list[Record]):
    """An `emit` that keeps what it gets."""

    def __call__(self, record: Record) -> None:
        self.append(record)

    def events(self) -> list[Event]:
        return [record.event for record in self]

    def of(self, event: Event) -> list[Record]:
        return [record for record in self if record.event is event]
