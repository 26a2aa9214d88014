"""One activation: newaliases, restart, verify. A job that the loop follows, never waits in.

`advance` is called at each turn of the loop and does the next step that is due. A correction made
while Postfix restarts moves the marker on; the restart that it asks for is made once, at the end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Protocol

from pf_agent import names, render
from pf_agent.errors import HostError
from pf_agent.model import (
    Event,
    Greeting,
    PendingActivation,
    Reason,
    Record,
    Trigger,
    UnitPhase,
    UnitState,
)
from pf_agent.pacing import Backoff, recent_restarts, restart_allowed_at
from pf_agent.plan import Clock, Emit
from pf_agent.smtp import probe

# systemd.unit(5), StartLimitBurst=: the unit stays down until somebody resets the count.
_START_LIMIT = "start-limit-hit"
# Without a word from systemd or the probe, look by ourselves.
_GLANCE_SECONDS = 1.0
_JOB_SECONDS = 300.0


class Service(Protocol):
    """systemd, as `systemd.Systemd` has it."""

    def restart(self, unit: str) -> str: ...
    def job_result(self, job: str) -> str | None: ...
    def units_of(self, unit: str) -> tuple[UnitState, ...]: ...
    def reset_failed(self, units: Iterable[str]) -> None: ...


class Programs(Protocol):
    """Postfix's own programs, as `postfix.Postfix` has them."""

    def newaliases(self, path: str) -> None: ...
    def greeting(self) -> Greeting | None: ...


class Markers(Protocol):
    """What outlives the process, as `state.State` keeps it."""

    def pending(self) -> PendingActivation | None: ...
    def clear_pending(self, cycle: int) -> bool: ...
    def hold_activation(self) -> bool: ...
    def release_activation(self) -> None: ...
    def restarts(self) -> tuple[float, ...]: ...
    def note_restarts(self, moments: tuple[float, ...]) -> None: ...


Probe = Callable[[Greeting], str]


def ask_port(greeting: Greeting) -> str:
    """Say what is wrong with Postfix at its port, "" when nothing is."""
    return probe(greeting.address, greeting.port, greeting.banner)


@dataclass(frozen=True)
class Restart:
    """A restart under way: for which cycle, systemd's job, and the units' invocations before."""

    cycle: int
    job: str
    before: frozenset[str]
    started_at: float


@dataclass(frozen=True)
class Activated:
    """Postfix was seen to run with main.cf as `pending` left it."""

    pending: PendingActivation
    at: float


@dataclass
class Activation:
    """The activation under way, if there is one.

    `failure` says why the last try failed, `aliases_trouble` what newaliases complained of last.
    """

    service: Service
    programs: Programs
    markers: Markers
    post: Callable[[Trigger], None]
    emit: Emit
    probe: Probe = ask_port
    alias_file: Callable[[], str] = lambda: names.DEFAULT_ALIASES
    clock: Clock = time.time  # for what is recorded and kept; it may be set back or forward
    ticks: Clock = time.monotonic  # for what is waited for
    failure: str = ""
    aliases_trouble: str = ""
    retry_at: float = 0.0
    _restart: Restart | None = None
    _probing: SimpleQueue[str] | None = None
    _backoff: Backoff = field(default_factory=lambda: Backoff(first=10.0))

    def advance(self) -> Activated | None:
        """Do the next step that is due; return what was activated, at the end of it.

        A failure is put on record, and the next try is at `retry_at`.
        """
        pending = self.markers.pending()
        if pending is None:  # at rest, or another process has done it meanwhile
            self._restart = self._probing = None
            self.failure = ""
            self.markers.release_activation()
            return None
        if not self.markers.hold_activation():
            self.retry_at = self.ticks() + _GLANCE_SECONDS  # another process is at it
            return None
        try:
            return self._step(pending)
        except HostError as error:
            self._fail(pending, str(error))
            return None

    def patience(self) -> float | None:
        """Seconds until `advance` must be called even if no trigger comes; None: at rest."""
        if self._restart is not None:
            return _GLANCE_SECONDS
        if self.markers.pending() is None:
            return None
        return max(0.0, self.retry_at - self.ticks())

    def is_under_way(self) -> bool:
        """Tell whether a restart or its verification is running."""
        return self._restart is not None

    def _step(self, pending: PendingActivation) -> Activated | None:
        if self._restart is None:
            self._begin(pending)
        elif self._probing is None:
            self._follow_job(self._restart, pending)
        if self._restart is None or self._probing is None:
            return None
        try:
            said = self._probing.get_nowait()
        except Empty:
            return None
        if said:
            self._fail(pending, said)
            return None
        return self._succeed(self._restart, pending)

    def rebuild_aliases(self, cycle: int | None = None) -> bool:
        """Run newaliases; tell whether it worked. If not, the reason goes on record."""
        self.aliases_trouble = ""
        try:
            self.programs.newaliases(self.alias_file())
        except HostError as error:
            # Old aliases deliver more mail than a Postfix with old settings: a restart goes on.
            self.aliases_trouble = str(error)
            self._record_failure(cycle, str(error))
        return not self.aliases_trouble

    def _begin(self, pending: PendingActivation) -> None:
        now, ticks = self.clock(), self.ticks()
        budget = restart_allowed_at(self.markers.restarts(), now) - now
        allowed_at = max(self.retry_at, ticks + budget)
        if allowed_at > ticks:
            self.retry_at = allowed_at
            return
        self.rebuild_aliases(pending.cycle)
        before = self.service.units_of(names.POSTFIX_UNIT)
        limited = [unit.name for unit in before if unit.result == _START_LIMIT]
        if limited:
            self.service.reset_failed(limited)
        job = self.service.restart(names.POSTFIX_UNIT)
        self.markers.note_restarts((*recent_restarts(self.markers.restarts(), now), now))
        invocations = frozenset(unit.invocation for unit in before)
        self._restart = Restart(pending.cycle, job, invocations, ticks)

    def _follow_job(self, restart: Restart, pending: PendingActivation) -> None:
        result = self.service.job_result(restart.job)
        if result is None:
            if self.ticks() > restart.started_at + _JOB_SECONDS:
                # More than systemd gives a stop and a start (DefaultTimeoutStopSec= and its twin).
                self._fail(pending, f"no end of the restart was heard in {_JOB_SECONDS:.0f} s")
            return
        if result not in ("done", "gone", "canceled"):
            self._fail(pending, f"the restart of {names.POSTFIX_UNIT} ended as {result}")
            return
        # A job that ended "done" proves little: on Debian 12 postfix.service is a wrapper that
        # starts whatever becomes of the unit that holds master, and an unmet condition is "done".
        units = self.service.units_of(names.POSTFIX_UNIT)
        if any(unit.phase is UnitPhase.CHANGING for unit in units):
            return  # somebody else's job has taken over
        trouble = _trouble(units, restart.before)
        if trouble:
            self._fail(pending, trouble)
            return
        self._start_probe(self.programs.greeting())

    def _start_probe(self, greeting: Greeting | None) -> None:
        answers: SimpleQueue[str] = SimpleQueue()
        self._probing = answers
        if greeting is None:
            answers.put("")  # master.cf has no SMTP service on port 25: the units are all there is
            return

        def run() -> None:
            try:
                answers.put(self.probe(greeting))
            except Exception as error:  # noqa: BLE001 - it must reach the loop, which records it
                answers.put(f"the probe of port {greeting.port} broke off: {error!r}")
            self.post(Trigger(Reason.PROBE))

        threading.Thread(target=run, name="probe", daemon=True).start()

    def _succeed(self, restart: Restart, pending: PendingActivation) -> Activated | None:
        self._restart = self._probing = None
        self.failure = ""
        self._backoff.reset()
        if not self.markers.clear_pending(restart.cycle):
            return None  # corrected once more since: the next step restarts for that
        now = self.clock()
        self.markers.release_activation()
        exposure = replace(pending.exposure, activated_at=now)
        text = (
            f"Postfix runs with the desired settings: up after"
            f" {render.duration(self.ticks() - restart.started_at)},"
            f" {render.duration(now - exposure.written_at)} after the drift was written"
        )
        if self.aliases_trouble:
            text += f"; but the aliases are old: {self.aliases_trouble}"
        fields = dict(render.exposure_fields(exposure))
        self.emit(Record(Event.ACTIVATED, text, pending.cycle, fields))
        return Activated(replace(pending, exposure=exposure), now)

    def _fail(self, pending: PendingActivation, reason: str) -> None:
        self._restart = self._probing = None
        self.failure = reason
        self.retry_at = self.ticks() + self._backoff.grow()
        self._record_failure(pending.cycle, reason)

    def _record_failure(self, cycle: int | None, reason: str) -> None:
        fields = {names.FIELD_REASON: reason}
        self.emit(Record(Event.ACTIVATION_FAILED, reason, cycle, fields))


def _trouble(units: Iterable[UnitState], before: frozenset[str]) -> str:
    """Say which unit is not up anew; "" when all are."""
    for unit in units:
        if unit.phase is not UnitPhase.UP:
            why = f" ({unit.result})" if unit.result not in ("", "success") else ""
            return f"{unit.name} is {unit.phase.value}{why}; see `journalctl -u {unit.name}`"
        if unit.invocation in before:
            return f"{unit.name} was not started anew; see `systemctl status {unit.name}`"
    return ""
