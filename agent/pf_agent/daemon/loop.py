"""`pf-agent run`: the real objects, and the loop that hears of changes and has them looked at.

The main thread alone acts. The threads of watchdog, GLib, the signals and the probe put a trigger
into the mailbox and do nothing else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from queue import Empty, SimpleQueue

from pf_agent import __version__, names
from pf_agent.activation.aside import in_a_thread
from pf_agent.bus.sd_notify import sd_notify, watchdog_seconds
from pf_agent.bus.systemd import Systemd
from pf_agent.config.desired import main_cf_of
from pf_agent.daemon import memory
from pf_agent.daemon.instance import URGENT, Instance
from pf_agent.daemon.outlets import sinks_of
from pf_agent.daemon.parts import postfix_units
from pf_agent.daemon.shared import Shared
from pf_agent.errors import ExitCode, HostError
from pf_agent.files.configuration import Configuration
from pf_agent.files.served_states import served_of_all
from pf_agent.files.store import FileStore
from pf_agent.model import DesiredState, Event, Phase, Reason, Record, Status, Suspension, Trigger
from pf_agent.postfix.errands import Errands, listening
from pf_agent.reconcile.suspension import followed
from pf_agent.reporting.journal import Journal
from pf_agent.watch import signals
from pf_agent.watch.watch import Watch
from pf_agent.watch.writers import Writers
from pf_agent.words import sentences
from pf_agent.words.status import status_dict

_MOST_IN_A_BATCH = 10_000
_UNTOLD_SECONDS = 5.0


def next_batch(mailbox: SimpleQueue[Trigger], patience: float, settle: float) -> list[Trigger]:
    """Wait for a trigger, then gather its followers; [] means that `patience` seconds went by.

    Where nothing is known but that a writer has main.cf open, he gets `settle` seconds to close
    it. They count from the first trigger, so a noisy neighbour cannot postpone us for ever.
    """
    try:
        batch = [mailbox.get(timeout=max(patience, 0))]
    except Empty:
        return []
    deadline = time.monotonic() + settle
    settling = True
    while len(batch) < _MOST_IN_A_BATCH:
        settling = settling and batch[-1].reason is Reason.MAIN_CF_OPEN
        wait = deadline - time.monotonic() if settling else 0
        try:
            batch.append(mailbox.get(timeout=wait) if wait > 0 else mailbox.get_nowait())
        except Empty:
            break
    return batch


@dataclass(frozen=True)
class Paths:
    """Where the daemon finds things; the defaults are the real ones.

    `errands` is the socket of who runs programs and reads logs for it.
    """

    main_cf: str = names.MAIN_CF
    config_directory: str = names.CONFIG_DIRECTORY
    state_directory: str = names.STATE_DIRECTORY
    run_directory: str = names.RUN_DIRECTORY
    errands: str = names.ERRANDS_SOCKET


class Daemon:
    """The loop and what it holds."""

    def __init__(self, paths: Paths, journal: Journal) -> None:
        """Raises ConfigError for a bad agent.toml, HostError where the folders cannot be made."""
        self._paths = paths
        self._journal = journal
        self.mailbox: SimpleQueue[Trigger] = SimpleQueue()
        self._state = _prepared(paths, journal)
        kept = served_of_all(paths.state_directory, paths.run_directory)
        self._configuration = Configuration(paths.config_directory, kept, self._report_problem)
        self._watch = Watch(paths.config_directory, self.mailbox.put)
        self._systemd = Systemd(self.mailbox.put)
        self._sinks = sinks_of(
            self._state,
            self._systemd,
            self._desired,
            self.mailbox.put,
            journal.note,
            partial(listening, path=paths.errands),
        )
        self._sinks.follow(self._configuration.options)
        self._suspension: Suspension | None = None
        self._untold: list[Record] = []
        self._shared = Shared(
            self._configuration,
            self._systemd,
            self._watch,
            Writers(),
            self._emit,
            journal,
            self.mailbox.put,
            lambda: self._suspension,
            partial(Errands, path=paths.errands),
        )
        self._watch_note = ""
        default = Instance(names.DEFAULT_INSTANCE, paths.main_cf, self._state, self._shared)
        self._instances = {default.name: default}
        self._status = Status(Phase.STARTING, time.time())
        self._told = self._unwritten = ""  # of status.json: what it says, why it could not be

    def run(self) -> ExitCode:
        """Loop until SIGTERM."""
        signals.listen(self.mailbox.put)
        self._emit(Record(Event.STARTED, f"pf-agent {__version__} watches main.cf"))
        self._turn([Trigger(Reason.START)])
        is_heard = self._tell("READY=1")
        self._judge_ahead()
        memory.keep_what_there_is()
        while True:
            if self.mailbox.empty():
                memory.give_back()
            batch = next_batch(
                self.mailbox, self._patience(), self._configuration.options.settle_seconds
            )
            reasons = {trigger.reason for trigger in batch}
            if Reason.STOP in reasons:
                break
            if Reason.RELOAD in reasons:
                self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            self._turn(batch)
            if Reason.RELOAD in reasons or not is_heard:
                is_heard = self._tell("READY=1")  # unheard, a start or reload would never end
        self._tell("STOPPING=1")
        self._emit(Record(Event.STOPPED, "pf-agent stops; main.cf is watched no more"))
        self._tell_sinks()
        self._sinks.close()
        self._watch.close()
        self._systemd.close()
        self._state.remove_status()
        return ExitCode.OK

    def _judge_ahead(self) -> None:
        """Have what each main.cf would be brought back to judged now, one after the other."""
        instances = tuple(self._instances.values())

        def judge() -> None:
            for instance in instances:
                with suppress(HostError):  # what it cannot learn now it asks when it needs it
                    instance.judge_ahead()

        with suppress(HostError):
            in_a_thread("judge", judge)

    def _patience(self) -> float:
        """Seconds until something is due, whatever comes: a look, a step, a word to systemd."""
        due = [instance.patience() for instance in self._instances.values()]
        limit = watchdog_seconds()
        if limit is not None:
            due.append(limit / 2)
        if self._unwritten:
            due.append(_UNTOLD_SECONDS)
        if self._suspension is not None and self._suspension.until is not None:
            due.append(self._suspension.until - time.time())
        deaf = self._watch.patience()
        if deaf is not None:
            due.append(deaf)
        return max(0.0, min(due))

    # --- one turn of the loop -----------------------------------------------------------------

    def _turn(self, batch: Iterable[Trigger]) -> None:
        """Let each instance look that has a reason to, and tell how things are."""
        triggers = list(batch)
        if self._follow_suspension():
            triggers.append(Trigger(Reason.TIMER, "suspended or resumed"))
        if self._watch.patience() == 0:
            triggers.append(Trigger(Reason.TIMER, "not all can be watched"))
        reasons = {trigger.reason for trigger in triggers}
        is_due = min(instance.patience() for instance in self._instances.values()) <= 0
        # Somebody wrote main.cf, and nothing else that was told of before it: that comes first.
        is_urgent = not is_due and bool(reasons) and reasons <= URGENT and self._watch.is_in_order()
        if (reasons or is_due) and not is_urgent:
            self._catch_up(again=Reason.RELOAD in reasons)
        new = self._meet(self._configuration.asked.keys())
        for instance in tuple(self._instances.values()):
            concerns = {t.reason for t in triggers if t.instance in (None, instance.name)}
            if instance.name in new:
                concerns.add(Reason.START)
            instance.turn(concerns)
        if is_urgent and self._catch_up():
            self.mailbox.put(Trigger(Reason.CONFIGURATION, "nobody told of its change"))
        if not is_urgent:
            self._follow_units()  # main.cf does not wait for the bus; Postfix is seen to after it
        self._publish()

    def _catch_up(self, again: bool = False) -> bool:
        """Arm what is not armed, and only then read what changed: what changes next is heard.

        Returns whether the configuration had changed.
        """
        self._note_watch(self._watch.ensure())
        has_changed = self._configuration.refresh(again)
        self._sinks.follow(self._configuration.options)
        return has_changed

    def _follow_units(self) -> None:
        """Hear of what others do to Postfix; without the bus, the next look finds it."""
        units = frozenset().union(*map(postfix_units, self._instances))
        with suppress(HostError):
            self._systemd.follow(units)

    def _meet(self, wanted: Iterable[str]) -> set[str]:
        """Take on the instances that the desired state names, and leave those it names no more.

        The default one stays: it is what the agent waits to hear of where nothing is good yet.
        """
        wanted = {names.DEFAULT_INSTANCE, *wanted}
        for name in self._instances.keys() - wanted:
            self._instances.pop(name).leave()
        new = wanted - self._instances.keys()
        for name in sorted(new):
            main_cf = main_cf_of(name, self._configuration.asked[name])
            state = FileStore.of_instance(
                name, self._paths.state_directory, self._paths.run_directory
            )
            self._instances[name] = Instance(name, main_cf, state, self._shared)
        return new

    def _follow_suspension(self) -> bool:
        """Take note of what somebody wrote down, or the clock ended; tell whether it changed."""
        before = self._suspension
        try:
            self._suspension = followed(self._state, self._emit, before, time.time())
        except HostError as error:
            self._journal.note(str(error))
        return self._suspension != before

    def _report_problem(self, problem: str) -> None:
        self._emit(Record(Event.CONFIG_REJECTED, problem, fields={names.FIELD_REASON: problem}))

    # --- telling ------------------------------------------------------------------------------

    def _publish(self) -> None:
        """Tell systemd and status.json; either that fails is noted and skipped."""
        now = time.time()
        stands = {name: instance.status(now) for name, instance in self._instances.items()}
        default = stands.pop(names.DEFAULT_INSTANCE)
        self._status = replace(
            default,
            problems=self._problems(),
            version=__version__,
            pid=os.getpid(),
            instances=stands,
            suspension=self._suspension,
        )
        self._tell_sinks()
        self._sinks.publish(self._status)
        self._tell("WATCHDOG=1", f"STATUS={sentences.summary(self._status, now)}")
        told = str(_without_moments(self._status))
        if told != self._told:
            self._write_status(told, now)

    def _desired(self) -> Mapping[str, DesiredState]:
        """What is in force."""
        found = {name: instance.desired() for name, instance in self._instances.items()}
        return {name: desired for name, desired in found.items() if desired is not None}

    def _problems(self) -> tuple[str, ...]:
        """The faults of the files, and what they ask for that is not in force."""
        refused = {n: instance.rejected() for n, instance in self._instances.items()}
        start = {n: "" if n == names.DEFAULT_INSTANCE else f"{n}: " for n in refused}
        told = (f"{start[n]}{found.reason}" for n, found in refused.items() if found is not None)
        return (*self._configuration.problems, *told)

    def _write_status(self, told: str, now: float) -> None:
        """What cannot be written is on record once, and tried again: it would stand there wrong."""
        try:
            self._state.write_status(status_dict(self._status, now))
        except HostError as error:
            if str(error) != self._unwritten:
                self._journal.note(str(error))
            self._unwritten = str(error)
        else:
            self._told, self._unwritten = told, ""

    def _note_watch(self, sentence: str) -> None:
        """On record where the watch was mended or cannot be: once, for as long as that lasts."""
        if sentence and sentence != self._watch_note:
            self._journal.note(sentence)
        self._watch_note = sentence

    def _tell(self, *states: str) -> bool:
        """Tell systemd; False where that failed, which is noted and skipped."""
        try:
            sd_notify(*states)
        except HostError as error:
            self._journal.note(str(error))
            return False
        return True

    def _emit(self, record: Record) -> None:
        """Send a record to the journal; who else listens hears of it when main.cf is right."""
        self._journal.emit(record)
        self._untold.append(record)

    def _tell_sinks(self) -> None:
        untold, self._untold = self._untold, []
        for record in untold:
            self._sinks.note(record)


def _prepared(paths: Paths, journal: Journal) -> FileStore:
    state = FileStore(paths.state_directory, paths.run_directory)
    for moved in state.prepare():
        journal.note(moved)
    return state


def _without_moments(status: Status) -> Status:
    """The status without what moves on by itself, to tell whether it changed."""
    inner: Mapping[str, Status] = {n: _without_moments(s) for n, s in status.instances.items()}
    return replace(status, next_look=None, instances=inner)
