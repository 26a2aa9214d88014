"""Where the keys of a TOML text are, since tomli does not report positions.

A small scan of a text that tomli has already accepted. Its limits: a key inside an inline table has
a line only if the whole inline table is on one line; for an array of tables the first header
counts; keys nested deeper than our files need have none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import tomli

Path = tuple[str, ...]

_PART = r"""(?:"(?:\\.|[^"\\\n])*"|'[^'\n]*'|[A-Za-z0-9_-]+)"""
_KEY = rf"({_PART}(?:[ \t]*\.[ \t]*{_PART})*)[ \t]*"
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_HEADER = re.compile(rf"\[\[?[ \t]*{_KEY}")
_PAIR = re.compile(rf"{_KEY}=")
# A multi-line string may end with up to two quotes of its own before the closing three. A lone
# quote is a string without an end.
_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'
    r"|'''.*?'{3,5}"
    r"|\"{3}|'{3}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*|[\[\]{}\n\"']",
    re.DOTALL,
)
_UNENDED = ("'", '"', "'''", '"""')
_DEEPEST = 6


def last_statement(text: str) -> int:
    """Return the line where the last statement begins, the one that tomli found unfinished."""
    written = (first for first, _, statement in _statements(text) if statement[:1] not in ("", "#"))
    return max(written, default=1)


def key_spans(text: str) -> dict[Path, tuple[int, int]]:
    """Return the first and last line of each key of a valid TOML text, including its value."""
    spans: dict[Path, tuple[int, int]] = {}
    table: Path = ()
    for first, last, statement in _statements(text):
        if header := _HEADER.match(statement):
            table = path = _parts(header[1])
        elif pair := _PAIR.match(statement):
            path = table + _parts(pair[1])
        else:
            continue
        for depth in range(1, min(len(path), _DEEPEST) + 1):
            spans.setdefault(path[:depth], (first, last))
    return spans


def _statements(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield the first line, the last line and the stripped text of each statement or comment."""
    line, start, depth = 1, 0, 0
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if sign in _UNENDED:
            break
        depth += (sign in ("[", "{")) - (sign in ("]", "}"))
        if sign == "\n" and depth <= 0:
            last = line + text.count("\n", start, token.start())
            yield line, last, text[start : token.start()].strip()
            line, start, depth = last + 1, token.end(), 0
    yield line, line + text.count("\n", start), text[start:].strip()


def _parts(key: str) -> Path:
    """Return the parts of a dotted key; tomli itself removes quotes and escapes."""
    if BARE_KEY.fullmatch(key):
        return (key,)
    parts: list[str] = []
    inner: Any = tomli.loads(f"{key} = 0")
    while isinstance(inner, dict):
        ((part, inner),) = inner.items()
        parts.append(part)
    return tuple(parts)


def line_of(spans: Mapping[Path, tuple[int, int]], path: Path) -> int | None:
    """Return the line of a key; inside an inline table, the table's if it is on one line."""
    if path in spans:
        return spans[path][0]
    if len(path) > _DEEPEST:
        return None
    while path and path not in spans:
        path = path[:-1]
    first, last = spans.get(path, (0, 1))
    return first if first == last else None
