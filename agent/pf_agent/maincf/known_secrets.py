"""Finds known secrets wherever they are quoted. Pure.

A program that complains may quote a value without its name, and a value that is referred to by
`$name` appears expanded in another one. So each value that is a secret by name or shape is searched
for everywhere. That must not make a sentence unreadable, whatever the secret is:

- A secret shorter than four characters, an address or a file's path is not searched for.
- A word of letters, or a number, may occur in any sentence: `yes`, `postfix`, `2525`. It is hidden
  where a value is expected, in quotes or after `=` or `:`, and nowhere else.
- Everything else is hidden wherever it occurs.

After its own name a secret is always hidden (secrets.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from pf_agent.maincf.secrets import (
    HIDDEN,
    PATH,
    is_secret,
    is_secret_name,
    named_values,
    passwords_in,
    strange_words,
)

SHORTEST: Final = 4
# Longer ones are recognised by their beginning: a program that quotes one may cut it off.
_LONG: Final = 32
_BEGINNING: Final = 16
_MOST_CHARACTERS: Final = 4096
# Per value; no password has more pieces.
_MOST_PIECES: Final = 200
# Words of ordinary length, or a number that could be a port, a size or a time.
_PLAIN: Final = re.compile(r"[A-Za-z]{1,15}(?:[_-][A-Za-z]{1,15})*|[0-9]{1,8}")
_ADDRESS: Final = re.compile(r"\[?[0-9]{1,3}(?:\.[0-9]{1,3}){3}\]?(?:[:/][0-9]+)?")
# Tables whose name holds no content (DATABASE_README); `static:`, `inline:` and braces do.
_TABLE: Final = re.compile(
    r"(?:proxy:)?(?:hash|btree|lmdb|cdb|s?dbm|texthash|cidr|pcre|regexp|ldap|mysql|pgsql|sqlite"
    r"|mongodb|memcache|nis|nisplus|netinfo|tcp|socketmap|unix|environ|internal|fail):[^{}]*"
)
_PARTED: Final = re.compile(r"[,\s{}]+")
_REFERENCE: Final = re.compile(r"\$[({]?([A-Za-z0-9_]+)")
_ENCODED: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_TOML_KEY: Final = re.compile(r"""\s*["']?([^"'=\s]+)["']?\s*=\s*(.*)""")
_TOML_STRING: Final = re.compile(r""""((?:\\.|[^"\\])*)"?|'([^']*)'?|([^\s,\[\]"'#]+)""")


def of_main_cf(text: bytes) -> Iterator[str]:
    """Yield the secrets in a main.cf, including those in settings that later ones override."""
    from pf_agent.maincf.document import MainCf  # `status` does without

    main_cf = MainCf.parse(text)
    yield from of_settings(
        (each.parameter.name, each.parameter.value)
        for each in main_cf.logical_lines
        if each.parameter is not None
    )
    for each in main_cf.logical_lines:
        if each.parameter is None:
            yield from strange_words(main_cf.text_of(each))
            yield from _in_any_value(main_cf.text_of(each))


def of_settings(settings: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield the secrets in these parameters, and in those that a secret one refers to."""
    pairs = list(settings)
    referred = _referred(pairs)
    for name, value in pairs:
        if is_secret(name, value) or name in referred:
            yield from _pieces(value)
        else:
            yield from _in_any_value(value)


def of_values(values: Iterable[str]) -> Iterator[str]:
    """Yield the secrets in values that are secret as a whole."""
    for value in values:
        yield from _pieces(value)


def of_master_cf(text: bytes) -> Iterator[str]:
    """Yield the secrets in the options and arguments of master.cf's services."""
    from pf_agent.maincf.document import decoded  # `status` does without
    from pf_agent.maincf.master_cf import MasterCf

    master_cf = MasterCf.parse(text)
    for entry in master_cf.entries:
        service = entry.found.service
        if service is None:
            stray = decoded(b"".join(master_cf.lines[row] for row in entry.rows))
            yield from strange_words(stray)
            yield from _in_any_value(stray)
            continue
        yield from of_settings(service.options().items())
        for argument in service.arguments:
            yield from _in_any_value(argument)


def of_toml(text: bytes) -> Iterator[str]:
    """Yield the secrets in one of our own files, which may be faulty: error messages quote it."""
    depth = 0
    for line in text.decode("utf-8", "surrogateescape").split("\n"):
        key = _TOML_KEY.match(line)
        if depth <= 0:
            if key is None or not is_secret_name(key[1]):
                yield from passwords_in(line)
                continue
            line = key[2]
        depth += line.count("[") - line.count("]")
        for found in _TOML_STRING.finditer(line):
            words = found[1] or found[2] or found[3] or ""
            if is_secret("password", words):
                yield from _pieces(words)
                yield from _pieces(re.sub(r"\\(.)", r"\1", words))


def spellings(secret: str) -> tuple[str, ...]:
    """Return its possible spellings: as it is, and as escaped by Postfix, by JSON and by us.

    None if it is too short, or does not look like a secret.
    """
    secret = secret[:_MOST_CHARACTERS]
    is_open = PATH.fullmatch(secret) or _ADDRESS.fullmatch(secret) or _REFERENCE.fullmatch(secret)
    if len(secret) < SHORTEST or is_open or secret in HIDDEN:
        return ()
    readable = secret.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    # printable() in Postfix's util/printable.c writes a `?` for each byte.
    asked = "".join(
        c if " " <= c <= "~" else "?" * len(c.encode("utf-8", "surrogateescape")) for c in secret
    )
    escaped = (json.dumps(readable)[1:-1], json.dumps(readable, ensure_ascii=False)[1:-1])
    found = dict.fromkeys((secret, readable, asked, *escaped))
    return tuple(each for each in found if not set(each) <= set("? "))


def pattern_of(spelling: str) -> re.Pattern[str] | None:
    """Return a pattern for the places where a spelling is hidden; None: everywhere."""
    quoted = re.escape(spelling)
    if _PLAIN.fullmatch(spelling):
        return re.compile(rf"""(?<=["'=:]){quoted}(?=["',;@}}]|\s*$)""", re.MULTILINE)
    if len(spelling) < SHORTEST + 2:
        return re.compile(rf"(?<![A-Za-z0-9]){quoted}(?![A-Za-z0-9])")
    if len(spelling) > _LONG:
        return re.compile(rf"{quoted}|{re.escape(spelling[:_BEGINNING])}\S*")
    return None


def without(words: str, known: Mapping[str, re.Pattern[str] | None]) -> str:
    """Return `words` without the spellings in `known`, which lists the longest first."""
    for spelling, pattern in known.items():
        if pattern is None:
            words = words.replace(spelling, HIDDEN)
        elif spelling[:_BEGINNING] in words:
            words = pattern.sub(HIDDEN, words)
    return words


def _referred(pairs: Iterable[tuple[str, str]]) -> frozenset[str]:
    """Return the parameters that secret values refer to by `$name`, directly or indirectly."""
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    found: set[str] = set()
    waiting = [name for name in values if is_secret_name(name)]
    while waiting:
        for value in values.get(waiting.pop(), ()):
            new = set(_REFERENCE.findall(value)).difference(found) & values.keys()
            found |= new
            waiting += new
    return frozenset(found)


def _in_any_value(value: str) -> Iterator[str]:
    """Yield what is a secret by its shape, in the value of any parameter."""
    for password in passwords_in(value):
        yield password
        yield _ENCODED.sub(lambda found: chr(int(found[1], 16)), password)
    for named in named_values(value):
        yield from _pieces(named.partition("}")[0])


def _pieces(value: str) -> Iterator[str]:
    """Yield a secret value as a whole, its words, and what follows a `=` or `:` in a word.

    `inline:{ {host = user:s3cret} }` is quoted as `user:s3cret`, and its host is not a secret.
    """
    yield value
    is_inline = "{" in value and "=" in value
    for item in re.split(r"[{}]", value)[:_MOST_PIECES] if is_inline else (value,):
        _, equals, right = item.partition("=")
        yield from passwords_in(item)
        for word in _PARTED.split(right if is_inline and equals else "" if is_inline else item):
            yield from _of_word(word)


def _of_word(word: str) -> Iterator[str]:
    if not word or (_TABLE.fullmatch(word) and "://" not in word):
        return
    yield word
    rest = word
    for _ in range(8):
        cut = min((at for at in (rest.find(":"), rest.find("=")) if at >= 0), default=-1)
        if cut < 0:
            return
        rest = rest[cut + 1 :]
        yield rest
