"""Edits the desired entries of a table in a drop-in's text, as dropin.py does the settings.

The entries stand below `[tables."TYPE:/PATH"]` itself, and one that must not be there is `false`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pf_agent.config import desired, dropin
from pf_agent.config.positions import key_spans
from pf_agent.config.table import Source
from pf_agent.errors import ConfigError
from pf_agent.maincf.entries import folded
from pf_agent.model import DesiredState

_FALSE = "false"


def edited(source: Source, wishes: dropin.Wishes, instance: str, document: str) -> str:
    """Return the text of `source` with each of `wishes` in it; None: no such entry.

    The keys are as Postfix has them; in the file they may be in upper case. Raises ConfigError if
    `source` is faulty, or cannot be edited, and HostError if tomlkit is not installed.
    """
    before = stated(source, instance, document).parameters()
    changed = {key: value for key, value in wishes.items() if key in before}
    text = _changed(source.text.decode("utf-8-sig"), instance, document, changed)
    added = {key: value for key, value in wishes.items() if key not in changed}
    text = _with_entries(text, instance, document, added)
    found = stated(Source(source.path, text.encode()), instance, document)
    for key, value in wishes.items():
        if found.settings.get(key) != value or (value is None) != (key in found.use_default):
            raise ConfigError(f"{source.path}: {key} cannot be added; edit it by hand")
    return text


def removed(source: Source, keys: Sequence[str], instance: str, document: str) -> str:
    """Return the text of `source` without what it says of these keys. Raises like `edited`."""
    text = _changed(source.text.decode("utf-8-sig"), instance, document, {}, keys)
    left = stated(Source(source.path, text.encode()), instance, document).parameters()
    for key in keys:
        if key in left:
            raise ConfigError(f"{source.path}: {key} cannot be removed; edit it by hand")
    return text


def stated(source: Source, instance: str, document: str) -> DesiredState:
    """Return what this one file says about a table. Raises ConfigError if it is faulty."""
    of_instance = desired.by_instance(desired.load([source])).get(instance, dropin.NOTHING)
    return of_instance.documents.get(document, dropin.NOTHING)


def _path(instance: str, document: str) -> tuple[str, ...]:
    return (*dropin.table_of(instance), "tables", document)


def _written(value: str | None) -> str:
    return _FALSE if value is None else dropin.written(value)


def _changed(
    text: str,
    instance: str,
    document: str,
    changed: Mapping[str, str | None],
    gone: Sequence[str] = (),
) -> str:
    """Change or remove entries that the file has."""
    if not changed and not gone:
        return text
    tomlkit = dropin.editor()
    whole = tomlkit.parse(text)
    table: Any = whole
    for part in _path(instance, document):
        table = table[part]
    written = {folded(key): key for key in table}
    for key in gone:
        del table[written[key]]
    for key, value in changed.items():
        table[written[key]] = tomlkit.value(_written(value))
    text = str(whole.as_string())
    return text if table else _without_header(text, _path(instance, document))


def _without_header(text: str, path: tuple[str, ...]) -> str:
    """Remove the header of an empty table, with the empty lines below it.

    By hand: tomlkit 0.9 (Ubuntu 22.04) puts a header of the table around it in its place.
    """
    lines, header = text.split("\n"), dropin.headers(text).get(path)
    if header is None:
        return text
    end = header
    while end < len(lines) - 1 and not lines[end].strip():
        end += 1
    return "\n".join([*lines[: header - 1], *lines[end:]])


def _with_entries(text: str, instance: str, document: str, added: Mapping[str, str | None]) -> str:
    """Add entries that are missing: below the last one, or in a table of their own."""
    if not added:
        return text
    path = _path(instance, document)
    lines = [f"{dropin.key_of(key)} = {_written(value)}" for key, value in added.items()]
    headers = dropin.headers(text)
    header = headers.get(path)
    if header is None:
        return dropin.appended(text, [dropin.header(path), *lines])
    spans = key_spans(text)
    below = [spans[key][1] for key in spans if key[:-1] == path and key not in headers]
    return dropin.inserted(text, max([header, *below]), lines)
