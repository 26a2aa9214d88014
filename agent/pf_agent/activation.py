"""One activation: newaliases, restart or reload, verify. A job that is followed, not waited in.

`advance` is called at each turn of the loop and does the next step that is due. A correction made
while Postfix restarts moves the marker on; the restart that it asks for is made once, at the end.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

from pf_agent import names, render
from pf_agent.alias_database import AliasDatabase, Rebuild
from pf_agent.aside import Aside
from pf_agent.errors import HostError
from pf_agent.model import (
    ActivationWay,
    Event,
    Greeting,
    PendingActivation,
    Reason,
    Record,
    Trigger,
    UnitPhase,
    UnitState,
)
from pf_agent.pacing import Backoff, remembered_restarts, restart_allowed_at
from pf_agent.plan import Clock, Emit
from pf_agent.smtp import probe
from pf_agent.values import reload_suffices

# Without a word from systemd or the probe, look by ourselves.
_GLANCE_SECONDS = 1.0
_JOB_SECONDS = 300.0
# The local clock may be set meanwhile, or summer may end.
_MOST_CLOSED_SECONDS = 600.0
# postfix(1) ends a reload when it has sent master a signal. Until master has heard it, an idle
# smtpd from before may take the connection, and a bad text would pass as good: asked at once, one
# did after 22 of 60 reloads, with 20 idle ones after 55, the latest 43 ms after the job's end. Then
# master closes their status pipes, and they are gone (master/single_server.c). Many go before, for
# newaliases has changed a table that they have open; those of a site without local users do not.
_RELOAD_PAUSE_SECONDS = 0.5
_RELOAD_SECONDS = 3.0
_MOST_TOLD = 16


class Service(Protocol):
    """systemd, as `systemd.Systemd` has it."""

    def restart(self, unit: str) -> str: ...
    def reload(self, unit: str) -> str: ...
    def job_result(self, job: str) -> str | None: ...
    def units_of(self, unit: str) -> tuple[UnitState, ...]: ...
    def reset_failed(self, units: Iterable[str]) -> None: ...


class Greeter(Protocol):
    """What tells how Postfix is to greet, as `postfix.Postfix` does."""

    def greeting(self) -> Greeting | None: ...


class Markers(Protocol):
    """What outlives the process, as `state.State` keeps it."""

    def pending(self) -> PendingActivation | None: ...
    def clear_pending(self, cycle: int) -> bool: ...
    def note_failed(self, cycle: int) -> None: ...
    def keep_ran_with(self, text: bytes) -> None: ...
    def forget_rolled_back(self) -> None: ...
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
    """A restart or reload under way: for which cycle, with which text, and systemd's job.

    `units` are as they were before; `started_at` in ticks, `began_at` by the clock. `doubt` is why
    a reload before it did not do.
    """

    cycle: int
    job: str
    text: bytes | None
    units: tuple[UnitState, ...]
    started_at: float
    began_at: float
    is_reload: bool = False
    doubt: str = ""


@dataclass(frozen=True)
class Activated:
    """Postfix was seen to run with main.cf as `pending` left it."""

    pending: PendingActivation
    at: float


@dataclass(frozen=True)
class NotUp:
    """Postfix was seen not to be up with main.cf as `pending` left it, and why.

    `since` is when its restart began, seconds since the epoch; `units` are what was restarted, and
    `tried` is the text of main.cf that this is said of.
    """

    pending: PendingActivation
    reason: str
    since: float
    units: tuple[str, ...]
    tried: bytes | None


@dataclass
class Activation:
    """The activation under way, if there is one. `failure` says why the last try failed."""

    service: Service
    greeter: Greeter
    aliases: AliasDatabase
    markers: Markers
    post: Callable[[Trigger], None]
    emit: Emit
    probe: Probe = ask_port
    alias_file: Callable[[], str] = lambda: names.DEFAULT_ALIASES
    unit: str = names.POSTFIX_UNIT
    text: Callable[[], bytes | None] = lambda: None  # main.cf as it stands
    way: Callable[[], ActivationWay] = lambda: ActivationWay.RESTART
    apart: Callable[[], float] = lambda: 0.0  # seconds between restarts at least
    opens_in: Callable[[], float] = lambda: 0.0  # seconds until a restart may be at all
    clock: Clock = time.time  # for what is recorded and kept; it may be set back or forward
    ticks: Clock = time.monotonic  # for what is waited for
    pause: Callable[[float], None] = time.sleep
    failure: str = ""
    retry_at: float = 0.0
    _elsewhere_until: float = 0.0
    _held_until: float = 0.0  # by budget or window; asked anew at each step, it may end sooner
    _rebuild: Rebuild | None = None  # of the alias database; the restart follows
    _restart: Restart | None = None
    _served: Restart | None = None  # the one that Postfix was seen to come up with
    _unnoted: tuple[float, ...] = ()  # restarts that could not be written down
    _probing: Aside | None = None
    _backoff: Backoff = field(default_factory=lambda: Backoff(first=10.0))
    _failed_cycle: int | None = None
    _was_overtaken: bool = False  # a restart failed with a text that is gone, and none was up since
    _unserved: tuple[int, str] | None = None  # the cycle that a reload did not serve, and why
    # The latest alone: Postfix may be down for a year, with a new cycle every hour.
    _told: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=_MOST_TOLD))

    def advance(self) -> Activated | NotUp | None:
        """Do the next step that is due; return how the activation ended, at the end of it.

        A failure is put on record, and the next try is at `retry_at`. Where it is not known how
        Postfix is, since systemd could not be asked, the end is None.
        """
        pending = self.markers.pending()
        if pending is None:  # at rest, or another process has done it meanwhile
            self._rebuild = self._restart = self._probing = self._served = None
            self._forget_failures()
            self.markers.release_activation()
            return None
        if not self.markers.hold_activation():
            self._elsewhere_until = self.ticks() + _GLANCE_SECONDS  # another process is at it
            return None
        try:
            return self._step(pending)
        except HostError as error:
            self._fail(pending, str(error))
            return None

    def patience(self) -> float | None:
        """Seconds until `advance` must be called even if no trigger comes; None: at rest."""
        if self._rebuild is not None or self._restart is not None:
            return _GLANCE_SECONDS
        try:
            pending = self.markers.pending()
        except HostError:
            return _GLANCE_SECONDS  # `advance` meets it as well, and its error is told of
        if pending is None:
            return None
        held = 0.0 if self._is_urgent(pending) else max(self.retry_at, self._held_until)
        return max(0.0, max(held, self._elsewhere_until) - self.ticks())

    def is_under_way(self) -> bool:
        """Tell whether a restart or its verification is running."""
        return self._restart is not None

    def is_served(self) -> bool:
        """Tell whether Postfix was seen to come up, and only that could not be written down."""
        return self._served is not None

    def _step(self, pending: PendingActivation) -> Activated | NotUp | None:
        if self._served is not None:
            return self._succeed(self._served, pending)
        if self._restart is None:
            self._begin(pending)
            return None
        if self._probing is None:
            trouble = self._follow_job(self._restart, pending)
            return self._not_up(self._restart, pending, trouble) if trouble else None
        return self._end_probe(self._restart, self._probing, pending)

    def _end_probe(
        self, restart: Restart, probing: Aside, pending: PendingActivation
    ) -> Activated | NotUp | None:
        try:
            said = probing.answer()
        except HostError:
            raise
        except Exception as error:  # noqa: BLE001 - recorded, then tried again
            self._fail(pending, f"the probe of Postfix broke off: {error!r}")
            return None
        if said is None:
            return None
        if said and self._may_be_early(restart):
            self._probing = None  # asked again at the next glance
            return None
        if said:
            return self._not_up(restart, pending, said)
        return self._succeed(restart, pending)

    def _is_urgent(self, pending: PendingActivation) -> bool:
        """Mail is down, and it is not known yet that this text does not help."""
        is_new = pending.cycle != self._failed_cycle and not pending.failed
        return is_new and (pending.rolled_back or bool(self._doubt(pending)))

    def _doubt(self, pending: PendingActivation) -> str:
        """Why a reload did not do for `pending`, "" where none was tried."""
        cycle, reason = self._unserved or (None, "")
        return reason if cycle == pending.cycle else ""

    def _begin(self, pending: PendingActivation) -> None:
        """Run newaliases once a restart may be, and restart Postfix once that has ended."""
        if self._rebuild is None:
            if not self._is_due(pending):
                return
            self._rebuild = self.aliases.rebuild(self.alias_file(), pending.cycle)
        rebuild, self._rebuild = self._rebuild, None
        if rebuild.worked() is None:
            self._rebuild = rebuild
        else:
            # Old aliases deliver more mail than a Postfix with old settings: restarted with them.
            self._start_job(pending)

    def _is_due(self, pending: PendingActivation) -> bool:
        now, ticks = self.clock(), self.ticks()
        past = self._past()
        is_down = self.failure or self._was_overtaken
        apart = 0.0 if is_down else self.apart()  # while mail is down, the budget is enough
        allowed_at = max(self.retry_at, ticks + restart_allowed_at(past, now, apart) - now)
        if allowed_at > ticks and not self._is_urgent(pending):
            self._held_until = allowed_at
            return False
        closed = 0.0 if self._is_urgent(pending) else self.opens_in()
        units = self.service.units_of(self.unit) if closed > 0 else ()
        if units and all(unit.phase is UnitPhase.UP for unit in units):
            # Where mail is down there is nothing that a restart could disturb.
            self._held_until = ticks + min(closed, _MOST_CLOSED_SECONDS)
            return False
        self._held_until = 0.0
        return True

    def _start_job(self, pending: PendingActivation) -> None:
        now, ticks = self.clock(), self.ticks()
        units = self.service.units_of(self.unit)
        is_reload = self._may_reload(pending, units[-1])
        if not is_reload:
            # systemd counts the starts that others asked for, too (systemd.unit(5),
            # StartLimitBurst=). One too many would leave Postfix down, with a text that is not to
            # blame. For ours there is the budget.
            self.service.reset_failed(unit.name for unit in units)
        text = self.text()
        # The umbrella's own reload would say nothing of the unit that holds master.
        job = self.service.reload(units[-1].name) if is_reload else self.service.restart(self.unit)
        self._note_restart(now)
        doubt, self._unserved = self._doubt(pending), None
        self._restart = Restart(pending.cycle, job, text, units, ticks, now, is_reload, doubt)

    def _past(self) -> tuple[float, ...]:
        return (*self.markers.restarts(), *self._unnoted)

    def _note_restart(self, now: float) -> None:
        moments = (*remembered_restarts(self._past(), now), now)
        try:
            self.markers.note_restarts(moments)
        except HostError:
            # A full /run is no reason to restart Postfix once more; the next process knows less.
            self._unnoted = moments
        else:
            self._unnoted = ()

    def _may_reload(self, pending: PendingActivation, holder: UnitState) -> bool:
        return (
            self.way() is ActivationWay.AUTO
            and not pending.rolled_back
            and pending.cycle != self._failed_cycle
            and not self._doubt(pending)
            and holder.phase is UnitPhase.UP
            and bool(pending.parameters)  # a damaged marker names none
            and reload_suffices(pending.parameters)
        )

    def _follow_job(self, restart: Restart, pending: PendingActivation) -> str:
        """Go on to the probe once the job is done; return why Postfix is not up, "" while open."""
        result = self.service.job_result(restart.job)
        if result is None:
            if self.ticks() > restart.started_at + _JOB_SECONDS:
                # More than systemd gives a stop and a start (DefaultTimeoutStopSec= and its twin).
                self._fail(pending, f"no end of the restart was heard in {_JOB_SECONDS:.0f} s")
            return ""
        what = f"the {'reload' if restart.is_reload else 'restart'} of {self.unit}"
        if result in ("failed", "timeout"):
            return f"{what} ended as {result}"
        if result not in ("done", "gone", "canceled"):
            self._fail(pending, f"{what} ended as {result}")  # it was not even tried
            return ""
        # A job that ended "done" proves little: on Debian 12 postfix.service is a wrapper that
        # starts whatever becomes of the unit that holds master, and an unmet condition is "done".
        units = self.service.units_of(self.unit)
        if any(unit.phase is UnitPhase.CHANGING for unit in units):
            return ""  # somebody else's job has taken over
        down = _down(units)
        old = "" if restart.is_reload else _old(units, restart.units)
        if down and result == "done":
            return down
        if down or old:
            self._fail(pending, down or old)  # somebody stopped Postfix: not the text's doing
        else:
            self._start_probe(restart.is_reload)
        return ""

    def _may_be_early(self, restart: Restart) -> bool:
        return restart.is_reload and self.ticks() < restart.started_at + _RELOAD_SECONDS

    def _start_probe(self, is_reload: bool) -> None:
        def ask() -> str:
            greeting = self.greeter.greeting()
            if greeting is None:
                return ""  # no SMTP service on port 25 in master.cf: the units are all there is
            if is_reload:
                self.pause(_RELOAD_PAUSE_SECONDS)
            return self.probe(greeting)

        self._probing = Aside("probe", ask, lambda: self.post(Trigger(Reason.PROBE)))

    def _succeed(self, restart: Restart, pending: PendingActivation) -> Activated | None:
        # What was seen stays seen where a full disk keeps it from being written down: that is tried
        # again, and Postfix is not restarted for it.
        self._restart, self._probing, self._served = None, None, restart
        if restart.text is not None:
            self.markers.keep_ran_with(restart.text)
        if pending.failed:
            # Postfix did not come up with the old text either, until now: neither was to blame.
            self.markers.forget_rolled_back()
        is_clear = self.markers.clear_pending(restart.cycle)
        self._served = None
        self._forget_failures()
        self._backoff.reset()
        if not is_clear:
            return None  # corrected once more since: the next step restarts for that
        now = self.clock()
        self.markers.release_activation()
        exposure = replace(pending.exposure, activated_at=now)
        text = self._success_sentence(restart, pending, now - exposure.written_at)
        fields = dict(render.exposure_fields(exposure))
        self.emit(Record(Event.ACTIVATED, text, pending.cycle, fields))
        return Activated(replace(pending, exposure=exposure), now)

    def _success_sentence(
        self, restart: Restart, pending: PendingActivation, exposed: float
    ) -> str:
        settings = "text that it last ran with" if pending.rolled_back else "desired settings"
        how = "reloaded, serves" if restart.is_reload else "restarted, up"
        text = (
            f"Postfix runs with the {settings}: {how} after"
            f" {render.duration(self.ticks() - restart.started_at)},"
            f" {render.duration(exposed)} after the drift was written"
        )
        if restart.doubt:
            text += f"; a reload did not do: {restart.doubt}"
        if self.aliases.trouble:
            text += f"; but the aliases are old: {self.aliases.trouble}"
        return text

    def _not_up(self, restart: Restart, pending: PendingActivation, reason: str) -> NotUp | None:
        """Postfix does not run with it; after a reload, it gets its restart first.

        And so does what has come into main.cf since: that it was tried cannot be said. But once
        alone until Postfix is up: somebody may write all the time, and mail stands still.
        """
        if restart.is_reload:
            self._restart = self._probing = None
            self._unserved = (pending.cycle, reason)
            return None
        text = self.text()
        has_changed = restart.cycle != pending.cycle or text != restart.text
        if has_changed and not self._was_overtaken:
            self._restart = self._probing = None
            self._was_overtaken = True
            self._tell_failed(restart.cycle, f"{reason}; main.cf has changed since")
            return None
        self._fail(pending, reason)
        if pending.rolled_back and not pending.failed:
            self.markers.note_failed(pending.cycle)
        units = tuple(dict.fromkeys(unit.name for unit in restart.units))
        return NotUp(pending, reason, restart.began_at, units, text)

    def _fail(self, pending: PendingActivation, reason: str) -> None:
        self._rebuild = self._restart = self._probing = None
        self.failure = reason
        self.retry_at = self.ticks() + self._backoff.grow()
        self._failed_cycle = pending.cycle
        self._tell_failed(pending.cycle, reason)

    def _forget_failures(self) -> None:
        self.failure, self._was_overtaken = "", False
        self._told.clear()

    def _tell_failed(self, cycle: int, reason: str) -> None:
        """Put a failure on record, once for a cycle."""
        if (cycle, reason) not in self._told:
            self._told.append((cycle, reason))
            fields = {names.FIELD_REASON: reason}
            self.emit(Record(Event.ACTIVATION_FAILED, reason, cycle, fields))


def _down(units: Iterable[UnitState]) -> str:
    """Say which unit is not up; "" when all are."""
    for unit in units:
        if unit.phase is not UnitPhase.UP:
            why = f" ({unit.result})" if unit.result not in ("", "success") else ""
            return f"{unit.name} is {unit.phase.value}{why}; see `journalctl -u {unit.name}`"
    return ""


def _old(units: Iterable[UnitState], before: Iterable[UnitState]) -> str:
    """Say which unit still runs as it did `before`; "" when none does."""
    invocations = frozenset(unit.invocation for unit in before)
    for unit in units:
        if unit.invocation in invocations:
            return f"{unit.name} was not started anew; see `systemctl status {unit.name}`"
    return ""
