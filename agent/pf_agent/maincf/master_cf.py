"""master.cf as a lossless document: every byte of it, and the services that Postfix reads in it.

Its lines are those of main.cf (master(5)). Both the file itself and the output of `postconf -M` are
accepted. A service that stands commented out is found, too: its lines, each without the `#`, are
those of a service.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from pf_agent import names
from pf_agent.maincf.document import decoded
from pf_agent.maincf.lines import BLANK_BYTES, is_orphan, logical_rows, logical_text, split
from pf_agent.maincf.service import Reading, Service, read

# Most comments are prose, and need no closer look.
_HEAD = re.compile(rb"#+[ \t]*[^ \t]+[ \t]+(?:%b)[ \t]" % "|".join(names.SERVICE_TYPES).encode())
# How an argument begins, and prose does not: an option, a brace, a path, `$name` or `name=`.
_ARGUMENT = re.compile(rb"-[A-Za-z-]|[{/$]|[A-Za-z0-9_]+=")


class Entry(NamedTuple):
    """A logical line; `rows` index the physical lines, without comments in between.

    For an orphan, text that starts with a blank before any service, nothing was read: Postfix skips
    it with a warning.
    """

    rows: tuple[int, ...]
    found: Reading

    @property
    def line(self) -> int:
        """The number of the head line, counted from 1."""
        return self.rows[0] + 1

    @property
    def last_line(self) -> int:
        """The number of the last line."""
        return self.rows[-1] + 1


@dataclass(frozen=True)
class MasterCf:
    """The document. `lines` are the physical lines with their ends; joined, they are the file."""

    lines: tuple[bytes, ...]

    @classmethod
    def parse(cls, data: bytes) -> MasterCf:
        """Parse `data`; any byte string is a document, so nothing is raised."""
        return cls(split(data))

    def render(self) -> bytes:
        """The file's bytes."""
        return b"".join(self.lines)

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Everything in the file, in order, including orphans and faulty lines."""
        return tuple(
            Entry(
                tuple(rows),
                Reading(None)
                if is_orphan(self.lines[rows[0]])
                else read(decoded(logical_text(rows, self.lines)), rows[0] + 1),
            )
            for rows in logical_rows(self.lines)
        )

    @cached_property
    def services(self) -> tuple[Service, ...]:
        """The services, in order, also those with a field that Postfix refuses."""
        found = (entry.found.service for entry in self.entries)
        return tuple(service for service in found if service is not None)

    @cached_property
    def commented(self) -> tuple[Entry, ...]:
        """The services that stand commented out, in order.

        Each line has as many signs as the head, and what follows them begins with a blank: others
        are comments of their own.
        """
        found: list[list[int]] = []
        is_open, signs, braces = False, 0, 0
        for row, line in enumerate(self.lines):
            bare = _uncommented(line)
            if bare == line or not bare.strip(BLANK_BYTES):
                is_open = False
            elif _is_head(line):
                found.append([row])
                is_open, signs, braces = True, len(line) - len(bare), _braces(line)
            elif len(line) - len(bare) == signs and bare[0] not in BLANK_BYTES:
                is_open = False
            elif is_open and len(line) - len(bare) == signs and _continues(bare, braces):
                found[-1].append(row)
                braces += _braces(line)
        return tuple(Entry(tuple(rows), _read(self.lines, rows)) for rows in found)

    def refused(self) -> tuple[tuple[int, str], ...]:
        """Return the lines at which Postfix's programs end, each with the reason."""
        return tuple((e.line, e.found.refused) for e in self.entries if e.found.refused)

    def occurrences(self, full_name: str) -> tuple[Entry, ...]:
        """Every entry of `submission/inet`, in order; master uses the last one."""
        return tuple(entry for entry in self.entries if _is(entry, full_name))

    def commented_out(self, full_name: str) -> tuple[Entry, ...]:
        """Every commented entry of `submission/inet`, in order."""
        return tuple(entry for entry in self.commented if _is(entry, full_name))


def _is(entry: Entry, full_name: str) -> bool:
    service = entry.found.service
    return service is not None and service.full_name == full_name


def _uncommented(line: bytes) -> bytes:
    return line.lstrip(b"#")


def _read(lines: tuple[bytes, ...], rows: list[int]) -> Reading:
    """Read a commented service as if its lines had no `#`."""
    bare = [_uncommented(lines[row]) for row in rows]
    bare[0] = bare[0].lstrip(BLANK_BYTES)
    return read(decoded(logical_text(range(len(bare)), bare)), rows[0] + 1)


def _is_head(line: bytes) -> bool:
    if _HEAD.match(line) is None:
        return False
    found = _read((line,), [0])
    return found.service is not None and not found.refused


def _braces(line: bytes) -> int:
    return line.count(b"{") - line.count(b"}")


def _continues(bare: bytes, braces: int) -> bool:
    """Whether a comment, without its `#`, continues a commented service with so many open braces.

    Otherwise it is prose, as the lines about restrictions in Debian's own file are.
    """
    text = bare.lstrip(BLANK_BYTES)
    return text != bare and (braces > 0 or _ARGUMENT.match(text) is not None)
