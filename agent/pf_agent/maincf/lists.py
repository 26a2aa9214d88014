"""How Postfix splits a list into words, and which words of a network list it refuses.

The rules and the messages are those of src/util in Postfix's sources.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Final

# CHARS_COMMA_SP in sys_defs.h: \v and \f do not separate.
SEPARATORS: Final = ", \t\r\n"


def words(value: str, separators: str = SEPARATORS) -> Iterator[str]:
    """Yield the words of a list: separators split them, but not inside braces (mystrtok.c)."""
    return (value[start:end] for start, end in word_spans(value, separators))


def word_spans(value: str, separators: str = SEPARATORS) -> Iterator[tuple[int, int]]:
    """Yield where each word of a list begins and ends."""
    start, level = -1, 0
    for at, char in enumerate(value):
        if level == 0 and char in separators:
            if start >= 0:
                yield start, at
            start = -1
            continue
        if start < 0:
            start = at
        if char == "{":
            level += 1
        elif char == "}" and level > 0:
            level -= 1
    if start >= 0:
        yield start, len(value)


_ADDRESS_CHARACTERS: Final = frozenset("0123456789.abcdefABCDEF:[]/")


def network_fault(name: str, value: str) -> str:
    """Return what is wrong with the first bad word of a network list (match_list.c, match_ops.c).

    Like there, files, tables, names and plain IPv4 addresses are not checked. An IPv6 address
    without brackets is read as a table, of a type that does not exist.
    """
    for word in words(value):
        if word.startswith("#"):
            break
        pattern = word.lstrip("!")
        if not pattern:
            return f"{name}: no pattern after '!'"
        if pattern[0] == "/" or not _ADDRESS_CHARACTERS.issuperset(pattern):
            continue
        found = ""
        if pattern[0] != "[" and ":" in pattern:
            found = _table_fault(pattern)
        elif ":" in pattern or "/" in pattern:
            found = _cidr_fault(pattern.lower())
            found = found and f"{name}: {found}"
        if found:
            return found
    return ""


def _table_fault(pattern: str) -> str:
    """Return dict_open()'s message (dict_open.c) for an address in place of a table."""
    if _network(pattern.partition("/")[0]) is None:
        return ""
    kind, _, table = pattern.partition(":")
    if not kind or not table:
        return f'open dictionary: expecting "type:name" form instead of "{pattern}"'
    return f"unsupported dictionary type: {kind}"


def _cidr_fault(pattern: str) -> str:
    """Return cidr_match_parse()'s message (cidr_match.c) for the pattern."""
    address, mask = pattern, ""
    is_masked = False
    if pattern[0] == "[":
        address, bracket, rest = pattern[1:].partition("]")
        if not bracket:
            return f"missing ']' character after \"[{address}\""
        if rest and rest[0] != "/":
            return f'garbage after "[{address}]"'
        if rest:
            is_masked, mask = True, rest[1:]
    if not is_masked:
        address, slash, mask = address.partition("/")
        is_masked = bool(slash)
    network = _network(address)
    if not is_masked:
        return "" if network is not None else f'bad address pattern: "{address}"'
    return _mask_fault(address, mask, network)


def _mask_fault(address: str, mask: str, network: int | None) -> str:
    bits = 128 if ":" in address else 32
    if not (mask.isascii() and mask.isdigit()):
        return f'bad mask value in "{address}/{mask}"'
    length = int(mask[-20:])
    if length > bits:
        return f'bad mask length in "{address}/{mask}"'
    if network is None:
        return f'bad network value in "{address}/{mask}"'
    right = network >> (bits - length) << (bits - length)
    if right != network:
        return (
            f'non-null host address bits in "{address}/{mask}", '
            f'perhaps you should use "{_written(right, bits)}/{length}" instead'
        )
    return ""


def _network(address: str) -> int | None:
    """Return the address as a number, None if inet_pton(3) does not accept it."""
    try:
        if ":" in address:
            return int(ipaddress.IPv6Address(address))
        return int(ipaddress.IPv4Address(address))
    except ValueError:
        return None


def _written(number: int, bits: int) -> str:
    """Return the address as the C library's inet_ntop(3) writes it."""
    if bits == 32:
        return str(ipaddress.IPv4Address(number))
    # Before 3.13 Python writes ::ffff:192.0.2.0 differently, and ::192.0.2.0 in every version.
    if 0xFFFF < number < 2**32 or number >> 32 == 0xFFFF:
        head = "::ffff:" if number >> 32 else "::"
        return head + str(ipaddress.IPv4Address(number & 0xFFFFFFFF))
    return str(ipaddress.IPv6Address(number))
