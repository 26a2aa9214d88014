"""Which parameters a line of a log speaks of, by their names or by things in their values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

# Shorter, a value is a word of many lines.
_LEAST_TELLING = 5
_WORD = re.compile(r"[^\s,{}]+")
_THING = re.compile(r"/|:.|^[0-9]+(?:\.[0-9]+){3}$")
_TYPE = re.compile(r"[a-z]+:")


def mentioned(line: str, wished: Mapping[str, str]) -> frozenset[str]:
    """Return those parameters that a line names, or a thing that their values name."""
    return frozenset(
        name
        for name, value in wished.items()
        if _has(line, name)
        or any(_has(line, thing, name.endswith("_directory")) for thing in _things(value))
    )


def _has(line: str, said: str, is_folder: bool = False) -> bool:
    """Tell whether a line has this by itself: no part of a longer name, path or address.

    A table's file has an end of its own; a folder is there in the name of what lies in it.
    """
    said = re.escape(said) + ("(?:/[^ :]*)?" if is_folder else "")
    end = r"(?:\.(?:db|lmdb|cdb))?(?![\w/@-]|[.:]\w)"
    return re.search(rf"(?<![\w./:@-]){said}{end}", line) is not None


def _things(value: str) -> Iterator[str]:
    """The tables, files, sockets and addresses that a value names, as a log may say them.

    Of `inet:127.0.0.1:10040` it may say `127.0.0.1:10040` alone (util/auto_clnt.c), of a table its
    file.
    """
    for word in _WORD.findall(value):
        rest = word
        while _is_telling(rest):
            yield rest
            found = _TYPE.match(rest)
            rest = rest[found.end() :] if found else ""


def _is_telling(word: str) -> bool:
    """Tell whether a word is the name of one thing: a table, a file, a socket, an address."""
    return len(word) >= _LEAST_TELLING and bool(_THING.search(word))
