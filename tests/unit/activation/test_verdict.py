"""Whose fault it is that Postfix does not serve, row by row: what anybody can bring about vetoes
nothing, and what is shown to be to blame is rejected."""

from __future__ import annotations

import re

import pytest

from pf_agent.activation.verdict import Found, is_down, telling, verdict
from pf_agent.maincf.mentions import mentioned as names
from pf_agent.model import Heard, Standing

SERVED, FAILING, REJECTED, DOWN = Standing

WELL = Heard()
SILENT = Heard("127.0.0.1:25: no greeting for 10 s", greeted=False)
REFUSED = Heard("127.0.0.1:25: no connection (Connection refused)", greeted=False)
GONE = Heard("postfix@-.service is failed (exit-code)", greeted=False)
AWAY = Heard("RCPT got 451 4.7.1 Service unavailable", code=451, words="4.7.1 Service unavailable")
TABLE = Heard("RCPT got 451", code=451, words="4.3.0 <x>: Temporary lookup failure")
BROKEN = Heard("RCPT got 451", code=451, words="4.3.5 Server configuration error")
POLICY = Heard("RCPT got 451", code=451, words="4.3.5 Server configuration problem")
NO_KEY = Heard("STARTTLS got 454", code=454, words="4.7.0 TLS not available due to local problem")
OTHERS = Heard("greets as another", code=220, words="other.example ESMTP Postfix (Debian/GNU)")

SIZE = {"message_size_limit": "20000000"}
MILTERS = {"smtpd_milters": "inet:localhost:8891"}
TABLES = {"relay_domains": "$mydestination, hash:/etc/postfix/nope"}
RESTRICTIONS = {
    "smtpd_recipient_restrictions": "reject_nothing, check_policy_service inet:127.0.0.1:10040"
}
NONE: dict[str, str] = {}

NO_GREETING = "postfix/smtpd: fatal: bad numerical configuration: smtpd_hard_error_limit = x"
NO_TABLE = (
    "postfix/smtpd: error: open database /etc/postfix/nope.db: No such file or directory",
    "postfix/smtpd: warning: hash:/etc/postfix/nope is unavailable. open database",
)
NO_MILTER = "postfix/smtpd: warning: connect to Milter service inet:localhost:8891: refused"
NO_POLICY = "postfix/smtpd: warning: problem talking to server 127.0.0.1:10040: refused"


_ENDED = re.compile(r"\S+: (?:post\S+: )?(?:fatal|panic): ")


def seen(heard: Heard, lives: bool = True, log: tuple[str, ...] = ()) -> Found:
    """What is found where this is logged; a command that anybody may run is not trusted."""
    ended = [line for line in log if _ENDED.match(line) and "/sendmail: " not in line]
    return Found(heard, lives, log, tuple(ended))


@pytest.mark.parametrize(
    ("found", "wished", "before", "standing"),
    [
        pytest.param(seen(WELL), NONE, None, SERVED, id="it serves"),
        pytest.param(seen(WELL), SIZE, AWAY, SERVED, id="it serves, and did not before"),
        pytest.param(
            seen(WELL, False, (NO_GREETING,)), SIZE, WELL, SERVED, id="who answers, serves"
        ),
        # What anybody can bring about, and what is away.
        pytest.param(
            seen(SILENT), SIZE, WELL, FAILING, id="a lock on aliases.db, or idle connections"
        ),
        pytest.param(seen(SILENT), SIZE, None, FAILING, id="a lock, and nobody could be asked"),
        pytest.param(seen(REFUSED), SIZE, WELL, FAILING, id="no connection, master lives"),
        pytest.param(
            seen(SILENT, log=("postfix/smtpd: warning: database /etc/aliases.db is locked",)),
            {"alias_maps": "hash:/etc/aliases"},
            WELL,
            FAILING,
            id="no greeting and a warning that names a wished table",
        ),
        pytest.param(
            seen(AWAY, log=(NO_MILTER,)), NONE, None, FAILING, id="a milter is away, no wish"
        ),
        pytest.param(
            seen(AWAY, log=(NO_MILTER,)), SIZE, WELL, FAILING, id="a milter that nobody wished"
        ),
        pytest.param(
            seen(AWAY, log=(NO_MILTER,)),
            MILTERS,
            AWAY,
            FAILING,
            id="a wished milter is away, and mail stood still before",
        ),
        pytest.param(
            seen(POLICY, log=(NO_POLICY,)),
            SIZE,
            WELL,
            FAILING,
            id="a policy server or a milter is away: 4.3.5 is its word",
        ),
        pytest.param(seen(OTHERS), {"smtpd_banner": "x (Debian/GNU)"}, WELL, FAILING, id="banner"),
        pytest.param(
            seen(SILENT, log=("postfix/local: fatal: mailbox_size_limit is smaller",)),
            SIZE,
            WELL,
            FAILING,
            id="another program ends fatally while connections are held",
        ),
        pytest.param(
            seen(SILENT, log=("postfix/sendmail: fatal: message_size_limit",)),
            SIZE,
            WELL,
            FAILING,
            id="a user runs sendmail with words of his own",
        ),
        pytest.param(
            seen(
                SILENT,
                log=(
                    "postfix/smtpd: warning: non-SMTP command from x[10.0.0.9]: smtpd: fatal: x",
                    "postfix/smtpd: improper command pipelining: fatal: x",
                ),
            ),
            SIZE,
            WELL,
            FAILING,
            id="a stranger says fatal",
        ),
        pytest.param(
            seen(
                TABLE,
                log=(
                    "postfix/smtpd: warning: non-SMTP command from x[::1]: message_size_limit",
                    "postfix/smtpd: warning: hostname message_size_limit does not resolve to 6.6",
                    "postfix/smtpd: connect from message_size_limit[10.0.0.9]",
                ),
            ),
            SIZE,
            WELL,
            FAILING,
            id="a stranger says the wished name while a table is away",
        ),
        pytest.param(
            seen(TABLE, log=("postfix/smtpd: warning: tcp:10.0.0.1:99: timeout",)),
            {"mynetworks": "127.0.0.0/8 10.0.0.1"},
            WELL,
            FAILING,
            id="an address of the wish is but part of what is away",
        ),
        # What is shown to be to blame.
        pytest.param(
            seen(AWAY, log=(NO_MILTER,)), MILTERS, WELL, REJECTED, id="the wished milter is away"
        ),
        pytest.param(
            seen(AWAY, log=(NO_MILTER,)), MILTERS, None, REJECTED, id="so, nobody could be asked"
        ),
        pytest.param(
            seen(TABLE, log=NO_TABLE), TABLES, WELL, REJECTED, id="the wished table is not there"
        ),
        pytest.param(
            seen(POLICY, log=(NO_POLICY,)), RESTRICTIONS, WELL, REJECTED, id="the wished policy"
        ),
        pytest.param(
            seen(AWAY, log=(NO_MILTER,)),
            MILTERS,
            Heard("x", code=421, words="4.3.2 busy"),
            REJECTED,
            id="another trouble than before",
        ),
        pytest.param(
            seen(NO_KEY, log=('postfix/smtpd: warning: cannot load "/etc/x.key"',)),
            {"smtpd_tls_key_file": "/etc/x.key"},
            WELL,
            REJECTED,
            id="the wished key is not there: 454",
        ),
        pytest.param(
            seen(TABLE, log=("postfix/trivial-rewrite: error: parameter transport_maps: bad",)),
            {"transport_maps": "nope"},
            WELL,
            REJECTED,
            id="451 and the parameter by its name",
        ),
        # 4.3.5.
        pytest.param(seen(BROKEN), SIZE, WELL, REJECTED, id="4.3.5 that was not there"),
        pytest.param(seen(BROKEN), SIZE, AWAY, REJECTED, id="4.3.5 where another 451 was"),
        pytest.param(seen(BROKEN), SIZE, BROKEN, FAILING, id="4.3.5 as before"),
        pytest.param(seen(BROKEN), SIZE, None, FAILING, id="4.3.5, nobody could be asked"),
        pytest.param(seen(BROKEN), NONE, WELL, FAILING, id="4.3.5 without a wish"),
        # Nobody is there.
        pytest.param(seen(GONE, False), NONE, None, DOWN, id="no master, no wish"),
        pytest.param(seen(GONE, False), SIZE, WELL, REJECTED, id="no master after a wish"),
        pytest.param(seen(GONE, False), SIZE, None, REJECTED, id="no master, not asked before"),
        pytest.param(seen(GONE, False), SIZE, GONE, DOWN, id="no master before the wish either"),
        pytest.param(
            seen(GONE, False, ("postfix/master: fatal: bad: message_size_limit = x",)),
            SIZE,
            GONE,
            REJECTED,
            id="no master before, and now the log names the wish",
        ),
        pytest.param(
            seen(GONE, False, ("postfix: postfix/postfix-script: fatal: no /etc/x.d",)),
            {"queue_directory": "/etc/x.d"},
            GONE,
            REJECTED,
            id="so, by the value, as systemd has caught it",
        ),
        pytest.param(seen(REFUSED, False), SIZE, WELL, REJECTED, id="no master, active unit"),
        pytest.param(
            seen(SILENT, log=(NO_GREETING,)), NONE, None, DOWN, id="every smtpd ends, no wish"
        ),
        pytest.param(
            seen(SILENT, log=(NO_GREETING,)), SIZE, WELL, REJECTED, id="every smtpd ends: a wish"
        ),
        pytest.param(
            seen(SILENT, log=(NO_GREETING,)), SIZE, SILENT, DOWN, id="every smtpd ended before"
        ),
        pytest.param(
            seen(AWAY, log=(NO_GREETING, NO_MILTER)),
            SIZE,
            WELL,
            FAILING,
            id="one smtpd ended and another greets",
        ),
        pytest.param(seen(GONE, True), SIZE, WELL, FAILING, id="a failed unit whose master lives"),
    ],
)
def test_verdict(
    found: Found, wished: dict[str, str], before: Heard | None, standing: Standing
) -> None:
    assert verdict(found, wished, before) is standing


@pytest.mark.parametrize(
    ("line", "is_that"),
    [
        ("postfix/smtpd: fatal: x", True),
        ("postfix/smtpd: panic: x", True),
        ("postfix/submission/smtpd: fatal: x", True),
        ("postfix-out/smtpd[12]: fatal: x", True),
        ("mail/postscreen: fatal: x", True),
        ("postfix/proxymap: fatal: open /x: No such file", True),
        ("postfix/master: fatal: bind 0.0.0.0 port 25: Address already in use", True),
        ("postfix/smtp: fatal: x", False),
        ("postfix/local: fatal: x", False),
        ("postfix/pickup: fatal: x", False),
        ("postfix/smtpd: warning: fatal: x", False),
        ("postfix/smtpd: warning: process /usr/lib/postfix/sbin/smtpd exit status 1", False),
        ("postfix/sendmail: fatal: smtpd: fatal: x", False),
        ("postfix/postdrop: fatal: x", False),
        ("postfix/postqueue[7]: fatal: x", False),
        ("fatal: x", False),
        ("", False),
    ],
)
def test_down_is_who_does_not_come_to_greet(line: str, is_that: bool) -> None:
    assert is_down(seen(SILENT, log=(line,))) is is_that
    assert not is_down(seen(AWAY, log=(line,)))


def test_the_lines_that_end_come_first() -> None:
    log = (
        "systemd: Starting postfix@-.service",
        "postfix/smtpd: warning: one",
        "postfix/postfix-script: fatal: two",
        "postfix/cleanup: error: three",
        "postfix/newaliases: warning: four",
        "postfix/smtpd: connect from x[10.0.0.1]",
    )
    assert telling(seen(SILENT, log=log)) == (log[2], log[1], log[3])


@pytest.mark.parametrize(
    ("line", "value", "is_named"),
    [
        pytest.param("bad numeric configuration: its_name = ten", "ten", True, id="its name"),
        pytest.param("parameter its_name: bad", "", True, id="its name, without a value"),
        pytest.param("fatal: not_its_name = ten", "ten", False, id="in a longer name"),
        pytest.param("its_name_too = ten", "ten", False, id="at the beginning of a longer name"),
        pytest.param("its_name.example: not found", "", False, id="in a domain"),
        pytest.param("<its_name@example.net>: unknown", "", False, id="in an address"),
        pytest.param("hash:/etc/nope is unavailable", "a, hash:/etc/nope", True, id="a table"),
        pytest.param("open database /etc/nope.db: x", "hash:/etc/nope", True, id="its file"),
        pytest.param("open /etc/nope.lmdb: x", "lmdb:/etc/nope", True, id="its file in lmdb"),
        pytest.param("open /etc/nope: x", "proxy:mysql:/etc/nope", True, id="behind proxymap"),
        pytest.param("open /etc/nopes: x", "hash:/etc/nope", False, id="another table"),
        pytest.param("open /srv/etc/nope: x", "hash:/etc/nope", False, id="another folder"),
        pytest.param("open /etc/nope/x: x", "hash:/etc/nope", False, id="a folder of that name"),
        pytest.param("connect to inet:[::1]:89: x", "inet:[::1]:89", True, id="an IPv6 socket"),
        pytest.param("connect to [::1]:1089: x", "inet:[::1]:1089", True, id="without its type"),
        pytest.param("connect to 10.0.0.1:10040: x", "inet:10.0.0.1:1004", False, id="a port"),
        pytest.param(
            "connect to private/auth: x", "{ unix:private/auth, timeout=5s }", True, id="braces"
        ),
        pytest.param("bind 10.0.0.9: x", "loopback-only 10.0.0.9", True, id="an address"),
        pytest.param("bind 110.0.0.9: x", "10.0.0.9", False, id="the end of an address"),
        pytest.param("inet:10.0.0.9:89: x", "10.0.0.9", False, id="another thing's address"),
        pytest.param("warning: yes, no such file", "yes", False, id="a word of many lines"),
        pytest.param("the user is unknown", "unknown", False, id="a longer word"),
        pytest.param("Error: queue file write error", "Error: please call", False, id="colon"),
        pytest.param("limit is 20000000", "20000000", False, id="a number"),
        pytest.param("open /a: x", "/a", False, id="too short to tell"),
        pytest.param("anything (at all)", ".* (?", False, id="a value is no pattern"),
        pytest.param("anything", "", False, id="nothing"),
    ],
)
def test_names(line: str, value: str, is_named: bool) -> None:
    assert names(line, {"its_name": value}) == (frozenset({"its_name"} if is_named else ()))
    assert names(line, {}) == frozenset()
