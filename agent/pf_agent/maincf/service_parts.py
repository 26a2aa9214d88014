"""master.cf as a document of named parts, which are its services, their fields and options.

The names are those of postconf(1): `submission/inet` for the service itself, with `/chroot` for a
field, with `/smtpd_sasl_auth_enable` for an option. `command` is the program alone: its arguments
that set no parameter are a part of their own, `arguments`. Of services with one name master uses
the last, so only that one's parts are read. One that Postfix refuses is not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from pf_agent import names
from pf_agent.maincf import values
from pf_agent.maincf.document import LogicalLine, decoded
from pf_agent.maincf.entry_text import EntryText, arguments_of
from pf_agent.maincf.master_cf import Entry, MasterCf
from pf_agent.model import BLANKS, Parameter

ENABLED: Final = names.SERVICE_ENABLED
NO_OPTIONS: Final = (*names.SERVICE_FIELDS, names.SERVICE_COMMAND, names.SERVICE_ARGUMENTS)


def taken_apart(name: str) -> tuple[str, str]:
    """Return the service's name and the part's, "" for the service itself.

    Like postconf(1), for which the second `/` ends the service's name.
    """
    service, _, rest = name.partition("/")
    kind, _, part = rest.partition("/")
    return f"{service}/{kind}", part


def same(name: str, ours: str, theirs: str) -> bool:
    """Whether Postfix takes two values of a part for the same.

    An option's are compared as main.cf's values are. What `-` means for `chroot` depends on
    compatibility_level (master(5)), and for `process_limit` on default_process_limit, so there it
    equals only itself.
    """
    if ours == theirs:
        return True
    _, part = taken_apart(name)
    if part == names.SERVICE_ARGUMENTS:
        return arguments_of(ours) == arguments_of(theirs)
    if part in ("private", "unprivileged"):
        return {ours, theirs} == {"-", "y"}
    if part == "wakeup":
        return _seconds(ours) == _seconds(theirs)
    if part == "process_limit":
        return ours.isdecimal() and theirs.isdecimal() and _number(ours) == _number(theirs)
    return part not in ("", "chroot", names.SERVICE_COMMAND) and values.same(part, ours, theirs)


def _seconds(wakeup: str) -> tuple[str, bool]:
    """Return how often a service is woken, and whether only once it was used; 0 is never."""
    number = _number(wakeup.removesuffix("?").replace("-", ""))
    return number, bool(number) and wakeup.endswith("?")


def _number(digits: str) -> str:
    """Return digits without leading zeros; "" for 0. There may be thousands of them."""
    return digits.lstrip("0")


@dataclass(frozen=True)
class ServiceParts:
    """The document: the file, and the parts that Postfix reads in it."""

    master_cf: MasterCf

    @classmethod
    def parse(cls, data: bytes) -> ServiceParts:
        """Parse `data`; any byte string is a document, so nothing is raised."""
        return cls(MasterCf.parse(data))

    def render(self) -> bytes:
        """The file's bytes."""
        return self.master_cf.render()

    @cached_property
    def logical_lines(self) -> tuple[LogicalLine, ...]:
        """Everything in the file, in order, including orphans and faulty lines."""
        return tuple(map(_logical_line, self.master_cf.entries))

    @cached_property
    def live(self) -> Mapping[str, tuple[Entry, ...]]:
        """The entries of each service that Postfix does not refuse, by name; the last one counts.

        Without those that postconf(1) could not name: their names have a `/` or a blank.
        """
        found: dict[str, list[Entry]] = {}
        for entry in self.master_cf.entries:
            service = entry.found.service
            if service is not None and not entry.found.refused and is_nameable(service.name):
                found.setdefault(service.full_name, []).append(entry)
        return {name: tuple(entries) for name, entries in found.items()}

    @cached_property
    def _texts(self) -> Mapping[str, EntryText]:
        return {name: EntryText(self.text_at(span(e[-1]))) for name, e in self.live.items()}

    def entry(self, full_name: str) -> EntryText | None:
        """Return the text of the entry that master uses; None if there is none."""
        return self._texts.get(full_name)

    def occurrences(self, name: str) -> tuple[LogicalLine, ...]:
        """Every place that sets a part, in order; Postfix obeys the last one."""
        full_name, part = taken_apart(name)
        entries, text = self.live.get(full_name, ()), self.entry(full_name)
        if not part:
            return tuple(map(_logical_line, entries))
        if text is None:
            return ()
        head = entries[-1].rows[0]
        return tuple(
            LogicalLine(
                tuple(head + row for row in rows), Parameter(name, value, head + rows.start + 1)
            )
            for value, rows in text.rows(part)
        )

    def get(self, name: str) -> Parameter | None:
        """Return what Postfix reads for a part, None if it is not there."""
        found = self.occurrences(name)
        return found[-1].parameter if found else None

    def contradiction(self, name: str) -> Parameter | None:
        """Return the first that says something else than the obeyed one."""
        found = [logical.parameter for logical in self.occurrences(name)]
        return next((p for p in found if p and found[-1] and p.value != found[-1].value), None)

    def parameters(self) -> dict[str, str]:
        """Return every part as Postfix reads it, an option's value unexpanded."""
        found: dict[str, str] = {}
        for full_name, text in self._texts.items():
            found[full_name] = ENABLED
            for part in (*NO_OPTIONS, *text.meaning.options):
                found[f"{full_name}/{part}"] = text.value(part) or ""
        return found

    def content(self) -> tuple[tuple[str, str], ...]:
        """What Postfix reads, in order; its verdict is the same for every text with this content.

        Except for the line numbers in it. Comments, blanks and the folding of lines do not count.
        """
        return tuple(
            ("", decoded(b"".join(self.master_cf.lines[row] for row in entry.rows)))
            if service is None or entry.found.remarks
            else (service.full_name, "\0".join((*service[:8], *service.arguments)))
            for entry in self.master_cf.entries
            for service in [entry.found.service]
        )

    def lines_of(self, name: str) -> str | None:
        """Return the lines for `ServiceEdit.put_back`; None if the part is not set.

        They are those of the service: all its entries, as comments if it only stands commented
        out; for a part of it, those of the entry that counts.
        """
        full_name, part = taken_apart(name)
        if part:
            text = self.entry(full_name)
            return text.text if text is not None and text.value(part) is not None else None
        entries = self.live.get(full_name) or self.master_cf.commented_out(full_name)
        return "".join(self.text_at(span(entry)) for entry in entries) or None

    def text_at(self, rows: range) -> str:
        """Return the text of some rows."""
        return decoded(b"".join(self.master_cf.lines[rows.start : rows.stop]))

    def unreadable(self) -> tuple[LogicalLine, ...]:
        """The lines that every Postfix program that reads master.cf refuses."""
        return tuple(logical for logical in self.logical_lines if logical.error)

    def text_of(self, logical: LogicalLine) -> str:
        """Return the physical text of `logical`, for a record."""
        return decoded(b"".join(self.master_cf.lines[row] for row in logical.rows)).strip()

    def to_repair(self, full_name: str) -> Entry | None:
        """Return the last entry of a service in which Postfix refuses a field."""
        found = [e for e in self.master_cf.occurrences(full_name) if e.found.refused]
        return found[-1] if found else None


def is_nameable(name: str) -> bool:
    """Whether postconf(1) could name the service, and so could we."""
    return "/" not in name and not any(blank in name for blank in BLANKS)


def span(entry: Entry) -> range:
    """Return the rows of an entry, and of the comments between them."""
    return range(entry.rows[0], entry.rows[-1] + 1)


def _logical_line(entry: Entry) -> LogicalLine:
    service, why, _ = entry.found
    if why or service is None:
        return LogicalLine(entry.rows, None, why)
    return LogicalLine(entry.rows, Parameter(service.full_name, ENABLED, entry.line))
