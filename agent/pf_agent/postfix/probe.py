"""Ask Postfix at its port whether it serves mail: does it greet as it should, and take a recipient.

An active unit proves little. A master may run whose every smtpd dies before the greeting, and a
restriction that smtpd cannot read shows at RCPT only, as 451 4.3.5. No message is ever sent.

It is asked as a stranger, too, where the host has an address of its own that mynetworks does not
hold: `permit_mynetworks` mostly comes first, and then none but strangers get to what is behind it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from pf_agent.model import Greeting, Heard
from pf_agent.postfix.replies import is_own_trouble

if TYPE_CHECKING:
    import smtplib
    import ssl

PATIENCE_SECONDS = 10.0
# postscreen(8) lets a stranger wait for six seconds.
_STRANGER_SECONDS = 15.0
_PAUSE_SECONDS = 0.05
_LEAST_SECONDS = 0.1
_LONGEST_QUOTE = 200
_MOST_WORDS = 2000
_SEE_LOG = "see `journalctl -u 'postfix*'`"

# Version 2, LOCAL: "the proxy itself connects", so that Postfix takes the connection's own address
# for the client's. Postfix 3.7 and 3.10 answer "421 4.3.0 Server local error" to the UNKNOWN of
# version 1 (global/haproxy_srvr.c), and TCP4 would have us name a client.
_PROXY_LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"


class _Failed(Exception):
    """The dialogue shows that Postfix does not serve; another try would show the same."""

    def __init__(self, fact: str, heard: Heard, is_silent: bool = False) -> None:
        super().__init__(fact)
        self.heard = heard
        self.is_silent = is_silent


class _NotYet(_Failed):
    """Nobody greets so far; another try may find otherwise."""


class _Refused(Exception):
    """Postfix wants nothing to do with us, by policy: it serves."""


def probe(greeting: Greeting, patience: float = PATIENCE_SECONDS) -> Heard:
    """Hold the start of an SMTP dialogue: EHLO, STARTTLS where it must be, MAIL, RCPT, RSET, QUIT.

    It serves where it greets with the banner and answers without trouble of its own: replies.py
    tells that from a refusal by policy, which is an smtpd's that works. The recipient is postmaster
    at the address: always local where Postfix listens, and subject to all restrictions. While the
    port refuses, closes or says 4xx in place of a greeting, it is tried again for `patience`
    seconds. Trouble of the network is an answer, never an exception.

    A stranger's silence counts for nothing: where no resolver answers, smtpd waits for the name of
    whoever comes. The banner is not compared again.
    """
    call = _Call(greeting, "")
    heard = call.heard_within(patience)
    if heard.trouble or not greeting.stranger:
        return heard
    call = _Call(replace(_asked_by_stranger(greeting), banner=""), greeting.stranger)
    stranger = call.heard_within(_STRANGER_SECONDS)
    return heard if call.was_silent else stranger


def _asked_by_stranger(greeting: Greeting) -> Greeting:
    """Where to ask from the stranger's address: at that one, where the other is of another kind."""
    with contextlib.suppress(ValueError):
        kinds = {ipaddress.ip_address(a).version for a in (greeting.address, greeting.stranger)}
        if len(kinds) > 1:
            return replace(greeting, address=greeting.stranger)
    return greeting


class _Call:
    """One question, asked from the address `source`, "" for any."""

    def __init__(self, greeting: Greeting, source: str) -> None:
        self._greeting = greeting
        self._source = source
        self._deadline = 0.0
        self.was_silent = False

    def heard_within(self, seconds: float) -> Heard:
        """Ask until there is an answer that time will not change."""
        self._deadline = time.monotonic() + seconds
        while True:
            try:
                self._converse()
            except _NotYet as error:
                if time.monotonic() + _PAUSE_SECONDS >= self._deadline:
                    return self._told(error, f"{error} for {seconds:g} s; {_SEE_LOG}")
            except _Failed as error:
                return self._told(error, str(error))
            else:
                return Heard()
            time.sleep(_PAUSE_SECONDS)

    def _told(self, error: _Failed, words: str) -> Heard:
        self.was_silent = error.is_silent
        address, port = self._greeting.address, self._greeting.port
        place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        asked = f", asked from {self._source}" if self._source else ""
        return replace(error.heard, trouble=f"{place}{asked}: {words}")

    def _converse(self) -> None:
        """One try; raises _NotYet or _Failed."""
        # Here and not above: it pulls in ssl and email, which most verbs never need.
        import smtplib

        client = smtplib.SMTP(timeout=self._left())
        with contextlib.closing(client), contextlib.suppress(_Refused):
            here = self._connect(client)
            # An address literal passes reject_non_fqdn_helo_hostname. As a recipient's domain it
            # takes us through the restrictions; a bare "postmaster" is taken by smtpd before it
            # looks at any of them.
            literal = f"[IPv6:{here}]" if ":" in here else f"[{here}]"
            self._greet(client)
            self._say(client, "EHLO", literal)
            if self._greeting.tls and not self._greeting.wrapped and self._start_tls(client):
                self._say(client, "EHLO", literal)
            self._say(client, "MAIL", "FROM:<>")
            self._say(client, "RCPT", f"TO:<postmaster@{literal}>")
            self._say(client, "RSET", "")
            # What was asked is answered: how the session closes says nothing more.
            with contextlib.suppress(OSError, smtplib.SMTPException):
                client.docmd("QUIT")

    def _connect(self, client: smtplib.SMTP) -> str:
        """Connect, and say what must be said before the greeting; return Postfix's address."""
        asked = self._greeting
        source = (self._source, 0) if self._source else None
        try:
            wire = socket.create_connection((asked.address, asked.port), self._left(), source)
        except OSError as error:
            fact = f"no connection ({error.strerror or error})"
            # Whom the host's own firewall keeps from asking has heard nothing of Postfix.
            kind = _Failed if self._source else _NotYet
            raise kind(fact, Heard(greeted=False), is_silent=True) from None
        client.sock = wire
        try:
            here = str(wire.getpeername()[0])
            if asked.proxy:
                wire.sendall(_PROXY_LOCAL)
            if asked.wrapped:
                client.sock = _lenient().wrap_socket(wire)
        except OSError as error:
            raise self._broken(error, "before a greeting", "greeting", is_greeted=False) from None
        return here

    def _greet(self, client: smtplib.SMTP) -> None:
        import smtplib

        try:
            code, text = client.getreply()
        except smtplib.SMTPResponseException as error:
            fact = f"the greeting is not SMTP: {_quote(error.smtp_error)}"
            raise _Failed(fact, Heard(greeted=False)) from None
        except (smtplib.SMTPException, OSError) as error:
            raise self._broken(error, "before a greeting", "greeting", is_greeted=False) from None
        words = _words(text)
        fact = f"expected a greeting with 220, got {code} {_quote(words)}"
        if code == -1:
            raise _Failed(f"{fact}; {_SEE_LOG}", Heard(greeted=False))
        if code != 220:
            if is_own_trouble(code, words):
                raise _NotYet(fact, Heard(code=code, words=words))
            raise _Refused
        self._compare(text)

    def _compare(self, text: bytes) -> None:
        """The last line counts: postscreen(8) may send its own lines, "220-", before it."""
        greeted, banner = _words(text.rpartition(b"\n")[2]), _words(self._greeting.banner)
        if banner and greeted != banner:
            raise _Failed(
                f'greets as "{_quote(greeted)}", expected "{_quote(banner)}"; '
                "does another program or another Postfix hold the port?",
                Heard(code=220, words=greeted),
            )

    def _start_tls(self, client: smtplib.SMTP) -> bool:
        """Tell whether we are inside TLS; where it is refused for good, the dialogue goes on.

        "454 4.7.0 TLS not available due to local problem" is a key that smtpd cannot read.
        """
        code, words = self._said(client, "STARTTLS", "")
        if code < 500 and code != 220:
            raise _answered("STARTTLS", code, words)
        if code != 220 or client.sock is None:
            return False
        try:
            client.sock = _lenient().wrap_socket(client.sock)
        except OSError as error:
            raise self._broken(error, "at STARTTLS", "STARTTLS") from None
        client.file = None
        return True

    def _say(self, client: smtplib.SMTP, verb: str, argument: str) -> None:
        """Send one command and judge the answer; raises _Failed."""
        code, words = self._said(client, verb, argument)
        if is_own_trouble(code, words):
            raise _answered(verb, code, words)
        if code == 421:
            raise _Refused  # "4.7.1 ... No client certificate presented", say; it hangs up

    def _said(self, client: smtplib.SMTP, verb: str, argument: str) -> tuple[int, str]:
        import smtplib

        if client.sock is not None:
            client.sock.settimeout(self._left())
        try:
            code, text = client.docmd(verb, argument)
        except (smtplib.SMTPException, OSError) as error:
            raise self._broken(error, f"at {verb}", verb) from None
        return code, _words(text)

    def _broken(self, error: Exception, when: str, what: str, is_greeted: bool = True) -> _Failed:
        """How a connection ended, or did not go on."""
        heard = Heard(greeted=is_greeted)
        if _timed_out(error):
            fact = f"no answer to {what}; {_SEE_LOG}" if is_greeted else "no greeting came"
            return (_Failed if is_greeted else _NotYet)(fact, heard, is_silent=True)
        if not is_greeted:
            return _NotYet("the connection was closed before a greeting", heard)
        return _Failed(f"the connection broke {when} ({_quote(str(error))}); {_SEE_LOG}", heard)

    def _left(self) -> float:
        # A time-out of 0 would mean "do not block" to the socket.
        return max(self._deadline - time.monotonic(), _LEAST_SECONDS)


def _answered(verb: str, code: int, words: str) -> _Failed:
    return _Failed(f"{verb} got {code} {_quote(words)}; {_SEE_LOG}", Heard(code=code, words=words))


def _lenient() -> ssl.SSLContext:
    """TLS with whoever it is, and however weak: what is asked is whether it works."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")  # those without a certificate, too
    return context


def _timed_out(error: BaseException) -> bool:
    # smtplib says "closed" for a time-out too, and keeps the cause in the context alone.
    return isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError)


def _words(text: bytes | str) -> str:
    """A server's words on one line, of a length that can be kept.

    White space is squeezed: `postconf -x` does it to a banner, Postfix's greeting does not.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    return " ".join(text.split())[:_MOST_WORDS]


def _quote(text: bytes | str) -> str:
    """A server's words in printable characters, cut to a length that a log bears."""
    printable = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in _words(text))
    return printable if len(printable) <= _LONGEST_QUOTE else printable[:_LONGEST_QUOTE] + "..."
