"""Why a key or a value cannot be written into the source of a table or of aliases."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pf_agent.maincf.entries import AliasSource, EntrySource, TableSource
from pf_agent.model import BLANKS, DocumentKind

SOURCES: Final[Mapping[DocumentKind, type[EntrySource]]] = {
    DocumentKind.TABLE: TableSource,
    DocumentKind.ALIASES: AliasSource,
}
# postalias(1) adds it itself, for sendmail.
_OF_SENDMAIL: Final = "@"


def key_fault(kind: DocumentKind, key: str) -> str | None:
    """Return why Postfix would not read this key in a document of this kind."""
    what = "a key" if kind is DocumentKind.TABLE else "an alias"
    if not key:
        return f"{what} may not be empty; write one or remove it"
    if fault := _unwritable(what, key):
        return fault
    found = _table_key_fault(key) if kind is DocumentKind.TABLE else _alias_fault(key)
    if found is None and not SOURCES[kind].reads(key, "x"):
        return f"{what} cannot be written so that Postfix reads it; write another one"
    return found


def entry_fault(kind: DocumentKind, key: str, value: str) -> str | None:
    """Return why Postfix would not read this entry in a document of this kind."""
    if fault := key_fault(kind, key) or _unwritable("a value", value):
        return fault
    if not SOURCES[kind].as_read(value.strip(BLANKS)):
        return "a value may not be empty: Postfix skips such a line; write one or remove the key"
    if not SOURCES[kind].reads(key, value.strip(BLANKS)):
        return "a value may not leave a quote, a bracket or a backslash open; close or remove it"
    return None


def _unwritable(what: str, text: str) -> str | None:
    if "\n" in text:
        return f"{what} may not contain a line break; put it on one line"
    if "\0" in text:
        return f"{what} may not contain a NUL; remove it"
    if re.search("[\ud800-\udfff]", text):
        return f"{what} must be valid UTF-8; remove the lone surrogate"
    return None


def _table_key_fault(key: str) -> str | None:
    if key.startswith("#"):
        return 'a key may not begin with "#", which starts a comment; remove it'
    if key[0] in BLANKS:
        return "a key may not begin with whitespace, which continues a line; remove it"
    if key.endswith(":"):
        return 'a key may not end in ":", of which postmap warns; remove it'
    if TableSource.reads(key, "x"):
        return None
    if any(blank in key for blank in BLANKS):
        return 'whitespace ends a key; put double quotes around the part before "@"'
    if '"' in key:
        return "a key may not have an unbalanced double quote; close or remove it"
    return "a key may not end in a backslash; remove it"


def _alias_fault(key: str) -> str | None:
    if key == _OF_SENDMAIL:
        return 'an alias may not be "@", which postalias adds itself; remove it'
    if any(blank in key for blank in "\t\r"):
        return "an alias may not contain whitespace other than a blank; write a blank"
    return None
