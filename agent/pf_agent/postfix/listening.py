"""The TCP ports of this host that programs listen on, as the kernel lists them (sock_diag(7)).

/proc/net/tcp has them, too, but not in the sandbox of the unit that this runs in.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from pf_agent.model import Listener
from pf_agent.postfix.netlink import attributes, listed

# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h, net/tcp_states.h
_SOCK_DIAG = 4
_BY_FAMILY = 20
_LISTENS = 1 << 10
_V6_ONLY = 11
_ADDRESS_BYTES = {socket.AF_INET: 4, socket.AF_INET6: 16}
# Family, protocol, further attributes, states; a socket's own identity, which is left open.
_QUESTION = struct.Struct("=BBBxI48x")
# Of a socket's identity the port, in network order, and the address, between what is not needed.
_ANSWER = struct.Struct("=4x2s2x16s48x")


def listeners() -> tuple[Listener, ...]:
    """Return the listening sockets in this network namespace; () if the kernel lists none."""
    try:
        return tuple(found for family in _ADDRESS_BYTES for found in _of_family(family))
    except (OSError, struct.error):
        return ()


def _of_family(family: socket.AddressFamily) -> Iterator[Listener]:
    question = _QUESTION.pack(family, socket.IPPROTO_TCP, 0, _LISTENS)
    for message in listed(_SOCK_DIAG, _BY_FAMILY, _BY_FAMILY, question):
        port, address = _ANSWER.unpack_from(message)
        shown = socket.inet_ntop(family, address[: _ADDRESS_BYTES[family]])
        is_v6_only = attributes(message[_ANSWER.size :]).get(_V6_ONLY, b"\0") != b"\0"
        yield Listener(shown, int.from_bytes(port, "big"), is_v6_only)
