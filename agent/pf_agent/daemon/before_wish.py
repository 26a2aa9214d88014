"""Asks Postfix's port before a wish is applied, to compare with its answer afterwards."""

from __future__ import annotations

import time

from pf_agent.activation.activation import Activation
from pf_agent.activation.aside import Aside
from pf_agent.activation.inquiry import ask_port
from pf_agent.daemon.shared import Shared
from pf_agent.errors import HostError
from pf_agent.model import ActualState, DesiredState, Heard, Reason, Trigger
from pf_agent.postfix.errands import Errands
from pf_agent.reconcile.in_force import InForce


class BeforeWish:
    """The question of one instance. `heard` is the answer; None if there is none, or none is due.

    A wish waits for it until `answer_by`, in ticks, and no longer. Drift never waits.
    """

    def __init__(
        self, name: str, postfix: Errands, activation: Activation, in_force: InForce, shared: Shared
    ) -> None:
        self._name = name
        self._postfix = postfix
        self._activation = activation
        self._in_force = in_force
        self._shared = shared
        self._wish: DesiredState | None = None
        self._asking: Aside[Heard] | None = None
        self.heard: Heard | None = None
        self.answer_by = 0.0

    def is_asked(self) -> bool:
        """Whether an answer is still expected."""
        return self._asking is not None

    def is_awaited(self, asked: DesiredState, actual: ActualState) -> bool:
        """Tell whether what the files ask for must wait for the answer. Raises HostError."""
        if not self._in_force.is_new(asked) or self._shared.may_only_observe(self._name):
            self._wish = self._asking = self.heard = None
            return False
        if asked != self._wish and not self._begins(asked, actual):
            return False
        if self._asking is None:
            return False
        try:
            self.heard = self._asking.answer()
        except HostError:
            self._asking = None  # the port could not be asked
            return False
        is_in_time = time.monotonic() < self.answer_by
        if self.heard is None and not is_in_time:
            self.heard = self._known()
        is_to_wait = self.heard is None and is_in_time
        if is_to_wait and not self._in_force.is_only_wished(asked, actual):
            is_to_wait = False  # main.cf was written meanwhile
        if not is_to_wait:
            self._asking = None
        return is_to_wait

    def _begins(self, asked: DesiredState, actual: ActualState) -> bool:
        """Ask; False if no Postfix can be asked, or if something else must be corrected."""
        self._wish, self._asking, self.heard = asked, None, None
        if self._activation.memory.left:
            self.heard = self._known()
            return False
        if actual.text is None or not self._in_force.is_only_wished(asked, actual):
            return False
        ended = Trigger(Reason.PROBE, instance=self._name)
        self._asking = Aside(
            "ask", lambda: ask_port(self._postfix), lambda: self._shared.post(ended)
        )
        self.answer_by = time.monotonic() + self._shared.ask_seconds
        return True

    def _known(self) -> Heard | None:
        """Return Postfix's last known state, for when its port cannot be asked or is slow."""
        left = self._activation.memory.left
        if left:
            return Heard(left, greeted=False)
        return Heard() if self._activation.served_last() else None
