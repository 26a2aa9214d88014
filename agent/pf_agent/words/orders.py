"""Orders, such as adopt and set: their records, and how history shows them. Pure.

A record names the parameters but no values: other users than root may read the journal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pf_agent import names
from pf_agent.model import ORDERS, DocumentKind, Event, Record
from pf_agent.words import sentences
from pf_agent.words.fields import document_of_part, is_of_table
from pf_agent.words.history import CycleName, Entry, PastCycle, document_prefix, minute, row_dict

_BETWEEN = ", "
# The journal's field has room for no more (journal.py); names are left out whole.
_MOST_CHARACTERS = 3900


@dataclass(frozen=True)
class PastOrder:
    """One order: who gave it, about which parameters; `at` in seconds since the epoch.

    `about` is the cycle whose replaced text the order used, None if it used none. `document` is the
    one that the parameters are in, "" for main.cf.
    """

    event: Event
    at: float
    instance: str
    parameters: tuple[str, ...]
    by: str
    about: CycleName | None
    message: str
    document: str


def order(
    event: Event,
    who: str,
    parameters: Sequence[str],
    cycle: int | None = None,
    document: str = "",
) -> Record:
    """Return the record of an order; `cycle` is the one whose replaced text the values are from.

    If it is about a `document` other than main.cf, the parameters are its keys.
    """
    source = "" if cycle is None else f" from the text that cycle {cycle} replaced,"
    text = f"{sentences.listed(parameters)} {event.value}{source} by {who}"
    fields = {names.FIELD_PARAMETER: _joined(parameters)} | _by(who)
    if is_of_table(document):
        text = f"{document}: {text}"
        fields[names.FIELD_TABLE] = document
        fields[names.FIELD_KEY] = fields.pop(names.FIELD_PARAMETER)
    return Record(event, text, cycle, fields)


def restored(who: str, cycle: int, displaced: Sequence[str], document: str = "") -> Record:
    """Return the record of a restored text; `displaced` are the files with what it replaced."""
    fields = {names.FIELD_DISPLACED: "\n".join(displaced)} if displaced else {}
    text = f"the text that cycle {cycle} replaced was restored by {who}"
    if document:
        text, fields = f"{document}: {text}", {**fields, names.FIELD_TABLE: document}
    return Record(Event.RESTORED, text, cycle, fields | _by(who))


def initialized(who: str, path: str, ready_made: str) -> Record:
    """Return the record of a desired state that was started from a ready-made one."""
    text = f"{path} initialized from {ready_made} by {who}"
    return Record(Event.INITIALIZED, text, fields=_by(who))


def orders(entries: Iterable[Entry]) -> list[PastOrder]:
    """Return the orders that are among the records, oldest first."""
    found = [_past(entry) for entry in entries if entry.event in ORDERS]
    return sorted(found, key=lambda each: each.at)


def is_about(past: PastOrder, cycle: PastCycle) -> bool:
    """Tell whether the order used the text that the cycle replaced."""
    return past.about == (cycle.life, cycle.cycle) and past.instance == cycle.instance


def order_dict(past: PastOrder) -> dict[str, Any]:
    """Return one order for `history --json`."""
    is_of_all = past.event is Event.INITIALIZED
    return row_dict(
        past.at,
        past.instance,
        past.event.value,
        [past.message],
        document=None if is_of_all else past.document or DocumentKind.MAIN_CF.value,
        parameters=list(past.parameters),
        by=past.by,
        about=None if past.about is None else str(past.about),
    )


def order_row(past: PastOrder) -> tuple[str, ...]:
    """Return one order as the columns that history has for a cycle."""
    prefix = "" if past.instance == names.DEFAULT_INSTANCE else f"{past.instance}: "
    prefix += document_prefix(past.document)
    what = sentences.listed(past.parameters) or "-"
    return ("-", minute(past.at), prefix + what, past.by, "-", past.event.value)


def _by(who: str) -> dict[str, str]:
    return {names.FIELD_BY: who}


def _joined(parameters: Sequence[str]) -> str:
    text = ""
    for name in parameters:
        more = f"{text}{_BETWEEN}{name}" if text else name
        if len(more.encode()) > _MOST_CHARACTERS:
            break
        text = more
    return text


def _parts(fields: Mapping[str, str]) -> str:
    return fields.get(names.FIELD_PARAMETER) or fields.get(names.FIELD_KEY, "")


def _past(entry: Entry) -> PastOrder:
    fields = entry.fields
    parameters = tuple(filter(None, _parts(fields).split(_BETWEEN)))
    return PastOrder(
        entry.event,
        entry.at,
        fields.get(names.FIELD_INSTANCE, names.DEFAULT_INSTANCE),
        parameters,
        sentences.printable(fields.get(names.FIELD_BY) or names.UNKNOWN),
        CycleName.of(fields),
        entry.message,
        fields.get(names.FIELD_TABLE) or next(filter(None, map(document_of_part, parameters)), ""),
    )
