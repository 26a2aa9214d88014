"""Why Postfix does not serve, and whether the desired state is to blame: pure.

The judgement rests on the port's answer, the log and the processes. A desired state is rejected
only on evidence. Any user of the host can hold a lock on a table or connections to the port, and
any server that Postfix asks may be unavailable: that must neither veto a change nor undo one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pf_agent.maincf.mentions import mentioned
from pf_agent.model import Heard, Standing

# What smtpd says if it cannot use a restriction (reject_server_error() in smtpd_check.c). "4.3.5
# Server configuration problem" has another cause: a policy server or milter is unavailable
# (smtpd_policy_service_default_action in postconf(5), milter/milter8.c).
MISCONFIGURED = "4.3.5 Server configuration error"
# The level comes first (util/msg.c). Words further on may be anybody's: a client's, in "warning:
# non-SMTP command from ...".
_WARNING = re.compile(r"\S+: (?:post\S+: )?(?:warning|error): ")
# Any user may run these, and choose what they log.
_ANYBODYS = re.compile(r"(?:\S+/)?(?:sendmail|postdrop|postqueue|newaliases|mailq)(?:\[|: )")
# A client, `name[address]`, or the name it gave itself in the DNS (smtpd/smtpd_peer.c).
_CLIENTS = re.compile(r"[\w.-]\[[0-9A-Fa-f.:]+\]|unknown\[|: hostname |: numeric ")
# The processes that a client needs before it is greeted.
_GREETS = re.compile(
    r"(?:\S+/)?(?:smtpd|postscreen|tlsproxy|dnsblog|proxymap|tlsmgr|master)(?:\[\d+\])?: "
)


@dataclass(frozen=True)
class Found:
    """What was found after a start: the port's answer, whether master runs, the end of the log.

    `fatal` are the lines in which programs of Postfix said why they exited (msg(3)), without any
    that another user of the host logged (postfix/log.py).
    """

    heard: Heard
    lives: bool = True
    log: tuple[str, ...] = ()
    fatal: tuple[str, ...] = ()


def verdict(found: Found, wished: Mapping[str, str], before: Heard | None) -> Standing:
    """Return the state of Postfix.

    `wished` are the new values, by parameter, of a wish not yet served; `before` is what the port
    answered before main.cf was changed for them, None if it could not be asked.
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
    """Tell whether master is not running, or every smtpd exits before it greets."""
    if not found.lives:
        return True
    return not found.heard.greeted and any(map(_GREETS.match, found.fatal))


def telling(found: Found) -> tuple[str, ...]:
    """Return the lines that say what is wrong, without those that may contain a client's words."""
    warnings = (line for line in found.log if _WARNING.match(line) and not _ANYBODYS.match(line))
    return (*found.fatal, *(line for line in warnings if not _CLIENTS.search(line)))
