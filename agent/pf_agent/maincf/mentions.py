"""Which parameters a log line mentions, by name or by something in their values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

# A shorter value may be a word in many lines.
_LEAST_TELLING = 5
_WORD = re.compile(r"[^\s,{}]+")
_THING = re.compile(r"/|:.|^[0-9]+(?:\.[0-9]+){3}$")
_TYPE = re.compile(r"[a-z]+:")


def mentioned(line: str, wished: Mapping[str, str]) -> frozenset[str]:
    """Return the parameters that a line mentions by name, or by something their values name."""
    return frozenset(
        name
        for name, value in wished.items()
        if _has(line, name)
        or any(_has(line, thing, name.endswith("_directory")) for thing in _things(value))
    )


def _has(line: str, said: str, is_folder: bool = False) -> bool:
    """Tell whether a line contains `said` by itself, not as part of a longer name, path or address.

    A table's file may have a suffix; a directory is also named by any path inside it.
    """
    said = re.escape(said) + ("(?:/[^ :]*)?" if is_folder else "")
    end = r"(?:\.(?:db|lmdb|cdb))?(?![\w/@-]|[.:]\w)"
    return re.search(rf"(?<![\w./:@-]){said}{end}", line) is not None


def _things(value: str) -> Iterator[str]:
    """Yield the tables, files, sockets and addresses that a value names, as a log may put them.

    For `inet:127.0.0.1:10040` that may be just `127.0.0.1:10040` (util/auto_clnt.c), for a table
    its file.
    """
    for word in _WORD.findall(value):
        rest = word
        while _is_telling(rest):
            yield rest
            found = _TYPE.match(rest)
            rest = rest[found.end() :] if found else ""


def _is_telling(word: str) -> bool:
    """Tell whether a word names one particular thing: a table, a file, a socket, an address."""
    return len(word) >= _LEAST_TELLING and bool(_THING.search(word))
