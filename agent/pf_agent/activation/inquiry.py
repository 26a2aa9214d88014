"""Ask how Postfix stands after a start: its port; where that has trouble, master and the log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from pf_agent.activation.verdict import Found
from pf_agent.model import Greeting, Heard

# postfix(1) ends a reload when it has sent master a signal. Until master has heard it, an idle
# smtpd from before may take the connection, and a bad text would pass as good: asked at once, one
# did after 22 of 60 reloads, with 20 idle ones after 55, the latest 43 ms after the job's end. Then
# master closes their status pipes, and they are gone (master/single_server.c). Many go before, for
# newaliases has changed a table that they have open; those of a site without local users do not.
_RELOAD_PAUSE_SECONDS = 0.5


class Askable(Protocol):
    """Postfix, as `errands.Errands` and `installed.Postfix` have it."""

    def greeting(self) -> Greeting | None: ...
    def probe(self, greeting: Greeting) -> Heard: ...
    def lives(self) -> bool: ...
    def log_tail(self, units: Sequence[str], since: float) -> tuple[str, ...]: ...
    def fatal_lines(self, units: Sequence[str], since: float) -> tuple[str, ...]: ...


def ask_port(postfix: Askable) -> Heard:
    """Return what the port answers; without an SMTP service in master.cf the units are all there
    is. Raises HostError."""
    greeting = postfix.greeting()
    return Heard() if greeting is None else postfix.probe(greeting)


def inquire(
    postfix: Askable, units: Sequence[str], since: float, trouble: str = "", is_reload: bool = False
) -> Found:
    """Return how Postfix stands. `trouble` says why there is no port to ask. Raises HostError.

    The log is asked for from `since` on, seconds since the epoch.
    """
    if is_reload:
        time.sleep(_RELOAD_PAUSE_SECONDS)
    heard = Heard(trouble, greeted=False) if trouble else ask_port(postfix)
    if not heard.trouble:
        return Found(heard)
    log, fatal = postfix.log_tail(units, since), postfix.fatal_lines(units, since)
    return Found(heard, postfix.lives(), log, fatal)
