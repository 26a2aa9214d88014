"""What the instances of one daemon have in common, and when the window opens."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from pf_agent.activation import pacing
from pf_agent.activation.databases import RETRY_SECONDS
from pf_agent.bus.systemd import Systemd
from pf_agent.daemon.suspensions import Suspensions
from pf_agent.files.configuration import Configuration
from pf_agent.model import DesiredState, Emit, Mode, Trigger, Window
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

    A wish waits at most `ask_seconds` for the answer of Postfix's port before it. `tables_lock` is
    the file whose lock is held while the index of a table is replaced.
    """

    configuration: Configuration
    systemd: Systemd
    watch: Watch
    writers: Writers
    emit: Emit
    journal: Journal
    post: Callable[[Trigger], None]
    suspensions: Suspensions
    errands: Callable[[str], Errands]
    tables_lock: str
    ask_seconds: float = 2.0
    retry_seconds: float = RETRY_SECONDS  # of Databases

    def may_only_observe(self, instance: str) -> bool:
        """Whether main.cf and Postfix of an instance are to be left as they are."""
        is_observing = self.configuration.options.mode is Mode.OBSERVE
        return is_observing or self.suspensions.of(instance) is not None

    def asked(self, instance: str) -> DesiredState | None:
        """Return what the files ask for of an instance, None if there is nothing."""
        return self.configuration.asked.get(instance)
