"""Floods the agent's connections to the system bus with all that an ordinary user may send.

Runs inside a machine as that user, with plain python3 and sockets: `inside_flood.py SECONDS
many|long NAME PEER...`, where NAME is the agent's bus name and each PEER a unique name of its
connections. Prints how many messages of each kind were sent, in JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

BUS = "org.freedesktop.DBus"
PROPERTIES = f"{BUS}.Properties"
CALL, RETURN, ERROR, SIGNAL = 1, 2, 3, 4
NO_REPLY = 1
LATE_SECONDS = 60.0


def string(value: str) -> bytes:
    data = value.encode()
    return len(data).to_bytes(4, "little") + data + b"\0"


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def message(
    kind: int,
    destination: str,
    interface: str,
    member: str,
    *,
    path: str = "/org/pfagent/Agent1",
    signature: str = "",
    body: bytes = b"",
    flags: int = 0,
    reply_serial: int = 0,
) -> bytes:
    texts = [(1, b"o", path), (2, b"s", interface), (3, b"s", member), (6, b"s", destination)]
    if kind == ERROR:
        texts.append((4, b"s", f"{BUS}.Error.Failed"))
    fields = b""
    for code, sort, text in texts:
        if text:
            fields = padded(fields) + bytes([code, 1]) + sort + b"\0" + string(text)
    if reply_serial:
        fields = padded(fields) + b"\5\1u\0" + reply_serial.to_bytes(4, "little")
    if signature:
        fields = (
            padded(fields) + b"\x08\1g\0" + bytes([len(signature)]) + signature.encode() + b"\0"
        )
    counts = (len(body), 7, len(fields))
    head = b"l" + bytes([kind, flags, 1]) + b"".join(n.to_bytes(4, "little") for n in counts)
    return padded(head + fields) + body


def connected() -> socket.socket:
    bus = socket.socket(socket.AF_UNIX)
    bus.connect("/run/dbus/system_bus_socket")
    bus.sendall(b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\n")
    assert bus.recv(1024).startswith(b"OK ")
    bus.sendall(b"BEGIN\r\n" + message(CALL, BUS, BUS, "Hello", path="/org/freedesktop/DBus"))
    assert bus.recv(1024)
    return bus


def array(size: int) -> bytes:
    """Return as many empty variants as fit: `av` whose elements are bytes."""
    element = b"\1y\0x"
    count = size // len(element)
    return (count * len(element)).to_bytes(4, "little") + element * count


def suspend(reason: int) -> bytes:
    return (60).to_bytes(8, "little") + string("x" * reason)


def kinds(name: str, peers: list[str]) -> dict[str, list[bytes]]:
    """Return the messages of each flood."""
    own, longest = name, array(31 << 20)
    look = string(own)
    look_at = look + bytes(-len(look) % 4) + string("Phase")
    return {
        "orders": [message(CALL, name, own, member) for member in ("Reconcile", "Resume")],
        "orders nobody waits for": [
            message(CALL, name, own, "Reconcile", flags=NO_REPLY),
            message(CALL, name, own, "Suspend", signature="ts", body=suspend(900), flags=NO_REPLY),
        ],
        "looks": [
            message(CALL, name, PROPERTIES, "GetAll", signature="s", body=look),
            message(CALL, name, PROPERTIES, "Get", signature="ss", body=look_at),
            message(CALL, name, f"{BUS}.Introspectable", "Introspect"),
            message(CALL, name, f"{BUS}.Introspectable", "Introspect", path="/none/such"),
            message(CALL, name, f"{BUS}.Peer", "Ping"),
            message(CALL, name, f"{BUS}.Peer", "GetMachineId"),
            message(CALL, name, "org.none.such", "Such"),
        ],
        "to each connection": [
            message(kind, peer, own, "Reconcile", reply_serial=0 if kind in (CALL, SIGNAL) else 3)
            for peer in peers
            for kind in (CALL, RETURN, ERROR, SIGNAL)
        ],
        "long": [
            message(CALL, name, own, "Suspend", signature="ts", body=suspend(7_000)),
            message(CALL, name, own, "Suspend", signature="ts", body=suspend(60_000)),
            message(CALL, name, own, "Reconcile", signature="av", body=array(4_000)),
        ],
        "as long as can be": [message(CALL, name, own, "Reconcile", signature="av", body=longest)],
        **{
            f"signals as long as can be to {peer}": [
                message(SIGNAL, peer, own, "Such", signature="av", body=longest)
            ]
            for peer in peers
        },
    }


def drain(bus: socket.socket) -> None:
    """Read whatever arrives, until the connection ends."""
    with contextlib.suppress(OSError):
        while bus.recv(1 << 20):
            pass


def flood(messages: list[bytes], until: float, reads: bool) -> int:
    """Send them in turn, as fast as possible, and read the answers or none at all.

    On a busy host the longest ones take longer than that, until the others are done.
    """
    sent, times = 0, max(1, 50_000 // sum(map(len, messages)))
    batch = b"".join(messages * times)

    def left() -> float:
        return until + (0 if sent else LATE_SECONDS) - time.monotonic()

    while left() > 0:
        # The bus disconnects senders that go too far: connect again.
        with connected() as bus:
            if reads:
                threading.Thread(target=drain, args=(bus,)).start()
            with contextlib.suppress(OSError):
                while (seconds := left()) > 0:
                    bus.settimeout(seconds)
                    bus.sendall(batch)
                    sent += times * len(messages)
            with contextlib.suppress(OSError):
                bus.shutdown(socket.SHUT_RDWR)  # ends drain's wait, too
    return sent


def come_and_go(messages: list[bytes], until: float) -> int:
    """Send them over a new connection each time."""
    sent = 0
    while time.monotonic() < until:
        with connected() as bus:
            bus.sendall(b"".join(messages))
        sent += len(messages)
    return sent


def main() -> None:
    """Run a process for each kind, all at once."""
    seconds, which, name, *peers = sys.argv[1:]
    until = time.monotonic() + float(seconds)
    floods = kinds(name, peers)
    # The bus reads so little of a connection at a time that beside the others no long one would
    # end.
    chosen = [kind for kind in floods if ("long" in kind) == (which == "long")]
    works = {kind: partial(flood, floods[kind], until, kind != "looks") for kind in chosen}
    if which == "many":
        works["orders, nothing read"] = partial(flood, floods["orders"], until, False)
        works["orders of who comes and goes"] = partial(come_and_go, floods["orders"], until)
    with ProcessPoolExecutor(len(works)) as pool:
        running = {kind: pool.submit(work) for kind, work in works.items()}
        print(json.dumps({kind: sent.result() for kind, sent in running.items()}))


if __name__ == "__main__":
    main()
