"""Edits of a document that keep every byte that they are not asked to change.

A setting and the lines that continue it are never separated, commented-out lines stay where they
are, and a new line gets the line end of its neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Generic

from pf_agent.maincf.document import LogicalLine, TextT, encoded
from pf_agent.maincf.lines import BLANK_BYTES, split

# "#<tab>more" below it: the continuation of a commented-out setting. A single space would be prose.
_COMMENTED_CONTINUATION = re.compile(rb"#(?:\t|  )[ \t]*\S")


class Edit(Generic[TextT]):
    """Changes of one document, collected and then made together in a single pass."""

    def __init__(self, text: TextT) -> None:
        self._text = text
        self._replaced: dict[int, bytes] = {}
        self._added: dict[int, list[bytes]] = {}
        self._at_end: list[bytes] = []

    def set(self, name: str, value: str) -> None:
        """Set `name` once, to `value`.

        Of several settings the first that already says `value` is kept, else the first one: an
        added line is removed, and the old bytes come back where they were.
        """
        setting, read = encoded(self._text.written(name, value)), self._text.as_read(value)
        places = self._text.occurrences(name)
        if not places:
            self._add(name, setting)
            return
        right = [p for p in places if p.parameter is not None and p.parameter.value == read]
        kept = right[0] if right else places[0]
        for place in places:
            if place is not kept:
                self._remove(place.rows)
            elif not right:
                head, *tail = place.rows
                self._replaced[head] = setting + self._line_end(head)
                self._remove(tail)

    def comment_out(self, logical: LogicalLine) -> None:
        """Put `#` before each text line; drop the line if the same comment is there already.

        Without the second part a tool that sets a parameter over and over would make the file grow
        by a line each time.
        """
        commented = {row: b"#" + self._text.lines[row] for row in logical.rows}
        if all(_without_end(line) in self._comments for line in commented.values()):
            self._remove(logical.rows)
        else:
            self._replaced.update(commented)

    def put_back(self, name: str, lines: str | None) -> None:
        """Give `name` the `lines` that it had, as returned by `lines_of`.

        None: it had none. If they were commented out, they return to their place.
        """
        before = list(split(encoded(lines or "")))
        rows = self._text.rows_of(name)
        if [self._text.lines[row] for row in rows] == before:
            return
        self._remove(row for row in rows if _is_text(self._text.lines[row]))
        if before and rows:
            self._put_in_place(rows[0], before)
        elif before:
            commented = self._commented_run(before)
            for row, line in zip(commented, before):  # noqa: B905 - there may be no run
                self._replaced[row] = _without_end(line) + self._end_of(row)
            if not commented:
                self._at_end.append(
                    _without_end(b"".join(line for line in before if _is_text(line)))
                )

    def _put_in_place(self, head: int, before: list[bytes]) -> None:
        """Put `before` in place from row `head` on, reusing those of its comments still there."""
        lines = self._text.lines
        text = [line for line in before if _is_text(line)]
        comments = [line for line in before if not _is_text(line)]
        below = range(head + 1, head + 1 + len(comments))
        if [*lines[below.start : below.stop]] == comments:
            self._remove(below)
        else:
            before = text
        if any(self._replaced.get(row, lines[row]) for row in range(head + 1, len(lines))):
            _end_last_line(before, self._line_end(head))
        self._replaced[head] = b"".join(before)

    def _commented_run(self, before: Sequence[bytes]) -> range:
        """Return the consecutive rows where `comment_out` left these lines; empty if nowhere.

        Not inside a setting that continues below: its tail would become part of these lines.
        """
        wanted = [_without_end(b"#" + line if _is_text(line) else line) for line in before]
        lines = self._text.lines
        for row in self._comment_rows.get(wanted[0], ()):
            run = range(row, row + len(wanted))
            # Compared until they differ: there may be many like the first one.
            is_here = run.stop <= len(lines) and all(
                _without_end(lines[at]) == line for at, line in zip(run, wanted, strict=True)
            )
            if is_here and run[-1] not in self._last_row_under_way:
                return run
        return range(0)

    def _end_of(self, row: int) -> bytes:
        line = self._text.lines[row]
        return line[len(_without_end(line)) :]

    def result(self) -> TextT:
        """Return the changed document."""
        before = self._text.lines
        lines: list[bytes] = []
        done = 0
        for row in sorted(self._replaced.keys() | self._added.keys()):
            lines += before[done:row]
            lines.append(self._replaced.get(row, before[row]))
            for added in self._added.get(row, ()):
                _end_last_line(lines, self._line_end(row))
                lines.append(added + self._line_end(row))
            done = row + 1
        lines += before[done:]
        if self._at_end:
            end = self._line_end(len(self._text.lines) - 1)
            _end_last_line(lines, end)
            lines.extend(added + end for added in self._at_end)
        return type(self._text)(tuple(filter(None, lines)))

    def _remove(self, rows: Iterable[int]) -> None:
        self._replaced.update((row, b"") for row in rows)

    def _add(self, name: str, setting: bytes) -> None:
        row = self._commented_places.get(name)
        if row is None:
            self._at_end.append(setting)
            return
        lines = self._text.lines
        while row + 1 < len(lines) and _COMMENTED_CONTINUATION.match(lines[row + 1]):
            row += 1
        # Inside a setting that continues below, the new line would take over its tail: step past
        # it.
        row = self._last_row_under_way.get(row, row)
        self._added.setdefault(row, []).append(setting)

    @cached_property
    def _comments(self) -> frozenset[bytes]:
        return frozenset(_without_end(line) for line in self._text.lines if line.startswith(b"#"))

    @cached_property
    def _comment_rows(self) -> Mapping[bytes, list[int]]:
        rows: dict[bytes, list[int]] = {}
        for row, line in enumerate(self._text.lines):
            if line.startswith(b"#"):
                rows.setdefault(_without_end(line), []).append(row)
        return rows

    @cached_property
    def _commented_places(self) -> Mapping[str, int]:
        """Return the last row of each setting that is commented out, by name."""
        places = {}
        for row, line in enumerate(self._text.lines):
            name = self._text.commented_name(line)
            if name is not None:
                places[name] = row
        return places

    @cached_property
    def _last_row_under_way(self) -> Mapping[int, int]:
        """Return, for each row within a setting of several lines, the row of its last text line."""
        last_rows = {}
        for logical in self._text.logical_lines:
            orphan = logical.parameter is None and not logical.error
            # A setting put above an orphan would turn the orphan into its continuation.
            first = 0 if orphan else logical.rows[0]
            last_rows.update(dict.fromkeys(range(first, logical.rows[-1]), logical.rows[-1]))
        return last_rows

    def _line_end(self, row: int) -> bytes:
        """Return the line end for a new line that replaces `row` or goes below it."""
        if row < 0:
            return b"\n"
        line = self._text.lines[row]
        if not line.endswith(b"\n") and row > 0:
            line = self._text.lines[row - 1]
        return b"\r\n" if line.endswith(b"\r\n") else b"\n"


def _is_text(line: bytes) -> bool:
    """Whether Postfix reads the line: it is neither empty nor a comment."""
    text = line.lstrip(BLANK_BYTES)
    return bool(text) and not text.startswith(b"#")


def _without_end(line: bytes) -> bytes:
    return line.removesuffix(b"\n").removesuffix(b"\r")


def _end_last_line(lines: list[bytes], end: bytes) -> None:
    """Give the last remaining line an end, so that the next one does not run into it."""
    for i in range(len(lines) - 1, -1, -1):
        if lines[i]:
            if not lines[i].endswith(b"\n"):
                if lines[i].endswith(b"\\"):
                    end = b"\n"  # postalias would take the CR that follows for text
                # Cut between CR and LF, it lacks only the LF.
                lines[i] = lines[i].removesuffix(b"\r" if end == b"\r\n" else b"") + end
            return
