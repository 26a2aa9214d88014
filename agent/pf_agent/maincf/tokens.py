"""The tokens of an address list, and what postalias(1) stores of it (tok822_parse.c in src/global).

Text that is not UTF-8 is kept by surrogates, which are no special characters here either.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

ATOM: Final = "atom"
_QUOTED: Final = "quoted"
_LITERAL: Final = "literal"
_COMMENT: Final = "comment"

_BLANKS: Final = " \t\r\n"
# tok822_opchar: the specials of RFC 822, and those of routes and of aliases.
_OPERATORS: Final = r"|%!()<>@,;:\\\".\[\]"
# A backslash takes the next character as it is. Unrolled, so that no input takes more than linear
# time; what is not closed ends with the text.
_PIECE: Final = re.compile(
    rf"""
    [{_BLANKS}]+
    | \[ (?P<literal> [^\\\]]* (?: \\. [^\\\]]* )* ) \\? \]?
    | "  (?P<quoted>  [^\\"]*  (?: \\. [^\\"]*  )* ) \\? "?
    | (?P<operator> [|%!)<>@,;:.\]] )
    | (?P<atom> [^\\{_BLANKS}{_OPERATORS}]* (?: \\. [^\\{_BLANKS}{_OPERATORS}]* )* ) \\?
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
# An atom with one of these is a quoted string when it is written (tok822_quote_atom).
_TO_QUOTE: Final = re.compile(rf"[ \x01-\x1f\x7f{_OPERATORS}]")
_BRACKETS: Final = re.compile(r"\\.|[()]", re.DOTALL)


class Token(NamedTuple):
    """`kind` is one of those above, or an operator, which is its own text."""

    kind: str
    text: str


def tokens(text: str) -> list[Token]:
    """Return the tokens of a text as tok822_scan() does."""
    found: list[Token] = []
    at = 0
    while at < len(text):
        if text[at] == "(":
            end = _end_of_comment(text, at)
            found.append(Token(_COMMENT, text[at:end]))
            at = end
            continue
        piece = _PIECE.match(text, at)
        assert piece is not None  # the pattern for atoms also takes nothing
        at = piece.end()
        kind = piece.lastgroup
        if kind == "operator":
            found.append(Token(piece[0], piece[0]))
        elif kind == "atom":
            inner = _unescaped(piece[kind])
            found.append(Token(_QUOTED if _TO_QUOTE.search(inner) else ATOM, inner))
        elif kind is not None:
            found.append(Token(kind, _unescaped(piece[kind])))
    return found


def internal(found: Sequence[Token]) -> str:
    """Return the tokens without quotes, as tok822_internalize() does."""
    return _joined(found, [f"[{t.text}]" if t.kind == _LITERAL else t.text for t in found])


def external(found: Sequence[Token]) -> str:
    """Return the tokens with quotes where they are needed, as tok822_externalize() does."""
    return _joined(found, list(map(_external, found)))


def quoted(text: str) -> str:
    """Return `text` as a quoted string."""
    return _external(Token(_QUOTED, text))


def _external(token: Token) -> str:
    if token.kind == _QUOTED:
        return '"' + re.sub(r'(["\\\r\n])', r"\\\1", token.text) + '"'
    if token.kind == _LITERAL:
        return "[" + re.sub(r"([\\\r\n])", r"\\\1", token.text) + "]"
    return token.text


def _joined(found: Sequence[Token], texts: list[str]) -> str:
    """Join the texts, with blanks where tok822_append_space() puts them, and after each comma."""
    kinds = [token.kind for token in found]
    for i, (one, other) in enumerate(zip(kinds, [*kinds, ""][1:], strict=True)):
        if one == "," or other == "<" or (len(one) > 1 and len(other) > 1):
            texts[i] += " "
    return "".join(texts)


def _unescaped(text: str) -> str:
    if "\\" in text:
        text = _ESCAPED.sub(r"\1", text)
    return text.replace("\t", " ").replace("\r", " ").replace("\n", " ")


def _end_of_comment(text: str, start: int) -> int:
    """Return where the comment at `start` ends: comments nest."""
    level = 0
    for found in _BRACKETS.finditer(text, start):
        if found[0] in "()":
            level += 1 if found[0] == "(" else -1
        if level == 0:
            return found.end()
    return len(text)
