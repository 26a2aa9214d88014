"""Edits a drop-in's text: comments, order and all other keys stay as they are.

tomlkit changes existing keys. Lines are added by hand, since it would put them below the comment
that belongs to the next table; and array items are removed by hand, since 0.9 (Ubuntu 22.04) then
lets a comment swallow the closing bracket. It is imported where it is used, so that no other verb
takes the time for it or needs it installed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import tomli

from pf_agent import names
from pf_agent.config import desired
from pf_agent.config.positions import BARE_KEY, Path, key_spans
from pf_agent.config.table import Source, shown
from pf_agent.errors import ConfigError, HostError
from pf_agent.model import DesiredState

# By parameter: its value, or None for Postfix's own default.
Wishes = Mapping[str, str | None]

NOTHING = DesiredState({}, frozenset())
# An integer that comes back as the same text.
_INTEGER = re.compile(r"0|[1-9][0-9]{0,17}")
_WIDTH = 100
# A comment, or an item of an array of strings with its comma.
_ITEM = re.compile(r"""#[^\n]*|("(?:\\.|[^"\\\n])*"|'[^'\n]*')[ \t]*,?[ \t]*""")


def edited(source: Source, wishes: Wishes, instance: str = names.DEFAULT_INSTANCE) -> str:
    """Return the text of `source` with each of `wishes` in it.

    A setting that already says the same stays as it is written. A removed setting takes the comment
    on its line with it. Raises ConfigError if `source` is faulty, or is written in a form that this
    cannot edit, and HostError if tomlkit is not installed.
    """
    before = stated(source, instance)
    settings = {
        name: value
        for name, value in wishes.items()
        if value is not None and before.settings.get(name) != value
    }
    defaults = [n for n, value in wishes.items() if value is None and n not in before.use_default]
    text = source.text.decode("utf-8-sig")
    if settings or defaults:
        table = table_of(instance)
        text = without_defaults(text, table, settings)
        text = _changed(text, table, settings, defaults)
        text = _with_defaults(text, table, defaults)
        text = _with_settings(text, table, settings)
    _verify(Source(source.path, text.encode()), wishes, instance)
    return text


def removed(source: Source, parameters: Sequence[str], instance: str) -> str:
    """Return the text of `source` without `parameters`, or the comments on their lines.

    Raises like `edited`.
    """
    table = table_of(instance)
    text = without_defaults(source.text.decode("utf-8-sig"), table, parameters)
    text = _changed(text, table, {}, (), parameters)
    left = stated(Source(source.path, text.encode()), instance).parameters()
    for name in parameters:
        if name in left:
            raise ConfigError(f"{source.path}: {name} cannot be removed; edit it by hand")
    return text


def stated(source: Source, instance: str) -> DesiredState:
    """Return what this one file says about an instance. Raises ConfigError if it is faulty."""
    return desired.by_instance(desired.load([source])).get(instance, NOTHING)


def written(value: str) -> str:
    """Return a value in TOML: an integer, else a string with as few escapes as possible."""
    if _INTEGER.fullmatch(value):
        return value
    if re.search(r'["\\]', value) and "'" not in value and value.isprintable():
        return f"'{value}'"
    return _string(value)


def _string(text: str) -> str:
    # Character by character, since the function for messages shortens a long text.
    return f'"{"".join(shown(char)[1:-1] for char in text)}"'


def editor() -> Any:
    """Return the module tomlkit. Raises HostError if it is not installed."""
    try:
        import tomlkit
    except ImportError as error:
        raise HostError("tomlkit is missing; install python3-tomlkit") from error
    return tomlkit


def key_of(name: str) -> str:
    """Return a key in TOML."""
    return name if BARE_KEY.fullmatch(name) else _string(name)


def table_of(instance: str) -> Path:
    """Return the table of an instance."""
    return () if instance == names.DEFAULT_INSTANCE else ("instances", instance)


def _verify(source: Source, wishes: Wishes, instance: str) -> None:
    """Check the new text against what was asked for: TOML has more forms than are foreseen here."""
    problem = ""
    try:
        found = stated(source, instance)
    except ConfigError as error:
        found, problem = NOTHING, f" ({error.problems[0]})"
    for name, value in wishes.items():
        if found.settings.get(name) != value or (value is None) != (name in found.use_default):
            raise ConfigError(f"{source.path}: {name} cannot be added{problem}; edit it by hand")


def without_defaults(text: str, path: Path, settings: Collection[str]) -> str:
    """Remove these parameters from `use_default`, and lines that become empty."""
    first, last = key_spans(text).get((*path, "use_default"), (1, 0))
    lines = text.split("\n")
    array = "\n".join(lines[first - 1 : last])

    def kept(item: re.Match[str]) -> str:
        gone = item[1] is not None and tomli.loads(f"x = {item[1]}")["x"] in settings
        return "" if gone else item[0]

    rest = _ITEM.sub(kept, array)
    if rest == array:
        return text
    left = [line for line in rest.split("\n") if line.strip()]
    return "\n".join([*lines[: first - 1], *left, *lines[last:]])


def _changed(
    text: str,
    path: Path,
    settings: Mapping[str, str],
    defaults: Sequence[str],
    gone: Sequence[str] = (),
) -> str:
    """Change or remove existing settings; add to an existing `use_default`."""
    tomlkit = editor()
    document = tomlkit.parse(text)
    table: Any = document
    for part in path:
        table = table.get(part, {})
    section = table.get("settings", {})
    use_default = table.get("use_default", [])
    for name in (*defaults, *gone):
        section.pop(name, None)
    for name in defaults:
        use_default.append(name)
    for name, value in settings.items():
        if name in section:
            section[name] = tomlkit.value(written(value))
    return str(document.as_string())


def _with_settings(text: str, path: Path, settings: Mapping[str, str]) -> str:
    """Add the settings that are missing: below the last one, or in a table of their own."""
    section = (*path, "settings")
    spans = {key[-1]: span for key, span in key_spans(text).items() if key[:-1] == section}
    added = [f"{key_of(n)} = {written(value)}" for n, value in settings.items() if n not in spans]
    if not added:
        return text
    line = headers(text).get(section)
    if line is None:
        return appended(text, [header(section), *added])
    return inserted(text, max([line, *(last for _, last in spans.values())]), added)


def _with_defaults(text: str, path: Path, defaults: Sequence[str]) -> str:
    """Create a `use_default` if there is none: above the first table, or first in its own."""
    if not defaults or (*path, "use_default") in key_spans(text):
        return text
    added = [f"use_default = [{', '.join(map(_string, defaults))}]"]
    if len(added[0]) > _WIDTH:
        added = ["use_default = [", *(f"    {_string(name)}," for name in defaults), "]"]
    there = headers(text)
    if path in there:
        return inserted(text, there[path], added)
    if path or not there:
        return appended(text, [header(path), *added] if path else added)
    return inserted(text, above(text, min(there.values())), [*added, ""])


def headers(text: str) -> dict[Path, int]:
    """Return the line of each `[table]`, counted from 1."""
    lines = text.split("\n")
    found: dict[Path, int] = {}
    for number in sorted({first for first, _ in key_spans(text).values()}):
        if lines[number - 1].lstrip(" \t").startswith("["):
            path: list[str] = []
            inner: Any = tomli.loads(lines[number - 1].rstrip("\r"))
            while isinstance(inner, dict) and inner:
                ((part, inner),) = inner.items()
                path.append(part)
            found[tuple(path)] = number
    return found


def header(path: Path) -> str:
    """Return the line that begins a table."""
    return f"[{'.'.join(map(key_of, path))}]"


def above(text: str, header: int) -> int:
    """Return the line below which to write so that a header keeps the comment above it."""
    lines = text.split("\n")
    line = header - 1
    while line and lines[line - 1].lstrip(" \t").startswith("#"):
        line -= 1
    return line or header - 1  # a comment at the head of the file belongs to the file


def inserted(text: str, below: int, added: Sequence[str]) -> str:
    """Insert lines below the line of that number, counted from 1; 0 puts them first."""
    lines = text.split("\n")
    end = [] if below < len(lines) else [""]
    return "\n".join([*lines[:below], *added, *lines[below:], *end])


def appended(text: str, added: Sequence[str]) -> str:
    """Append lines, after an empty one."""
    end = "" if text.endswith("\n") or not text else "\n"
    gap = "" if text.endswith("\n\n") or not text else "\n"
    return f"{text}{end}{gap}" + "".join(f"{line}\n" for line in added)
