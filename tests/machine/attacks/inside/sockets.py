"""Sockets: of the errands, of the metrics, and port 25."""

from __future__ import annotations

import os
import socket
import time
from contextlib import ExitStack, suppress

from .ground import MARK, Steps, Won, forbidden

ERRANDS = "/run/pf-agent-errands.socket"
METRICS = ("127.0.0.1", 9825)
PORT_25 = ("127.0.0.1", 25)
# Not in mynetworks: the test gives loopback this address.
STRANGER = ("192.0.2.7", 0)
ERRAND = b'{"errand": "newaliases", "directory": "/etc/postfix", "databases": []}'

_GARBAGE = (
    b"\0" * 4096,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(300),
    b"GET " + b"/" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(5000)) + b"\r\n",
    b"GET /metrics HTTP/1.1\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
    b"GET /../../etc/canary HTTP/1.1\r\n\r\n",
    b"GET /metrics HTTP/9.9\r\n\r\n",
    b"GET\r\n\r\n",
    b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nAccept: \xff\xfe" + MARK.encode() + b"\r\n\r\n",
    b"GET /%0d%0aX:" + MARK.encode() + b" HTTP/1.1\r\n\r\n",
)


def errands_orders(won: Won) -> Steps:
    """Connects to the socket of the errands, and tries to take its place."""
    aside = f"{ERRANDS}.{MARK}"

    def ask(kind: socket.SocketKind) -> None:
        with socket.socket(socket.AF_UNIX, kind) as client:
            client.settimeout(5)
            client.connect(ERRANDS)
            client.sendall(ERRAND)

    def bind() -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(aside)

    while True:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
            forbidden(won, f"connected to {ERRANDS}", ask, kind)
        forbidden(won, "removed the socket", os.unlink, ERRANDS)
        forbidden(won, "renamed the socket", os.rename, ERRANDS, aside)
        forbidden(won, "opened the socket to all", os.chmod, ERRANDS, 0o666)
        forbidden(won, "a socket beside it", bind)
        yield


def _reach(place: tuple[str, int], **options: object) -> None:
    """Connect once; OSError where the attack would reach nothing, and hold for that alone."""
    socket.create_connection(place, timeout=10, **options).close()  # type: ignore[arg-type]


def _connected(place: tuple[str, int], stack: ExitStack, **options: object) -> socket.socket | None:
    with suppress(OSError):
        client = socket.create_connection(place, timeout=1, **options)  # type: ignore[arg-type]
        return stack.enter_context(client)
    return None


def metrics_slowly(won: Won) -> Steps:
    """Has 60 requests for the metrics trickle in, a byte at a time."""
    _reach(METRICS)
    text = b"GET /metrics HTTP/1.1\r\nX: " + b"y" * 100_000
    while True:
        with ExitStack() as stack:
            held = [c for _ in range(60) if (c := _connected(METRICS, stack))]
            for byte in text:
                for client in list(held):
                    try:
                        client.send(bytes([byte]))
                    except OSError:
                        held.remove(client)
                        client.close()
                if len(held) < 10:
                    break
                yield
                time.sleep(0.05)
        yield


def metrics_idle(won: Won) -> Steps:
    """Holds 400 connections to the metrics, and says nothing."""
    _reach(METRICS)
    while True:
        with ExitStack() as stack:
            for _ in range(400):
                _connected(METRICS, stack)
                yield
            for _ in range(40):
                yield
                time.sleep(0.05)


def metrics_garbage(won: Won) -> Steps:
    """Sends what is no request, one too many, or one too long."""
    _reach(METRICS)
    while True:
        for garbage in _GARBAGE:
            with ExitStack() as stack, suppress(OSError):
                client = _connected(METRICS, stack)
                if client is None:
                    continue
                with suppress(OSError):
                    client.sendall(garbage)
                answer = client.recv(1 << 16)
                for word in (b"Traceback", b"root:", f"\nX:{MARK}".encode()):
                    if word in answer:
                        won(f"{garbage[:40]!r} was answered with {answer[:200]!r}")
        yield


def metrics_pipelined(won: Won) -> Steps:
    """Asks for the metrics a thousand times in one breath, and reads none of the answers."""
    _reach(METRICS)
    with ExitStack() as stack:
        for _ in range(20):
            client = _connected(METRICS, stack)
            if client is not None:
                client.setblocking(False)
                with suppress(OSError):
                    client.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000)
        while True:
            yield
            time.sleep(0.05)


def metrics_from_a_web_page(won: Won) -> Steps:
    """Asks as a browser would whose DNS says that a stranger's name is this host."""
    _reach(METRICS)
    asked = b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\n\r\n"
    while True:
        with ExitStack() as stack, suppress(OSError):
            client = _connected(METRICS, stack)
            if client is not None:
                client.sendall(asked)
                with client.makefile("rb") as file:
                    answer = file.read(1 << 16)
                if b"pf_agent_" in answer:
                    won("the metrics, under a name that is not this host's")
        yield
        time.sleep(0.2)


def smtp_idle(won: Won) -> Steps:
    """Holds 120 connections to port 25, and says nothing."""
    _reach(PORT_25, source_address=STRANGER)
    with ExitStack() as stack:
        while True:
            for _ in range(120):
                _connected(PORT_25, stack, source_address=STRANGER)
            yield
            time.sleep(0.5)


def smtp_lines_for_the_log(won: Won) -> Steps:
    """Says what Postfix logs: as if a program of its own had ended, with control characters."""
    _reach(PORT_25, source_address=STRANGER)
    fatal = f"postfix/master[1]: fatal: {MARK}".encode()
    lines = (
        b"HELO " + fatal,
        b"HELO \x1b[2J\x07" + fatal,
        b"EHLO " + b"x" * 2000 + fatal,
        b"MAIL FROM:<" + fatal + b"@example.test>",
        b"MAIL FROM:<a@b>\rfatal: " + MARK.encode(),
        b"RCPT TO:<fatal: " + MARK.encode() + b">",
        b"GET / HTTP/1.1 " + fatal,
        b"\0\xff\xfe" + fatal,
    )
    while True:
        for line in lines:
            with ExitStack() as stack, suppress(OSError):
                client = _connected(PORT_25, stack, source_address=STRANGER)
                if client is not None:
                    client.recv(1000)
                    client.sendall(line + b"\r\n")
                    client.recv(1000)
        yield


def smtp_garbage(won: Won) -> Steps:
    """Breaks off in the middle of everything, 50 connections at once."""
    _reach(PORT_25, source_address=STRANGER)
    mail = b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<root>\r\nDATA\r\nhalf"
    parts = (b"", b"EH", mail, b"\0" * 9000)
    while True:
        with ExitStack() as stack:
            for number in range(50):
                client = _connected(PORT_25, stack, source_address=STRANGER)
                if client is not None:
                    with suppress(OSError):
                        client.sendall(parts[number % len(parts)])
                yield
