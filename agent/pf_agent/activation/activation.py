"""One activation: newaliases, restart or reload, verify. A job that is followed, not waited for.

`advance` is called at each turn of the loop and does the next step that is due: steps.py decides
which one, course.py does it. A correction made while Postfix restarts updates the marker; the
restart that it needs is made once, at the end. A start by another process is verified like ours.

This module decides whether there is anything to do, and that no other process is doing it.
"""

from __future__ import annotations

from pf_agent.activation import states, steps
from pf_agent.activation.course import Course
from pf_agent.activation.ports import End, Turn
from pf_agent.errors import GaveWay, HostError
from pf_agent.model import PendingActivation


class Activation:
    """The activation of one instance."""

    def __init__(self, course: Course) -> None:
        self.course = course
        self._around = course.around
        self._may_act = True  # at the last turn
        self._elsewhere_until = 0.0

    @property
    def memory(self) -> states.Memory:
        """Why the last try failed, or why Postfix is left stopped."""
        return self.course.memory

    def doubt(self) -> None:
        """Check Postfix again: it may have been started, reloaded or stopped."""
        self.course.is_doubted = True

    def forget(self) -> None:
        """Drop the last failure: the change was reverted. The state of Postfix is not known yet."""
        self.course.forget_failure()

    def advance(self, turn: Turn) -> End | None:
        """Do the next step that is due; return how the activation ended, None until it has.

        A failure is recorded and retried later. If systemd could not be asked, the state of Postfix
        is unknown, and None is returned.
        """
        course, markers = self.course, self._around.markers
        self._may_act = turn.may_act
        pending = markers.pending() if turn.may_act else None
        if pending is None:
            course.drop_the_done()
        if pending is None and not course.is_doubted:
            markers.release_activation()
            return None
        if not markers.hold_activation():
            # Another process is activating.
            self._elsewhere_until = self._around.ticks() + steps.GLANCE_SECONDS
            return None
        try:
            end = course.step(pending, turn)
        except GaveWay:
            return None  # main.cf comes first, then this step again
        except HostError as error:
            course.break_off(pending, str(error))
            return None
        if pending is None and self.is_at_rest():
            markers.release_activation()
        return end

    def patience(self) -> float | None:
        """Seconds until `advance` must be called even without a trigger; None if at rest."""
        if self.is_under_way():
            return steps.GLANCE_SECONDS
        try:
            pending = self._around.markers.pending() if self._may_act else None
        except HostError:
            return steps.GLANCE_SECONDS  # `advance` runs into the same error and reports it
        if pending is None and not self.course.is_doubted:
            return None
        held_until = self.memory.held_until if self._is_held(pending) else 0.0
        return max(0.0, max(held_until, self._elsewhere_until) - self._around.ticks())

    def _is_held(self, pending: PendingActivation | None) -> bool:
        """Tell whether this marker is the one being held; another one may be due sooner."""
        return self.memory.held_cycle == states.cycle_of(pending)

    def is_elsewhere(self) -> bool:
        """Tell whether another process was activating at the last call of `advance`."""
        return self._elsewhere_until > self._around.ticks()

    def is_under_way(self) -> bool:
        """Tell whether a start or its verification is running."""
        at_rest = (states.Idle, states.Failing, states.Served)
        return not isinstance(self.course.under_way, at_rest)

    def is_at_rest(self) -> bool:
        """Tell whether Postfix was seen to serve and nothing is left to do."""
        return isinstance(self.course.under_way, states.Idle) and not self.course.is_doubted

    def is_failing(self) -> bool:
        """Tell whether Postfix is up, does not serve as it should, and is only asked again."""
        return isinstance(self.course.under_way, states.Failing)

    def served_last(self) -> bool:
        """Tell whether Postfix served when it was last checked."""
        return self.course.has_served and not self.memory.failure and not self.memory.left

    def is_served(self) -> bool:
        """Tell whether Postfix was seen to serve, but that could not be written to disk."""
        return isinstance(self.course.under_way, states.Served)
