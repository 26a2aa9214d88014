"""Whose fault it is that Postfix does not serve, by what was heard, logged and asked: pure.

A desired state is rejected only where it is shown to be to blame. Anybody on the host can have a
lock on a table or hold connections to the port, and any server that Postfix asks may be away: that
must neither veto a change nor undo one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pf_agent.maincf.mentions import mentioned
from pf_agent.model import Heard, Standing

# What smtpd says where it cannot use a restriction (reject_server_error() of smtpd_check.c). "4.3.5
# Server configuration problem" is another's trouble: a policy server or a milter is away
# (smtpd_policy_service_default_action in postconf(5), milter/milter8.c).
MISCONFIGURED = "4.3.5 Server configuration error"
# The level stands at the beginning (util/msg.c). Further on, the words are whose they may be: a
# client's, in "warning: non-SMTP command from ...".
_WARNING = re.compile(r"\S+: (?:post\S+: )?(?:warning|error): ")
# Anybody may run these, with words of the caller's.
_ANYBODYS = re.compile(r"(?:\S+/)?(?:sendmail|postdrop|postqueue|newaliases|mailq)(?:\[|: )")
# A client, `name[address]`, or the name that one gave itself in the DNS (smtpd/smtpd_peer.c).
_CLIENTS = re.compile(r"[\w.-]\[[0-9A-Fa-f.:]+\]|unknown\[|: hostname |: numeric ")
# What a client waits for before it is greeted.
_GREETS = re.compile(
    r"(?:\S+/)?(?:smtpd|postscreen|tlsproxy|dnsblog|proxymap|tlsmgr|master)(?:\[\d+\])?: "
)


@dataclass(frozen=True)
class Found:
    """What was asked after a start: the port's answer, whether master runs, the end of the log.

    `fatal` are the lines with which programs of Postfix said why they ended (msg(3)), and none that
    anybody else on the host has logged (postfix/log.py).
    """

    heard: Heard
    lives: bool = True
    log: tuple[str, ...] = ()
    fatal: tuple[str, ...] = ()


def verdict(found: Found, wished: Mapping[str, str], before: Heard | None) -> Standing:
    """Return how Postfix stands.

    `wished` are the new values by parameter, those of a wish that was not served yet; `before` is
    what the port answered before main.cf was changed for them, None where it could not be asked.
    """
    heard = found.heard
    if not heard.trouble:
        return Standing.SERVED
    is_named = any(mentioned(line, wished) for line in (heard.words, *telling(found)))
    if is_down(found):
        did_serve = before is None or not before.trouble
        return Standing.REJECTED if wished and (did_serve or is_named) else Standing.DOWN
    is_new = before is None or before.code != heard.code
    if 400 <= heard.code < 500 and is_named and is_new:
        return Standing.REJECTED
    was_right = before is not None and MISCONFIGURED not in before.words
    if wished and was_right and MISCONFIGURED in heard.words:
        return Standing.REJECTED
    return Standing.FAILING


def is_down(found: Found) -> bool:
    """Tell whether no master runs, or every smtpd ends before it greets."""
    if not found.lives:
        return True
    return not found.heard.greeted and any(map(_GREETS.match, found.fatal))


def telling(found: Found) -> tuple[str, ...]:
    """Return the lines that say what is wrong, without those in which a client has a word."""
    warnings = (line for line in found.log if _WARNING.match(line) and not _ANYBODYS.match(line))
    return (*found.fatal, *(line for line in warnings if not _CLIENTS.search(line)))
