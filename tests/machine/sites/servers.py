"""Runs inside the machine: a server that Postfix asks, saying just enough of its protocol.

    servers.py milter ADDRESS [SECONDS]     accepts all; each client's answer takes that long
    servers.py policy ADDRESS               DUNNO (SMTPD_POLICY_README)
    servers.py tcp-table ADDRESS [KEY=VALUE...]     (tcp_table(5))
    servers.py socketmap ADDRESS [KEY=VALUE...]     (socketmap_table(5))
    servers.py dovecot ADDRESS              offers PLAIN (Dovecot's auth protocol, version 1.1)

An ADDRESS is a port of 127.0.0.1, or the path of a socket. The standard library only.
"""

from __future__ import annotations

import os
import socket
import socketserver
import struct
import sys
import time
from collections.abc import Callable
from io import BufferedIOBase
from typing import NamedTuple
from urllib.parse import quote, unquote


class Talk(NamedTuple):
    """One client's connection, and what the command line says."""

    hears: BufferedIOBase
    says: BufferedIOBase
    arguments: list[str]

    def say(self, data: bytes) -> None:
        self.says.write(data)
        self.says.flush()

    @property
    def table(self) -> dict[str, str]:
        pairs = (pair.partition("=") for pair in self.arguments)
        return {key: value for key, _, value in pairs}


def milter(talk: Talk) -> None:
    """mfdef.h of libmilter: four bytes of length, then a command and its data."""
    seconds = float(talk.arguments[0]) if talk.arguments else 0.0
    while len(head := talk.hears.read(4)) == 4:
        packet = talk.hears.read(struct.unpack("!I", head)[0])
        command, data = packet[:1], packet[1:]
        if command == b"O":  # which version; no change of the mail; every step is to be told
            (version, _, _) = struct.unpack("!III", data[:12])
            answer = b"O" + struct.pack("!III", min(version, 6), 0, 0)
        elif command == b"Q":
            return
        elif command in (b"D", b"A", b"K"):  # macros and aborts are not answered
            continue
        else:
            if command == b"C":
                time.sleep(seconds)
            answer = b"c"
        talk.say(struct.pack("!I", len(answer)) + answer)


def policy(talk: Talk) -> None:
    """One request after the other, each ended by an empty line."""
    for line in talk.hears:
        if line == b"\n":
            talk.say(b"action=DUNNO\n\n")


def tcp_table(talk: Talk) -> None:
    """`get KEY`, with %-escapes both ways."""
    for line in talk.hears:
        value = talk.table.get(unquote(line.decode().rstrip("\r\n").partition(" ")[2]))
        said = "500 not%20found" if value is None else f"200 {quote(value)}"
        talk.say(f"{said}\n".encode())


def socketmap(talk: Talk) -> None:
    """Netstrings: `NAME KEY`."""
    while length := b"".join(iter(lambda: talk.hears.read(1).rstrip(b":"), b"")):
        asked = talk.hears.read(int(length)).decode()
        talk.hears.read(1)
        value = talk.table.get(asked.partition(" ")[2])
        said = ("NOTFOUND " if value is None else f"OK {value}").encode()
        talk.say(b"%d:%s," % (len(said), said))


def dovecot(talk: Talk) -> None:
    """The server's handshake; whoever then wants to log in is refused."""
    lines = ["VERSION\t1\t1", "MECH\tPLAIN\tplaintext", f"SPID\t{os.getpid()}", "CUID\t1"]
    talk.say("\n".join([*lines, "COOKIE\t" + "0" * 32, "DONE", ""]).encode())
    for line in talk.hears:
        word, *rest = line.decode().rstrip("\n").split("\t")
        if word == "AUTH":
            talk.say(f"FAIL\t{rest[0]}\n".encode())


SERVERS: dict[str, Callable[[Talk], None]] = {
    "milter": milter,
    "policy": policy,
    "tcp-table": tcp_table,
    "socketmap": socketmap,
    "dovecot": dovecot,
}


class _ByPort(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True


class _ByPath(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def main(name: str, address: str, *arguments: str) -> None:
    """Serve until killed; systemd is told once clients may come (sd_notify(3))."""
    serve = SERVERS[name]

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            serve(Talk(self.rfile, self.wfile, list(arguments)))

    server: socketserver.BaseServer
    if address.isdecimal():
        server = _ByPort(("127.0.0.1", int(address)), Handler)
    else:
        if os.path.exists(address):
            os.unlink(address)
        server = _ByPath(address, Handler)
        os.chmod(address, 0o666)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
