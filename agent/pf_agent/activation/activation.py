"""One activation: newaliases, restart or reload, verify. A job that is followed, not waited in.

`advance` is called at each turn of the loop and does the next step that is due: course.py does it,
steps.py says which it is. A correction made while Postfix restarts moves the marker on; the restart
that it asks for is made once, at the end. A start that others asked for is verified like ours.

Here is whether there is anything to do, and that no other process is at it.
"""

from __future__ import annotations

from pf_agent.activation import states, steps
from pf_agent.activation.course import Course
from pf_agent.activation.ports import End, Turn
from pf_agent.errors import HostError
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
        """Why the last try failed, or why Postfix is left."""
        return self.course.memory

    def doubt(self) -> None:
        """Somebody may have started, reloaded or stopped Postfix: see how it stands."""
        self.course.is_doubted = True

    def forget(self) -> None:
        """What failed was taken back: how Postfix stands with the text of now is not known yet."""
        self.course.forget_failure()

    def advance(self, turn: Turn) -> End | None:
        """Do the next step that is due; return how the activation ended, at the end of it.

        A failure is put on record, and the next try comes by itself. Where it is not known how
        Postfix is, since systemd could not be asked, the end is None.
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
            # Another is at it.
            self._elsewhere_until = self._around.ticks() + steps.GLANCE_SECONDS
            return None
        try:
            end = course.step(pending, turn)
        except HostError as error:
            course.break_off(pending, str(error))
            return None
        if pending is None and self.is_at_rest():
            markers.release_activation()
        return end

    def patience(self) -> float | None:
        """Seconds until `advance` must be called even if no trigger comes; None: at rest."""
        if self.is_under_way():
            return steps.GLANCE_SECONDS
        try:
            pending = self._around.markers.pending() if self._may_act else None
        except HostError:
            return steps.GLANCE_SECONDS  # `advance` meets it as well, and its error is told of
        if pending is None and not self.course.is_doubted:
            return None
        held_until = self.memory.held_until if self._is_held(pending) else 0.0
        return max(0.0, max(held_until, self._elsewhere_until) - self._around.ticks())

    def _is_held(self, pending: PendingActivation | None) -> bool:
        """Tell whether it is this that is held: another marker may be due sooner."""
        return self.memory.held_cycle == states.cycle_of(pending)

    def is_under_way(self) -> bool:
        """Tell whether a start or its verification is running."""
        at_rest = (states.Idle, states.Failing, states.Served)
        return not isinstance(self.course.under_way, at_rest)

    def is_at_rest(self) -> bool:
        """Tell whether Postfix was seen to serve, and nothing is to be done."""
        return isinstance(self.course.under_way, states.Idle) and not self.course.is_doubted

    def served_last(self) -> bool:
        """Tell whether Postfix served when it was asked last."""
        return self.course.has_served and not self.memory.failure and not self.memory.left

    def is_served(self) -> bool:
        """Tell whether Postfix was seen to serve, and only that could not be written down."""
        return isinstance(self.course.under_way, states.Served)
