"""Ask Postfix at its port whether it serves mail: does it greet as it should, and take a recipient.

An active unit proves little. A master may run whose every smtpd dies before the greeting, and a
restriction that smtpd cannot read shows at RCPT only, as 451 4.3.5. No message is ever sent.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import smtplib

PATIENCE_SECONDS = 10.0
_PAUSE_SECONDS = 0.05
_LEAST_SECONDS = 0.1
_LONGEST_QUOTE = 200
_SEE_LOG = "see `journalctl -u 'postfix*'`"

# Postfix's own trouble, whatever the site's policy says (smtpd(8): 421 closes the session,
# "451 4.3.5 Server configuration error" is a restriction or a table that cannot be used).
_OWN_TROUBLE = (421, 451)


class _Failed(Exception):
    """The dialogue shows that Postfix does not serve; another try would show the same."""


class _NotYet(Exception):
    """Nobody greets so far; another try may find otherwise."""


def probe(
    address: str,
    port: int,
    banner: str | None,
    recipient: str | None = None,
    patience: float = PATIENCE_SECONDS,
) -> str:
    """Hold the start of an SMTP dialogue: EHLO, MAIL, RCPT, RSET, QUIT.

    Returns "" when Postfix greets with `banner` and answers for `recipient`, else one sentence on
    what was wrong. `banner` is smtpd_banner with its $names expanded, None to accept any.
    `recipient` is the postmaster of `address` unless given: always local where Postfix listens
    there, and subject to all restrictions. A refusal other than 421 and 451 is a policy's answer,
    given by an smtpd that works. While the port refuses, closes or says 4xx in place of a greeting,
    it is tried again for `patience` seconds. Trouble of the network is an answer, never an
    exception.
    """
    deadline = time.monotonic() + patience
    place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    while True:
        try:
            _converse(address, port, banner, recipient, deadline)
        except _Failed as error:
            return f"{place}: {error}"
        except _NotYet as error:
            if time.monotonic() + _PAUSE_SECONDS >= deadline:
                return f"{place}: {error} for {patience:g} s; {_SEE_LOG}"
        else:
            return ""
        time.sleep(_PAUSE_SECONDS)


def _converse(
    address: str, port: int, banner: str | None, recipient: str | None, deadline: float
) -> None:
    """One try; raises _NotYet or _Failed."""
    # Here and not above: it pulls in ssl and email, which most verbs never need.
    import smtplib

    # Without a name of our own smtplib looks one up, and a resolver may hang. An address literal
    # also passes reject_non_fqdn_helo_hostname. As a recipient's domain it takes us through the
    # restrictions; a bare "postmaster" is taken by smtpd before it looks at any of them.
    literal = f"[IPv6:{address}]" if ":" in address else f"[{address}]"
    client = smtplib.SMTP(local_hostname=literal, timeout=_left(deadline))
    with contextlib.closing(client):
        _greet(client, address, port, banner, deadline)
        _say(client, "EHLO", literal, deadline)
        _say(client, "MAIL", "FROM:<>", deadline)
        _say(client, "RCPT", f"TO:<{recipient or 'postmaster@' + literal}>", deadline)
        _say(client, "RSET", "", deadline)
        # What was asked is answered: how the session closes says nothing more.
        with contextlib.suppress(OSError, smtplib.SMTPException):
            client.docmd("QUIT")


def _greet(
    client: smtplib.SMTP, address: str, port: int, banner: str | None, deadline: float
) -> None:
    import smtplib

    try:
        code, text = client.connect(address, port)
    except smtplib.SMTPServerDisconnected as error:
        closed = "the connection was closed before a greeting"
        raise _NotYet("no greeting came" if _timed_out(error) else closed) from None
    except smtplib.SMTPResponseException as error:
        raise _Failed(f"the greeting is not SMTP: {_quote(error.smtp_error)}") from None
    except OSError as error:
        raise _NotYet(f"no connection ({error.strerror or error})") from None
    if code != 220:
        answer = f"{code} {_quote(text)}"
        if code == -1 or code >= 500:
            raise _Failed(f"expected a greeting with 220, got {answer}; {_SEE_LOG}")
        raise _NotYet(f"expected a greeting with 220, got {answer}")
    _compare(banner, text)


def _compare(banner: str | None, text: bytes) -> None:
    """The last line counts: postscreen(8) may send its own lines, "220-", before it."""
    if banner is None:
        return
    greeted = _squeeze(text.rpartition(b"\n")[2].decode("utf-8", "surrogateescape"))
    if greeted != _squeeze(banner):
        raise _Failed(
            f'greets as "{_quote(greeted)}", expected "{_quote(banner)}"; '
            "does another program or another Postfix hold the port?"
        )


def _say(client: smtplib.SMTP, verb: str, argument: str, deadline: float) -> None:
    """Send one command and judge the answer; raises _Failed."""
    import smtplib

    if client.sock is not None:
        client.sock.settimeout(_left(deadline))
    try:
        code, text = client.docmd(verb, argument)
    except (smtplib.SMTPException, OSError) as error:
        broke = f"the connection broke at {verb} ({_quote(str(error))})"
        fact = f"no answer to {verb}" if _timed_out(error) else broke
        raise _Failed(f"{fact}; {_SEE_LOG}") from None
    if code in _OWN_TROUBLE or code < 200:
        raise _Failed(f"{verb} got {code} {_quote(text)}; {_SEE_LOG}")


def _timed_out(error: BaseException) -> bool:
    # smtplib says "closed" for a time-out too, and keeps the cause in the context alone.
    return isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError)


def _left(deadline: float) -> float:
    # A time-out of 0 would mean "do not block" to the socket.
    return max(deadline - time.monotonic(), _LEAST_SECONDS)


def _squeeze(text: str) -> str:
    # Postfix's `postconf -x` squeezes white space, its greeting does not.
    return " ".join(text.split())


def _quote(text: bytes | str) -> str:
    """A server's words on one line of printable characters, cut to a length that a log bears."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    text = _squeeze(text)
    printable = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return printable if len(printable) <= _LONGEST_QUOTE else printable[:_LONGEST_QUOTE] + "..."
