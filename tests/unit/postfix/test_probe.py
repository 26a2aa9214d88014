"""The probe against small servers that speak from a script."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping

import pytest

from pf_agent.model import Greeting, Heard
from pf_agent.postfix.probe import probe

HOST = "127.0.0.1"
BANNER = "mail.example.org ESMTP"
GREETING = b"220 mail.example.org ESMTP\r\n"
PATIENT = 20.0
IMPATIENT = 0.3
# Where a server has to get as far as its answer, on a host that has much else to do.
LESS_PATIENT = 2.0

ANSWERS: Mapping[str, bytes] = {
    "EHLO": b"250-mail.example.org\r\n250-PIPELINING\r\n250 SIZE 10240000\r\n",
    "MAIL": b"250 2.1.0 Ok\r\n",
    "RCPT": b"250 2.1.5 Ok\r\n",
    "RSET": b"250 2.0.0 Ok\r\n",
    "QUIT": b"221 2.0.0 Bye\r\n",
}


class Server:
    """Listens on a port of its own; greets and answers each verb as told, b"" closes."""

    def __init__(
        self, greetings: tuple[bytes, ...] = (GREETING,), answers: Mapping[str, bytes] = ANSWERS
    ) -> None:
        self.greetings = greetings
        self.answers = answers
        self.commands: list[str] = []
        self.listener = socket.create_server((HOST, 0))
        self.port: int = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve)

    def serve(self) -> None:
        """One connection for each greeting, then no more."""
        for greeting in self.greetings:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(ConnectionError):
                self.converse(connection, greeting)

    def converse(self, connection: socket.socket, greeting: bytes) -> None:
        connection.sendall(greeting)
        if not greeting.startswith(b"220"):
            return
        with connection.makefile("rb") as lines:
            for line in lines:
                self.commands.append(line.decode().strip())
                answer = self.answers[line.decode()[:4].upper()]
                if not answer:
                    return
                connection.sendall(answer)


@contextlib.contextmanager
def serving(server: Server) -> Iterator[Server]:
    server.thread.start()
    try:
        yield server
    finally:
        # Closing alone does not wake a thread that waits in accept().
        with contextlib.suppress(OSError):
            server.listener.shutdown(socket.SHUT_RDWR)
        server.listener.close()
        server.thread.join()


def hear(server: Server, banner: str = BANNER, patience: float = PATIENT) -> Heard:
    with serving(server):
        return probe(Greeting(HOST, server.port, banner), patience)


def ask(server: Server, banner: str = BANNER, patience: float = PATIENT) -> str:
    return hear(server, banner, patience).trouble


def said_at(port: int, patience: float) -> str:
    return probe(Greeting(HOST, port, BANNER), patience).trouble


def answering(verb: str, answer: bytes) -> Server:
    return Server(answers={**ANSWERS, verb: answer})


def unused_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_a_good_server_and_what_it_was_asked() -> None:
    server = Server()
    assert ask(server) == ""
    assert server.commands == [
        "EHLO [127.0.0.1]",
        "MAIL FROM:<>",
        "RCPT TO:<postmaster@[127.0.0.1]>",
        "RSET",
        "QUIT",
    ]


@pytest.mark.parametrize(
    "greeting",
    [
        b"220 mail.example.org  \t ESMTP \r\n",
        b"220-wait a moment\r\n220 mail.example.org ESMTP\r\n",
    ],
    ids=["white space", "several lines"],
)
def test_the_banner_is_the_last_line_with_white_space_squeezed(greeting: bytes) -> None:
    assert ask(Server((greeting,))) == ""


def test_the_wrong_banner() -> None:
    server = Server((b"220-mail.example.org ESMTP\r\n220 elsewhere\xff ESMTP\r\n",))
    words = ask(server)
    assert words.startswith(f"{HOST}:{server.port}: greets as ")
    assert "elsewhere" in words
    assert f'expected "{BANNER}"; reload Postfix' in words


def test_any_banner() -> None:
    assert ask(Server((b"220 elsewhere\r\n",)), banner="") == ""


@pytest.mark.parametrize("verb", ["EHLO", "MAIL", "RCPT", "RSET"])
@pytest.mark.parametrize("code", [421, 451])
def test_trouble_of_postfix_itself(verb: str, code: int) -> None:
    words = ask(answering(verb, b"%d 4.3.5 Server configuration error\r\n" % code))
    assert f"{verb} got {code} 4.3.5 Server configuration error" in words


@pytest.mark.parametrize("verb", ["MAIL", "RCPT"])
@pytest.mark.parametrize("answer", [b"450 4.2.0 Greylisted\r\n", b"554 5.7.1 Denied\r\n"])
def test_a_policy_that_refuses_us_works(verb: str, answer: bytes) -> None:
    assert ask(answering(verb, answer)) == ""


@pytest.mark.parametrize("verb", ["EHLO", "MAIL", "RCPT", "RSET"])
def test_a_connection_that_breaks_amid_the_dialogue(verb: str) -> None:
    assert f"the connection broke at {verb}" in ask(answering(verb, b""))


def test_how_the_session_closes_does_not_matter() -> None:
    assert ask(answering("QUIT", b"")) == ""


def test_an_answer_that_is_not_smtp() -> None:
    words = ask(answering("RCPT", b"\x00\x1b[31mnonsense\r\n"))
    assert "RCPT" in words
    assert words.isprintable()


def test_nobody_listens() -> None:
    words = said_at(unused_port(), IMPATIENT)
    assert "no connection (Connection refused) for 0.3 s" in words


def test_a_port_that_accepts_and_hangs() -> None:
    # The kernel accepts on its own; nobody ever reads.
    with socket.create_server((HOST, 0)) as listener:
        words = said_at(listener.getsockname()[1], IMPATIENT)
    assert "no greeting" in words


def test_a_command_that_is_never_answered() -> None:
    with socket.create_server((HOST, 0)) as listener, contextlib.ExitStack() as kept:

        def greet() -> None:
            connection, _ = listener.accept()
            kept.enter_context(connection)
            connection.sendall(GREETING)

        thread = threading.Thread(target=greet)
        thread.start()
        words = said_at(listener.getsockname()[1], LESS_PATIENT)
        thread.join()
    assert "no answer to EHLO" in words


def test_refused_at_first_then_up() -> None:
    port = unused_port()
    refused = threading.Event()
    server = Server()
    server.listener.close()

    def come_up() -> None:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, port))
        refused.set()
        server.listener = socket.create_server((HOST, port))
        server.serve()

    server.thread = threading.Thread(target=come_up)
    with serving(server):
        assert said_at(port, PATIENT) == ""
    assert refused.is_set()


@pytest.mark.parametrize("first", [b"", b"421 4.3.2 All ports are busy\r\n"])
def test_no_greeting_at_first_then_one(first: bytes) -> None:
    assert ask(Server((first, first, GREETING))) == ""


def test_closed_before_a_greeting_for_ever() -> None:
    words = ask(Server((b"",) * 1000), patience=LESS_PATIENT)
    assert "closed before a greeting" in words


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n", b"x" * 10000 + b"\r\n"])
def test_a_greeting_that_time_will_not_mend(greeting: bytes) -> None:
    heard = hear(Server((greeting,)))
    assert "greeting" in heard.trouble
    assert len(heard.trouble) < 500
    assert (heard.greeted, heard.code) == (False, 0)


def test_an_address_that_cannot_be() -> None:
    heard = probe(Greeting("300.0.0.1", 25, BANNER), patience=0.0)
    assert "no connection" in heard.trouble
    heard = probe(Greeting("::1", unused_port(), BANNER), patience=0.0)
    assert heard.trouble.startswith("[::1]:")


# --- a refusal is no trouble ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "greeting",
    [
        b"554 5.7.1 <unknown[192.0.2.1]>: Client host rejected: Access denied\r\n",
        b"521 5.3.2 we take no mail\r\n",
        b"554 mail.example.org ESMTP not accepting connections\r\n",
        b"450 4.3.2 <localhost[127.0.0.1]>: Client host rejected: Try again later\r\n",
        b"421 4.7.0 mail.example.org Error: too many connections from 192.0.2.1\r\n",
    ],
)
def test_who_refuses_in_place_of_a_greeting_serves(greeting: bytes) -> None:
    server = Server((greeting,))
    assert hear(server) == Heard()
    assert server.commands == []


def test_who_hangs_up_by_policy_serves() -> None:
    server = answering("MAIL", b"421 4.7.1 x Error: No client certificate presented\r\n")
    assert hear(server) == Heard()
    assert server.commands[-1] == "MAIL FROM:<>"


@pytest.mark.parametrize("verb", ["EHLO", "MAIL", "RCPT", "RSET"])
def test_who_refuses_later_serves(verb: str) -> None:
    assert hear(answering(verb, b"503 5.7.0 Error: access denied\r\n")) == Heard()


@pytest.mark.parametrize(
    "answer",
    [
        b"421 4.3.0 mail.example.org Server local error\r\n",
        b"421 mail.example.org Service unavailable - try again later\r\n",
        b"451 4.3.5 <x[127.0.0.1]>: Client host rejected: Server configuration error\r\n",
    ],
)
def test_trouble_in_place_of_a_greeting(answer: bytes) -> None:
    heard = hear(Server((answer,) * 1000), patience=LESS_PATIENT)
    assert (heard.greeted, heard.code) == (True, int(answer[:3]))
    assert heard.words == answer[4:].decode().strip()
    assert heard.words in heard.trouble


def test_the_words_of_a_reply_are_not_cut_where_the_sentence_is() -> None:
    answer = b"451 4.3.5 <%s[192.0.2.1]>: Server configuration error" % (b"x" * 255)
    heard = hear(answering("RCPT", answer + b"\r\n"))
    assert f"{heard.code} {heard.words}" == answer.decode()
    assert len(heard.trouble) < 400


def test_who_was_not_heard_has_no_code() -> None:
    heard = hear(Server((b"",) * 1000), patience=IMPATIENT)
    assert (heard.greeted, heard.code, heard.words) == (False, 0, "")
    assert (hear(answering("RCPT", b"")).greeted) is True


# --- what comes before the greeting ---------------------------------------------------------------


def test_the_proxy_protocol_is_spoken_first() -> None:
    heard: list[bytes] = []

    class Proxied(Server):
        def converse(self, connection: socket.socket, greeting: bytes) -> None:
            heard.append(connection.recv(16, socket.MSG_WAITALL))
            super().converse(connection, greeting)

    server = Proxied()
    with serving(server):
        assert probe(Greeting(HOST, server.port, BANNER, proxy=True), PATIENT) == Heard()
    # Version 2, LOCAL, of no family and with nothing more.
    assert heard == [b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"]


# --- TLS ------------------------------------------------------------------------------------------


def asking_for_tls(answer: bytes) -> tuple[Heard, list[str]]:
    server = answering("STAR", answer)
    with serving(server):
        heard = probe(Greeting(HOST, server.port, BANNER, tls=True), PATIENT)
    return heard, server.commands


def test_a_key_that_is_not_there() -> None:
    heard, commands = asking_for_tls(b"454 4.7.0 TLS not available due to local problem\r\n")
    assert "STARTTLS got 454 4.7.0 TLS not available" in heard.trouble
    assert heard.code == 454
    assert commands[-1] == "STARTTLS"


def test_where_tls_is_refused_for_good_the_dialogue_goes_on() -> None:
    heard, commands = asking_for_tls(b"502 5.5.1 Error: command not implemented\r\n")
    assert heard == Heard()
    assert commands[-1] == "QUIT"


def test_a_handshake_that_fails() -> None:
    class Hasty(Server):
        def converse(self, connection: socket.socket, greeting: bytes) -> None:
            connection.sendall(greeting)
            with connection.makefile("rb") as lines:
                for answer in (ANSWERS["EHLO"], b"220 2.0.0 Ready to start TLS\r\n250 no\r\n"):
                    lines.readline()
                    connection.sendall(answer)

    server = Hasty()
    with serving(server):
        heard = probe(Greeting(HOST, server.port, BANNER, tls=True), PATIENT)
    assert "the connection broke at STARTTLS" in heard.trouble


def test_tls_is_not_asked_for_where_it_need_not_be() -> None:
    server = Server()
    assert ask(server) == ""
    assert "STARTTLS" not in server.commands


# --- as a stranger --------------------------------------------------------------------------------


class TwoFaced(Server):
    """Answers RCPT of a stranger otherwise; b"" is silence."""

    def __init__(self, answer: bytes, greeting: bytes = GREETING) -> None:
        super().__init__()
        self.strangers_answer, self.strangers_greeting = answer, greeting
        self.peers: list[str] = []

    def serve(self) -> None:
        for _ in range(2):
            try:
                connection, peer = self.listener.accept()
            except OSError:
                return
            self.peers.append(peer[0])
            is_stranger = peer[0] != HOST
            answer = self.strangers_answer if is_stranger else ANSWERS["RCPT"]
            self.answers = {**ANSWERS, "RCPT": answer}
            with connection, contextlib.suppress(ConnectionError):
                self.converse(connection, self.strangers_greeting if is_stranger else GREETING)


def hear_both(server: Server, stranger: str = "127.0.0.2") -> Heard:
    with serving(server):
        return probe(Greeting(HOST, server.port, BANNER, stranger=stranger), PATIENT)


def test_what_only_a_stranger_hears_counts() -> None:
    server = TwoFaced(b"451 4.3.5 Server configuration error\r\n")
    heard = hear_both(server)
    assert server.peers == [HOST, "127.0.0.2"]
    assert f"{HOST}:{server.port}, asked from 127.0.0.2: RCPT got 451 4.3.5" in heard.trouble
    assert heard.code == 451


@pytest.mark.parametrize(
    "answer", [b"554 5.7.1 Relay access denied\r\n", b"450 4.7.1 Greylisted\r\n"]
)
def test_a_stranger_may_be_refused(answer: bytes) -> None:
    assert hear_both(TwoFaced(answer)) == Heard()


def test_a_stranger_may_be_greeted_otherwise() -> None:
    assert hear_both(TwoFaced(ANSWERS["RCPT"], b"220 who are you\r\n")) == Heard()


def test_the_first_trouble_is_the_one_that_is_told() -> None:
    server = TwoFaced(ANSWERS["RCPT"])
    with serving(server):
        greeting = Greeting(HOST, server.port, "elsewhere", stranger="127.0.0.2")
        assert "greets as" in probe(greeting, PATIENT).trouble
    assert server.peers == [HOST]


@pytest.mark.parametrize("stranger", ["192.0.2.77", "2001:db8::77"])
def test_an_address_that_is_gone_asks_nothing(stranger: str) -> None:
    assert hear_both(TwoFaced(b""), stranger) == Heard()


# --- what EHLO's answer offers --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "asked", "trouble"),
    [
        (b"250-host\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n", {"starttls": True, "auth": True}, ""),
        (b"250-host\r\n250 PIPELINING\r\n", {"starttls": False, "auth": False}, ""),
        (b"250-host\r\n250 STARTTLS\r\n", {}, ""),
        (b"250 host\r\n", {"starttls": True}, "does not offer STARTTLS before TLS"),
        (b"250-host\r\n250 STARTTLS\r\n", {"starttls": False}, "offers STARTTLS before TLS"),
        (b"250-host\r\n250 AUTH PLAIN\r\n", {"auth": False}, "offers AUTH before TLS"),
        (b"250-host\r\n250 STARTTLS\r\n", {"auth": True}, "does not offer AUTH before TLS"),
    ],
)
def test_what_is_offered(answer: bytes, asked: dict[str, bool], trouble: str) -> None:
    server = answering("EHLO", answer)
    with serving(server):
        heard = probe(Greeting(HOST, server.port, BANNER, **asked), PATIENT)  # type: ignore[arg-type]
    assert bool(heard.trouble) is bool(trouble)
    assert trouble in heard.trouble
