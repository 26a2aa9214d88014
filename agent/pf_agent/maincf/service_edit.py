"""Edits of master.cf that keep every byte that they are not asked to change.

A service and the lines that continue it are never separated. One that stands commented out is
enabled where it stands, and one that is disabled is commented out with all its lines. Only the last
of several entries of one name is changed: master does not use the others.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from pf_agent import names
from pf_agent.maincf.commented_service import commented, signs_of, uncommented
from pf_agent.maincf.document import LogicalLine, decoded, encoded
from pf_agent.maincf.entry_text import EntryText, Meaning, is_skipped, meaning_of, split, written
from pf_agent.maincf.master_cf import Entry, MasterCf
from pf_agent.maincf.service import default_of, refused_fields
from pf_agent.maincf.service_parts import ServiceParts, span, taken_apart
from pf_agent.model import BLANKS

# The program of a new service for which none is asked for; others are named like their program.
_SERVERS: Final = {"inet": "smtpd"}


@dataclass(frozen=True)
class _Spot:
    """An entry: its rows in the file as it was, None for a new one, and the text to be there.

    `is_copy`: it is put below those rows, and they stay. `is_off`: the text is none of a service.
    """

    rows: range | None
    text: str
    is_copy: bool = False
    is_off: bool = False

    def off(self, text: str) -> _Spot:
        """Return it with a text that Postfix skips."""
        return replace(self, text=text, is_off=True)

    def part_changed(self, change: Callable[[EntryText], EntryText]) -> _Spot:
        """Return it with a change of a part, if the service is there."""
        return self if self.is_off else replace(self, text=change(EntryText(self.text)).text)


_Change = Callable[[list[_Spot]], list[_Spot]]


class ServiceEdit:
    """Changes collected for one document, then made together."""

    def __init__(self, document: ServiceParts) -> None:
        self._document = document
        self._lines = document.master_cf.lines
        self._asked: dict[str, dict[str, str]] = {}
        self._changes: dict[str, list[_Change]] = {}
        self._refused: list[LogicalLine] = []
        self._before: defaultdict[str, str] = defaultdict(str)

    def set(self, name: str, value: str) -> None:
        """Set a part; a service that is not there is enabled, mended or added for it."""
        full_name, part = taken_apart(name)
        self._asked.setdefault(full_name, {})[part] = value

        def change(spots: list[_Spot]) -> list[_Spot]:
            spots = spots or [self._begun(full_name)]
            if part:
                spots[-1] = spots[-1].part_changed(lambda entry: entry.with_part(part, value))
            return spots

        self._changes.setdefault(full_name, []).append(change)

    def comment_out(self, logical: LogicalLine) -> None:
        """Comment out a service, or a line that Postfix refuses; remove an option.

        A field gets its default.
        """
        if logical.parameter is None:
            self._refused.append(logical)
            return
        full_name, part = taken_apart(logical.parameter.name)

        def change(spots: list[_Spot]) -> list[_Spot]:
            if not part:
                return [
                    self._commented(full_name, spot)
                    if spot.rows is not None and spot.rows.start == logical.rows[0]
                    else spot
                    for spot in spots
                ]
            changed = (s.part_changed(lambda e: _at_default(e, part)) for s in spots[-1:])
            return [*spots[:-1], *changed]

        self._changes.setdefault(full_name, []).append(change)

    def put_back(self, name: str, lines: str | None) -> None:
        """Give a part the `lines` that it had, as returned by `ServiceParts.lines_of`.

        None: it had none.
        """
        full_name, part = taken_apart(name)
        self._before[full_name] = max(self._before[full_name], lines or "", key=len)

        def change(spots: list[_Spot]) -> list[_Spot]:
            if not part:
                return self._whole_again(full_name, spots, lines or "")
            changed = (s.part_changed(lambda e: _part_again(e, part, lines)) for s in spots[-1:])
            return [*spots[:-1], *changed]

        self._changes.setdefault(full_name, []).append(change)

    def result(self) -> ServiceParts:
        """Return the changed document."""
        replaced: dict[int, str] = {}
        below: dict[int, list[str]] = {}
        at_end: list[str] = []
        for full_name, changes in self._changes.items():
            entries = self._document.live.get(full_name, ())
            rows = [span(entry) for entry in entries]
            if rows:
                rows[-1] = self._with_own_comments(rows, rows[-1], self._before[full_name])
            spots = [_Spot(each, self._document.text_at(each)) for each in rows]
            for change in changes:
                spots = change(spots)
            for spot in spots:
                if spot.rows is None:
                    at_end.append(spot.text)
                elif spot.is_copy:
                    below.setdefault(spot.rows.stop - 1, []).append(spot.text)
                else:
                    replaced.update(dict.fromkeys(spot.rows, ""))
                    replaced[spot.rows.start] = spot.text
        for logical in self._refused:
            if logical.rows[0] not in replaced:
                replaced |= self._refused_rows(logical)
        return ServiceParts(MasterCf.parse(self._joined(replaced, below, at_end)))

    def _joined(
        self, replaced: Mapping[int, str], below: Mapping[int, list[str]], at_end: Sequence[str]
    ) -> bytes:
        pieces: list[bytes] = []
        for row, line in enumerate(self._lines):
            pieces.append(encoded(replaced[row]) if row in replaced else line)
            pieces += map(encoded, below.get(row, ()))
        pieces += map(encoded, at_end)
        end = b"\r\n" if self._lines and self._lines[0].endswith(b"\r\n") else b"\n"
        found = [piece for piece in pieces if piece]
        for number, piece in enumerate(found[:-1]):
            if not piece.endswith(b"\n"):
                found[number] = piece.removesuffix(b"\r" if end == b"\r\n" else b"") + end
        return b"".join(found)

    def _refused_rows(self, logical: LogicalLine) -> dict[int, str]:
        """Return a refused line's rows as comments; none of them if those are there already."""
        rows = {row: f"#{decoded(self._lines[row])}" for row in logical.rows}
        if all(text.rstrip("\r\n") in self._comments for text in rows.values()):
            return dict.fromkeys(rows, "")
        return rows

    @cached_property
    def _comments(self) -> frozenset[str]:
        return frozenset(decoded(x).rstrip("\r\n") for x in self._lines if x.startswith(b"#"))

    def _begun(self, full_name: str) -> _Spot:
        """Return where a service begins to be: mended, enabled where it stands, or added."""
        if (bad := self._document.to_repair(full_name)) is not None:
            return _Spot(span(bad), _mended(self._document.text_at(span(bad))))
        found = self._document.master_cf.commented_out(full_name)
        if found:
            command = self._asked[full_name].get(names.SERVICE_COMMAND)
            right = [e for e in found if e.found.service and e.found.service.command == command]
            return self._enabled((right or found)[-1])
        name, kind = full_name.split("/")
        defaults = (default_of(kind, field) for field in names.SERVICE_FIELDS)
        fields = (name, kind, *defaults, _SERVERS.get(kind, name))
        end = "\r\n" if self._lines and self._lines[0].endswith(b"\r\n") else "\n"
        return _Spot(None, written(Meaning(fields, {}, ()), end))

    def _enabled(self, entry: Entry) -> _Spot:
        rows, text = span(entry), _enabled_text(self._document, entry)
        last = self._last_row_under_way.get(rows.stop - 1)
        if last is None:
            return _Spot(rows, text)
        # Where it stands, it would take over the tail of the service around it.
        return _Spot(range(last, last + 1), text, is_copy=True)

    @cached_property
    def _last_row_under_way(self) -> Mapping[int, int]:
        """Return, for each row within a service of several lines, the row of its last line."""
        last_rows = {}
        for entry in self._document.master_cf.entries:
            # A service put above an orphan would turn the orphan into its continuation.
            is_orphan = entry.found.service is None and not entry.found.refused
            first = 0 if is_orphan else entry.rows[0]
            last_rows.update(dict.fromkeys(range(first, entry.rows[-1]), entry.rows[-1]))
        return last_rows

    def _commented(self, full_name: str, spot: _Spot) -> _Spot:
        """Comment an entry out; drop it if it stands there as a comment already.

        Otherwise a tool that enables a service over and over would make the file grow.
        """
        there = [
            meaning_of(entry.found.service)
            for entry in self._document.master_cf.commented_out(full_name)
            if entry.found.service is not None
        ]
        is_there = EntryText(spot.text).meaning in there
        row = 0 if spot.rows is None else spot.rows.stop
        return spot.off("" if is_there else commented(spot.text, self._comments_from(row)))

    def _comments_from(self, row: int) -> str:
        """Return the comments that stand from a row on, up to the next empty line or text."""
        end = row
        while end < len(self._lines) and self._lines[end].startswith(b"#"):
            end += 1
        return self._document.text_at(range(row, end))

    def _whole_again(self, full_name: str, spots: Sequence[_Spot], lines: str) -> list[_Spot]:
        """Return the entries as they were; `lines` may be comments, or nothing."""
        before = _entries(lines, full_name)
        if not before:
            return self._as_comments(spots, lines)
        wanted = [_Spot(None, text) for text in before]
        here: list[_Spot] = list(spots)
        if not here:
            here = self._commented_spots(full_name, before)
        for number, spot in enumerate(here[: len(wanted)]):
            wanted[number] = replace(spot, text=_restored(spot.text, before[number]))
        return [*wanted, *(spot.off("") for spot in here[len(wanted) :])]

    def _commented_spots(self, full_name: str, before: Sequence[str]) -> list[_Spot]:
        """Return the spots of the comments that these entries became, in order."""
        wanted = [EntryText(text).meaning for text in before]
        found = []
        for entry in self._document.master_cf.commented_out(full_name):
            service = entry.found.service
            is_free = span(entry).stop - 1 not in self._last_row_under_way
            if service is not None and meaning_of(service) in wanted and is_free:
                found.append(span(entry))
        lines = "".join(before)
        return [_Spot(self._with_own_comments(found, rows, lines), "") for rows in found]

    def _with_own_comments(self, entries: Sequence[range], rows: range, before: str) -> range:
        """Return the rows of one of the entries with those below that were comments within it.

        They came to stand there when what had followed them went; if the head is a comment, they
        have its signs before their own. `before` are the lines of all of the entries.
        """
        text, end = self._document.text_at(rows), rows.stop
        if signs := signs_of(text):
            # Continuations, too: behind a NUL, none is found as one of a service in comments.
            within = [
                line for line in split(before) if line[0] in f"{BLANKS}#" and line.strip(BLANKS)
            ]
            lines = [f"{signs}{line}" for line in within]
        else:
            lines = [line for line in split(_when_on(before)) if is_skipped(line)]
        missing = Counter(lines)
        for entry in entries:
            missing -= Counter(split(self._document.text_at(entry)))
        while end < len(self._lines) and missing[line := decoded(self._lines[end])] > 0:
            missing[line] -= 1
            end += 1
        return range(rows.start, end)

    def _as_comments(self, spots: Sequence[_Spot], lines: str) -> list[_Spot]:
        """Return the entries gone, the last one for the comments in its place that it was made of.

        Those comments that still stand elsewhere do not return.
        """
        found = [spot.off(_strange(spot.text, lines)) for spot in spots]
        here = Counter(_commented_texts(self._document))
        there = Counter(_commented_texts(ServiceParts.parse(encoded(lines))))
        missing = "".join((there - here).elements())
        if found and missing:
            found[-1] = spots[-1].off(_restored(spots[-1].text, missing))
        return found


def _enabled_text(document: ServiceParts, entry: Entry) -> str:
    """Return the text of a service that stands commented out, without its signs."""
    rows = span(entry)
    return uncommented(document.text_at(rows), [row - rows.start for row in entry.rows])


def _when_on(lines: str) -> str:
    """Return the lines of a service as they are once it is on."""
    if not lines.startswith("#"):
        return lines
    document = ServiceParts.parse(encoded(lines))
    return "".join(_enabled_text(document, entry) for entry in document.master_cf.commented)


def _commented_texts(document: ServiceParts) -> list[str]:
    return [document.text_at(span(entry)) for entry in document.master_cf.commented]


def _entries(lines: str, full_name: str) -> list[str]:
    """Return the text of each entry of a service in its lines."""
    document = ServiceParts.parse(encoded(lines))
    return [document.text_at(span(entry)) for entry in document.live.get(full_name, ())]


def _at_default(entry: EntryText, part: str) -> EntryText:
    if part not in names.SERVICE_FIELDS:
        return entry.without_option(part)
    return entry.with_part(part, default_of(entry.service.type, part))


def _part_again(entry: EntryText, part: str, lines: str | None) -> EntryText:
    """Give one part back; the whole text, if with that the service is as it was."""
    if lines is None:
        return entry.without_option(part)
    before = EntryText(lines)
    value = before.value(part)
    if value is not None:
        entry = entry.with_part(part, value)
    return EntryText(_restored(entry.text, lines)) if entry.meaning == before.meaning else entry


def _restored(now: str, before: str) -> str:
    """Return the text that was, and below it the comments that were written into it since."""
    strange = _strange(now, before)
    if strange and not before.endswith("\n"):
        before += "\n"
    return before + strange


def _strange(now: str, before: str) -> str:
    """Return the comments of a text that do not come from the one before, with signs or without."""
    known = {line.strip("#\r\n") for line in split(before)}
    return "".join(
        line
        for line in split(now)
        if line.lstrip(BLANKS).startswith("#") and line.strip("#\r\n") not in known
    )


def _mended(text: str) -> str:
    """Return an entry with its default in each field that Postfix refuses."""
    entry = EntryText(text)
    for part in refused_fields(entry.service):
        entry = _at_default(entry, part)
    return entry.text
