"""D-Bus messages as bytes: splits a stream, reads headers, and writes two kinds. Pure.

The D-Bus Specification, "Message Protocol": the form of a message, its types, flags and header
fields. dbus-daemon has checked each message before it sends it on, and itself sets the sender.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

BUS = "org.freedesktop.DBus"
METHOD_CALL, METHOD_RETURN, ERROR, SIGNAL = 1, 2, 3, 4
NO_REPLY_EXPECTED = 1

_PATH, _INTERFACE, _MEMBER, _ERROR_NAME = 1, 2, 3, 4
_REPLY_SERIAL, _DESTINATION, _SENDER, _SIGNATURE = 5, 6, 7, 8
_FIXED = 16


class Head(NamedTuple):
    """What the header of a message says; "" and 0 for a missing field."""

    kind: int
    flags: int
    serial: int
    reply_serial: int
    sender: str
    signature: str
    is_little: bool

    def wants_answer(self) -> bool:
        """Whether the caller waits for a reply to it."""
        return self.kind == METHOD_CALL and not self.flags & NO_REPLY_EXPECTED


class Messages:
    """Splits a stream into messages.

    `most` returns how many bytes a message of a kind may have, None for no limit. Of a longer one
    only the header is kept, and nothing at all if the header alone is longer.
    """

    def __init__(self, most: Callable[[int], int | None]) -> None:
        self._most = most
        self._rest = b""
        self._skipped = 0

    def feed(self, data: bytes) -> Iterator[tuple[Head, bytes]]:
        """Return each message that is complete by now, with b"" for one that is too long.

        Raises ValueError if the data is not a message.
        """
        if self._skipped:
            dropped = min(self._skipped, len(data))
            self._skipped -= dropped
            data = data[dropped:]
        data = self._rest + data if self._rest else data
        at = 0
        while len(data) - at >= _FIXED:
            until_body, end = _sizes(data, at)
            most = self._most(data[at + 1])
            if most is None or end - at <= most:
                if end > len(data):
                    break
                yield _head(data, at), data[at:end]
            elif until_body - at <= most:
                if until_body > len(data):
                    break
                yield _head(data, at), b""
            self._skipped = max(end - len(data), 0)
            at = min(end, len(data))
        self._rest = data[at:]


def _sizes(data: bytes, at: int) -> tuple[int, int]:
    """Return where the body of the message at `at` begins, and where it ends."""
    order = _order(data[at])
    fields = int.from_bytes(data[at + 12 : at + 16], order)
    body = at + _FIXED + (fields + 7 & ~7)
    return body, body + int.from_bytes(data[at + 4 : at + 8], order)


def _order(mark: int) -> Literal["little", "big"]:
    if mark == 0x6C:
        return "little"
    if mark == 0x42:
        return "big"
    raise ValueError(f"no D-Bus message begins with byte {mark}")


def _head(data: bytes, at: int) -> Head:
    order = _order(data[at])
    end = at + _FIXED + int.from_bytes(data[at + 12 : at + 16], order)
    reply_serial, sender, signature = 0, "", ""
    place = at + _FIXED
    while place < end:
        code, kind = data[place], data[place + 2]
        place += 4
        if kind == 0x75:  # u
            number = int.from_bytes(data[place : place + 4], order)
            place += 4
            if code == _REPLY_SERIAL:
                reply_serial = number
        elif kind == 0x67:  # g
            after = place + 1 + data[place]
            if code == _SIGNATURE:
                signature = data[place + 1 : after].decode("ascii")
            place = after + 1
        elif kind in b"so":
            after = place + 4 + int.from_bytes(data[place : place + 4], order)
            if code == _SENDER:
                sender = data[place + 4 : after].decode("ascii")
            place = after + 1
        else:
            # Not a type of the specification: the rest is not read. A sender in it stays unknown,
            # and is treated like any other without a name.
            break
        place += -(place - at) % 8
    serial = int.from_bytes(data[at + 8 : at + 12], order)
    return Head(
        data[at + 1], data[at + 2], serial, reply_serial, sender, signature, order == "little"
    )


def user_asked(serial: int, sender: str) -> bytes:
    """Ask the bus for the user of the bus name `sender` (GetConnectionUnixUser)."""
    fields = [
        _field(_PATH, "o", "/org/freedesktop/DBus"),
        _field(_INTERFACE, "s", BUS),
        _field(_MEMBER, "s", "GetConnectionUnixUser"),
        _field(_DESTINATION, "s", BUS),
        _signature("s"),
    ]
    return _message(METHOD_CALL, serial, fields, _string(sender))


def user_told(head: Head, message: bytes) -> int | None:
    """Return the user named in an answer to `user_asked`; None for an error."""
    if head.kind != METHOD_RETURN or head.signature != "u":
        return None
    return int.from_bytes(message[-4:], "little" if head.is_little else "big")


def refusal(serial: int, call: Head, name: str, words: str) -> bytes:
    """Answer a call with the D-Bus error `name`."""
    fields = [
        _field(_ERROR_NAME, "s", name),
        bytes([_REPLY_SERIAL, 1, 0x75, 0]) + call.serial.to_bytes(4, "little"),
        _field(_DESTINATION, "s", call.sender),
        _signature("s"),
    ]
    return _message(ERROR, serial, fields, _string(words))


def _message(kind: int, serial: int, fields: list[bytes], body: bytes) -> bytes:
    table = b""
    for field in fields:
        table = _padded(table) + field
    counts = (len(body), serial, len(table))
    start = b"l" + bytes([kind, NO_REPLY_EXPECTED if kind == ERROR else 0, 1])
    return _padded(start + b"".join(n.to_bytes(4, "little") for n in counts) + table) + body


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def _field(code: int, kind: str, value: str) -> bytes:
    return bytes([code, 1, ord(kind), 0]) + _string(value)


def _signature(value: str) -> bytes:
    return bytes([_SIGNATURE, 1, 0x67, 0, len(value)]) + value.encode("ascii") + b"\0"


def _string(value: str) -> bytes:
    data = value.encode("utf-8")
    return len(data).to_bytes(4, "little") + data + b"\0"
