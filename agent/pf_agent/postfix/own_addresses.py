"""The addresses of this host, as the kernel lists them (rtnetlink(7)), and its named ports.

The standard library has no call for this, and `ip` need not be installed. It ranks below
installed.py, which picks the address to ask port 25 from.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from pf_agent.postfix.netlink import attributes, listed

# linux/rtnetlink.h, linux/if_addr.h
_GET_ADDRESSES = 22
_NEW_ADDRESS = 20
_LINK_SCOPE = 253
_LOCAL, _ADDRESS = 2, 1
# Addresses that cannot be used to connect from, yet or any more: temporary, failed, deprecated,
# tentative.
_UNFIT = 0x01 | 0x08 | 0x20 | 0x40
_MESSAGE = struct.Struct("=BBBBI")
_ADDRESS_BYTES = {socket.AF_INET: 4, socket.AF_INET6: 16}


def port_of(name: str) -> int | None:
    """Return the number of a TCP port by its name in services(5), None if it has none."""
    try:
        return socket.getservbyname(name, "tcp")
    except (OSError, ValueError):
        return None


def own_addresses() -> tuple[str, ...]:
    """Return the addresses that reach beyond a link, in the kernel's order; () if it lists none."""
    try:
        return tuple(_addresses())
    except (OSError, struct.error):
        return ()


def _addresses() -> Iterator[str]:
    question = _MESSAGE.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    for message in listed(socket.NETLINK_ROUTE, _GET_ADDRESSES, _NEW_ADDRESS, question):
        if address := _address_of(message):
            yield address


def _address_of(message: bytes) -> str:
    family, _, flags, scope, _ = _MESSAGE.unpack_from(message)
    found = attributes(message[_MESSAGE.size :])
    # On a point-to-point link the other attribute is the peer's address.
    packed = found.get(_LOCAL) or found.get(_ADDRESS, b"")
    is_fit = scope < _LINK_SCOPE and not flags & _UNFIT
    is_known = len(packed) == _ADDRESS_BYTES.get(family)
    return socket.inet_ntop(family, packed) if is_fit and is_known else ""
