"""The probe against small servers that speak from a script."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping

import pytest

from pf_agent.smtp import probe

HOST = "127.0.0.1"
BANNER = "mail.example.org ESMTP"
GREETING = b"220 mail.example.org ESMTP\r\n"
PATIENT = 20.0
IMPATIENT = 0.3

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


def ask(server: Server, banner: str | None = BANNER, patience: float = PATIENT) -> str:
    with serving(server):
        return probe(HOST, server.port, banner, patience=patience)


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


def test_a_recipient_of_the_callers_choice() -> None:
    server = Server()
    with serving(server):
        assert probe(HOST, server.port, BANNER, "info@example.org", PATIENT) == ""
    assert "RCPT TO:<info@example.org>" in server.commands


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
    assert f'expected "{BANNER}"' in words


def test_any_banner() -> None:
    assert ask(Server((b"220 elsewhere\r\n",)), banner=None) == ""


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
    words = probe(HOST, unused_port(), BANNER, patience=IMPATIENT)
    assert "no connection (Connection refused) for 0.3 s" in words


def test_a_port_that_accepts_and_hangs() -> None:
    # The kernel accepts on its own; nobody ever reads.
    with socket.create_server((HOST, 0)) as listener:
        words = probe(HOST, listener.getsockname()[1], BANNER, patience=IMPATIENT)
    assert "no greeting came" in words


def test_a_command_that_is_never_answered() -> None:
    with socket.create_server((HOST, 0)) as listener, contextlib.ExitStack() as kept:

        def greet() -> None:
            connection, _ = listener.accept()
            kept.enter_context(connection)
            connection.sendall(GREETING)

        thread = threading.Thread(target=greet)
        thread.start()
        words = probe(HOST, listener.getsockname()[1], BANNER, patience=1.0)
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
        assert probe(HOST, port, BANNER, patience=PATIENT) == ""
    assert refused.is_set()


@pytest.mark.parametrize("first", [b"", b"421 4.3.2 All ports are busy\r\n"])
def test_no_greeting_at_first_then_one(first: bytes) -> None:
    assert ask(Server((first, first, GREETING))) == ""


def test_closed_before_a_greeting_for_ever() -> None:
    words = ask(Server((b"",) * 1000), patience=IMPATIENT)
    assert "closed before a greeting" in words


@pytest.mark.parametrize(
    "greeting", [b"554 5.7.1 Go away\r\n", b"HTTP/1.1 400 Bad Request\r\n", b"x" * 10000 + b"\r\n"]
)
def test_a_greeting_that_time_will_not_mend(greeting: bytes) -> None:
    words = ask(Server((greeting,)))
    assert "greeting" in words
    assert len(words) < 500


def test_an_address_that_cannot_be() -> None:
    assert "no connection" in probe("300.0.0.1", 25, BANNER, patience=0.0)
    assert probe("::1", unused_port(), BANNER, patience=0.0).startswith("[::1]:")
