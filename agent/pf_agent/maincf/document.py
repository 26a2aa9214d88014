"""main.cf as a lossless document, and what every document with named parts has in common.

Each is a text of logical lines (`lines.py`), of which most set a part. The grammar of main.cf is
that of Postfix's readlline(3)/split_nameval(3) pair (postconf(5), "main.cf" file format), as
measured on 3.7 and 3.10; that of tables and alias files is in `entries.py`. A setting is its head
line and all its text lines, with any comments in between, and an edit (`edit.py`) must never
separate them.

Names and values are text in which bytes that are not UTF-8 are surrogates (PEP 383).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final, TypeVar

from pf_agent.maincf.lines import (
    BLANK_BYTES,
    BLANK_RUN,
    is_orphan,
    logical_rows,
    logical_text,
    split,
)
from pf_agent.model import Attributes, Parameter

TextT = TypeVar("TextT", bound="Text")

# "#name = ..." as templates and postconf -# write it.
_COMMENTED_SETTING = re.compile(rb"[ \t]*#+[ \t]*([^\s=#]+)[ \t]*=")

# If main.cf was modified less than about a second ago, every Postfix program sleeps and reads it
# again, since it may be half-written (dict_load_file_xt in util/dict.c): 2 s lost in each program.
# A file that we put in place is complete, so it is dated back by this many seconds and nothing
# waits.
COOL_SECONDS = 3.0
# "About a second", on the safe side: both times are rounded down to whole seconds.
HOT_SECONDS = 1.0
# Every user's sendmail and postqueue read main.cf, so it must be world-readable; postconf(1) also
# leaves it so. Only root may write a file that root's programs obey.
ATTRIBUTES: Final = Attributes(0, 0, 0o644)


def decoded(data: bytes) -> str:
    """Return `data` as text, with every byte preserved."""
    return data.decode("utf-8", "surrogateescape")


def encoded(text: str) -> bytes:
    """Return the bytes that `decoded` turned into `text`."""
    return text.encode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class LogicalLine:
    """A head line and its continuations; `rows` index the physical lines, without comments.

    At most one of `parameter` and `error` is set; `error` says why Postfix cannot read the line.
    Neither is for an orphan: text that starts with a blank before any setting, which Postfix skips
    with a warning.
    """

    rows: tuple[int, ...]
    parameter: Parameter | None
    error: str = ""

    @property
    def line(self) -> int:
        """The number of the head line, counted from 1."""
        return self.rows[0] + 1


@dataclass(frozen=True)
class Text(ABC):
    """A document. `lines` are the physical lines with their ends; joined, they are the file."""

    lines: tuple[bytes, ...]

    # Which of several settings of the same name Postfix obeys, as an index.
    obeyed: ClassVar[int]

    @classmethod
    def parse(cls: type[TextT], data: bytes) -> TextT:
        """Parse `data`; any byte string is a document, so nothing is raised."""
        return cls(split(data))

    @abstractmethod
    def _read(self, rows: Sequence[int]) -> LogicalLine:
        """Return what Postfix reads in the logical line at `rows`."""

    @classmethod
    @abstractmethod
    def written(cls, name: str, value: str) -> str:
        """Return the line, without its end, that sets `name` to `value`."""

    @classmethod
    @abstractmethod
    def commented_name(cls, line: bytes) -> str | None:
        """Return the name that a comment would set without its sign; None if it is prose."""

    @classmethod
    def as_read(cls, value: str) -> str:
        """Return what Postfix makes of a value as written."""
        return value

    @abstractmethod
    def contradiction(self, name: str) -> Parameter | None:
        """Return the first setting of `name`, other than the obeyed one, that Postfix warns about.

        It takes effect if the obeyed one is deleted.
        """

    @abstractmethod
    def unreadable(self) -> tuple[LogicalLine, ...]:
        """Return the lines that every Postfix program refuses to start with."""

    def render(self) -> bytes:
        """The file's bytes."""
        return b"".join(self.lines)

    @cached_property
    def logical_lines(self) -> tuple[LogicalLine, ...]:
        """Everything in the file, in order, including orphans and faulty lines."""
        return tuple(map(self._read, logical_rows(self.lines)))

    @cached_property
    def _by_name(self) -> Mapping[str, tuple[LogicalLine, ...]]:
        named: dict[str, list[LogicalLine]] = {}
        for logical in self.logical_lines:
            if logical.parameter is not None:
                named.setdefault(logical.parameter.name, []).append(logical)
        return {name: tuple(found) for name, found in named.items()}

    def occurrences(self, name: str) -> tuple[LogicalLine, ...]:
        """Every setting of `name`, in order; Postfix obeys the one at the index `obeyed`."""
        return self._by_name.get(name, ())

    def get(self, name: str) -> Parameter | None:
        """Return what Postfix reads for `name`, None if the file does not set it."""
        found = self.occurrences(name)
        return found[self.obeyed].parameter if found else None

    def parameters(self) -> dict[str, str]:
        """Return every explicit setting as Postfix reads it, unexpanded."""
        values: dict[str, str] = {}
        first_counts = self.obeyed == 0
        for logical in self.logical_lines:
            found = logical.parameter
            if found is not None and not (first_counts and found.name in values):
                values[found.name] = found.value
        return values

    def content(self) -> tuple[tuple[str, str], ...]:
        """What Postfix reads, in order; its verdict is the same for every text with this content.

        Except for the line numbers in it. Comments, blanks and the folding of values do not count.
        """
        return tuple(
            ("", decoded(b"".join(self.lines[row] for row in logical.rows)))
            if logical.parameter is None
            else (logical.parameter.name, logical.parameter.value)
            for logical in self.logical_lines
        )

    def lines_of(self, name: str) -> str | None:
        """Return the lines that set `name`, for `Edit.put_back`; None if it is not set."""
        rows = self.rows_of(name)
        return decoded(b"".join(self.lines[row] for row in rows)) if rows else None

    def rows_of(self, name: str) -> list[int]:
        """Return the rows that set `name`, including comments between them."""
        spans = (range(found.rows[0], found.rows[-1] + 1) for found in self.occurrences(name))
        return [row for span in spans for row in span]

    def text_of(self, logical: LogicalLine) -> str:
        """Return the physical text of `logical`, for a record."""
        return decoded(b"".join(self.lines[row] for row in logical.rows)).strip()


def _logical_line(rows: Sequence[int], lines: tuple[bytes, ...]) -> LogicalLine:
    """Split one logical line as split_nameval(3) does."""
    if is_orphan(lines[rows[0]]):
        return LogicalLine(tuple(rows), None)
    left, equals, value = logical_text(rows, lines).partition(b"=")
    words = BLANK_RUN.split(left.strip(BLANK_BYTES))
    if not words[0]:
        return LogicalLine(tuple(rows), None, "missing attribute name")
    if not equals or len(words) > 1:
        return LogicalLine(tuple(rows), None, "missing '=' after attribute name")
    return LogicalLine(
        tuple(rows), Parameter(decoded(words[0]), decoded(value.strip(BLANK_BYTES)), rows[0] + 1)
    )


class MainCf(Text):
    """main.cf."""

    obeyed = -1

    def _read(self, rows: Sequence[int]) -> LogicalLine:
        return _logical_line(rows, self.lines)

    @classmethod
    def written(cls, name: str, value: str) -> str:
        return f"{name} = {value}" if value else f"{name} ="

    @classmethod
    def commented_name(cls, line: bytes) -> str | None:
        match = _COMMENTED_SETTING.match(line)
        return None if match is None else decoded(match[1])

    def contradiction(self, name: str) -> Parameter | None:
        """Return the first that says something else than the obeyed one.

        If the texts are the same Postfix says nothing (dict_update in util/dict.c).
        """
        *others, obeyed = (found.parameter for found in self.occurrences(name))
        return next((p for p in others if p and obeyed and p.value != obeyed.value), None)

    def unreadable(self) -> tuple[LogicalLine, ...]:
        return tuple(logical for logical in self.logical_lines if logical.error)
