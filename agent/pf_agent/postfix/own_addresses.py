"""The addresses of this host, as the kernel lists them (rtnetlink(7)), and its named ports.

The standard library has no call for this, and `ip` need not be installed. It ranks below
installed.py, which picks the address to ask port 25 from.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

# linux/rtnetlink.h, linux/netlink.h, linux/if_addr.h
_GET_ADDRESSES = 22
_NEW_ADDRESS = 20
_DUMP_REQUEST = 0x301
_LINK_SCOPE = 253
_LOCAL, _ADDRESS = 2, 1
# Addresses that cannot be used to connect from, yet or any more: temporary, failed, deprecated,
# tentative.
_UNFIT = 0x01 | 0x08 | 0x20 | 0x40
_HEADER = struct.Struct("=IHHII")
_MESSAGE = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_ADDRESS_BYTES = {socket.AF_INET: 4, socket.AF_INET6: 16}
_SECONDS = 2.0
_READ_BYTES = 1 << 16


def port_of(name: str) -> int | None:
    """Return the number of a TCP port by its name in services(5), None if it has none."""
    try:
        return socket.getservbyname(name, "tcp")
    except (OSError, ValueError):
        return None


def own_addresses() -> tuple[str, ...]:
    """Return the addresses that reach beyond a link, in the kernel's order; () if it lists none."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
            kernel.settimeout(_SECONDS)
            kernel.send(
                _HEADER.pack(_HEADER.size + _MESSAGE.size, _GET_ADDRESSES, _DUMP_REQUEST, 1, 0)
                + _MESSAGE.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
            )
            return tuple(_addresses(kernel))
    except (OSError, struct.error):
        return ()


def _addresses(kernel: socket.socket) -> Iterator[str]:
    while True:
        data = kernel.recv(_READ_BYTES)
        while len(data) >= _HEADER.size:
            length, kind, _, _, _ = _HEADER.unpack_from(data)
            if kind != _NEW_ADDRESS:
                return  # the end, or an error
            if address := _address_of(data[_HEADER.size : length]):
                yield address
            data = data[_aligned(max(length, _HEADER.size)) :]


def _address_of(message: bytes) -> str:
    family, _, flags, scope, _ = _MESSAGE.unpack_from(message)
    found = {}
    rest = message[_MESSAGE.size :]
    while len(rest) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(rest)
        found[kind] = rest[_ATTRIBUTE.size : length]
        rest = rest[_aligned(max(length, _ATTRIBUTE.size)) :]
    # On a point-to-point link the other attribute is the peer's address.
    packed = found.get(_LOCAL) or found.get(_ADDRESS, b"")
    is_fit = scope < _LINK_SCOPE and not flags & _UNFIT
    is_known = len(packed) == _ADDRESS_BYTES.get(family)
    return socket.inet_ntop(family, packed) if is_fit and is_known else ""


def _aligned(length: int) -> int:
    return (length + 3) & ~3
