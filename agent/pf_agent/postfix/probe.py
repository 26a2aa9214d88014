"""Asks Postfix at its port whether it serves: greets as it should, and accepts a recipient.

An active unit proves little. A master may run while every smtpd exits before the greeting, and a
restriction that smtpd cannot read only shows at RCPT, as 451 4.3.5. No message is ever sent.

Postfix is also asked as a stranger, if the host has an address outside mynetworks: usually
`permit_mynetworks` comes first, and only strangers reach the restrictions after it.
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
# postscreen(8) makes a stranger wait for six seconds.
_STRANGER_SECONDS = 15.0
_PAUSE_SECONDS = 0.05
_LEAST_SECONDS = 0.1
_LONGEST_QUOTE = 200
_MOST_WORDS = 2000
_SEE_LOG = "see `journalctl -u 'postfix*'`"

# Version 2, LOCAL: "the proxy itself connects", so Postfix takes the connection's own address as
# the client's. Postfix 3.7 and 3.10 answer "421 4.3.0 Server local error" to version 1's UNKNOWN
# (global/haproxy_srvr.c), and TCP4 would need the address of a client.
_PROXY_LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"


class _Failed(Exception):
    """The dialogue shows that Postfix does not serve; another try would show the same."""

    def __init__(self, fact: str, heard: Heard, is_silent: bool = False) -> None:
        super().__init__(fact)
        self.heard = heard
        self.is_silent = is_silent


class _NotYet(_Failed):
    """No greeting so far; another try may get one."""


class _Refused(Exception):
    """Postfix refuses us as a matter of policy: it serves."""


def probe(greeting: Greeting, patience: float = PATIENCE_SECONDS) -> Heard:
    """Hold the beginning of an SMTP dialogue: EHLO, STARTTLS if required, MAIL, RCPT, RSET, QUIT.

    Postfix serves if it greets with the banner and answers without trouble of its own: replies.py
    tells that from a refusal by policy, which only a working smtpd gives. The recipient is
    postmaster at the address: always local where Postfix listens, and subject to all restrictions.
    While the port refuses, closes or says 4xx instead of a greeting, it is tried again for
    `patience` seconds. Network trouble is part of the answer, never an exception.

    A stranger's silence does not count: without a working resolver, smtpd waits for the client's
    name. The banner is not compared again.
    """
    call = _Call(greeting, "")
    heard = call.heard_within(patience)
    if heard.trouble or not greeting.stranger:
        return heard
    call = _Call(replace(_asked_by_stranger(greeting), banner=""), greeting.stranger)
    stranger = call.heard_within(_STRANGER_SECONDS)
    return heard if call.was_silent else stranger


def _asked_by_stranger(greeting: Greeting) -> Greeting:
    """Return where a stranger asks: at its own address if the IP versions differ."""
    with contextlib.suppress(ValueError):
        kinds = {ipaddress.ip_address(a).version for a in (greeting.address, greeting.stranger)}
        if len(kinds) > 1:
            return replace(greeting, address=greeting.stranger)
    return greeting


class _Call:
    """One dialogue, from the address `source`, "" for any."""

    def __init__(self, greeting: Greeting, source: str) -> None:
        self._greeting = greeting
        self._source = source
        self._deadline = 0.0
        self.was_silent = False

    def heard_within(self, seconds: float) -> Heard:
        """Ask until there is an answer that waiting will not change."""
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
        """Try once; raises _NotYet or _Failed."""
        # Imported here: it pulls in ssl and email, which most verbs never need.
        import smtplib

        client = smtplib.SMTP(timeout=self._left())
        with contextlib.closing(client), contextlib.suppress(_Refused):
            here = self._connect(client)
            # An address literal passes reject_non_fqdn_helo_hostname. As the recipient's domain it
            # makes smtpd check the restrictions; it accepts a bare "postmaster" before it looks at
            # any of them.
            literal = f"[IPv6:{here}]" if ":" in here else f"[{here}]"
            self._greet(client)
            asked = self._greeting
            offered = self._hello(client, literal)
            if asked.wrapped:
                _compare_offer(offered, "AUTH", asked.auth_in_tls, "within TLS")
            else:
                _compare_offer(offered, "STARTTLS", asked.starttls, "before TLS")
                _compare_offer(offered, "AUTH", asked.auth, "before TLS")
            wants_tls = asked.tls or asked.auth_in_tls is not None
            if wants_tls and not asked.wrapped and self._start_tls(client):
                offered = self._hello(client, literal)
                _compare_offer(offered, "AUTH", asked.auth_in_tls, "within TLS")
            self._say(client, "MAIL", "FROM:<>")
            self._say(client, "RCPT", f"TO:<postmaster@{literal}>")
            self._say(client, "RSET", "")
            # The question is answered; how the session closes says nothing more.
            with contextlib.suppress(OSError, smtplib.SMTPException):
                client.docmd("QUIT")

    def _connect(self, client: smtplib.SMTP) -> str:
        """Connect, and send what must precede the greeting; return Postfix's address."""
        asked = self._greeting
        source = (self._source, 0) if self._source else None
        try:
            wire = socket.create_connection((asked.address, asked.port), self._left(), source)
        except OSError as error:
            fact = f"no connection ({error.strerror or error})"
            # If the host's own firewall blocks us, nothing was learned about Postfix.
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
        """Only the last line counts: postscreen(8) may send lines of its own, "220-", before it."""
        greeted, banner = _words(text.rpartition(b"\n")[2]), _words(self._greeting.banner)
        if banner and greeted != banner:
            raise _Failed(
                f'greets as "{_quote(greeted)}", expected "{_quote(banner)}"; '
                "reload Postfix if it still runs with a former main.cf, "
                "or find what else uses the port: `ss -ltnp`",
                Heard(code=220, words=greeted),
            )

    def _start_tls(self, client: smtplib.SMTP) -> bool:
        """Tell whether TLS is on; if it is permanently refused, the dialogue goes on.

        "454 4.7.0 TLS not available due to local problem" means a key that smtpd cannot read.
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

    def _hello(self, client: smtplib.SMTP, literal: str) -> frozenset[str]:
        """Say EHLO; return the words of the answer, among them the keywords."""
        return frozenset(self._say(client, "EHLO", literal).upper().split())

    def _say(self, client: smtplib.SMTP, verb: str, argument: str) -> str:
        """Send one command, judge the answer and return its words; raises _Failed."""
        code, words = self._said(client, verb, argument)
        if is_own_trouble(code, words):
            raise _answered(verb, code, words)
        if code == 421:
            raise _Refused  # such as "4.7.1 ... No client certificate presented"; it hangs up
        return words

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
        """Return the failure of a connection that ended or stalled."""
        heard = Heard(greeted=is_greeted)
        if _timed_out(error):
            fact = f"no answer to {what}; {_SEE_LOG}" if is_greeted else "no greeting"
            return (_Failed if is_greeted else _NotYet)(fact, heard, is_silent=True)
        if not is_greeted:
            return _NotYet("the connection was closed before a greeting", heard)
        return _Failed(f"the connection broke {when} ({_quote(str(error))}); {_SEE_LOG}", heard)

    def _left(self) -> float:
        # To the socket a timeout of 0 would mean "do not block".
        return max(self._deadline - time.monotonic(), _LEAST_SECONDS)


def _compare_offer(offered: frozenset[str], keyword: str, must: bool | None, when: str) -> None:
    """Raise _Failed if EHLO's answer offers what it must not, or the other way round."""
    if must is None or (keyword in offered) is must:
        return
    fact = f"does not offer {keyword}" if must else f"offers {keyword}"
    raise _Failed(f"{fact} {when}, against what is desired; {_SEE_LOG}", Heard())


def _answered(verb: str, code: int, words: str) -> _Failed:
    return _Failed(f"{verb} got {code} {_quote(words)}; {_SEE_LOG}", Heard(code=code, words=words))


def _lenient() -> ssl.SSLContext:
    """Return a context for TLS with any server, however weak: the question is if TLS works."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")  # also those without a certificate
    return context


def _timed_out(error: BaseException) -> bool:
    # smtplib also says "closed" after a timeout, and keeps the cause only in the context.
    return isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError)


def _words(text: bytes | str) -> str:
    """Return a server's words on one line, cut to a length that can be kept.

    White space is squeezed: `postconf -x` does that to a banner, Postfix's greeting does not.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    return " ".join(text.split())[:_MOST_WORDS]


def _quote(text: bytes | str) -> str:
    """Return a server's words in printable characters, cut to a length that fits a log."""
    printable = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in _words(text))
    return printable if len(printable) <= _LONGEST_QUOTE else printable[:_LONGEST_QUOTE] + "..."
