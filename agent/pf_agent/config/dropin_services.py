"""Edits what a drop-in's text says of services of master.cf, as dropin.py does the settings.

The parts have postconf(1)'s names, as in services.py: `submission/inet/chroot`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import tomli

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
    off = {name for name, value in wishes.items() if value is None}
    lost = before.parameters() - found.parameters() - wishes.keys()
    for name in sorted(lost):
        if "/".join(name.split("/")[:2]) not in off:
            raise ConfigError(f"{source.path}: {name} would be lost; edit it by hand")
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
        return _with_key(_without_all(text, path), path, _ENABLED, "false")
    text = _without_key(text, path, _ENABLED)
    if not part:
        is_there = _has(text, path)
        return text if is_there else dropin.appended(text, [dropin.header(path)])
    if part in NO_OPTIONS:
        text = _without_key(text, path, part)
        written = _FLAGS.get(value or "", dropin.written(value or "-"))
        return _with_key(text, path, part, written)
    return _with_option(text, path, part, value)


def _with_option(text: str, path: Path, option: str, value: str | None) -> str:
    text = _without_option(text, path, option)
    is_there = _has(text, (*path, _ABSENT))
    if value is None and is_there:
        return _changed(text, path, lambda table: table[_ABSENT].append(option))
    if value is None:
        return _with_key(text, path, _ABSENT, f'["{option}"]')
    written, inner = dropin.written(value), (*path, _OPTIONS)
    if _has(text, inner):
        return _with_key(text, inner, option, written)
    return _with_key(text, path, f"{_OPTIONS}.{option}", written)


def _without(text: str, instance: str, name: str) -> str:
    service, part = taken_apart(name)
    path = _path(instance, service)
    if not part:
        return _without_key(text, path[:-1], service)
    if part in NO_OPTIONS:
        return _without_key(text, path, part)
    return _without_option(text, path, part)


def _without_option(text: str, path: Path, option: str) -> str:
    text = dropin.without_defaults(_without_key(text, (*path, _OPTIONS), option), path, [option])

    def change(table: Any) -> None:
        listed = table.get(_ABSENT, [])
        if option in listed:  # of an inline table
            table[_ABSENT] = [each for each in listed if each != option]

    return _changed(text, path, change)


def _without_all(text: str, path: Path) -> str:
    """Remove each key, one after the other: a table in several places is not found again."""
    found: Any = tomli.loads(text)
    for part in path:
        found = found.get(part, {})
    for key in found:
        text = _without_key(text, path, key)
    return text


def _without_key(text: str, path: Path, key: str) -> str:
    """Remove a key of the table at `path`, if it is there."""

    def change(outer: Any) -> None:
        table = outer.get(path[-1], {})
        if key not in table:
            return
        if not isinstance(table, dropin.editor().items.InlineTable):
            table.pop(key)
            return
        # Written anew: tomlkit 0.9 leaves the comma of what it removes.
        inline = dropin.editor().inline_table()
        inline.update({each: value for each, value in table.items() if each != key})
        was = table.trivia
        inline.trivia.comment_ws, inline.trivia.comment = was.comment_ws, was.comment
        outer[path[-1]] = inline

    return _changed(text, path[:-1], change)


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


def _with_key(text: str, path: Path, key: str, written: str) -> str:
    """Add a key to a table: below its last one, within its braces, or in a table of its own."""
    found = dropin.headers(text)
    if path in found:
        after = [line for line in found.values() if line > found[path]]
        end = min(after, default=text.count("\n") + 2)
        spans = key_spans(text).values()
        inside = [last for first, last in spans if found[path] < first and last < end]
        return dropin.inserted(text, max([found[path], *inside]), [f"{key} = {written}"])
    if not _has(text, path) or any(head[: len(path)] == path for head in found):
        added = [dropin.header(path), f"{key} = {written}"]
        below = [line for head, line in found.items() if head[: len(path)] == path]
        if not below:
            return dropin.appended(text, added)
        # tomlkit loses its way if a table comes after one that is within it.
        return dropin.inserted(text, dropin.above(text, min(below)), [*added, ""])
    tomlkit = dropin.editor()
    *outer, last = key.split(".")

    def change(table: Any) -> None:
        for part in outer:
            table = table.setdefault(part, tomlkit.inline_table())
        table[last] = tomlkit.value(written)

    return _changed(text, path, change)


def _has(text: str, path: Path) -> bool:
    found: Any = tomli.loads(text)
    for part in path:
        if part not in found:
            return False
        found = found[part]
    return True
