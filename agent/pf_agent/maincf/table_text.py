"""What is odd in the source of an indexed table, by line and without any of its text: pure.

postmap(1) and postalias(1) say which lines they skip. Here their warnings lose what they quote,
since a key or a value may be a secret (smtp_sasl_password_maps), and get a line number if they have
none. About keys that never match Postfix does not warn (access(5), "HOST NAME/ADDRESS PATTERNS";
canonical(5), "TABLE SEARCH ORDER").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from pf_agent.maincf.indexed import Table
from pf_agent.model import BLANKS, Place

_MOST_REMARKS: Final = 5
_BLANKS: Final = BLANKS.encode()
# msg_warn() in postmap/postmap.c and postalias/postalias.c. Any other warning is cut at its quote.
_SAID: Final = {
    "expected format: key whitespace value": "no value after the key",
    "record is in": "the key ends in a colon, as in an alias file",
    "need name:value pair": "no name, colon and value",
    "non-UTF-8 input": "not UTF-8",
}
_PLACED: Final = re.compile(r"(?P<file>.*), line (?P<line>\d+): (?P<words>.*)", re.DOTALL)
_NETWORK: Final = re.compile(rb"[0-9a-fA-F:.\[\]]+/\d{1,3}")
_PATTERN: Final = re.compile(rb"/.+/[imsxAEUX]*")


class Remark(NamedTuple):
    """What is odd, and in which line; None if unknown."""

    line: int | None
    what: str


class Text(NamedTuple):
    """What the source shows: the last of the first lines that continue nothing, repeated keys, and
    keys that never match."""

    orphan: int | None
    again: tuple[Remark, ...]
    never: tuple[Remark, ...]


def read(lines: Iterable[bytes], table: Table) -> Text:
    """Read a source as readllines() in util/readlline.c does: a line that begins with a blank
    continues the previous one."""
    orphan: int | None = None
    seen: dict[bytes, int] = {}
    again, never = [], []
    for number, line in _logical(lines):
        if line[:1] in _BLANKS:
            orphan = number
            continue
        key = _key(line, table)
        if not key:
            continue
        if key in seen:
            again.append(Remark(number, f"the key of line {seen[key]} again"))
        seen.setdefault(key, number)
        why = "" if table.is_of_aliases else _never(key)
        if why:
            never.append(Remark(number, why))
    return Text(orphan, tuple(again), tuple(never))


def warnings(complaint: Iterable[str], private: str, text: Text) -> list[Remark]:
    """Return what Postfix warned about in the source, which was at `private` when it was read."""
    found: dict[Remark, None] = {}
    for line in complaint:
        if not line.startswith(private):
            continue  # about main.cf, which is reported elsewhere
        placed = _PLACED.fullmatch(line)
        if placed is not None:
            found[Remark(int(placed["line"]), _words(placed["words"]))] = None
        elif ": duplicate entry: " in line:
            found |= dict.fromkeys(text.again or (Remark(None, "a key comes twice"),))
        elif ": logical line must not start with whitespace: " in line:
            found[Remark(text.orphan, "it begins with white space and continues no line")] = None
        else:
            found[Remark(None, _words(line[len(private) :].lstrip(": ")))] = None
    return sorted(found, key=lambda remark: remark.line or 0)


def told(path: str, remarks: Iterable[Remark]) -> tuple[str, ...]:
    """Return the first few, each with its place."""
    all_of_them = [f"{Place(path, remark.line)}: {remark.what}" for remark in remarks]
    more = len(all_of_them) - _MOST_REMARKS
    return (*all_of_them[:_MOST_REMARKS], *([f"and {more} more"] if more > 0 else []))


def _logical(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """The first physical line of each logical line, with its number."""
    is_begun = False
    for number, line in enumerate(lines, 1):
        bare = line.strip(_BLANKS)
        if not bare or bare.startswith(b"#"):
            continue
        if line[:1] in _BLANKS and is_begun:
            continue
        is_begun = True
        yield number, line


def _key(line: bytes, table: Table) -> bytes:
    """The key as Postfix looks it up, b"" if the line is no entry."""
    if table.is_of_aliases:
        return line.partition(b":")[0].strip(_BLANKS + b'"').lower()
    key, *value = line.split(None, 1)
    return key.lower() if value and value[0].strip() else b""


def _never(key: bytes) -> str:
    if _NETWORK.fullmatch(key):
        return "a network never matches in an indexed table; use cidr:"
    if _PATTERN.fullmatch(key):
        return "a pattern never matches in an indexed table; use regexp: or pcre:"
    if key.startswith(b"*@"):
        return "* in front of a domain never matches; write @ and the domain alone"
    return ""


def _words(said: str) -> str:
    known = (words for start, words in _SAID.items() if said.startswith(start))
    return next(known, said.partition('"')[0].rstrip(" :"))
