"""Whether a reply at port 25 is the site's policy, or Postfix's own trouble. Pure.

Each reply here was seen with Postfix 3.7 and 3.10, unless noted.
"""

from __future__ import annotations

import re
from typing import Final

# RFC 3463: class, subject, detail. smtpd(8) and postscreen(8) put one into nearly every reply.
_ENHANCED: Final = re.compile(r"4\.(\d{1,3})\.\d{1,3}(?= |$)")
# The codes that mean trouble without an enhanced code: 3.10 greets with "421 ... Service
# unavailable - try again later" if a milter is unavailable.
_OWN_CODES: Final = (421, 451)
# The mail system (RFC 3463, X.3.X): "4.3.0 Temporary lookup failure", "4.3.1 Insufficient system
# storage", "4.3.5 Server configuration error" and "... problem" (an unavailable policy server).
_MAIL_SYSTEM: Final = "3"
# Security or policy: greylisting, `defer_if_permit`, a client without a name, too many connections.
_POLICY: Final = "7"
# What the restriction `defer` says (smtpd/smtpd_check.c), and postscreen to a client that has just
# passed its tests. With 421 it is postscreen's "All server ports are busy".
_DEFERRED: Final = "4.3.2"
# An unavailable milter, despite its 4.7.1 (milter/milter8.c); 3.7 says it at MAIL.
_MILTER_AWAY: Final = "4.7.1 Service unavailable"


def is_own_trouble(code: int, words: str) -> bool:
    """Whether the reply says that Postfix cannot serve, whatever the site's policy.

    5xx is a refusal, which only a working smtpd can give. For 4xx the enhanced code decides.
    """
    if not 400 <= code < 500:
        return code < 200
    enhanced = _ENHANCED.match(words)
    if enhanced is None or words.startswith(_MILTER_AWAY):
        return code in _OWN_CODES
    if enhanced[0] == _DEFERRED:
        return code == 421
    if enhanced[1] in (_MAIL_SYSTEM, _POLICY):
        return enhanced[1] == _MAIL_SYSTEM
    return code in _OWN_CODES
