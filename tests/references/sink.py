"""Runs inside the machine: the servers around it, by SMTP, LMTP and DNS, just enough of each.

    sink.py CHAIN SOCKET

SMTP with STARTTLS (CHAIN: key and certificate) on port 2525, LMTP on port 2424 and on SOCKET: all
mail is taken and forgotten; the answer says whether it came inside TLS. DNS on port 53 knows names
below KNOWN. The standard library only.
"""

from __future__ import annotations

import os
import socket
import socketserver
import ssl
import struct
import sys
import threading

KNOWN = ("example.test", "example.org", "example.net")
_TYPE_A = 1
_NXDOMAIN = 3


def dns_answer(asked: bytes) -> bytes:
    """Answer a query (RFC 1035): 192.0.2.80 for the address of a known name, else no such name."""
    at, labels = 12, list[str]()
    while asked[at]:
        labels.append(asked[at + 1 : at + 1 + asked[at]].decode("ascii", "replace").lower())
        at += 1 + asked[at]
    (kind,) = struct.unpack("!H", asked[at + 1 : at + 3])
    name = ".".join(labels)
    known = any(name == zone or name.endswith(f".{zone}") for zone in KNOWN)
    answers = int(known and kind == _TYPE_A)
    flags = 0x8580 if known else 0x8580 | _NXDOMAIN
    head = asked[:2] + struct.pack("!HHHHH", flags, 1, answers, 0, 0)
    record = struct.pack("!HHHIH4B", 0xC00C, _TYPE_A, 1, 60, 4, 192, 0, 2, 80)
    return head + asked[12 : at + 5] + record * answers


def _serve_dns() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 53))
        while True:
            asked, client = server.recvfrom(4096)
            server.sendto(dns_answer(asked), client)


class _Mail(socketserver.StreamRequestHandler):
    is_lmtp = False
    context: ssl.SSLContext

    def handle(self) -> None:
        self.secure, self.recipients = False, 0
        self.say("220 sink.example.net ready")
        while line := self.rfile.readline():
            word = line.decode("ascii", "replace").split()[0].upper() if line.strip() else ""
            if word == "QUIT":
                self.say("221 2.0.0 Bye")
                return
            self.answer(word)

    def answer(self, word: str) -> None:
        if word in ("EHLO", "LHLO"):
            tls = not self.secure and not self.is_lmtp
            self.say("250-sink.example.net", "250-STARTTLS" if tls else "250-8BITMIME")
            self.say("250 ENHANCEDSTATUSCODES")
        elif word == "STARTTLS":
            self.say("220 2.0.0 Go ahead")
            self.begin_tls()
        elif word == "DATA":
            self.take()
        else:
            self.recipients = self.recipients + 1 if word == "RCPT" else 0
            self.say("250 2.1.0 Ok")

    def take(self) -> None:
        recipients = self.recipients
        self.say("354 Go ahead")
        while self.rfile.readline() not in (b".\r\n", b""):
            pass
        answer = "250 2.0.0 Ok with TLS" if self.secure else "250 2.0.0 Ok in clear"
        self.say(*[answer] * (recipients if self.is_lmtp else 1))

    def begin_tls(self) -> None:
        self.connection = self.context.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
        self.secure = True

    def say(self, *lines: str) -> None:
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())


class _Lmtp(_Mail):
    is_lmtp = True


class _Port(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that breaks off is none of our business."""


class _Socket(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def main(chain: str, path: str) -> None:
    """Serve until killed; systemd is told once clients may come (sd_notify(3))."""
    _Mail.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _Mail.context.load_cert_chain(chain)
    local = _Socket(path, _Lmtp)
    os.chmod(path, 0o666)
    for server in (_Port(("127.0.0.1", 2525), _Mail), _Port(("127.0.0.1", 2424), _Lmtp), local):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
    _serve_dns()


if __name__ == "__main__":
    main(*sys.argv[1:])
