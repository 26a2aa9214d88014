"""Check Postfix after a start: ask its port; if that fails, check master and read the log."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Protocol

from pf_agent.activation.verdict import Found
from pf_agent.model import Greeting, Heard

# postfix(1) ends a reload once it has sent master a signal. Until master handles it, an idle
# smtpd from before may take the connection, and a bad text would pass as good: asked at once, that
# happened after 22 of 60 reloads, with 20 idle ones after 55, the latest 43 ms after the end of the
# job. Then master closes their status pipes, and they exit (master/single_server.c). Many exit
# sooner, because newaliases changed a table that they have open; on a site without local users they
# do not.
_RELOAD_PAUSE_SECONDS = 0.5


class Askable(Protocol):
    """Postfix, as implemented by `errands.Errands` and `installed.Postfix`."""

    def greeting(self) -> Greeting | None: ...
    def probe(self, greeting: Greeting) -> Heard: ...
    def ask_services(self, managed: Collection[str]) -> Heard: ...
    def lives(self) -> bool: ...
    def log_tail(self, units: Sequence[str], since: float) -> tuple[str, ...]: ...
    def fatal_lines(self, units: Sequence[str], since: float) -> tuple[str, ...]: ...


def ask_port(postfix: Askable, managed: Collection[str] = ()) -> Heard:
    """Return what the port answers. Raises HostError.

    If master.cf has no SMTP service there, no trouble is returned: the units are all there is to
    check, and the ports of the services of master.cf that are `managed`.
    """
    greeting = postfix.greeting()
    heard = Heard() if greeting is None else postfix.probe(greeting)
    return postfix.ask_services(managed) if managed and not heard.trouble else heard


def inquire(
    postfix: Askable,
    units: Sequence[str],
    since: float,
    trouble: str = "",
    is_reload: bool = False,
    managed: Collection[str] = (),
) -> Found:
    """Return the state of Postfix. `trouble` says why there is no port to ask. Raises HostError.

    `managed` are the services of master.cf that are asked as well. The log is read from `since`
    on, in seconds since the epoch.
    """
    if is_reload:
        time.sleep(_RELOAD_PAUSE_SECONDS)
    heard = Heard(trouble, greeted=False) if trouble else ask_port(postfix, managed)
    if not heard.trouble:
        return Found(heard)
    log, fatal = postfix.log_tail(units, since), postfix.fatal_lines(units, since)
    return Found(heard, postfix.lives(), log, fatal)
