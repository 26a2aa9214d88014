"""Sources of tables and of aliases: read as postmap and postalias do, and changed entry by entry.

What is stored was measured with both programs of Postfix 3.7 and 3.10; tests/conformance does so
for generated sources.
"""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_agent.maincf.document import decoded
from pf_agent.maincf.edit import Edit
from pf_agent.maincf.entries import AliasSource, EntrySource, TableSource, folded
from pf_agent.maincf.entry_faults import SOURCES, entry_fault
from pf_agent.maincf.grammar import grammar_of
from pf_agent.model import BLANKS, DocumentKind

TABLE, ALIASES = DocumentKind.TABLE, DocumentKind.ALIASES
KINDS = (TABLE, ALIASES)
NAMES = ("a", "b", "example.org", "ä")
FRAGMENTS = (
    *(f"{name}{gap}{value}".encode() for name in NAMES for gap in (" ", ": ") for value in "xy"),
    *(
        b"A: x",
        b"A\tx",
        b"Example.ORG\t x \r",
        b"a",
        b"a:",
        b'"a" b: c',
        b'"a',
        b"a\\ b c",
        b"a\0x",
    ),
    *(b"  more", b"\t, z", b"\r2", b"\v", b" ", b"", b"\r", b"\xff: x", b"b x\0junk"),
    *(b"#a x", b"#a: x", b"##b\ty", b"#\tmore", b"#  more", b"# prose", b"  # a x", b"# a: x"),
)


def parsed(kind: DocumentKind, text: bytes) -> EntrySource:
    return SOURCES[kind].parse(text)


def with_set(kind: DocumentKind, text: bytes, name: str, value: str) -> bytes:
    edit = Edit(parsed(kind, text))
    edit.set(name, value)
    return edit.result().render()


def commented_out(kind: DocumentKind, text: bytes, name: str) -> bytes:
    document = parsed(kind, text)
    edit = Edit(document)
    for place in document.occurrences(name):
        edit.comment_out(place)
    return edit.result().render()


def put_back(kind: DocumentKind, text: bytes, name: str, lines: str | None) -> bytes:
    edit = Edit(parsed(kind, text))
    edit.put_back(name, lines)
    return edit.result().render()


def texts() -> st.SearchStrategy[bytes]:
    ends = st.sampled_from([b"\n", b"\n", b"\n", b"\r\n"])
    lines = st.lists(st.tuples(st.sampled_from(FRAGMENTS), ends).map(b"".join), max_size=12)
    last = st.sampled_from([b"", b"", b"a: x", b"#b y", b"  more"])
    return st.tuples(lines.map(b"".join), last).map(b"".join) | st.binary(max_size=60)


def values() -> st.SearchStrategy[str]:
    text = st.sampled_from(["x", "x, y", "x,y", "#x", '|"/x y"']) | st.text(max_size=8)
    return text.map(lambda value: value.strip(BLANKS))


# --- what is read ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "stored"),
    [
        pytest.param(b"key value", ("key", "value"), id="a blank"),
        pytest.param(b"key\t two  words \r", ("key", "two  words"), id="the value is trimmed"),
        pytest.param(b"Example.ORG OK", ("example.org", "OK"), id="the key is folded"),
        pytest.param("STRAßE x".encode(), ("strasse", "x"), id="as Unicode folds"),
        pytest.param("Ä x".encode(), ("ä", "x"), id="beyond ASCII"),
        pytest.param(b'"a b"@Example.org x y', ('"a b"@example.org', "x y"), id="quotes are kept"),
        pytest.param(b'"a\\" b" x', ('"a\\" b"', "x"), id="a quote within quotes"),
        pytest.param(b"a\\ b c", ("a\\ b", "c"), id="a backslash is kept"),
        pytest.param(b"key: value", ("key:", "value"), id="a colon belongs to the key"),
        pytest.param(b"a\vb", ("a", "b"), id="any blank separates"),
        pytest.param(b"a b\n# c\n  d\n\n\te", ("a", "b  d\te"), id="text below continues it"),
        pytest.param(b"a\n  b", ("a", "b"), id="also where no value has begun"),
        pytest.param(b"a b\0c\n d", ("a", "b"), id="a NUL ends it"),
        pytest.param(b"a\x1f x", ("a\x1f", "x"), id="no other byte is a blank"),
    ],
)
def test_an_entry_of_a_table(line: bytes, stored: tuple[str, str]) -> None:
    assert parsed(TABLE, line).parameters() == dict([stored])
    assert not any(logical.error for logical in parsed(TABLE, line).logical_lines)


@pytest.mark.parametrize(
    ("line", "stored"),
    [
        pytest.param(b"Root: x", ("root", "x"), id="the name is folded"),
        pytest.param(b"a : x , y,z", ("a", "x, y, z"), id="a comma and a blank"),
        pytest.param(b"a: x,", ("a", "x, "), id="also after the last comma"),
        pytest.param(b'"a b": x', ("a b", "x"), id="a name loses its quotes"),
        pytest.param(b"a b: x", ("a b", "x"), id="and needs none for a blank"),
        pytest.param(b'"a@b": x', ("a@b", "x"), id="and may have a quoted sign"),
        pytest.param(b'a: |"/usr/bin/x y"', ("a", '|"/usr/bin/x y"'), id="a command"),
        pytest.param(b'a: "|/usr/bin/x y"', ("a", '"|/usr/bin/x y"'), id="quoted as a whole"),
        pytest.param(b"a: x\\ y", ("a", '"x y"'), id="a backslash becomes quotes"),
        pytest.param(b"a: :include:/etc/x", ("a", ":include:/etc/x"), id="a file"),
        pytest.param(b"a: b . c @ d", ("a", "b.c@d"), id="an address without blanks"),
        pytest.param(b"a: x (b(c) d) y", ("a", "x (b(c) d) y"), id="a comment stays"),
        pytest.param(b"a: x (b(c", ("a", "x (b(c"), id="also one that does not end"),
        pytest.param(b"(b) a: [c\\]d]", ("(b) a", "[c]d]"), id="a literal, and a comment before"),
        pytest.param(b'a: ""', ("a", '""'), id="an empty string"),
        pytest.param(b"a: x<y>", ("a", "x <y>"), id="a route"),
        pytest.param(b"a: b\\", ("a", "b"), id="a backslash at the end is lost"),
        pytest.param(b"a: \\", ("a", ""), id="and may leave nothing"),
        pytest.param(b'"": x', ("", "x"), id="a name may be empty"),
        pytest.param(b"\x7f: \x7f", ("\x7f", '"\x7f"'), id="a control character is quoted"),
        pytest.param(b"a:b:c", ("a", "b:c"), id="the first colon counts"),
    ],
)
def test_an_alias(line: bytes, stored: tuple[str, str]) -> None:
    assert parsed(ALIASES, line).parameters() == dict([stored])


@pytest.mark.parametrize(
    ("kind", "line", "why"),
    [
        (TABLE, b"key", "expected format: key whitespace value"),
        (TABLE, b"key \r", "expected format: key whitespace value"),
        (TABLE, b"a\\ b", "expected format: key whitespace value"),
        (TABLE, b"a\\", "expected format: key whitespace value"),
        (TABLE, b"\0a b", "expected format: key whitespace value"),
        (TABLE, b'"a b', "unbalanced '\"'"),
        (TABLE, b'a"b"c"d e', "unbalanced '\"'"),
        (TABLE, b"\xff x", "non-UTF-8 input"),
        (TABLE, b"a \xed\xa0\x80", "non-UTF-8 input"),
        (ALIASES, b"a", "need name:value pair"),
        (ALIASES, b"a:", "need name:value pair"),
        (ALIASES, b": x", "need name:value pair"),
        (ALIASES, b"a, b: x", "need name:value pair"),
        (ALIASES, b'"a: x', "need name:value pair"),
        (ALIASES, b"a@b: x", "name must be local"),
        (ALIASES, b"a%b: x", "name must be local"),
        (ALIASES, b"a: \xff", "non-UTF-8 input"),
        (ALIASES, b"\0a: b", "text after null byte may be ignored"),
    ],
)
def test_a_line_that_is_skipped_stays_and_is_no_fault(
    kind: DocumentKind, line: bytes, why: str
) -> None:
    document = parsed(kind, b"b: x\n" + line + b"\n")
    assert [logical.error for logical in document.logical_lines] == ["", why]
    assert document.unreadable() == ()
    assert document.render() == b"b: x\n" + line + b"\n"


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_of_several_entries_is_in_effect(kind: DocumentKind) -> None:
    document = parsed(kind, b"a: 1\nb: 1\nA: 2\na: 1\n")
    name = "a:" if kind is TABLE else "a"
    found, other = document.get(name), document.contradiction(name)
    assert found is not None
    assert other is not None
    assert (found.value, found.line, other.value, other.line) == ("1", 1, "2", 3)
    assert document.parameters()[name] == "1"
    assert document.contradiction("b") is None


def test_postfix_warns_also_of_an_entry_that_says_the_same() -> None:
    other = parsed(TABLE, b"a 1\na 1\n").contradiction("a")
    assert other is not None
    assert other.line == 2


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.binary() | texts())
def test_a_document_renders_to_its_own_bytes(kind: DocumentKind, text: bytes) -> None:
    document = parsed(kind, text)
    assert document.render() == text
    assert all(name == folded(name) for name in document.parameters())


# --- what is the same --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "ours", "theirs", "is_same"),
    [
        (TABLE, "OK", "OK", True),
        (TABLE, "OK", "ok", False),
        (TABLE, "a,b", "a, b", False),
        (ALIASES, "a,b", "a, b", True),
        (ALIASES, "a b", "a, b", False),
        (ALIASES, "A", "a", False),
        (ALIASES, "x\\ y", '"x y"', True),
        (ALIASES, '|"/x y"', '"|/x y"', False),
    ],
)
def test_the_same(kind: DocumentKind, ours: str, theirs: str, is_same: bool) -> None:
    grammar = grammar_of(kind)
    assert grammar.same("k", ours, theirs) is is_same
    assert grammar.name("Example.ORG") == "example.org"
    assert grammar_of(DocumentKind.MAIN_CF).name("Example.ORG") == "Example.ORG"


# --- edits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@given(text=texts(), name=st.sampled_from(NAMES), value=values())
def test_set_changes_its_own_entry_alone(
    kind: DocumentKind, text: bytes, name: str, value: str
) -> None:
    if entry_fault(kind, name, value) is not None:
        return
    before, written = parsed(kind, text), with_set(kind, text, name, value)
    after = parsed(kind, written)
    assert after.parameters() == {**before.parameters(), name: SOURCES[kind].as_read(value)}
    assert len(after.occurrences(name)) == 1
    assert Counter(x.error for x in after.logical_lines if x.error) == Counter(
        x.error for x in before.logical_lines if x.error
    )
    assert with_set(kind, written, name, value) == written


@pytest.mark.parametrize("kind", KINDS)
@given(text=texts(), name=st.sampled_from(NAMES))
def test_comment_out_removes_its_own_entry_alone_and_it_comes_back(
    kind: DocumentKind, text: bytes, name: str
) -> None:
    before, written = parsed(kind, text), commented_out(kind, text, name)
    others = {key: value for key, value in before.parameters().items() if key != name}
    assert parsed(kind, written).parameters() == others
    again = put_back(kind, written, name, before.lines_of(name))
    assert parsed(kind, again).parameters() == before.parameters()


@pytest.mark.parametrize("kind", KINDS)
@given(text=texts(), name=st.sampled_from(NAMES), value=values())
def test_put_back_gives_the_bytes_of_an_entry_back(
    kind: DocumentKind, text: bytes, name: str, value: str
) -> None:
    if entry_fault(kind, name, value) is not None:
        return
    before = parsed(kind, text)
    again = put_back(kind, with_set(kind, text, name, value), name, before.lines_of(name))
    assert parsed(kind, again).parameters() == before.parameters()
    if len(before.occurrences(name)) == 1:
        assert again == text


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        pytest.param(TABLE, b"", b"a\tN\n", id="a tab"),
        pytest.param(ALIASES, b"", b"a: N\n", id="a colon and a blank"),
        pytest.param(TABLE, b"b x\n  y", b"b x\n  y\na\tN\n", id="at the end"),
        pytest.param(TABLE, b"#a x\nb x\n", b"#a x\na\tN\nb x\n", id="under a commented one"),
        pytest.param(
            ALIASES, b"#A: x\nb: x\n", b"#A: x\na: N\nb: x\n", id="under a commented alias"
        ),
        pytest.param(TABLE, b"# a word\nb x\n", b"# a word\nb x\na\tN\n", id="not under prose"),
        pytest.param(
            TABLE, b"b x\n#a y\n  z\n", b"b x\n#a y\n  z\na\tN\n", id="not within an entry"
        ),
        pytest.param(TABLE, b"A x\nb x\nA N\n", b"b x\nA N\n", id="the right one of two is kept"),
        pytest.param(TABLE, b"a N\na N\n", b"a N\n", id="one of two that are right"),
        pytest.param(TABLE, b"A  x\r\nb x\r\n", b"a\tN\r\nb x\r\n", id="CR LF"),
        pytest.param(TABLE, b"a\nb x\n", b"a\nb x\na\tN\n", id="a skipped line stays"),
    ],
)
def test_set_writes(kind: DocumentKind, before: bytes, after: bytes) -> None:
    assert with_set(kind, before, "a", "N") == after


def test_an_alias_is_quoted_where_it_must_be() -> None:
    text = b""
    for name in ("a b", "a:b", "#a", 'a"b', "a@b", "a\\b", "a!b"):
        text = with_set(ALIASES, text, name, "x")
    assert decoded(text) == (
        'a b: x\n"a:b": x\n"#a": x\n"a\\"b": x\n"a@b": x\n"a\\\\b": x\na!b: x\n'
    )
    assert list(AliasSource.parse(text).parameters()) == [
        *("a b", "a:b", "#a", 'a"b', "a@b", "a\\b", "a!b")
    ]


def test_an_alias_that_says_the_same_in_other_words_is_kept() -> None:
    assert with_set(ALIASES, b"a: x\na: y,z\n", "a", "y, z") == b"a: y,z\n"


def test_a_line_of_5_megabytes() -> None:
    long = b"x" * (5 * 1024 * 1024)
    found = TableSource.parse(b'"' + long + b'" ' + long).get('"' + long.decode() + '"')
    assert found is not None
    assert found.value == long.decode()
    assert TableSource.parse(b'"' + long).parameters() == {}
    assert AliasSource.parse(b"a: (" + long + b'"' + long).get("a") is not None
