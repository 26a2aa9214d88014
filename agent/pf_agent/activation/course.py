"""The course of an activation: carries out the steps that steps.py chooses, one a turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from pf_agent.activation import states, steps
from pf_agent.activation.aside import Aside
from pf_agent.activation.databases import Databases, Rebuild
from pf_agent.activation.inquiry import inquire
from pf_agent.activation.job import Job
from pf_agent.activation.pacing import Backoff
from pf_agent.activation.ports import End, Turn
from pf_agent.activation.reports import Reports
from pf_agent.activation.states import Attempt, Conditions, Memory, cycle_of
from pf_agent.activation.surroundings import Surroundings
from pf_agent.activation.verdict import Found
from pf_agent.errors import HostError, NotBegun
from pf_agent.model import Activated, Emit, NotUp, PendingActivation, Reason, Standing, Trigger

# If another process started Postfix long ago, what was logged then does not explain why the port
# is silent now. master waits this long after an smtpd that exited at once (service_throttle_time in
# postconf(5)).
_LOG_SECONDS = 70.0


class Course:
    """What is in progress, what is remembered of it, and what comes next.

    `is_doubted`: it is not known whether Postfix serves at present.
    """

    def __init__(
        self,
        around: Surroundings,
        aliases: Databases,
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
        self._seen: tuple[str, float, bytes | None] | None = None  # the last start seen to serve
        self._rebuild: Rebuild | None = None
        self._inquiry: Aside[Found] | None = None
        self._job = Job(around, post)
        self._starts = Backoff(first=10.0)
        self._questions = Backoff(first=2.0, most=30.0)

    @property
    def has_served(self) -> bool:
        """Whether Postfix was ever seen to serve."""
        return self._seen is not None

    def forget_failure(self) -> None:
        """Forget why the last try failed; all else that is remembered stays."""
        self.memory = replace(self.memory, failure="")

    def drop_the_done(self) -> None:
        """Drop what is in progress: without a marker, another process has finished it."""
        attempt = getattr(self.under_way, "attempt", None)
        is_ours = attempt is None or attempt.cycle is not None
        has_failed = self.memory.failed_cycle is not None
        if has_failed or (is_ours and not isinstance(self.under_way, states.Idle)):
            self._drop()
            self._forget_failures()
            self.is_doubted = True

    def break_off(self, pending: PendingActivation | None, reason: str) -> None:
        """Record that a step could not be done. That Postfix was seen to serve still holds."""
        way = self.under_way
        self._fail(pending, reason)
        if isinstance(way, states.Served):
            self.under_way = way

    def step(self, pending: PendingActivation | None, turn: Turn) -> End | None:
        """Do what is due for `pending`; if that is None, check whether Postfix serves.

        Raises HostError.
        """
        way = self.under_way
        if isinstance(way, states.Served):
            return self._succeed(way.attempt, pending, turn)
        if isinstance(way, states.Building):
            self._end_build(pending, turn)
        elif isinstance(way, states.Clearing):
            self._end_clear(way)
        elif isinstance(way, states.Queueing):
            self._hear_job(way.attempt)
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

    # --- nothing in progress ------------------------------------------------------------------

    def _begin(self, pending: PendingActivation, turn: Turn) -> None:
        holds = self.around.conditions(turn)
        deed = steps.next_deed(pending, self.memory, holds)
        left = deed.why if isinstance(deed, steps.Leave) else ""
        held, awaited = 0.0, ""
        if isinstance(deed, steps.Hold):
            held, awaited = deed.until, deed.awaited
        if left:
            held = holds.ticks + steps.MOST_CLOSED_SECONDS  # a trigger reports its start
            self._reports.failed(pending.cycle, left)
        self.memory = replace(self.memory.held(pending.cycle, held, awaited), left=left)
        if isinstance(deed, steps.Build):
            self._rebuild = self._aliases.rebuild(cycle=pending.cycle)
            self.under_way = states.Building(pending.cycle, holds.ticks)
            self._end_build(pending, turn)
        elif isinstance(deed, steps.Clear):
            self._job.reload(holds.units[-1].name)
            self.under_way = states.Clearing(pending.cycle, "", holds.ticks)
        elif isinstance(deed, steps.AskPort):
            began_at = holds.units[-1].began_at
            attempt = self.around.attempt(pending.cycle, holds.units, began_at)
            self._ask(attempt, since=self._lately(attempt))

    def _verify(self, turn: Turn) -> NotUp | None:
        """With nothing to activate, check whether Postfix serves, whichever process started it."""
        if self.memory.held_cycle is None and self.around.ticks() < self.memory.held_until:
            return None
        holds, actual = self.around.conditions(turn), self.around.read()
        holder = holds.units[-1]
        # To ask, Postfix's programs read main.cf: a FIFO makes them wait, and a device has no end.
        is_unreadable = bool(actual.refused)
        awaited = steps.DPKG_WORKS if not holds.is_up() and holds.is_locked else ""
        if is_unreadable or holds.is_changing() or awaited:
            self.memory = self.memory.held(None, holds.ticks + steps.GLANCE_SECONDS, awaited)
            return None
        left = "" if holds.is_up() else holds.left
        self.memory = replace(self.memory, left=left, awaited="")
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
        """Tell whether to go on; if nothing else has started since, the port is asked again."""
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
        self.memory = replace(self.memory, retry_at=0.0)  # only the time of the next question
        is_edited = is_same and cycle is not None and cycle == attempt.cycle
        if is_edited and not self.memory.overtaken_at:
            # An smtpd may hang for hours in what the text before named, as in a FIFO for a table.
            self.memory = replace(self.memory, overtaken_at=self.around.now())
        return True

    # --- a start ------------------------------------------------------------------------------

    def _end_build(self, pending: PendingActivation | None, turn: Turn) -> None:
        # Old aliases deliver more mail than Postfix with old settings: restart even if this
        # failed.
        is_late = (
            isinstance(self.under_way, states.Building)
            and self.around.ticks() >= self.under_way.started_at + steps.BUILD_SECONDS
        )
        is_running = self._rebuild is not None and self._rebuild.worked() is None
        if pending is None or (is_running and not is_late):
            return
        # Where a call to systemd gives way, it is not built again: that may take half a minute.
        self._rebuild = None
        holds = self.around.conditions(turn)
        # Postfix may have been stopped or started meanwhile.
        if isinstance(steps.next_deed(pending, self.memory, holds), steps.Build):
            self._start(pending, holds)
        else:
            self.under_way = states.Idle()

    def _start(self, pending: PendingActivation, holds: Conditions) -> None:
        around, units = self.around, holds.units
        is_reload = steps.may_reload(pending, self.memory, holds)
        attempt = around.attempt(pending.cycle, units, holds.now)
        attempt = replace(attempt, is_reload=is_reload, doubt=steps.doubt(pending, self.memory))
        if is_reload:
            # A reload of the umbrella unit says nothing about the unit that holds master.
            self._job.reload(units[-1].name)
        else:
            self._job.restart(tuple(unit.name for unit in units))
            around.note_restart(pending, holds)
        self.memory = replace(self.memory, unserved=None)
        self.under_way = states.Queueing(attempt)

    def _hear_job(self, attempt: Attempt) -> None:
        """Follow the job once systemd has answered."""
        try:
            job = self._job.path()
        except NotBegun:
            if not attempt.is_reload:
                self.around.forget_restart()
            raise
        if job is not None:
            self.under_way = states.Restarting(replace(attempt, job=job))

    def _end_clear(self, way: states.Clearing) -> None:
        """Finish a reload that cleared drifted values from idle processes; the restart is due."""
        job = way.job or self._job.path()
        if job is None:
            return
        self.under_way = replace(way, job=job)
        result = self.around.service.job_result(job)
        ticks = self.around.ticks()
        if result is None and ticks < way.started_at + steps.JOB_SECONDS:
            return
        self.under_way = states.Idle()
        if result != "done":
            late = f"did not finish within {steps.JOB_SECONDS:.0f} s"
            how = f"ended as {result}" if result else late
            self._reports.failed(way.cycle, f"the reload of {self.around.unit} {how}")
            self.memory = replace(self.memory, reload_at=ticks + self._questions.grow())
            return
        allowed_at = steps.reload_allowed_at(way.started_at, ticks)
        self.memory = replace(self.memory, reload_at=allowed_at)
        self.around.markers.note_reloaded(way.cycle)

    def _follow(self, attempt: Attempt, pending: PendingActivation | None) -> None:
        """Ask the port once the job is done."""
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
        """Return since when log lines may explain why the port does not answer now."""
        return max(attempt.began_at, self.around.now() - _LOG_SECONDS)

    def _ask(self, attempt: Attempt, trouble: str = "", since: float | None = None) -> None:
        units = tuple(dict.fromkeys(unit.name for unit in attempt.units))
        since = attempt.began_at if since is None else since
        around, is_reload = self.around, attempt.is_reload
        managed = around.others.managed()
        work = partial(inquire, around.postfix, units, since, trouble, is_reload, managed)
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
            self._fail(pending, f"the probe of Postfix was aborted: {error!r}")
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
            if attempt.cycle is not None:
                self.memory = replace(self.memory, overtaken_at=around.now())
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
        # If main.cf is written all the time, the text that is there now is judged.
        tried = attempt.text if attempt.cycle is None else asked.text
        return NotUp(pending, said.standing, said.reason, tried, found.log, found.fatal)

    # --- the end ------------------------------------------------------------------------------

    def _succeed(
        self, attempt: Attempt, pending: PendingActivation | None, turn: Turn
    ) -> Activated | None:
        # If a full disk keeps this from being written down, it is not forgotten: only the writing
        # is tried again, and Postfix is not restarted for it.
        self.under_way = states.Served(attempt)
        around, holder = self.around, attempt.units[-1]
        actual = around.read()
        is_started = bool(attempt.job) or actual.written_at <= attempt.began_at
        is_good = turn.is_good and (attempt.cycle is not None or actual.text == attempt.text)
        around.others.note_served(attempt.began_at)
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
            # While main.cf is written over and over, the port is asked once a second.
            self.memory = self.memory.held(None, around.ticks() + steps.GLANCE_SECONDS)
            return Activated(None, around.now())
        if not is_clear:
            return None  # corrected again since: the next step restarts for that
        self.is_doubted = False
        around.markers.release_activation()
        took = around.ticks() - attempt.started_at
        return self._reports.activated(attempt, pending, around.now(), took, self._aliases.trouble)

    def _fail(self, pending: PendingActivation | None, reason: str) -> None:
        self._drop()
        cycle, around = cycle_of(pending), self.around
        until = around.ticks() + (self._starts if cycle is not None else self._questions).grow()
        self.memory = self.memory.failed(cycle, reason, until, around.now())
        self._reports.failed(cycle, reason)

    def _drop(self) -> None:
        """Drop what is in progress."""
        self.under_way = states.Idle()
        self._rebuild = self._inquiry = None
        self._job.drop()

    def _forget_failures(self) -> None:
        self.memory = self.memory.without_failures()
        self._reports.forget()
