"""systemd's job to restart or reload Postfix: queued outside the loop, which goes on.

While systemd or dbus-daemon does not answer, main.cf is corrected all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pf_agent.activation.aside import Aside
from pf_agent.activation.surroundings import Surroundings
from pf_agent.errors import HostError, NotBegun
from pf_agent.model import Reason, Trigger


class Job:
    """One job at a time, until systemd has queued it."""

    def __init__(self, around: Surroundings, post: Callable[[Trigger], None]) -> None:
        self._around = around
        self._post = post
        self._told: Aside[str] | None = None

    def reload(self, unit: str) -> None:
        """Have a unit reloaded."""
        self._tell(partial(self._around.service.reload, unit))

    def restart(self, units: tuple[str, ...]) -> None:
        """Have Postfix restarted; `units` are its units."""
        around = self._around

        def tell() -> str:
            # systemd also counts the starts that others asked for (systemd.unit(5),
            # StartLimitBurst=). One too many would leave Postfix down, though the text is not to
            # blame. Our own starts are limited by the budget.
            try:
                around.service.reset_failed(units)
            except HostError as error:
                raise NotBegun(str(error)) from error
            return around.service.restart(around.unit)

        self._tell(tell)

    def path(self) -> str | None:
        """Return the job's path once systemd has answered; None until then.

        Raises HostError: NotBegun if systemd does nothing, another one if it may do it anyway.
        """
        return self._told.answer() if self._told is not None else None

    def drop(self) -> None:
        """Ignore a pending answer. systemd still does the job."""
        self._told = None

    def _tell(self, queue: Callable[[], str]) -> None:
        self._told = Aside("job", queue, lambda: self._post(Trigger(Reason.JOB, "queued")))
