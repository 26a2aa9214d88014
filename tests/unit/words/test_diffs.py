"""The diff of a correction: what patch(1) takes, with no secret and no control character in it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_agent.model import DocumentKind
from pf_agent.words import sentences
from pf_agent.words.diffs import as_text, coloured, unified_diff
from tests.unit.words.test_sentences import shows_raw


def test_a_diff_shows_three_lines_around_each_change() -> None:
    before = b"".join(b"p%d = 1\n" % number for number in range(1, 31))
    after = before.replace(b"p2 = 1\n", b"p2 = 2\n").replace(b"p20 = 1\n", b"") + b"new = 1\n"
    assert unified_diff(before, after, "main.cf") == (
        "--- main.cf\n+++ main.cf (desired)\n"
        "@@ -1,5 +1,5 @@\n p1 = 1\n-p2 = 1\n+p2 = 2\n p3 = 1\n p4 = 1\n p5 = 1\n"
        "@@ -17,7 +17,6 @@\n p17 = 1\n p18 = 1\n p19 = 1\n-p20 = 1\n p21 = 1\n p22 = 1\n p23 = 1\n"
        "@@ -28,3 +27,4 @@\n p28 = 1\n p29 = 1\n p30 = 1\n+new = 1\n"
    )


@pytest.mark.parametrize(
    ("before", "after", "hunk"),
    [
        (None, b"a = 1\n", "@@ -0,0 +1 @@\n+a = 1\n"),
        (b"", b"a = 1\nb = 2\n", "@@ -0,0 +1,2 @@\n+a = 1\n+b = 2\n"),
        (b"a = 1\n", b"", "@@ -1 +0,0 @@\n-a = 1\n"),
        (b"a = \xff\n", b"a = \xc3\xa9\n", "@@ -1 +1 @@\n-a = \\xff\n+a = é\n"),
        (b"a = 1\r\n", b"a = 1\n", "@@ -1 +1 @@\n-a = 1\\x0d\n+a = 1\n"),
        (b"a\x0bb\x0cc\xe2\x80\xa8d\n", b"\0\n", "@@ -1 +1 @@\n-a\\x0bb\\x0cc\\x2028d\n+\\x00\n"),
        (b"a = 1\n\n", b"a = 1\n", "@@ -1,2 +1 @@\n a = 1\n-\n"),
    ],
)
def test_a_diff_of_odd_texts(before: bytes | None, after: bytes, hunk: str) -> None:
    old = "/dev/null" if before is None else "f"
    assert unified_diff(before, after, "f") == f"--- {old}\n+++ f (desired)\n{hunk}"


@pytest.mark.parametrize("blank", ["\r", "\v", "\f", "\r \t"])
def test_a_secret_is_known_by_any_blank_that_postfix_knows(blank: str) -> None:
    lines = [f"a_password{blank}= s3cret", f"{blank}s3cret", "a = 1", "b = 2", "c = 3", "d = 4"]
    before = "\n".join(lines)
    for old, new in ((before, ""), (before, before.replace("d = 4", "d = 5"))):
        diff = unified_diff(old.encode(), new.encode(), "f")
        assert "s3cret" not in diff


@pytest.mark.parametrize("kind", [DocumentKind.TABLE, DocumentKind.ALIASES])
def test_a_diff_of_another_document_shows_what_is_no_line_of_main_cf(kind: DocumentKind) -> None:
    before, after = b"a.example smtp:[mx1]:25\n", b"a.example smtp:[mx1]:587\n"
    diff = unified_diff(before, after, "f", kind)
    assert diff.endswith("-a.example smtp:[mx1]:25\n+a.example smtp:[mx1]:587\n")
    secret = unified_diff(before, after, "f", kind, is_secret=True)
    assert secret.endswith("-a.example (hidden)\n+a.example (hidden)\n")


def test_no_diff_where_nothing_differs() -> None:
    assert unified_diff(b"a = 1\r\n\xff", b"a = 1\r\n\xff", "f") == ""


def test_a_very_long_change_is_shown_as_replaced_whole() -> None:
    changes = b"".join(b"a%d = 1\nsame = 1\n" % number for number in range(4000))
    before = b"head = 1\n" + changes + b"end = 1\n"
    after = before.replace(b"\na", b"\nb")
    lines = unified_diff(before, after, "f").splitlines()
    assert lines[2] == "@@ -1,8002 +1,8002 @@"
    assert [line[0] for line in lines[3:]] == ["-"] * 8002 + ["+"] * 8002


LINES = st.lists(st.sampled_from([b"a", b"b", b"c", b"", b"\r", b"\xff"]), max_size=30)


@given(LINES, LINES)
def test_a_diff_applied_to_the_old_lines_gives_the_new_ones(
    old: list[bytes], new: list[bytes]
) -> None:
    before, after = (b"".join(line + b"\n" for line in lines) for lines in (old, new))
    diff = unified_diff(before, after, "f")
    assert patched(shown(before), diff) == shown(after)
    assert not shows_raw(diff, but="\t\n")


def shown(text: bytes) -> list[str]:
    return [sentences.printable(line) for line in as_text(text).split("\n")[:-1]]


def patched(lines: list[str], diff: str) -> list[str]:
    """What patch(1) makes of it, and an error where a hunk does not fit."""
    result: list[str] = []
    done = 0
    for line in diff.splitlines()[2:]:
        if line.startswith("@@"):
            start, _, count = line.split()[1][1:].partition(",")
            first = int(start) if count == "0" else int(start) - 1
            result += lines[done:first]
            done = first
            continue
        if line[0] in " -":
            assert lines[done] == line[1:]
            done += 1
        if line[0] in " +":
            result.append(line[1:])
    return result + lines[done:]


def test_a_diff_in_colours_is_the_same_diff() -> None:
    diff = unified_diff(b"a = 1\nb = 2\n", b"a = 2\nb = 2\n", "/etc/postfix/main.cf")
    shown = coloured(diff)
    assert "\x1b[31m-a = 1\x1b[m\n" in shown
    assert "\x1b[32m+a = 2\x1b[m\n" in shown
    assert "\x1b[1m--- /etc/postfix/main.cf\x1b[m\n" in shown
    assert "\n b = 2\n" in shown
    assert re.sub(r"\x1b\[\d*m", "", shown) == diff


def test_of_a_table_of_passwords_only_keys_are_shown() -> None:
    before = (
        b"# was anna:Pl4nted\nkey anna:Pl4nted\n  more:Pl4nted\nPl4nted\nPl4nted \n\nx y:Pl4nted\n"
    )
    after = before.replace(b"key anna", b"key eve")
    found = unified_diff(before, after, "/t", is_secret=True)
    assert "Pl4nted" not in found
    assert "-key (hidden)\n+key (hidden)\n" in found
