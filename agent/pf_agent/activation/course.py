"""The course of an activation: the steps that steps.py names, carried out one a turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from pf_agent.activation import states, steps
from pf_agent.activation.alias_database import AliasDatabase, Rebuild
from pf_agent.activation.aside import Aside
from pf_agent.activation.inquiry import inquire
from pf_agent.activation.pacing import Backoff
from pf_agent.activation.ports import End, Turn
from pf_agent.activation.reports import Reports
from pf_agent.activation.states import Attempt, Conditions, Memory, cycle_of
from pf_agent.activation.surroundings import Surroundings
from pf_agent.activation.verdict import Found
from pf_agent.errors import HostError
from pf_agent.model import Activated, Emit, NotUp, PendingActivation, Reason, Standing, Trigger

# Where others' start is long ago, what the log said then is not why the port does not answer now.
# After an smtpd that ended at once master waits so long (service_throttle_time in postconf(5)).
_LOG_SECONDS = 70.0


class Course:
    """What is under way, what is remembered of it, and how it goes on.

    `is_doubted`: it is not known whether Postfix serves as it stands.
    """

    def __init__(
        self,
        around: Surroundings,
        aliases: AliasDatabase,
        post: Callable[[Trigger], None],
        emit: Emit,
    ) -> None:
        self.around = around
        self._aliases = aliases
        self._post = post
        self._reports = Reports(emit)
        self.memory = Memory()
        self.under_way: states.UnderWay = states.Idle()
        self.is_doubted = True
        self._seen: tuple[str, float, bytes | None] | None = None  # the start seen to serve
        self._rebuild: Rebuild | None = None
        self._inquiry: Aside[Found] | None = None
        self._starts = Backoff(first=10.0)
        self._questions = Backoff(first=2.0, most=30.0)

    @property
    def has_served(self) -> bool:
        """Whether Postfix was ever seen to serve."""
        return self._seen is not None

    def forget_failure(self) -> None:
        """Why the last try failed is over; what else is remembered stays."""
        self.memory = replace(self.memory, failure="")

    def drop_the_done(self) -> None:
        """Without a marker there is nothing of ours to follow: another process has done it."""
        attempt = getattr(self.under_way, "attempt", None)
        is_ours = attempt is None or attempt.cycle is not None
        has_failed = self.memory.failed_cycle is not None
        if has_failed or (is_ours and not isinstance(self.under_way, states.Idle)):
            self.under_way, self._rebuild, self._inquiry = states.Idle(), None, None
            self._forget_failures()
            self.is_doubted = True

    def break_off(self, pending: PendingActivation | None, reason: str) -> None:
        """A step could not be done. That Postfix was seen to serve stays so."""
        way = self.under_way
        self._fail(pending, reason)
        if isinstance(way, states.Served):
            self.under_way = way

    def step(self, pending: PendingActivation | None, turn: Turn) -> End | None:
        """Do what is due for `pending`; without one, see whether Postfix serves.

        Raises HostError.
        """
        way = self.under_way
        if isinstance(way, states.Served):
            return self._succeed(way.attempt, pending, turn)
        if isinstance(way, states.Building):
            self._end_build(pending, turn)
        elif isinstance(way, states.Clearing):
            self._end_clear(way)
        elif isinstance(way, states.Restarting):
            self._follow(way.attempt, pending)
        elif isinstance(way, states.Probing):
            return self._hear(way.attempt, pending, turn)
        elif isinstance(way, states.Failing) and not self._is_asked_again(way.attempt, pending):
            return None
        elif pending is None:
            return self._verify(turn)
        else:
            self._begin(pending, turn)
        return None

    # --- nothing under way --------------------------------------------------------------------

    def _begin(self, pending: PendingActivation, turn: Turn) -> None:
        holds = self.around.conditions(turn)
        deed = steps.next_deed(pending, self.memory, holds)
        left = deed.why if isinstance(deed, steps.Leave) else ""
        held = deed.until if isinstance(deed, steps.Hold) else 0.0
        if left:
            held = holds.ticks + steps.MOST_CLOSED_SECONDS  # a trigger tells of its start
            self._reports.failed(pending.cycle, left)
        self.memory = replace(self.memory.held(pending.cycle, held), left=left)
        if isinstance(deed, steps.Build):
            self._rebuild = self._aliases.rebuild(cycle=pending.cycle)
            self.under_way = states.Building(pending.cycle)
            self._end_build(pending, turn)
        elif isinstance(deed, steps.Clear):
            job = self.around.service.reload(holds.units[-1].name)
            self.under_way = states.Clearing(pending.cycle, job, holds.ticks)
        elif isinstance(deed, steps.AskPort):
            began_at = holds.units[-1].began_at
            attempt = self.around.attempt(pending.cycle, holds.units, began_at)
            self._ask(attempt, since=self._lately(attempt))

    def _verify(self, turn: Turn) -> NotUp | None:
        """Nothing is to be done: see whether Postfix serves, whoever started it."""
        if self.memory.held_cycle is None and self.around.ticks() < self.memory.held_until:
            return None
        holds, actual = self.around.conditions(turn), self.around.read()
        holder = holds.units[-1]
        if holds.is_changing() or (not holds.is_up() and holds.is_locked):
            self.memory = self.memory.held(None, holds.ticks + steps.GLANCE_SECONDS)
            return None
        self.memory = replace(self.memory, left="" if holds.is_up() else holds.left)
        if not holds.is_up():
            if holds.left:
                self.is_doubted = False
                self._reports.failed(None, holds.left)
                return None
            reason = steps.down(holds.units)
            self._fail(None, reason)
            return NotUp(None, Standing.DOWN, reason, actual.text)
        if self._seen == (holder.invocation, holder.changed_at, actual.text):
            self.is_doubted = False
            self._forget_failures()
        else:
            attempt = self.around.attempt(None, holds.units, holder.began_at)
            self._ask(attempt, since=self._lately(attempt))
        return None

    def _is_asked_again(self, attempt: Attempt, pending: PendingActivation | None) -> bool:
        """Whether to go on: the port is asked again where nothing else has come up meanwhile."""
        cycle = cycle_of(pending)
        if cycle == attempt.cycle and self.around.ticks() < self.memory.retry_at:
            return False
        units = self.around.units()
        before = {unit.name: unit.invocation for unit in attempt.units}
        is_same = steps.down(units) == "" and units[-1].invocation == before.get(units[-1].name)
        if cycle == attempt.cycle and is_same and self.around.read().text == attempt.text:
            self._ask(replace(attempt, is_reload=False), since=self._lately(attempt))
            return False
        self.under_way = states.Idle()
        self.memory = replace(self.memory, retry_at=0.0)  # that was when to ask again
        return True

    # --- a start ------------------------------------------------------------------------------

    def _end_build(self, pending: PendingActivation | None, turn: Turn) -> None:
        # Old aliases deliver more mail than a Postfix with old settings: restarted with them.
        if pending is None or (self._rebuild is not None and self._rebuild.worked() is None):
            return
        self._rebuild, self.under_way = None, states.Idle()
        holds = self.around.conditions(turn)
        # Meanwhile somebody may have stopped Postfix, or started it.
        if isinstance(steps.next_deed(pending, self.memory, holds), steps.Build):
            self._start(pending, holds)

    def _start(self, pending: PendingActivation, holds: Conditions) -> None:
        around, units = self.around, holds.units
        is_reload = steps.may_reload(pending, self.memory, holds)
        attempt = around.attempt(pending.cycle, units, holds.now)
        attempt = replace(attempt, is_reload=is_reload, doubt=steps.doubt(pending, self.memory))
        if is_reload:
            # The umbrella's own reload would say nothing of the unit that holds master.
            job = around.service.reload(units[-1].name)
        else:
            # systemd counts the starts that others asked for, too (systemd.unit(5),
            # StartLimitBurst=). One too many would leave Postfix down, with a text that is not to
            # blame. For ours there is the budget.
            around.service.reset_failed(unit.name for unit in units)
            around.took_down = around.took_down or holds.is_up()
            job = around.service.restart(around.unit)
            around.note_restart(pending, holds)
        self.memory = replace(self.memory, unserved=None)
        self.under_way = states.Restarting(replace(attempt, job=job))

    def _end_clear(self, way: states.Clearing) -> None:
        """A reload that was to take drifted values from idle processes: the restart stays due."""
        result = self.around.service.job_result(way.job)
        ticks = self.around.ticks()
        if result is None and ticks < way.started_at + steps.JOB_SECONDS:
            return
        self.under_way = states.Idle()
        if result != "done":
            how = f"ended as {result}" if result else f"did not end in {steps.JOB_SECONDS:.0f} s"
            self._reports.failed(way.cycle, f"the reload of {self.around.unit} {how}")
            self.memory = replace(self.memory, reload_at=ticks + self._questions.grow())
            return
        allowed_at = steps.reload_allowed_at(way.started_at, ticks)
        self.memory = replace(self.memory, reload_at=allowed_at)
        self.around.markers.note_reloaded(way.cycle)

    def _follow(self, attempt: Attempt, pending: PendingActivation | None) -> None:
        """Go on to the port once the job is done."""
        around = self.around
        result = around.service.job_result(attempt.job)
        units = around.units() if result is not None else ()
        deed = steps.after_job(attempt, result, units, around.ticks(), around.unit)
        if isinstance(deed, steps.Fail):
            self._fail(pending, deed.reason)
        elif isinstance(deed, steps.Doubt):
            self._doubt_reload(pending, deed)
        elif isinstance(deed, steps.Ask):
            if attempt.is_reload:
                allowed_at = steps.reload_allowed_at(attempt.started_at, around.ticks())
                self.memory = replace(self.memory, reload_at=allowed_at)
            self._ask(replace(attempt, units=units), deed.trouble)

    def _doubt_reload(self, pending: PendingActivation | None, doubt: steps.Doubt) -> None:
        self.under_way = states.Idle()
        if pending is not None:
            self.memory = replace(self.memory, unserved=(pending.cycle, doubt.reason))

    # --- the port -----------------------------------------------------------------------------

    def _lately(self, attempt: Attempt) -> float:
        """Since when the log may tell why the port does not answer now."""
        return max(attempt.began_at, self.around.now() - _LOG_SECONDS)

    def _ask(self, attempt: Attempt, trouble: str = "", since: float | None = None) -> None:
        units = tuple(dict.fromkeys(unit.name for unit in attempt.units))
        since = attempt.began_at if since is None else since
        work = partial(inquire, self.around.postfix, units, since, trouble, attempt.is_reload)
        self._inquiry = Aside("probe", work, lambda: self._post(Trigger(Reason.PROBE)))
        self.under_way = states.Probing(attempt)

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
        around = self.around
        asked = steps.Asked(pending, around.read().text, around.wished(pending))
        if found.heard.trouble:
            holds = around.conditions(turn)
            asked = replace(asked, units=holds.units, left=holds.left)
        said = steps.after_answer(attempt, found, asked, self.memory, around.ticks())
        if isinstance(said, steps.Up):
            return self._succeed(attempt, pending, turn)
        if isinstance(said, steps.Gone):
            self.under_way, self.is_doubted = states.Idle(), True
        elif isinstance(said, steps.Doubt):
            self._doubt_reload(pending, said)
        elif isinstance(said, steps.Overtaken):
            self.under_way = states.Idle()
            is_ours = attempt.cycle is not None
            self.memory = replace(self.memory, was_overtaken=is_ours or self.memory.was_overtaken)
            self._reports.failed(attempt.cycle, f"{said.reason}; main.cf has changed since")
        elif isinstance(said, steps.NotServed):
            return self._not_served(attempt, said, found, asked)
        return None

    def _not_served(
        self, attempt: Attempt, said: steps.NotServed, found: Found, asked: steps.Asked
    ) -> NotUp | None:
        pending = asked.pending
        if said.standing is Standing.FAILING:
            self._reports.failed(attempt.cycle, said.reason)
            until = self.around.ticks() + self._questions.grow()
            self.memory = self.memory.failing(cycle_of(pending), said.reason, until)
            self.under_way = states.Failing(attempt)
            return None
        self._fail(pending, said.reason)
        if pending is not None and pending.rolled_back and not pending.failed:
            self.around.markers.note_failed(pending.cycle)
        # Where somebody writes all the time, what stands there now has to answer for it.
        tried = attempt.text if attempt.cycle is None else asked.text
        return NotUp(pending, said.standing, said.reason, tried, found.log, found.fatal)

    # --- the end ------------------------------------------------------------------------------

    def _succeed(
        self, attempt: Attempt, pending: PendingActivation | None, turn: Turn
    ) -> Activated | None:
        # What was seen stays seen where a full disk keeps it from being written down: that is tried
        # again, and Postfix is not restarted for it.
        self.under_way = states.Served(attempt)
        around, holder = self.around, attempt.units[-1]
        actual = around.read()
        is_started = bool(attempt.job) or actual.written_at <= attempt.began_at
        is_good = turn.is_good and (attempt.cycle is not None or actual.text == attempt.text)
        is_clear = around.markers.note_served(attempt.cycle, attempt.text, is_started, is_good)
        self.under_way, around.took_down = states.Idle(), False
        had_failed = bool(self.memory.failure)
        self._forget_failures()
        self._starts.reset()
        self._questions.reset()
        self._seen = (holder.invocation, holder.changed_at, attempt.text)
        if attempt.cycle is None and had_failed:
            self._reports.serves_again()
        if pending is None or attempt.cycle is None:
            # Whoever writes main.cf again and again has the port asked once a second.
            self.memory = self.memory.held(None, around.ticks() + steps.GLANCE_SECONDS)
            return Activated(None, around.now())
        if not is_clear:
            return None  # corrected once more since: the next step restarts for that
        self.is_doubted = False
        around.markers.release_activation()
        took = around.ticks() - attempt.started_at
        return self._reports.activated(attempt, pending, around.now(), took, self._aliases.trouble)

    def _fail(self, pending: PendingActivation | None, reason: str) -> None:
        self._rebuild = self._inquiry = None
        self.under_way = states.Idle()
        cycle, around = cycle_of(pending), self.around
        until = around.ticks() + (self._starts if cycle is not None else self._questions).grow()
        self.memory = self.memory.failed(cycle, reason, until, around.now())
        self._reports.failed(cycle, reason)

    def _forget_failures(self) -> None:
        self.memory = self.memory.without_failures()
        self._reports.forget()
