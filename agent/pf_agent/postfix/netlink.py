"""Lists that the kernel gives over netlink(7): one question, and the messages of its answer.

The standard library opens such a socket, and knows no message. It ranks below own_addresses.py and
listening.py, which each know the messages of one list.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping

_DUMP_REQUEST = 0x301  # NLM_F_REQUEST | NLM_F_DUMP (linux/netlink.h)
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_SECONDS = 2.0
_READ_BYTES = 1 << 16


def listed(protocol: int, kind: int, answers: int, question: bytes) -> Iterator[bytes]:
    """Yield the messages of the kind `answers`, without their headers. Raises OSError.

    The list ends with a message of another kind, or an error. Raises struct.error, too, for what is
    no such message.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as kernel:
        kernel.settimeout(_SECONDS)
        head = _HEADER.pack(_HEADER.size + len(question), kind, _DUMP_REQUEST, 1, 0)
        kernel.send(head + question)
        while True:
            data = kernel.recv(_READ_BYTES)
            while len(data) >= _HEADER.size:
                length, found, _, _, _ = _HEADER.unpack_from(data)
                if found != answers:
                    return
                yield data[_HEADER.size : length]
                data = data[_aligned(max(length, _HEADER.size)) :]


def attributes(rest: bytes) -> Mapping[int, bytes]:
    """Return the attributes that follow a message, by their numbers."""
    found = {}
    while len(rest) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(rest)
        found[kind] = rest[_ATTRIBUTE.size : length]
        rest = rest[_aligned(max(length, _ATTRIBUTE.size)) :]
    return found


def _aligned(length: int) -> int:
    return (length + 3) & ~3
