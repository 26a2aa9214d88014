"""What the instances of one daemon have in common, and when the window opens."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from pf_agent.activation import pacing
from pf_agent.activation.alias_database import RETRY_SECONDS
from pf_agent.bus.systemd import Systemd
from pf_agent.files.configuration import Configuration
from pf_agent.model import DesiredState, Emit, Mode, Suspension, Trigger, Window
from pf_agent.postfix.errands import Errands
from pf_agent.reporting.journal import Journal
from pf_agent.watch.watch import Watch
from pf_agent.watch.writers import Writers


def opens_in(window: Window | None) -> float:
    """Return the seconds until Postfix may be restarted, by this machine's local time."""
    now = time.localtime()
    return pacing.opens_in(window, now.tm_hour * 3600.0 + now.tm_min * 60 + now.tm_sec)


@dataclass(frozen=True)
class Shared:
    """What the instances of one daemon have in common.

    A wish waits for what Postfix's port says before it, and no longer than `ask_seconds`.
    """

    configuration: Configuration
    systemd: Systemd
    watch: Watch
    writers: Writers
    emit: Emit
    journal: Journal
    post: Callable[[Trigger], None]
    suspension: Callable[[], Suspension | None]
    errands: Callable[[str], Errands]
    ask_seconds: float = 2.0
    retry_seconds: float = RETRY_SECONDS  # AliasDatabase's

    def may_only_observe(self) -> bool:
        """Whether main.cf and Postfix are to be left as they are."""
        is_observing = self.configuration.options.mode is Mode.OBSERVE
        return is_observing or self.suspension() is not None

    def asked(self, instance: str) -> DesiredState | None:
        """Return what the files ask for of an instance, None where that is nothing."""
        return self.configuration.asked.get(instance)
