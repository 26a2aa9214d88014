"""What is odd in a table's source, by line, and without a word of it."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pf_agent.maincf.indexed import Table
from pf_agent.maincf.table_text import Remark, Text, read, told, warnings

MAP, ALIASES = Table("hash", "/etc/x"), Table("hash", "/etc/x", is_of_aliases=True)
COPY = "/tmp/table-1/table"


def of(text: bytes, table: Table = MAP) -> Text:
    return read(text.splitlines(keepends=True), table)


def test_keys_that_come_again_are_told_by_line_whatever_the_case() -> None:
    text = b"a b\n# a c\n\nA c\nb a\n  a x\na\td\nonly\nonly\n"
    assert of(text).again == (
        Remark(4, "the key of line 1 again"),
        Remark(7, "the key of line 1 again"),
    )
    assert of(b'a: b\n"A": c\nb: a\n', ALIASES).again == (Remark(2, "the key of line 1 again"),)


def test_the_first_line_that_continues_nothing() -> None:
    assert of(b"# c\n\n  a b\nc d\n e f\n").orphan == 3
    assert of(b"a b\n  c d\n").orphan is None


@pytest.mark.parametrize(
    ("key", "is_odd"),
    [
        (b"10.0.0.0/8", True),
        (b"[2001:db8::]/32", True),
        (b"/^a.*b$/", True),
        (b"/x/i", True),
        (b"*@example.org", True),
        (b"10.0.0", False),
        (b"*", False),
        (b"@example.org", False),
        (b".example.org", False),
        (b"[relay.example]:587", False),
        (b"/var/mail", False),
        (b"a/b@example.org", False),
    ],
)
def test_keys_that_never_match(key: bytes, is_odd: bool) -> None:
    assert [remark.line for remark in of(key + b" OK\n").never] == ([1] if is_odd else [])
    assert of(key + b": x\n", ALIASES).never == ()


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (f"{COPY}, line 4: expected format: key whitespace value", "no value after the key"),
        (
            f'{COPY}, line 4: record is in "key: value" format; is this an alias file?',
            "the key ends in a colon, as in an alias file",
        ),
        (f'{COPY}, line 4: non-UTF-8 input "hush" -- ignoring this line', "not UTF-8"),
        (f"{COPY}, line 4: need name:value pair", "no name, colon and value"),
        (f'{COPY}, line 4: something new: "hush"', "something new"),
    ],
)
def test_what_postfix_warns_of_is_told_by_line_and_without_what_it_quotes(
    line: str, what: str
) -> None:
    assert warnings([line], COPY, of(b"")) == [Remark(4, what)]


def test_what_postfix_gives_no_line_for_gets_one() -> None:
    text = of(b"  lead\na b\na hush\n")
    found = warnings(
        [
            f'{COPY}.db: duplicate entry: "hush"',
            f'{COPY}: logical line must not start with whitespace: "hush"',
            "/etc/postfix/main.cf, line 3: overriding earlier entry: a=hush",
        ],
        COPY,
        text,
    )
    assert [remark.line for remark in found] == [1, 3]
    unknown = warnings([f'{COPY}.db: duplicate entry: "hush"'], COPY, of(b""))
    assert unknown == [Remark(None, "a key comes twice")]


def test_the_first_few_are_told_and_the_rest_is_counted() -> None:
    remarks = [Remark(n, "bad") for n in range(1, 9)]
    assert told("/etc/x", remarks)[0] == "/etc/x:1: bad"
    assert told("/etc/x", remarks)[-1] == "and 3 more"
    assert told("/etc/x", [Remark(None, "bad")]) == ("/etc/x: bad",)


@given(st.binary(), st.sampled_from([MAP, ALIASES]))
def test_any_text_is_read(text: bytes, table: Table) -> None:
    found = of(text, table)
    lines = len(text.splitlines())
    assert all(1 <= (remark.line or 0) <= lines for remark in (*found.again, *found.never))


@given(st.text(), st.text())
def test_no_quoted_word_gets_into_a_remark(before: str, secret: str) -> None:
    assume(f"<{secret}>" not in before)
    quoted = f'{COPY}, line 1: {before}"<{secret}>"'
    found = warnings([quoted], COPY, of(b""))
    assert all(f"<{secret}>" not in remark.what for remark in found)
