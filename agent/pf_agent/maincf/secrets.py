"""Hides secrets in main.cf, recognised by name or by shape. Pure.

By name: a parameter whose name says that it holds a password, a token or a key is shown as
`(hidden)`, whatever its value. A value that only names where a secret is kept, such as
`hash:/etc/postfix/sasl_passwd`, is not a secret and stays readable. By shape: the password in a
URL, between `user:` and `@`; and in any value or sentence, all that follows a secret's name and
`=`, to the end of the line.

If a known secret occurs elsewhere, known_secrets.py finds it. The texts below `displaced/` are
complete, and readable by root only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from pf_agent.model import BLANKS

HIDDEN: Final = "(hidden)"

# mysql_table(5) and similar tables say `password`, ldap_table(5) `bind_pw`, people what they like.
# A lone `key` is what a table is searched for, and `..._key_file` is a path.
_SECRET_NAME: Final = re.compile(
    r"""passw(?:or)?d | passwort | passphrase | secret | credential
    | (?:api|auth|access|private|priv|master|shared)_?key s? (?![a-z])
    | (?<!by) (?:pass|pwd|pw) s? [0-9]* $ | (?:token|[^a-z0-9]key) s? [0-9]* $
    | (?:^|[^a-z0-9]) (?:pass|pwd|pw|psk|token) s? [0-9]* [^a-z0-9]""",
    re.VERBOSE | re.IGNORECASE,
)
# Postfix's own parameters that only look like secrets.
_NO_SECRET: Final = re.compile(r"(?:_limit|_delimiter|_lookup_key)$")
# By the end of its name it is a file, unless the value looks like a secret.
_FILE_NAME: Final = re.compile(r"(?:key|file|path|dir|directory)s?[0-9]*$", re.IGNORECASE)
# A secret of 64 characters does not begin like this by chance (file-hierarchy(7)).
PATH: Final = re.compile(
    r"/(?:etc|usr|var|run|srv|opt|home|root|lib|tmp|mnt|media|proc|dev)/[^\s:@{}]*"
)
# A table given by its path: `hash:/etc/...`, `proxy:mysql:/etc/...` (DATABASE_README).
_PLACE: Final = re.compile(r"(?:[a-z]+:)+/(?!/)[^\s:@{}]*")
_PARTED: Final = re.compile(r"[,\s]+")
# A value of megabytes can be built to be slow to search: none of these visits a position twice.
_WORD: Final = re.compile(r"\S+")
_BLANK_RUN: Final = re.compile(r"\s*")
_SCHEME: Final = re.compile(r"(?<=[A-Za-z0-9+.-])://")
# Only this many characters at the end of a name are examined.
_MOST_OF_A_NAME: Final = 80
_NAME_END: Final = re.compile(r"[\w.-]+\Z", re.ASCII)
_NAME_SIGN: Final = re.compile(r"[\w.-]", re.ASCII)
_COMMENT: Final = re.compile(r"(\s*#+\s*)([^\s=:#]+)(\s*=\s*|\s*:\s+(?=\S+\s*\Z))(.*)", re.DOTALL)
# Like a commented-out continuation: `#`, a blank, text.
_COMMENT_BELOW: Final = re.compile(r"(\s*#+\s+)\S.*", re.DOTALL)
_SETTING: Final = re.compile(r"([^\s=]+)(\s*=\s*|\s+)(.*)", re.DOTALL)
# Letters and digits in one word, or capitals inside it: not how people write prose.
_STRANGE: Final = (re.compile(r"[A-Za-z]"), re.compile(r"[0-9]|[a-z][A-Z]"))
_SHORTEST_STRANGE: Final = 6


def is_secret_name(name: str) -> bool:
    """Tell whether a parameter of this name holds a secret, unless its value is only a place."""
    return _SECRET_NAME.search(name) is not None and _NO_SECRET.search(name) is None


def is_secret(name: str, value: str) -> bool:
    """Tell whether the value is a secret: the name says so, and the value is not just a place."""
    return is_secret_name(name) and not _is_place(name, value)


def masked(name: str, value: str) -> str:
    """Return the value of the parameter as it may be shown."""
    return HIDDEN if is_secret(name, value) else without_shapes(value)


def masked_lines(lines: Sequence[str]) -> list[str]:
    """Return lines of main.cf as they may be shown, one for each.

    A commented-out setting counts as well: that is what a correction turns an unwanted one into. So
    do the lines that continue either. In a line that Postfix cannot read, words that do not look
    like prose are hidden.
    """
    return list(_Lines().shown(lines))


class _Lines:
    """A position in main.cf: `name` is the current setting, secret while `is_hidden`."""

    def __init__(self) -> None:
        self._name = ""
        self._is_hidden = False
        self._is_comment_hidden = False

    def shown(self, lines: Sequence[str]) -> Iterator[str]:
        for line in lines:
            text = line.lstrip(BLANKS)
            if text.startswith("#"):
                yield self._comment(line)
            elif not text:
                self._is_comment_hidden = False
                yield line
            elif line[0] in BLANKS:
                yield self._below(line, text)
            else:
                self._is_comment_hidden = False
                yield self._head(line)

    def _comment(self, line: str) -> str:
        setting = _COMMENT.fullmatch(line)
        if setting is not None:
            before, name, equals, value = setting.groups()
            self._is_comment_hidden = is_secret_name(name)
            return f"{before}{name}{equals}{masked(name, value)}"
        below = _COMMENT_BELOW.fullmatch(line) if self._is_comment_hidden else None
        if below is not None:
            return f"{below[1]}{HIDDEN}"
        self._is_comment_hidden = False
        return without_shapes(line)

    def _below(self, line: str, text: str) -> str:
        if self._is_hidden:
            is_shown = _is_place(self._name, text)
            return line if is_shown else f"{line[: len(line) - len(text)]}{HIDDEN}"
        return self._looked_into(line)

    def _head(self, line: str) -> str:
        setting = _SETTING.fullmatch(line)
        if setting is None:
            return self._stray(line)
        name, equals, value = setting.groups()
        # Without its `=` Postfix cannot read the line, but it is shown all the same.
        if "=" not in equals and not is_secret_name(name):
            return self._looked_into(line) if "=" in value else self._stray(line)
        self._name, self._is_hidden = name, is_secret_name(name)
        if self._is_hidden:
            return f"{name}{equals}{masked(name, value)}"
        return f"{name}{equals}{self._looked_into(value)}"

    def _looked_into(self, text: str) -> str:
        """Hide secrets by shape; one by name inside braces may continue in the lines below."""
        self._is_hidden = any(True for _ in named_values(text))
        self._name = ""
        return without_shapes(text)

    def _stray(self, line: str) -> str:
        """Hide a line below a secret: it may be a continuation that lost its leading blank."""
        if self._is_hidden:
            return HIDDEN
        shown = without_shapes(line)
        return _WORD.sub(lambda found: HIDDEN if _is_strange(found[0]) else found[0], shown)


def strange_words(text: str) -> list[str]:
    """Return the words that `masked_lines` hides in a line that Postfix cannot read."""
    return [word for word in _WORD.findall(text) if _is_strange(word)]


def _is_strange(word: str) -> bool:
    is_long = len(word) >= _SHORTEST_STRANGE
    return is_long and all(sign.search(word) for sign in _STRANGE)


def without_shapes(text: str) -> str:
    """Return the text without anything that is a secret by its shape."""
    if "://" in text:
        text = _WORD.sub(lambda found: _without_passwords(found[0]), text)
    if "=" in text:
        text = "\n".join(map(_without_named, text.split("\n")))
    return text


def passwords_in(text: str) -> Iterator[str]:
    """Yield the passwords in URLs: between the `:` after the user and the last `@`."""
    for word in _WORD.findall(text) if "://" in text else ():
        for start, end in _passwords(word):
            yield word[start:end]


def named_values(text: str) -> Iterator[str]:
    """Yield what follows a secret's name and `=`, to the end of the line."""
    for line in text.split("\n") if "=" in text else ():
        start = _named(line)
        if start is not None:
            yield line[start:]


def _without_passwords(word: str) -> str:
    shown, done = [], 0
    for start, end in _passwords(word):
        shown += [word[done:start], HIDDEN]
        done = end
    return "".join([*shown, word[done:]])


def _passwords(word: str) -> Iterator[tuple[int, int]]:
    """Yield where in a word URLs have their passwords. A word may hold several, after commas.

    A user or a password may contain an unescaped `@`, so the last one counts; and a `/`.
    """
    begins = [found.end() for found in _SCHEME.finditer(word)]
    # A word may be many URLs in a row, to slow this down: each part is searched only once.
    for begin, end in zip(begins, [*begins[1:], len(word)][: len(begins)], strict=True):
        at = word.rfind("@", begin, end)
        colon = word.find(":", begin, at) if at > 0 else -1
        if 0 <= colon < at - 1:
            yield colon + 1, at


def _without_named(line: str) -> str:
    start = _named(line)
    return line if start is None else f"{line[:start]}{HIDDEN}"


def _named(line: str) -> int | None:
    """Return where the first value after a secret's name begins; None if there is none."""
    equals = line.find("=")
    while equals >= 0:
        before = line[max(equals - _MOST_OF_A_NAME, 0) : equals].rstrip()
        found = _NAME_END.search(before) if before and _NAME_SIGN.match(before[-1]) else None
        if found is not None and is_secret_name(found[0]):
            blanks = _BLANK_RUN.match(line, equals + 1)
            start = equals + 1 if blanks is None else blanks.end()
            is_hidden = line.startswith(HIDDEN, start)
            behind = start + len(HIDDEN)
            is_hidden = is_hidden and not line[behind : behind + 1].isalnum()
            if not is_hidden and is_secret(found[0], line[start:]):
                return start
        equals = line.find("=", equals + 1)
    return None


def _is_place(name: str, value: str) -> bool:
    """Whether the value only gives paths of tables or files, or is empty."""
    is_file = _FILE_NAME.search(name) is not None
    words = (word for word in _PARTED.split(value) if word)
    return all(_PLACE.fullmatch(w) or (is_file and PATH.fullmatch(w)) for w in words)
