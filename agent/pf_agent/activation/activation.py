"""One activation: newaliases, restart or reload, verify. A job that is followed, not waited in.

`advance` is called at each turn of the loop and does the next step that is due (steps.py says
which). A correction made while Postfix restarts moves the marker on; the restart that it asks for
is made once, at the end. A start that others asked for is verified like ours.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from pf_agent import names
from pf_agent.activation import steps
from pf_agent.activation.alias_database import AliasDatabase, Rebuild
from pf_agent.activation.aside import Aside
from pf_agent.activation.inquiry import inquire
from pf_agent.activation.pacing import Backoff, remembered_restarts
from pf_agent.activation.ports import Clocks, End, Markers, Postfix, Service, Turn
from pf_agent.activation.steps import Attempt, Conditions, Memory
from pf_agent.activation.verdict import Found
from pf_agent.errors import HostError
from pf_agent.model import (
    Activated,
    ActualState,
    Emit,
    Event,
    NotUp,
    Package,
    PendingActivation,
    Reason,
    Record,
    Standing,
    Trigger,
    UnitPhase,
    UnitState,
)
from pf_agent.names import RESTARTS, WISHED_RESTARTS
from pf_agent.words import sentences
from pf_agent.words.fields import exposure_fields

_MOST_TOLD = 16
# Where others' start is long ago, what the log said then is not why the port does not answer now.
# After an smtpd that ended at once master waits so long (service_throttle_time in postconf(5)).
_LOG_SECONDS = 70.0


@dataclass
class Activation:
    """The activation of one instance. `memory` has why the last try failed, or why it is left."""

    unit: str
    service: Service
    postfix: Postfix
    aliases: AliasDatabase
    markers: Markers
    read: Callable[[], ActualState]
    post: Callable[[Trigger], None]
    emit: Emit
    clocks: Clocks = field(default_factory=Clocks)
    memory: Memory = field(default_factory=Memory)
    under_way: steps.UnderWay = field(default_factory=steps.Idle)
    _is_doubted: bool = True  # whether Postfix serves as it stands
    _may_act: bool = True  # at the last turn
    _took_down: bool = False  # whether Postfix ran until we restarted it, and was not up since
    _seen: tuple[str, float, bytes | None] | None = None  # the start that was seen to serve
    _rebuild: Rebuild | None = None
    _inquiry: Aside[Found] | None = None
    _unnoted: tuple[float, ...] = ()  # restarts that could not be written down
    _elsewhere_until: float = 0.0
    _starts: Backoff = field(default_factory=lambda: Backoff(first=10.0))
    _questions: Backoff = field(default_factory=lambda: Backoff(first=2.0, most=30.0))
    # The latest alone: Postfix may be down for a year, with a new cycle every hour.
    _told: deque[tuple[int | None, str]] = field(default_factory=lambda: deque(maxlen=_MOST_TOLD))

    def doubt(self) -> None:
        """Somebody may have started, reloaded or stopped Postfix: see how it stands."""
        self._is_doubted = True

    def forget(self) -> None:
        """What failed was taken back: how Postfix stands with the text of now is not known yet."""
        self.memory = replace(self.memory, failure="")

    def advance(self, turn: Turn) -> End | None:
        """Do the next step that is due; return how the activation ended, at the end of it.

        A failure is put on record, and the next try comes by itself. Where it is not known how
        Postfix is, since systemd could not be asked, the end is None.
        """
        self._may_act = turn.may_act
        pending = self.markers.pending() if turn.may_act else None
        if pending is None:
            self._drop_the_done()
        if pending is None and not self._is_doubted:
            self.markers.release_activation()
            return None
        if not self.markers.hold_activation():
            self._elsewhere_until = self._ticks() + steps.GLANCE_SECONDS  # another is at it
            return None
        try:
            end = self._step(pending, turn)
        except HostError as error:
            is_served, way = self.is_served(), self.under_way
            self._fail(pending, str(error))
            if is_served:
                self.under_way = way
            return None
        if pending is None and self.is_at_rest():
            self.markers.release_activation()
        return end

    def patience(self) -> float | None:
        """Seconds until `advance` must be called even if no trigger comes; None: at rest."""
        if self.is_under_way():
            return steps.GLANCE_SECONDS
        try:
            pending = self.markers.pending() if self._may_act else None
        except HostError:
            return steps.GLANCE_SECONDS  # `advance` meets it as well, and its error is told of
        if pending is None and not self._is_doubted:
            return None
        held_until = self.memory.held_until if self._is_held(pending) else 0.0
        return max(0.0, max(held_until, self._elsewhere_until) - self._ticks())

    def _is_held(self, pending: PendingActivation | None) -> bool:
        """Tell whether it is this that is held: another marker may be due sooner."""
        return self.memory.held_cycle == _cycle_of(pending)

    def is_under_way(self) -> bool:
        """Tell whether a start or its verification is running."""
        return not isinstance(self.under_way, (steps.Idle, steps.Failing, steps.Served))

    def is_at_rest(self) -> bool:
        """Tell whether Postfix was seen to serve, and nothing is to be done."""
        return isinstance(self.under_way, steps.Idle) and not self._is_doubted

    def served_last(self) -> bool:
        """Tell whether Postfix served when it was asked last."""
        return self._seen is not None and not self.memory.failure and not self.memory.left

    def is_served(self) -> bool:
        """Tell whether Postfix was seen to serve, and only that could not be written down."""
        return isinstance(self.under_way, steps.Served)

    def _ticks(self) -> float:
        return self.clocks.ticks()

    def _drop_the_done(self) -> None:
        """Without a marker there is nothing of ours to follow: another process has done it."""
        attempt = getattr(self.under_way, "attempt", None)
        is_ours = attempt is None or attempt.cycle is not None
        has_failed = self.memory.failed_cycle is not None
        if has_failed or (is_ours and not isinstance(self.under_way, steps.Idle)):
            self.under_way, self._rebuild, self._inquiry = steps.Idle(), None, None
            self._forget_failures()
            self._is_doubted = True

    def _step(self, pending: PendingActivation | None, turn: Turn) -> End | None:
        way = self.under_way
        if isinstance(way, steps.Served):
            return self._succeed(way.attempt, pending, turn)
        if isinstance(way, steps.Building):
            self._end_build(pending, turn)
        elif isinstance(way, steps.Clearing):
            self._end_clear(way)
        elif isinstance(way, steps.Restarting):
            self._follow(way.attempt, pending)
        elif isinstance(way, steps.Probing):
            return self._hear(way.attempt, pending, turn)
        elif isinstance(way, steps.Failing) and not self._is_asked_again(way.attempt, pending):
            return None
        elif pending is None:
            return self._verify(turn)
        else:
            self._begin(pending, turn)
        return None

    # --- nothing under way --------------------------------------------------------------------

    def _begin(self, pending: PendingActivation, turn: Turn) -> None:
        holds = self._conditions(turn)
        deed = steps.next_deed(pending, self.memory, holds)
        left = deed.why if isinstance(deed, steps.Leave) else ""
        held = deed.until if isinstance(deed, steps.Hold) else 0.0
        if left:
            held = holds.ticks + steps.MOST_CLOSED_SECONDS  # a trigger tells of its start
            self._tell_failed(pending.cycle, left)
        self.memory = replace(self.memory, held_until=held, held_cycle=pending.cycle, left=left)
        if isinstance(deed, steps.Build):
            self._rebuild = self.aliases.rebuild(cycle=pending.cycle)
            self.under_way = steps.Building(pending.cycle)
            self._end_build(pending, turn)
        elif isinstance(deed, steps.Clear):
            job = self.service.reload(holds.units[-1].name)
            self.under_way = steps.Clearing(pending.cycle, job, holds.ticks)
        elif isinstance(deed, steps.AskPort):
            attempt = self._attempt(pending.cycle, holds.units, holds.units[-1].began_at)
            self._ask(attempt, since=self._lately(attempt))

    def _verify(self, turn: Turn) -> NotUp | None:
        """Nothing is to be done: see whether Postfix serves, whoever started it."""
        if self._is_held(None) and self._ticks() < self.memory.held_until:
            return None
        holds, actual = self._conditions(turn), self.read()
        holder = holds.units[-1]
        if holds.is_changing() or (not holds.is_up() and holds.is_locked):
            held = holds.ticks + steps.GLANCE_SECONDS
            self.memory = replace(self.memory, held_until=held, held_cycle=None)
            return None
        self.memory = replace(self.memory, left="" if holds.is_up() else holds.left)
        if not holds.is_up():
            if holds.left:
                self._is_doubted = False
                self._tell_failed(None, holds.left)
                return None
            reason = steps.down(holds.units)
            self._fail(None, reason)
            return NotUp(None, Standing.DOWN, reason, actual.text)
        if self._seen == (holder.invocation, holder.changed_at, actual.text):
            self._is_doubted = False
            self._forget_failures()
        else:
            attempt = self._attempt(None, holds.units, holder.began_at)
            self._ask(attempt, since=self._lately(attempt))
        return None

    def _is_asked_again(self, attempt: Attempt, pending: PendingActivation | None) -> bool:
        """Whether to go on: the port is asked again where nothing else has come up meanwhile."""
        cycle = _cycle_of(pending)
        if cycle == attempt.cycle and self._ticks() < self.memory.retry_at:
            return False
        units = self.service.units_of(self.unit)
        before = {unit.name: unit.invocation for unit in attempt.units}
        is_same = steps.down(units) == "" and units[-1].invocation == before.get(units[-1].name)
        if cycle == attempt.cycle and is_same and self.read().text == attempt.text:
            self._ask(replace(attempt, is_reload=False), since=self._lately(attempt))
            return False
        self.under_way = steps.Idle()
        self.memory = replace(self.memory, retry_at=0.0)  # that was when to ask again
        return True

    def _conditions(self, turn: Turn) -> Conditions:
        units = self.service.units_of(self.unit)
        is_up = all(unit.phase is UnitPhase.UP for unit in units)
        package = Package() if is_up else self.postfix.package()
        return Conditions(
            self._ticks(),
            self.clocks.clock(),
            units,
            (*self.markers.restarts(RESTARTS), *self._unnoted),
            self.markers.restarts(WISHED_RESTARTS),
            turn.way,
            turn.apart,
            turn.opens_in,
            "" if is_up else self._left(units, package),
            package.is_locked,
        )

    def _left(self, units: tuple[UnitState, ...], package: Package) -> str:
        """Why Postfix, which is down, is left so; "" where it is to be started."""
        for unit in units:
            # One that our restart has taken down is ours to bring up again: Debian 13 has other
            # instances disabled, and they are started by hand.
            if not unit.may_start and not self._took_down:
                return f"{unit.name} is disabled or masked; `systemctl enable --now {unit.name}`"
        if not package.is_locked and not package.is_whole():
            return f"the package postfix is {package.state}; run `dpkg --configure -a`"
        holder = units[-1]
        is_quiet = holder.phase is UnitPhase.DOWN and holder.result in ("", "success")
        if is_quiet and holder.is_met and self.postfix.was_stopped(holder):
            start = f"`systemctl start {self.unit}`"
            return f"{holder.name} was stopped by somebody, and is left so; {start} starts it"
        return ""

    def _attempt(self, cycle: int | None, units: tuple[UnitState, ...], began_at: float) -> Attempt:
        return Attempt(cycle, self.read().text, units, self._ticks(), began_at)

    # --- a start ------------------------------------------------------------------------------

    def _end_build(self, pending: PendingActivation | None, turn: Turn) -> None:
        # Old aliases deliver more mail than a Postfix with old settings: restarted with them.
        if pending is None or (self._rebuild is not None and self._rebuild.worked() is None):
            return
        self._rebuild, self.under_way = None, steps.Idle()
        holds = self._conditions(turn)
        # Meanwhile somebody may have stopped Postfix, or started it.
        if isinstance(steps.next_deed(pending, self.memory, holds), steps.Build):
            self._start(pending, holds)

    def _start(self, pending: PendingActivation, holds: Conditions) -> None:
        units = holds.units
        is_reload = steps.may_reload(pending, self.memory, holds)
        attempt = self._attempt(pending.cycle, units, holds.now)
        attempt = replace(attempt, is_reload=is_reload, doubt=steps.doubt(pending, self.memory))
        if is_reload:
            # The umbrella's own reload would say nothing of the unit that holds master.
            job = self.service.reload(units[-1].name)
        else:
            # systemd counts the starts that others asked for, too (systemd.unit(5),
            # StartLimitBurst=). One too many would leave Postfix down, with a text that is not to
            # blame. For ours there is the budget.
            self.service.reset_failed(unit.name for unit in units)
            self._took_down = self._took_down or holds.is_up()
            job = self.service.restart(self.unit)
            self._note_restart(pending, holds)
        self.memory = replace(self.memory, unserved=None)
        self.under_way = steps.Restarting(replace(attempt, job=job))

    def _note_restart(self, pending: PendingActivation, holds: Conditions) -> None:
        name, past = RESTARTS, holds.restarts
        if steps.is_wish(pending):
            name, past = WISHED_RESTARTS, holds.wished
        moments = (*remembered_restarts(past, holds.now), holds.now)
        try:
            self.markers.note_restarts(moments, name)
        except HostError:
            # A full /run is no reason to restart Postfix once more; the next process knows less.
            self._unnoted = moments
        else:
            self._unnoted = ()

    def _end_clear(self, way: steps.Clearing) -> None:
        """A reload that was to take drifted values from idle processes: the restart stays due."""
        result = self.service.job_result(way.job)
        ticks = self._ticks()
        if result is None and ticks < way.started_at + steps.JOB_SECONDS:
            return
        self.under_way = steps.Idle()
        if result != "done":
            how = f"ended as {result}" if result else f"did not end in {steps.JOB_SECONDS:.0f} s"
            self._tell_failed(way.cycle, f"the reload of {self.unit} {how}")
            self.memory = replace(self.memory, reload_at=ticks + self._questions.grow())
            return
        allowed_at = steps.reload_allowed_at(way.started_at, ticks)
        self.memory = replace(self.memory, reload_at=allowed_at)
        self.markers.note_reloaded(way.cycle)

    def _follow(self, attempt: Attempt, pending: PendingActivation | None) -> None:
        """Go on to the port once the job is done."""
        result = self.service.job_result(attempt.job)
        units = self.service.units_of(self.unit) if result is not None else ()
        deed = steps.after_job(attempt, result, units, self._ticks(), self.unit)
        if isinstance(deed, steps.Fail):
            self._fail(pending, deed.reason)
        elif isinstance(deed, steps.Doubt):
            self._doubt_reload(pending, deed)
        elif isinstance(deed, steps.Ask):
            if attempt.is_reload:
                allowed_at = steps.reload_allowed_at(attempt.started_at, self._ticks())
                self.memory = replace(self.memory, reload_at=allowed_at)
            self._ask(replace(attempt, units=units), deed.trouble)

    def _doubt_reload(self, pending: PendingActivation | None, doubt: steps.Doubt) -> None:
        self.under_way = steps.Idle()
        if pending is not None:
            self.memory = replace(self.memory, unserved=(pending.cycle, doubt.reason))

    # --- the port -----------------------------------------------------------------------------

    def _lately(self, attempt: Attempt) -> float:
        """Since when the log may tell why the port does not answer now."""
        return max(attempt.began_at, self.clocks.clock() - _LOG_SECONDS)

    def _ask(self, attempt: Attempt, trouble: str = "", since: float | None = None) -> None:
        units = tuple(dict.fromkeys(unit.name for unit in attempt.units))
        since = attempt.began_at if since is None else since
        work = partial(inquire, self.postfix, units, since, trouble, attempt.is_reload)
        self._inquiry = Aside("probe", work, lambda: self.post(Trigger(Reason.PROBE)))
        self.under_way = steps.Probing(attempt)

    def _hear(self, attempt: Attempt, pending: PendingActivation | None, turn: Turn) -> End | None:
        if self._inquiry is None:
            self._ask(attempt)
            return None
        try:
            found = self._inquiry.answer()
        except HostError:
            raise
        except Exception as error:  # noqa: BLE001 - recorded, then tried again
            self._fail(pending, f"the probe of Postfix broke off: {error!r}")
            return None
        if found is None:
            return None
        self._inquiry = None
        return self._take(attempt, found, pending, turn)

    def _take(
        self, attempt: Attempt, found: Found, pending: PendingActivation | None, turn: Turn
    ) -> End | None:
        asked = steps.Asked(pending, self.read().text, self._wished(pending))
        said = steps.after_answer(attempt, found, asked, self.memory, self._ticks())
        if isinstance(said, steps.Up):
            return self._succeed(attempt, pending, turn)
        if isinstance(said, steps.Doubt):
            self._doubt_reload(pending, said)
        elif isinstance(said, steps.Overtaken):
            self.under_way = steps.Idle()
            is_ours = attempt.cycle is not None
            self.memory = replace(self.memory, was_overtaken=is_ours or self.memory.was_overtaken)
            self._tell_failed(attempt.cycle, f"{said.reason}; main.cf has changed since")
        elif isinstance(said, steps.NotServed):
            return self._not_served(attempt, said, found, asked)
        return None

    def _wished(self, pending: PendingActivation | None) -> dict[str, str]:
        """What a wish that was not served yet asks for, by parameter."""
        applied = self.markers.wishes().applied
        asked = {} if applied is None else applied.settings
        return {name: asked.get(name, "") for name in (pending.wished if pending else ())}

    def _not_served(
        self, attempt: Attempt, said: steps.NotServed, found: Found, asked: steps.Asked
    ) -> NotUp | None:
        pending = asked.pending
        if said.standing is Standing.FAILING:
            self._tell_failed(attempt.cycle, said.reason)
            at = self._ticks() + self._questions.grow()
            self.memory = replace(
                self.memory,
                failure=said.reason,
                retry_at=at,
                held_until=at,
                held_cycle=_cycle_of(pending),
            )
            self.under_way = steps.Failing(attempt)
            return None
        self._fail(pending, said.reason)
        if pending is not None and pending.rolled_back and not pending.failed:
            self.markers.note_failed(pending.cycle)
        # Where somebody writes all the time, what stands there now has to answer for it.
        tried = attempt.text if attempt.cycle is None else asked.text
        return NotUp(pending, said.standing, said.reason, tried, found.log, found.fatal)

    # --- the end ------------------------------------------------------------------------------

    def _succeed(
        self, attempt: Attempt, pending: PendingActivation | None, turn: Turn
    ) -> Activated | None:
        # What was seen stays seen where a full disk keeps it from being written down: that is tried
        # again, and Postfix is not restarted for it.
        self.under_way = steps.Served(attempt)
        actual, holder = self.read(), attempt.units[-1]
        is_started = bool(attempt.job) or actual.written_at <= attempt.began_at
        is_good = turn.is_good and (attempt.cycle is not None or actual.text == attempt.text)
        is_clear = self.markers.note_served(attempt.cycle, attempt.text, is_started, is_good)
        self.under_way, self._took_down = steps.Idle(), False
        had_failed = bool(self.memory.failure)
        self._forget_failures()
        self._starts.reset()
        self._questions.reset()
        self._seen = (holder.invocation, holder.changed_at, attempt.text)
        if attempt.cycle is None and had_failed:
            self.emit(Record(Event.ACTIVATED, "Postfix serves again"))
        if pending is None or attempt.cycle is None:
            # Whoever writes main.cf again and again has the port asked once a second.
            held_until = self._ticks() + steps.GLANCE_SECONDS
            self.memory = replace(self.memory, held_until=held_until)
            return Activated(None, self.clocks.clock())
        if not is_clear:
            return None  # corrected once more since: the next step restarts for that
        self._is_doubted = False
        self.markers.release_activation()
        return self._activated(attempt, pending)

    def _activated(self, attempt: Attempt, pending: PendingActivation) -> Activated:
        now = self.clocks.clock()
        exposure = replace(pending.exposure, activated_at=now)
        text = self._success_sentence(attempt, pending, now - exposure.written_at)
        fields = dict(exposure_fields(exposure))
        self.emit(Record(Event.ACTIVATED, text, pending.cycle, fields))
        return Activated(replace(pending, exposure=exposure), now)

    def _success_sentence(
        self, attempt: Attempt, pending: PendingActivation, exposed: float
    ) -> str:
        settings = "text that it served with before" if pending.rolled_back else "desired settings"
        how = "restarted, up" if attempt.job else "started by others, seen to serve"
        how = "reloaded, serves" if attempt.is_reload else how
        since = "the drift was written" if pending.parameters else "it was found to be down"
        since = "the desired state changed" if steps.is_wish(pending) else since
        text = (
            f"Postfix runs with the {settings}: {how} after"
            f" {sentences.duration(self._ticks() - attempt.started_at)},"
            f" {sentences.duration(exposed)} after {since}"
        )
        if attempt.doubt:
            text += f"; a reload did not do: {attempt.doubt}"
        if self.aliases.trouble:
            text += f"; but the aliases are old: {self.aliases.trouble}"
        return text

    def _fail(self, pending: PendingActivation | None, reason: str) -> None:
        self._rebuild = self._inquiry = None
        self.under_way = steps.Idle()
        cycle = _cycle_of(pending)
        until = self._ticks() + (self._starts if cycle is not None else self._questions).grow()
        self.memory = replace(
            self.memory,
            failure=reason,
            # A start that was not ours is no reason to put off one of ours.
            retry_at=0.0 if cycle is None else until,
            held_until=until,
            held_cycle=cycle,
            failed_cycle=cycle,
            failed_at=self.clocks.clock(),
            left="",
        )
        self._tell_failed(cycle, reason)

    def _forget_failures(self) -> None:
        self.memory = Memory(reload_at=self.memory.reload_at)
        self._told.clear()

    def _tell_failed(self, cycle: int | None, reason: str) -> None:
        """Put a failure on record, once for a cycle."""
        if (cycle, reason) not in self._told:
            self._told.append((cycle, reason))
            fields = {names.FIELD_REASON: reason}
            self.emit(Record(Event.ACTIVATION_FAILED, reason, cycle, fields))


def _cycle_of(pending: PendingActivation | None) -> int | None:
    return None if pending is None else pending.cycle
