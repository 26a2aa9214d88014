"""`pf-agent run`: the real objects, and the loop that looks, corrects, activates and tells.

The main thread alone acts. The threads of watchdog, GLib, the signals and the probe put a trigger
into the mailbox and do nothing else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from queue import Empty, SimpleQueue

from pf_agent import __version__, names, render, signals
from pf_agent.activation import Activated, Activation
from pf_agent.configuration import Configuration
from pf_agent.errors import ExitCode, HostError, PfAgentError
from pf_agent.exchange import MainCfFile
from pf_agent.journal import Journal
from pf_agent.model import (
    DesiredState,
    Event,
    LastDrift,
    Mode,
    Outcome,
    Phase,
    Reason,
    Record,
    Result,
    Status,
    Trigger,
)
from pf_agent.notify import notify, watchdog_seconds
from pf_agent.pacing import Backoff
from pf_agent.plan import Judge, Policy
from pf_agent.postfix import Postfix, alias_file
from pf_agent.reconcile import reconcile
from pf_agent.state import State
from pf_agent.systemd import Systemd
from pf_agent.watch import Watch

_MOST_IN_A_BATCH = 10_000
# How soon to look again where main.cf is being saved, and where a writer still has the old one.
_AGAIN_SECONDS = 0.05
_AWAITED_SECONDS = 0.5
_LOOKS_AT_ALIASES = frozenset({Reason.START, Reason.TIMER, Reason.RELOAD, Reason.ALIASES})


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
class Machine:
    """Where the daemon finds things; the defaults are the real ones."""

    main_cf: str = names.MAIN_CF
    config_directory: str = names.CONFIG_DIRECTORY
    state_directory: str = names.STATE_DIRECTORY
    run_directory: str = names.RUN_DIRECTORY


class Daemon:
    """The loop and what it holds."""

    def __init__(self, machine: Machine, journal: Journal) -> None:
        """Raises ConfigError for a bad agent.toml, HostError where the folders cannot be made."""
        self._journal = journal
        self.mailbox: SimpleQueue[Trigger] = SimpleQueue()
        self._state = State(machine.state_directory, machine.run_directory)
        self._state.prepare()
        self._configuration = Configuration(
            machine.config_directory, self._state, self._report_problem
        )
        self._host = MainCfFile(machine.main_cf)
        self._postfix = Postfix(os.path.dirname(machine.main_cf), machine.run_directory)
        self._judge = Judge(self._postfix.judge)
        self._aliases = names.DEFAULT_ALIASES
        self._watch = Watch(
            machine.main_cf, self._aliases, machine.config_directory, self.mailbox.put
        )
        self._systemd = Systemd(self.mailbox.put)
        self._activation = Activation(
            self._systemd,
            self._postfix,
            self._state,
            self.mailbox.put,
            journal.emit,
            alias_file=lambda: self._aliases,
        )
        self._backoff = Backoff()
        self._next_look = 0.0
        self._failure = ""
        self._saving_since: float | None = None
        self._watch_note = ""
        self._outcome = Outcome(Result.IN_SYNC, "")
        self._last: LastDrift | None = None
        self._status = Status(Phase.STARTING, time.time())
        self._told = ""

    def run(self) -> ExitCode:
        """Loop until SIGTERM."""
        signals.listen(self.mailbox.put)
        self._journal.emit(Record(Event.STARTED, f"pf-agent {__version__} watches main.cf"))
        self._turn([Trigger(Reason.START)])
        self._tell("READY=1")
        while True:
            batch = next_batch(
                self.mailbox, self._patience(), self._configuration.options.settle_seconds
            )
            reasons = {trigger.reason for trigger in batch}
            if Reason.STOP in reasons:
                break
            if Reason.RELOAD in reasons:
                self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            self._turn(batch)
            if Reason.RELOAD in reasons:
                self._tell("READY=1")
        self._tell("STOPPING=1")
        self._journal.emit(Record(Event.STOPPED, "pf-agent stops; main.cf is watched no more"))
        self._watch.close()
        self._systemd.close()
        self._state.remove_status()
        return ExitCode.OK

    def _patience(self) -> float:
        """Seconds until something is due, whatever comes: a look, a step, a word to systemd."""
        due = [self._next_look - time.monotonic()]
        step = self._activation.patience()
        if step is not None and self._may_activate():
            due.append(step)
        limit = watchdog_seconds()
        if limit is not None:
            due.append(limit / 2)
        return max(0.0, min(due))

    # --- one turn of the loop -----------------------------------------------------------------

    def _turn(self, batch: Iterable[Trigger]) -> None:
        """Look if there is a reason to, take the activation a step on, and tell how things are."""
        reasons = {trigger.reason for trigger in batch}
        if time.monotonic() >= self._next_look:
            reasons.add(Reason.TIMER)
        try:
            if reasons:
                self._look(reasons)
            activated = self._activation.advance() if self._may_activate() else None
            if activated is not None:
                self._note_activated(activated)
                self._look(set())  # the text that Postfix runs with is the last good one
            if reasons & _LOOKS_AT_ALIASES:
                self._look_at_aliases()
        except PfAgentError as error:
            self._fail(str(error))
        except Exception as error:  # noqa: BLE001 - the last catch-all: recorded, then tried again
            self._journal.fault("an error of pf-agent's own", error)
            self._fail(f"an error of pf-agent's own: {error!r}")
        self._publish()

    def _look(self, reasons: set[Reason]) -> None:
        self._state.prepare()
        # Armed before the files are read: what changes after that is heard.
        self._note_watch(self._watch.ensure())
        self._configuration.refresh(again=Reason.RELOAD in reasons)
        options, desired = self._configuration.options, self._configuration.desired
        self._next_look = time.monotonic() + options.look_every_seconds
        if Reason.START not in reasons and self._is_being_saved(options.settle_seconds):
            self._next_look = time.monotonic() + _AGAIN_SECONDS
        elif desired is not None:
            policy = Policy(options.mode is Mode.OBSERVE, judge=self._judge)
            with self._state.lock():
                self._note_outcome(self._cycle(desired, policy))
            if self._host.is_awaited():
                self._next_look = time.monotonic() + _AWAITED_SECONDS
        self._failure = ""
        self._backoff.reset()

    def _is_being_saved(self, settle: float) -> bool:
        """Tell whether to give somebody the time to save main.cf, `settle` seconds at most.

        Many editors move the old file away or empty it first, and some write the new one in
        pieces. A look at such an instant would take the half for the whole.
        """
        state = self._host.read()
        if state.text and not state.is_open:
            self._saving_since = None
            return False
        now = time.monotonic()
        if self._saving_since is None:
            self._saving_since = now
        return now < self._saving_since + settle

    def _cycle(self, desired: DesiredState, policy: Policy) -> Outcome:
        """One cycle; where Postfix refuses the desired state, one with the last that it took."""
        emit, last = self._journal.emit, self._outcome
        outcome = reconcile(self._host, desired, policy, self._state, emit, last)
        if outcome.result is not Result.REJECTED:
            self._configuration.approve()
            return outcome
        other = self._configuration.fall_back(outcome.summary)
        if other is not None:
            return self._cycle(other, policy)
        return outcome

    def _may_activate(self) -> bool:
        """Postfix is not restarted over a main.cf that was left standing as it should not be."""
        settled = self._outcome.result in (Result.IN_SYNC, Result.CORRECTED)
        return settled and not self._failure and self._configuration.options.mode is Mode.ENFORCE

    def _look_at_aliases(self) -> None:
        """Rebuild the alias database where the file changed; that needs no restart."""
        if self._configuration.options.mode is not Mode.ENFORCE:
            return
        text = self._host.read().text
        self._aliases = alias_file(text or b"")
        moved = self._watch.set_aliases(self._aliases)
        if moved:
            self._journal.note(moved)
        if text is None or not self._postfix.aliases_are_stale(self._aliases):
            return
        if self._activation.rebuild_aliases():
            message = f"{self._aliases} had changed, newaliases was run"
            self._journal.emit(Record(Event.ACTIVATED, message))

    def _fail(self, reason: str) -> None:
        """Put a failed look on record, once, and try again after a while."""
        if reason != self._failure:
            fields = {names.FIELD_REASON: reason}
            self._journal.emit(Record(Event.CORRECTION_FAILED, reason, fields=fields))
        self._failure = reason
        self._next_look = time.monotonic() + self._backoff.grow()

    def _report_problem(self, problem: str) -> None:
        self._journal.emit(
            Record(Event.CONFIG_REJECTED, problem, fields={names.FIELD_REASON: problem})
        )

    # --- telling ------------------------------------------------------------------------------

    def _note_outcome(self, outcome: Outcome) -> None:
        self._outcome = outcome
        exposure = outcome.exposure
        if outcome.cycle is None or exposure is None:
            return
        took = None
        if exposure.corrected_at is not None:
            took = exposure.corrected_at - exposure.written_at
        drifted = render.drifted_names(outcome.drift)
        self._last = LastDrift(outcome.cycle, exposure.seen_at, drifted, took)

    def _note_activated(self, activated: Activated) -> None:
        pending, exposure = activated.pending, activated.pending.exposure
        corrected_at = exposure.corrected_at or exposure.seen_at
        self._last = LastDrift(
            pending.cycle,
            exposure.seen_at,
            pending.parameters,
            corrected_at - exposure.written_at,
            activated.at - corrected_at,
        )

    def _publish(self) -> None:
        """Tell systemd and status.json; either that fails is noted and skipped."""
        now = time.time()
        phase, detail = self._phase()
        desired = self._configuration.desired
        since = self._status.since if phase is self._status.phase else now
        self._status = Status(
            phase,
            since,
            0 if desired is None else len(desired.parameters()),
            detail,
            self._configuration.problems,
            self._last,
            now + self._next_look - time.monotonic(),
            __version__,
            os.getpid(),
        )
        sentence = render.summary(self._status, now)
        self._tell("WATCHDOG=1", f"STATUS={sentence}")
        told = replace(self._status, next_look=None)
        if str(told) != self._told:
            self._told = str(told)
            try:
                self._state.write_status(render.status_dict(self._status, now))
            except HostError as error:
                self._journal.note(str(error))

    def _note_watch(self, sentence: str) -> None:
        """On record where the watch was mended or cannot be: once, for as long as that lasts."""
        if sentence and sentence != self._watch_note:
            self._journal.note(sentence)
        self._watch_note = sentence

    def _tell(self, *states: str) -> None:
        try:
            notify(*states)
        except HostError as error:
            self._journal.note(str(error))

    def _phase(self) -> tuple[Phase, str]:
        activation = self._activation
        if self._failure:
            return Phase.STALLED, self._failure
        if self._configuration.desired is None:
            return Phase.OBSERVING, "there never was a good desired state"
        if self._outcome.result is Result.OBSERVED:
            return Phase.OBSERVING, self._outcome.summary
        if self._outcome.result is Result.REJECTED:
            return Phase.STALLED, self._outcome.summary
        if activation.failure and not activation.is_under_way():
            return Phase.STALLED, f"Postfix is not up with main.cf as it is: {activation.failure}"
        if self._state.pending() is not None:
            wait = 0.0 if activation.is_under_way() else activation.patience() or 0.0
            at = datetime.fromtimestamp(time.time() + wait, timezone.utc).astimezone()
            return Phase.ACTIVATING, f"not before {at:%H:%M:%S}" if wait else ""
        if self._configuration.options.mode is Mode.OBSERVE:
            return Phase.OBSERVING, "in sync"
        if self._outcome.result is Result.IN_SYNC and self._outcome.summary:
            return Phase.IN_SYNC, self._outcome.summary
        trouble = activation.aliases_trouble
        return Phase.IN_SYNC, f"but the aliases are old: {trouble}" if trouble else ""
