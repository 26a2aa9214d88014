"""Secrets in main.cf, made unreadable on their way to records, diffs and terminals: pure.

A parameter whose name says that it holds a password or a key is shown as `(hidden)`, whatever it
says; so is what stands before the `@` of a URL after its `:`. What names where a secret lies, as
`hash:/etc/postfix/sasl_passwd` does, is none and stays readable. The texts below `displaced/` are
whole, and root's alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

HIDDEN: Final = "(hidden)"

# mysql_table(5) and its like say `password`, ldap_table(5) `bind_pw`; not `..._key_file`.
_SECRET_NAME: Final = re.compile(r"(?:^|_)(?:password|passwd|passphrase|secret)|_(?:key|pw)$")
# A table by its place: `hash:/etc/...`, `proxy:mysql:/etc/...` (DATABASE_README).
_PLACE: Final = re.compile(r"(?:[a-z]+:)+/[^\s:@{}]*")
_PARTED: Final = re.compile(r"[,\s]+")
# A value of megabytes may be made to be slow to search: none of these looks at a place twice.
_WORD: Final = re.compile(r"\S+")
_USER: Final = re.compile(r"(?<=[A-Za-z0-9+.-])://[^\s/:@]*:")
_SETTING: Final = re.compile(r"()([A-Za-z0-9_]+)(\s*=\s*|\s+)(.*)", re.DOTALL)
_COMMENT: Final = re.compile(r"(\s*#+\s*)([A-Za-z0-9_]+)(\s*=\s*)(.*)", re.DOTALL)
# Shorter ones would be found within other words.
_SHORTEST: Final = 4


def masked(name: str, value: str) -> str:
    """Return the value of the parameter as it may be shown."""
    if _is_secret(name, value):
        return HIDDEN
    return _without_credentials(value)


def masked_lines(lines: Sequence[str]) -> list[str]:
    """Return lines of main.cf as they may be shown, one for each.

    A comment that sets a parameter counts: that is what a correction makes of an unwanted one.
    """
    shown = []
    is_hidden = False
    for line in lines:
        is_comment = line.lstrip().startswith("#")
        # Where its `=` is missing, Postfix cannot read it, and it is shown all the same.
        setting = (_COMMENT if is_comment else _SETTING).fullmatch(line)
        if setting is not None:
            before, name, equals, value = setting.groups()
            if not is_comment:
                is_hidden = _is_secret(name, value)
            shown.append(f"{before}{name}{equals}{masked(name, value)}")
        elif is_hidden and line.strip() and not is_comment:
            shown.append(f"{line[: len(line) - len(line.lstrip())]}{HIDDEN}")
        else:
            shown.append(_without_credentials(line))
    return shown


def secrets(parameters: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return the values that no program's complaint may quote, the longest first."""
    found = {v for n, v in parameters if len(v) >= _SHORTEST and _is_secret(n, v)}
    return tuple(sorted(found, key=len, reverse=True))


def without(words: str, hidden: Sequence[str]) -> str:
    """Return what a program said, without these values and without credentials in URLs."""
    for secret in hidden:
        words = words.replace(secret, HIDDEN)
    return _without_credentials(words)


def _without_credentials(text: str) -> str:
    """The text without what stands in a URL between the `:` after the user and the last `@`."""
    return _WORD.sub(_without_its_password, text) if "://" in text else text


def _without_its_password(found: re.Match[str]) -> str:
    word = found[0]
    end = word.rfind("@")
    user = _USER.search(word, 0, end) if end > 0 else None
    return word if user is None else f"{word[: user.end()]}{HIDDEN}{word[end:]}"


def _is_secret(name: str, value: str) -> bool:
    return _SECRET_NAME.search(name) is not None and not _is_place(value)


def _is_place(value: str) -> bool:
    """Whether it only names tables by their place; nothing at all is no secret either."""
    return all(_PLACE.fullmatch(word) for word in _PARTED.split(value) if word)
