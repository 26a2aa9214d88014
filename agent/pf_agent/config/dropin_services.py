"""Edits what a drop-in's text says of services of master.cf, as dropin.py does the settings.

The parts have postconf(1)'s names, as in services.py: `submission/inet/chroot`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from pf_agent import names
from pf_agent.config import desired, dropin
from pf_agent.config.positions import Path, key_spans
from pf_agent.config.table import Source
from pf_agent.errors import ConfigError
from pf_agent.maincf.service_parts import NO_OPTIONS, taken_apart
from pf_agent.model import DesiredState, DocumentKind

_FLAGS: Final = {"y": "true", "n": "false"}
_OF_FLAGS: Final = ("private", "unprivileged", "chroot")
_TYPED: Final = {"yes": "y", "true": "y", "no": "n", "false": "n", names.SERVICE_ENABLED: "y"}
_DISABLED: Final = ("disabled", "no", "false")
_OPTIONS: Final = "options"
_ABSENT: Final = "use_default"
_ENABLED: Final = "enabled"
_MASTER_CF: Final = DocumentKind.MASTER_CF.value


def edited(source: Source, wishes: dropin.Wishes, instance: str) -> str:
    """Return the text of `source` with each of `wishes` in it; None: no such part.

    Raises ConfigError if `source` is faulty, or cannot be edited so, and HostError if tomlkit is
    not installed.
    """
    before = stated(source, instance)
    text = source.text.decode("utf-8-sig")
    for name, value in wishes.items():
        is_absent = value is None and name in before.use_default
        if not is_absent and (value is None or before.settings.get(name) != value):
            text = _with_part(text, instance, name, value)
    found = stated(Source(source.path, text.encode()), instance)
    for name, value in wishes.items():
        if found.settings.get(name) != value or (value is None) != (name in found.use_default):
            raise ConfigError(f"{source.path}: {name} cannot be added; edit it by hand")
    return text


def part_value(name: str, value: str) -> str | None:
    """Return what a part must be, for a value as a person types it; None: not there.

    `submission/inet=disabled`, and `chroot=no` for master.cf's `n`.
    """
    part = taken_apart(name)[1]
    if not part and value.lower() in _DISABLED:
        return None
    if not part and value.lower() in _TYPED:
        return names.SERVICE_ENABLED
    return _TYPED.get(value.lower(), value) if part in _OF_FLAGS else value


def removed(source: Source, parts: Sequence[str], instance: str) -> str:
    """Return the text of `source` without what it says of these parts. Raises like `edited`.

    A service named without a part stands for all that is said of it.
    """
    text = source.text.decode("utf-8-sig")
    for name in parts:
        text = _without(text, instance, name)
    left = stated(Source(source.path, text.encode()), instance).parameters()
    for name in parts:
        if name in left:
            raise ConfigError(f"{source.path}: {name} cannot be removed; edit it by hand")
    return text


def stated(source: Source, instance: str) -> DesiredState:
    """Return what this one file says about services. Raises ConfigError if it is faulty."""
    of_instance = desired.by_instance(desired.load([source])).get(instance, dropin.NOTHING)
    return of_instance.documents.get(_MASTER_CF, dropin.NOTHING)


def _path(instance: str, service: str) -> Path:
    return (*dropin.table_of(instance), "services", service)


def _with_part(text: str, instance: str, name: str, value: str | None) -> str:
    service, part = taken_apart(name)
    path = _path(instance, service)
    if not part and value is None:
        return _with_line(_emptied(text, path), path, f"{_ENABLED} = false")
    text = _changed(text, path, lambda table: table.pop(_ENABLED, None))
    if not part:
        is_there = path in dropin.headers(text)
        return text if is_there else dropin.appended(text, [dropin.header(path)])
    if part in NO_OPTIONS:
        text = _changed(text, path, lambda table: table.pop(part, None))
        written = _FLAGS.get(value or "", dropin.written(value or "-"))
        return _with_line(text, path, f"{part} = {written}")
    return _with_option(text, path, part, value)


def _with_option(text: str, path: Path, option: str, value: str | None) -> str:
    text = _changed(text, path, lambda table: _drop_option(table, option))
    is_there = (*path, _ABSENT) in key_spans(text)
    if value is None and is_there:
        return _changed(text, path, lambda table: table[_ABSENT].append(option))
    if value is None:
        return _with_line(text, path, f'{_ABSENT} = ["{option}"]')
    written = dropin.written(value)
    if (*path, _OPTIONS) in dropin.headers(text):
        return _with_line(text, (*path, _OPTIONS), f"{option} = {written}")
    if any(key[:-1] == (*path, _OPTIONS) for key in key_spans(text)):
        return _with_line(text, path, f"{_OPTIONS}.{option} = {written}")
    if (*path, _OPTIONS) not in key_spans(text):
        return _with_line(text, path, f"{_OPTIONS}.{option} = {written}")
    tomlkit = dropin.editor()
    return _changed(
        text, path, lambda table: table[_OPTIONS].update({option: tomlkit.value(written)})
    )


def _without(text: str, instance: str, name: str) -> str:
    service, part = taken_apart(name)
    path = _path(instance, service)
    if not part:
        return _without_headers(_emptied(text, path), path)
    if part in NO_OPTIONS:
        return _changed(text, path, lambda table: table.pop(part, None))
    return _changed(text, path, lambda table: _drop_option(table, part))


def _emptied(text: str, path: Path) -> str:
    return _changed(text, path, lambda table: [table.pop(key) for key in list(table)])


def _without_headers(text: str, path: Path) -> str:
    """Remove the headers of an empty table and of those in it: alone it asks for the service."""
    gone = [line for key, line in dropin.headers(text).items() if key[: len(path)] == path]
    lines = text.split("\n")
    return "\n".join(line for number, line in enumerate(lines, 1) if number not in gone)


def _drop_option(table: Any, option: str) -> None:
    table.get(_OPTIONS, {}).pop(option, None)
    listed = table.get(_ABSENT, [])
    if option in listed:
        listed.remove(option)


def _changed(text: str, path: Path, change: Callable[[Any], object]) -> str:
    """Change the table at `path`, if there is one."""
    whole = dropin.editor().parse(text)
    table: Any = whole
    for part in path:
        if part not in table:
            return text
        table = table[part]
    change(table)
    return str(whole.as_string())


def _with_line(text: str, path: Path, line: str) -> str:
    """Add a line to a table: below its last key, or in a table of its own."""
    header = dropin.headers(text).get(path)
    if header is None:
        return dropin.appended(text, [dropin.header(path), line])
    below = [
        last
        for key, (first, last) in key_spans(text).items()
        if key[: len(path)] == path and len(key) > len(path) and first > header
        if key[:-1] not in dropin.headers(text) or key[:-1] == path
    ]
    return dropin.inserted(text, max([header, *below]), [line])
