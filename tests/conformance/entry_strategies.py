"""Adversarial sources of tables and of aliases, and edits near what stands in them.

They are put together from pools as main.cf files are (strategies.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

from pf_agent.maincf.entry_faults import SOURCES, entry_fault
from pf_agent.model import BLANKS, DocumentKind
from tests.conformance.strategies import Recipe

_KEYS = (
    *("a", "b", "example.org", "root", "A", "Example.ORG", '"a b"@example.org', "a\\ b", "@x.test"),
    *(".example.org", "user@Example.org", "10.0.0.1", "[::1]", "ä", "Ä", "STRASSE", "straße", "İ"),
    *("ß", "ẞ", "ς", "Σ", "ﬁ", "K", '"', '"a', 'a"b c"d', "\\", "a\\", '\\"', "k:", "k:v", "#k"),
    *("a b", "a@b", '"a@b"', "a%b", "a!b", "a,b", "(c) a", '"', "[a", "a.b", '"@"', '"": x', "<a>"),
    *("'", "a\u00a0b", "\u2028", "\x7f", "\x1f", "n" * 300, '"a\\"b"', "postmaster", "|a", "a;b"),
)
_VALUES = (
    *("x", "y", "OK", "REJECT go away", "root", "a, b", "a,b", "smtp:[mx]:25", '"', '""', "ä"),
    *('|"/usr/bin/x y"', '"|/usr/bin/x y"', ":include:/etc/x", "/dev/null", "a@b.c", "<a@b>", "\\"),
    *("(c) a", "(a(b)c", "[a\\]b]", "a b", 'a "b c" d', "a\\ b", "#x", "a:b;c", "\\\\", "a . b"),
    *(
        ",",
        ",,a",
        "a,",
        "{ x, y }",
        "$x",
        "x\\",
        '"x',
        '"x\\"y"',
        "\x7f",
        "\u00a0",
        "x" * 500,
        "%!",
    ),
)
_GAPS = (" ", "\t", "  ", ": ", ":\t", ":", " : ", "\t\t", "\v", "\f", "\r", " \r ", "")
_TAILS = (
    *6 * ("",),
    " ",
    "\r",
    "\t \v",
    "\n  more",
    "\n\t, z",
    "\n# c\n  w",
    "\n\n y",
    "\0",
    "\0 q",
)
_PROSE = (
    "",
    "#",
    "# prose",
    " # c",
    "  ",
    "\t",
    "\r",
    "#a x",
    "#a: x",
    "##b\ty",
    "#  more",
    "# a x",
)
_RAW = (
    *(b"\xff x", b"x \xff", b"\xff: x", b"\xed\xa0\x80 x", b"\xf4\x90\x80\x80: x", b"\xc0\x80 w"),
    *(b"\xe4bc: d", b"\0", b"\0a: b", b"a\0: b", b"\xef\xbb\xbfa x", b"\xc2\x85 x", b"\xa0"),
)
_KINDS = (
    *("entry", "entry", "entry", "prose", "entry", "more", "commented", "entry", "entry", "odd"),
    *("entry", "prose", "commented", "entry", "entry", "more", "entry", "entry", "entry"),
)
_HOSTILE = (*_KINDS, "raw", "junk")
_ENDS = (b"\n", b"\n", b"\n", b"\r\n")
_LINE_BYTES = 9
_EDIT_BYTES = 12


@dataclass(frozen=True)
class Entries:
    """A source, what is to be set in it, as a person may write it, and what is to go."""

    kind: DocumentKind
    text: bytes
    settings: tuple[tuple[str, str], ...]
    unwanted: str


def _line(drawn: bytes, kinds: tuple[str, ...], gaps: tuple[str, ...]) -> bytes:
    recipe = Recipe(drawn)
    kind = recipe.of(kinds)
    if kind == "junk":
        return drawn[1:]
    if kind == "raw":
        return recipe.of(_RAW)
    if kind == "prose":
        return recipe.of(_PROSE).encode()
    key, value = recipe.of((*_KEYS, *6 * _KEYS[:6])), recipe.of(_VALUES)
    if kind == "more":
        return f"{recipe.of((' ', chr(9), chr(11), chr(13)))}{value}".encode()
    gap = recipe.of(_GAPS if kind == "odd" else gaps)
    entry = key + gap + value + recipe.of(_TAILS)
    if kind == "commented":
        entry = "#" + entry.replace("\n", "\n#")
    return entry.encode()


def _edit(kind: DocumentKind, text: bytes, drawn: bytes) -> tuple[str, str]:
    """An entry that can be written, often one that is there."""
    recipe = Recipe(drawn)
    there = SOURCES[kind].parse(text).parameters()
    key = recipe.of((*there, "a", "b")) if recipe.one_in(2) else recipe.of(_KEYS)
    if recipe.one_in(2):
        key = recipe.of((key.upper(), key.title()))
    value = there[key] if key in there and recipe.one_in(2) else recipe.of(_VALUES)
    value = value.strip(BLANKS)
    return (key, value) if entry_fault(kind, key, value) is None else ("b", "x")


def _case(kind: DocumentKind) -> Callable[[tuple[list[bytes], bytes, list[bytes]]], Entries]:
    gaps = (" ", "\t", " ", "   ") if kind is DocumentKind.TABLE else (": ", ":\t", ":", " : ")

    def case(drawn: tuple[list[bytes], bytes, list[bytes]]) -> Entries:
        lines, layout, edits = drawn
        recipe = Recipe(layout)
        end, kinds = recipe.of(_ENDS), recipe.of((*3 * (_KINDS,), _HOSTILE))
        text = b"".join(_line(line, kinds, gaps) + end for line in lines)
        if recipe.one_in(3):
            text = text.removesuffix(end)
        settings = tuple(_edit(kind, text, each) for each in edits)
        there = SOURCES[kind].parse(text).parameters()
        return Entries(kind, text, settings, recipe.of((*there, "a", "nothing")))

    return case


def sources(kind: DocumentKind) -> st.SearchStrategy[Entries]:
    """Sources of up to 30 lines."""
    line = st.binary(min_size=_LINE_BYTES, max_size=_LINE_BYTES)
    lines = st.lists(line, max_size=8) | st.lists(line, min_size=8, max_size=30)
    edits = st.lists(st.binary(min_size=_EDIT_BYTES, max_size=_EDIT_BYTES), min_size=1, max_size=3)
    return st.tuples(lines, st.binary(min_size=8, max_size=8), edits).map(_case(kind))
