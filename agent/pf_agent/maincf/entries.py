"""The sources of tables and of aliases as lossless documents, as postmap and postalias read them.

postmap(1): `key whitespace value`; the key ends at the first blank that is neither in double quotes
nor after a backslash, and keeps both. postalias(1): `name: value`, both read as addresses are
(tokens.py); a name is stored without its quotes. Logical lines are those of main.cf. Both fold
keys, keep the first of several entries and warn about the others, and skip a line that they cannot
read with a warning. So a part's name here is the key as it is stored.

What is read is what Postfix stores with smtputf8_enable = yes, Debian's default: with `no` only
ASCII is folded, and lines that are not UTF-8 are stored, too.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from typing import Final, NamedTuple

from pf_agent.maincf.document import LogicalLine, Text, decoded, encoded
from pf_agent.maincf.lines import BLANK_BYTES, is_orphan, logical_text
from pf_agent.maincf.tokens import external, internal, quoted, tokens
from pf_agent.model import Parameter

_BLANKS: Final = re.escape(BLANK_BYTES)
# A backslash takes the next byte as it is, and in quotes blanks belong to the key.
_KEY: Final = re.compile(
    rb"""(?: [^\\"%b]+ | \\. | " [^\\"]* (?: \\. [^\\"]* )* " )*""" % _BLANKS,
    re.VERBOSE | re.DOTALL,
)
# A blank after the sign begins prose.
_SIGNS: Final = re.compile(rb"#+(?=[^#%b])" % _BLANKS)
# Nothing is left before a NUL, and postalias says nothing.
SILENTLY: Final = "text after null byte may be ignored"
_NOT_LOCAL: Final = frozenset("@%")


class _Entry(NamedTuple):
    """What is read in a logical line; `skipped` says why nothing is."""

    key: str
    value: str
    skipped: str = ""


def folded(name: str) -> str:
    """Return a key as it is stored: casefold() in src/util folds case as Unicode has it."""
    return name.lower() if name.isascii() else name.casefold()


class EntrySource(Text):
    """What both have in common."""

    obeyed = 0

    @staticmethod
    @abstractmethod
    def _entry(text: bytes) -> _Entry:
        """Take a logical line apart."""

    def _read(self, rows: Sequence[int]) -> LogicalLine:
        if is_orphan(self.lines[rows[0]]):
            return LogicalLine(tuple(rows), None)
        key, value, skipped = self._entry(logical_text(rows, self.lines))
        if skipped:
            return LogicalLine(tuple(rows), None, skipped)
        return LogicalLine(tuple(rows), Parameter(folded(key), value, rows[0] + 1))

    @classmethod
    def commented_name(cls, line: bytes) -> str | None:
        signs = _SIGNS.match(line)
        if signs is None:
            return None
        entry = cls._entry(line[signs.end() :].rstrip(b"\n"))
        return None if entry.skipped else folded(entry.key)

    def contradiction(self, name: str) -> Parameter | None:
        """Return the second one, whatever it says: Postfix warns about every other one."""
        others = self.occurrences(name)[1:]
        return others[0].parameter if others else None

    def unreadable(self) -> tuple[LogicalLine, ...]:
        """None: what Postfix cannot read here it skips."""
        return ()

    @classmethod
    def reads(cls, name: str, value: str) -> bool:
        """Tell whether Postfix reads this entry if it is written as `written` has it.

        Also in a file with CR LF: what is not closed at the end of an alias takes in the CR.
        """
        line = encoded(cls.written(name, value))
        if logical_text([0], [line]) != line or line.startswith(b"#") or is_orphan(line):
            return False
        wanted = (folded(name), cls.as_read(value), "")
        found = [cls._entry(line), cls._entry(line + b"\r")]
        return all((folded(each.key), each.value, each.skipped) == wanted for each in found)


class TableSource(EntrySource):
    """What postmap builds a table from."""

    @staticmethod
    def _entry(text: bytes) -> _Entry:
        if not _is_utf8(text):
            return _Entry("", "", "non-UTF-8 input")
        if b'"' in text or b"\\" in text:
            match = _KEY.match(text)
            end = len(text) if match is None else match.end()
            if text[end : end + 1] == b'"':
                return _Entry("", "", "unbalanced '\"'")
            found = [text[:end], text[end + 1 :]]
        else:
            found = text.split(None, 1)
        value = found[1].strip(BLANK_BYTES) if len(found) == 2 else b""
        if not value:
            return _Entry("", "", "expected format: key whitespace value")
        return _Entry(decoded(found[0]), decoded(value))

    @classmethod
    def written(cls, name: str, value: str) -> str:
        return f"{name}\t{value}"


class AliasSource(EntrySource):
    """What postalias builds a table of aliases from."""

    @staticmethod
    def _entry(text: bytes) -> _Entry:
        if not _is_utf8(text):
            return _Entry("", "", "non-UTF-8 input")
        found = tokens(decoded(text))
        if not found:
            return _Entry("", "", SILENTLY)
        kinds = [token.kind for token in found]
        colon = kinds.index(":") if ":" in kinds else 0
        if not 0 < colon < len(kinds) - 1 or "," in kinds[:colon]:
            return _Entry("", "", "need name:value pair")
        if not _NOT_LOCAL.isdisjoint(kinds[:colon]):
            return _Entry("", "", "name must be local")
        return _Entry(internal(found[:colon]), external(found[colon + 1 :]))

    @classmethod
    def written(cls, name: str, value: str) -> str:
        plain = f"{name}: {value}"
        is_plain = not name.startswith("#") and cls._entry(encoded(f"{name}: x")) == (name, "x", "")
        return plain if is_plain else f"{quoted(name)}: {value}"

    @classmethod
    def as_read(cls, value: str) -> str:
        """Return a value with its quotes, commas and blanks where postalias puts them."""
        return external(tokens(value))


def same_text(_key: str, ours: str, theirs: str) -> bool:
    """Tell whether two values of a table are the same: what a value means depends on its table."""
    return ours == theirs


def same_target(_name: str, ours: str, theirs: str) -> bool:
    """Tell whether postalias stores for `ours`, as written, what was read as `theirs`."""
    return AliasSource.as_read(ours) == theirs


def _is_utf8(text: bytes) -> bool:
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
