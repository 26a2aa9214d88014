"""`pf-agent run`: the real objects, and the loop that waits for changes and has them looked at.

Only the main thread acts. The threads of watchdog, GLib, the signals and the probe put a trigger
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
from pf_agent.daemon.outlets import Outlets
from pf_agent.daemon.parts import postfix_units
from pf_agent.daemon.shared import Shared
from pf_agent.daemon.shown_status import ShownStatus
from pf_agent.daemon.suspensions import Suspensions
from pf_agent.daemon.telling import emit_in_life
from pf_agent.errors import ExitCode, HostError
from pf_agent.files.configuration import Configuration
from pf_agent.files.kept_options import KeptOptions
from pf_agent.files.locks import REPLACING
from pf_agent.files.served_states import served_of_all
from pf_agent.files.store import FileStore
from pf_agent.files.trusted import is_guarded
from pf_agent.model import DesiredState, Event, Phase, Reason, Record, Status, Trigger
from pf_agent.postfix.errands import Errands, listening
from pf_agent.reporting.journal import Journal
from pf_agent.watch import signals
from pf_agent.watch.watch import Watch
from pf_agent.watch.writers import Writers
from pf_agent.words import sentences
from pf_agent.words.outgoing import PROCESS, withheld, withheld_status

_MOST_IN_A_BATCH = 10_000
# systemd is told the end of a start or reload once status.json has its result and the bus name is
# ours; but late rather than never, since either may hang.
_READY_SECONDS = 2.0
_GLANCE_SECONDS = 0.05
_WRITING_SECONDS = 0.01
# What systemd or the journal did not take is sent again.
_UNTOLD_SECONDS = 1.0


def next_batch(mailbox: SimpleQueue[Trigger], patience: float, settle: float) -> list[Trigger]:
    """Wait for a trigger, then collect those that follow; [] if `patience` seconds went by.

    If all that is known is that a writer has main.cf open, it gets `settle` seconds to close it.
    They count from the first trigger, so that a busy neighbour cannot delay us forever.
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

    `errands` is the socket of the unit that runs programs and reads logs for it.
    """

    main_cf: str = names.MAIN_CF
    config_directory: str = names.CONFIG_DIRECTORY
    state_directory: str = names.STATE_DIRECTORY
    run_directory: str = names.RUN_DIRECTORY
    errands: str = names.ERRANDS_SOCKET


class Daemon:
    """The loop and what it owns."""

    def __init__(self, paths: Paths, journal: Journal) -> None:
        """Raises HostError if the directories cannot be created."""
        self._paths = paths
        self._journal = journal
        self.mailbox: SimpleQueue[Trigger] = SimpleQueue()
        self._state = _prepared(paths, journal)
        self._record = emit_in_life(self._state, journal.emit)
        self._configuration = self._configured()
        self._systemd = Systemd(self.mailbox.put, lambda: not self.mailbox.empty())
        self._watch = Watch(paths.config_directory, self._post, is_guarded)
        listen = partial(listening, path=paths.errands)
        post, note = self.mailbox.put, journal.note
        self._outlets = Outlets(self._state, self._desired, post, note, listen)
        self._sinks = self._outlets.sinks
        self._sinks.follow(self._configuration.options)
        self._suspensions = Suspensions(self._state.suspended, self._emit, journal.note)
        self._waiting: list[Record] = []
        self._shared = Shared(
            self._configuration,
            self._systemd,
            self._watch,
            Writers(),
            self._emit,
            journal,
            self.mailbox.put,
            self._suspensions,
            partial(Errands, path=paths.errands),
            os.path.join(self._state.run_directory, REPLACING),
        )
        self._watch_note = ""
        default = Instance(names.DEFAULT_INSTANCE, paths.main_cf, self._state, self._shared)
        self._instances = {default.name: default}
        self._suspensions.take_on(default.name, self._state.suspended_alone)
        self._status = Status(Phase.STARTING, time.time())
        self._shown = ShownStatus(self._state, journal.note)
        self._is_ready = False  # and systemd was told
        self._ready_by = 0.0
        self._untold = ""  # why systemd could not be told

    def _configured(self) -> Configuration:
        paths = self._paths
        served = served_of_all(paths.state_directory, paths.run_directory)
        options = KeptOptions(paths.state_directory)
        return Configuration(paths.config_directory, served, options, self._report_problem)

    def run(self) -> ExitCode:
        """Loop until SIGTERM."""
        signals.listen(self._post)
        self._emit(Record(Event.STARTED, f"pf-agent {__version__} watches main.cf"))
        self._begin_ready()
        self._turn([Trigger(Reason.START)])
        self._tell_ready()
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
                self._begin_ready()
            self._turn(batch)
            self._tell_ready()
        self._tell("STOPPING=1")
        self._emit(Record(Event.STOPPED, "pf-agent stops; main.cf is no longer watched"))
        self._tell_sinks()
        self._outlets.close()
        self._watch.close()
        self._systemd.close()
        self._shown.remove()
        return ExitCode.OK

    def _begin_ready(self) -> None:
        """Note that a start or a reload has begun, and that systemd waits for its end."""
        self._is_ready = False
        self._ready_by = time.monotonic() + _READY_SECONDS

    def _tell_ready(self) -> None:
        """Tell systemd that a start or reload is done: without that it would never end."""
        if self._is_ready:
            return
        is_done = self._outlets.is_answered() and self._shown.settle(_WRITING_SECONDS)
        if is_done or time.monotonic() >= self._ready_by:
            self._is_ready = self._tell("READY=1")

    def _judge_ahead(self) -> None:
        """Have the text that each main.cf would be corrected to judged now, one after the other."""
        instances = tuple(self._instances.values())

        def judge() -> None:
            for instance in instances:
                with suppress(HostError):  # what cannot be judged now is judged when it is needed
                    instance.judge_ahead()

        with suppress(HostError):
            in_a_thread("judge", judge)

    def _patience(self) -> float:
        """Seconds until something is due without any trigger: a look, a step, a word to systemd."""
        due = [instance.patience() for instance in self._instances.values()]
        limit = watchdog_seconds()
        if limit is not None:
            due.append(limit / 2)
        if self._untold or not self._journal.catch_up():
            due.append(_UNTOLD_SECONDS)
        elif not self._is_ready:
            due.append(_GLANCE_SECONDS)
        unwritten = self._shown.patience()
        if unwritten is not None:
            due.append(unwritten)
        due += [moment - time.time() for moment in self._suspensions.ends()]
        deaf = self._watch.patience()
        if deaf is not None:
            due.append(deaf)
        return max(0.0, min(due))

    # --- one turn of the loop -----------------------------------------------------------------

    def _turn(self, batch: Iterable[Trigger]) -> None:
        """Let each instance with a reason look, and publish the state."""
        triggers = list(batch)
        self._suspensions.follow()
        for name in self._suspensions.changed():
            triggers.append(Trigger(Reason.TIMER, "suspended or resumed", name))
        if self._watch.patience() == 0:
            triggers.append(Trigger(Reason.TIMER, "not everything can be watched"))
        reasons = {trigger.reason for trigger in triggers}
        is_due = min(instance.patience() for instance in self._instances.values()) <= 0
        # If only main.cf was written, and nothing was reported before it, that comes first.
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
            self.mailbox.put(Trigger(Reason.CONFIGURATION, "it changed without a notice"))
        if not is_urgent:
            self._follow_units()  # main.cf does not wait for the bus; Postfix comes after it
        self._publish()

    def _catch_up(self, again: bool = False) -> bool:
        """Add missing watches, and only then read what changed: later changes are reported.

        Return whether the configuration had changed.
        """
        self._note_watch(self._watch.ensure())
        has_changed = self._configuration.refresh(again)
        self._sinks.follow(self._configuration.options)
        return has_changed

    def _follow_units(self) -> None:
        """Follow what others do to Postfix; without the bus, the next look finds it."""
        units = frozenset().union(*map(postfix_units, self._instances))
        with suppress(HostError):
            self._systemd.follow(units)

    def _meet(self, wanted: Iterable[str]) -> set[str]:
        """Take on the instances that the desired state names, and drop those it no longer names.

        The default one stays: the agent watches it until there is a valid state.
        """
        wanted = {names.DEFAULT_INSTANCE, *wanted}
        for name in self._instances.keys() - wanted:
            self._instances.pop(name).leave()
            self._suspensions.forget(name)
        new = wanted - self._instances.keys()
        for name in sorted(new):
            main_cf = main_cf_of(name, self._configuration.asked[name])
            state = FileStore.of_instance(
                name, self._paths.state_directory, self._paths.run_directory
            )
            self._suspensions.take_on(name, state.suspended_alone)
            self._instances[name] = Instance(name, main_cf, state, self._shared)
        return new

    def _report_problem(self, problem: str) -> None:
        self._emit(Record(Event.CONFIG_REJECTED, problem, fields={names.FIELD_REASON: problem}))

    def _post(self, trigger: Trigger) -> None:
        """Take a trigger; neither drift nor a stop waits for an answer from systemd."""
        self.mailbox.put(trigger)
        if trigger.reason in URGENT or trigger.reason is Reason.STOP:
            self._systemd.give_way()

    # --- reporting ----------------------------------------------------------------------------

    def _publish(self) -> None:
        """Publish the state to all outlets, without waiting for any of them."""
        now = time.time()
        stands = {name: instance.status(now) for name, instance in self._instances.items()}
        default = stands.pop(names.DEFAULT_INSTANCE)
        found = replace(
            default,
            problems=self._problems(),
            version=__version__,
            pid=os.getpid(),
            instances=stands,
        )
        # From here on it leaves the process, in one way or another.
        self._status = PROCESS.status(found if self._is_public() else withheld_status(found))
        self._tell_sinks()
        self._sinks.publish(self._status)
        self._tell("WATCHDOG=1", f"STATUS={sentences.summary(self._status, now)}")
        self._shown.show(self._status, now)

    def _desired(self) -> Mapping[str, DesiredState]:
        """Return the states in force."""
        found = {name: instance.desired() for name, instance in self._instances.items()}
        return {name: desired for name, desired in found.items() if desired is not None}

    def _problems(self) -> tuple[str, ...]:
        """Return the faults of the files, and what they ask for that is not in force."""
        refused = {n: instance.rejected() for n, instance in self._instances.items()}
        start = {n: "" if n == names.DEFAULT_INSTANCE else f"{n}: " for n in refused}
        told = (f"{start[n]}{found.reason}" for n, found in refused.items() if found is not None)
        return tuple(dict.fromkeys((*self._configuration.problems, *told)))

    def _note_watch(self, sentence: str) -> None:
        """Record that the watch was repaired or cannot be: once, for as long as that lasts."""
        if sentence and sentence != self._watch_note:
            self._journal.note(sentence)
        self._watch_note = sentence

    def _tell(self, *states: str) -> bool:
        """Tell systemd; False if that failed, which is noted once, and skipped."""
        before, self._untold = self._untold, ""
        try:
            sd_notify(*states)
        except HostError as error:
            self._untold = str(error)
            if self._untold != before:
                self._journal.note(self._untold)
        return not self._untold

    def _emit(self, record: Record) -> None:
        """Send a record to the journal; the other outlets get it once main.cf is right."""
        self._record(record)
        self._waiting.append(record if self._is_public() else withheld(record))

    def _is_public(self) -> bool:
        """Whether every user may read all of it: all can read the outlets but the journal."""
        main_cfs = all(instance.is_public for instance in self._instances.values())
        return main_cfs and self._configuration.is_public

    def _tell_sinks(self) -> None:
        waiting, self._waiting = self._waiting, []
        for record in waiting:
            self._sinks.note(record)


def _prepared(paths: Paths, journal: Journal) -> FileStore:
    state = FileStore(paths.state_directory, paths.run_directory)
    for moved in state.prepare():
        journal.note(moved)
    return state
