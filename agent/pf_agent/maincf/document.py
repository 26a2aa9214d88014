"""main.cf as a lossless document: every byte of it, and what Postfix reads in them.

The grammar is that of Postfix's readlliteral/split_nameval pair (postconf(5), "main.cf" file
format), as measured on 3.7 and 3.10. Only six bytes are blank, a line is split at \\n alone, and a
comment or an empty line does *not* end a setting: a line that starts with a blank byte still
continues the setting above. A setting is therefore its head and all its text lines, wherever
comments stand between, and an edit (`edit.py`) must never part the two.

Names and values are text in which bytes that are not UTF-8 stand as surrogates (PEP 383).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pf_agent.model import BLANKS, Parameter

# Every Postfix program sleeps and reads again while main.cf was modified less than about a second
# ago (dict_load_file_xt in util/dict.c), since it may be half written: 2 s lost in each program. A
# file that we put there whole is dated back by this many seconds, and nobody waits.
COOL_SECONDS = 3.0
# And this is "about a second", to the safe side: both moments are rounded down to whole seconds.
HOT_SECONDS = 1.0
# Every user's sendmail and postqueue read main.cf, so it must be readable by all; postconf(1)
# leaves it so too. Nobody but root may write what root's programs obey.
OWNER = 0
GROUP = 0
MODE = 0o644

BLANK_BYTES = BLANKS.encode()

_HASH = ord("#")
_BLANK_RUN = re.compile(b"[%b]+" % BLANK_BYTES)


def decoded(data: bytes) -> str:
    """`data` as text, every byte kept."""
    return data.decode("utf-8", "surrogateescape")


def encoded(text: str) -> bytes:
    """The bytes that `decoded` made `text` of."""
    return text.encode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class LogicalLine:
    """A head line and its continuations; `rows` index the physical lines, comments left out.

    Exactly one of `parameter` and `error` is set, or neither for an orphan: text that starts with
    a blank before any setting, which Postfix skips with a warning.
    """

    rows: tuple[int, ...]
    parameter: Parameter | None
    error: str = ""

    @property
    def line(self) -> int:
        """The number of the head line, from 1."""
        return self.rows[0] + 1


def _logical_line(rows: list[int], lines: tuple[bytes, ...]) -> LogicalLine:
    """Take one logical line apart as split_nameval(3) does."""
    head = lines[rows[0]]
    if _BLANK_RUN.match(head):
        return LogicalLine(tuple(rows), None)
    text = b"".join(lines[row].rstrip(b"\n") for row in rows)
    text = text.partition(b"\0")[0]  # C strings: what follows a NUL is not seen
    left, equals, value = text.partition(b"=")
    words = _BLANK_RUN.split(left.strip(BLANK_BYTES))
    if not words[0]:
        return LogicalLine(tuple(rows), None, "missing attribute name")
    if not equals or len(words) > 1:
        return LogicalLine(tuple(rows), None, "missing '=' after attribute name")
    return LogicalLine(
        tuple(rows), Parameter(decoded(words[0]), decoded(value.strip(BLANK_BYTES)), rows[0] + 1)
    )


@dataclass(frozen=True)
class MainCf:
    """The document. `lines` are the physical lines with their ends; joined, they are the file."""

    lines: tuple[bytes, ...]

    @classmethod
    def parse(cls, data: bytes) -> MainCf:
        """Read `data`; every byte string is a document, so this raises nothing."""
        lines = data.split(b"\n")
        whole = [line + b"\n" for line in lines[:-1]]
        return cls(tuple([*whole, lines[-1]] if lines[-1] else whole))

    def render(self) -> bytes:
        """The file's bytes."""
        return b"".join(self.lines)

    @cached_property
    def logical_lines(self) -> tuple[LogicalLine, ...]:
        """What stands in the file, in order, orphans and faulty lines included."""
        found: list[list[int]] = []
        for row, line in enumerate(self.lines):
            # Most lines are comments and empty ones, which need no closer look.
            if line[0] == _HASH or line == b"\n":
                continue
            text = line.lstrip(BLANK_BYTES)
            if not text or text.startswith(b"#"):
                continue
            if found and _BLANK_RUN.match(line):
                found[-1].append(row)
            else:
                found.append([row])
        return tuple(_logical_line(rows, self.lines) for rows in found)

    @cached_property
    def _by_name(self) -> Mapping[str, tuple[LogicalLine, ...]]:
        named: dict[str, list[LogicalLine]] = {}
        for logical in self.logical_lines:
            if logical.parameter is not None:
                named.setdefault(logical.parameter.name, []).append(logical)
        return {name: tuple(found) for name, found in named.items()}

    def occurrences(self, name: str) -> tuple[LogicalLine, ...]:
        """Every setting of `name`, in order; the last one is what Postfix obeys."""
        return self._by_name.get(name, ())

    def get(self, name: str) -> Parameter | None:
        """What Postfix has for `name`, None where the file does not set it."""
        found = self.occurrences(name)
        return found[-1].parameter if found else None

    def parameters(self) -> dict[str, str]:
        """Every explicit setting as Postfix has it, unexpanded."""
        values = {}
        for logical in self.logical_lines:
            if logical.parameter is not None:
                values[logical.parameter.name] = logical.parameter.value
        return values

    def content(self) -> tuple[tuple[str, str], ...]:
        """What Postfix reads, in order: what it says of a text it says of each with this content.

        But for the line numbers. Comments, blanks and the folding of a value do not count.
        """
        return tuple(
            ("", decoded(b"".join(self.lines[row] for row in logical.rows)))
            if logical.parameter is None
            else (logical.parameter.name, logical.parameter.value)
            for logical in self.logical_lines
        )

    def lines_of(self, name: str) -> str | None:
        """Return the lines that set `name`, for `Edit.put_back`; None where it is not set."""
        rows = self.rows_of(name)
        return decoded(b"".join(self.lines[row] for row in rows)) if rows else None

    def rows_of(self, name: str) -> list[int]:
        """Return the rows that set `name`, those of comments between them too."""
        spans = (range(found.rows[0], found.rows[-1] + 1) for found in self.occurrences(name))
        return [row for span in spans for row in span]

    def unreadable(self) -> tuple[LogicalLine, ...]:
        """The lines that every Postfix program refuses to start with."""
        return tuple(logical for logical in self.logical_lines if logical.error)

    def text_of(self, logical: LogicalLine) -> str:
        """The physical text of `logical`, for a record."""
        return decoded(b"".join(self.lines[row] for row in logical.rows)).strip()
