"""main.cf, document and edits: read as Postfix reads it, and every byte not asked for stays."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_agent.config.values import value_fault
from pf_agent.maincf.document import MainCf, decoded, encoded
from pf_agent.maincf.edit import Edit
from pf_agent.model import BLANKS
from tests.checkout import CORPUS

TRUTH: list[dict[str, Any]] = json.loads((CORPUS / "truth.json").read_text(encoding="ascii"))

NAMES = ("a", "b", "mynetworks", "x-y.z", "ä")
# What main.cf may be made of; strung together at random, it meets every rule of the grammar.
FRAGMENTS = (
    *(f"{name} = {value}".encode() for name in NAMES[:3] for value in ("1", "2", "")),
    "ä = ö".encode(),
    *(b"x-y.z=1 # no comment", b"b = 1\0junk", b"a\v=\f1 \r", b"a = 1,"),
    *(b"  more", b"\tb = 9", b"\r2", b"\v", b" ", b"", b"\r"),
    *(b"#a = 1", b"# b = 2", b"##mynetworks = 3", b"#\tmore", b"#  more", b"# prose", b"  # a = 4"),
    *(b"no equals sign", b"= no name", b"two words = 1", b"\0", b"\xff\xfe = \x80", b"\xc3"),
)


def parsed(text: bytes) -> MainCf:
    return MainCf.parse(text)


def with_set(text: bytes, name: str, value: str) -> bytes:
    edit = Edit(parsed(text))
    edit.set(name, value)
    return edit.result().render()


def commented_out(text: bytes, name: str) -> bytes:
    main_cf = parsed(text)
    edit = Edit(main_cf)
    for place in main_cf.occurrences(name):
        edit.comment_out(place)
    return edit.result().render()


def lines_of_others(text: bytes, name: str) -> bytes:
    """The physical lines that belong to no setting of `name`."""
    main_cf = parsed(text)
    own = {row for place in main_cf.occurrences(name) for row in place.rows}
    return b"".join(line for row, line in enumerate(main_cf.lines) if row not in own)


def texts() -> st.SearchStrategy[bytes]:
    ends = st.sampled_from([b"\n", b"\n", b"\n", b"\r\n"])
    lines = st.lists(st.tuples(st.sampled_from(FRAGMENTS), ends).map(b"".join), max_size=12)
    last = st.sampled_from([b"", b"", b"a = 1", b"# b = 2", b"  more"])
    return st.tuples(lines.map(b"".join), last).map(b"".join) | st.binary(max_size=60)


def values() -> st.SearchStrategy[str]:
    text = st.sampled_from(["1", "2", "", "# x", "= 1", "a\r b"]) | st.text(max_size=8)
    return text.map(lambda value: value.strip(BLANKS)).filter(lambda v: value_fault(v) is None)


# --- what Postfix says -------------------------------------------------------------------------


def corpus(test: Callable[..., None]) -> Callable[..., None]:
    ids = [truth["file"].removesuffix(".cf") for truth in TRUTH]
    mark: Callable[..., Any] = pytest.mark.parametrize("truth", TRUTH, ids=ids)
    decorated: Callable[..., None] = mark(test)
    return decorated


@corpus
def test_reads_what_postfix_reads(truth: dict[str, Any]) -> None:
    text = (CORPUS / truth["file"]).read_bytes()
    main_cf = parsed(text)

    entries: list[list[Any]] = []
    for logical in main_cf.logical_lines:
        if logical.error:
            entries.append([logical.line, logical.error])
        elif logical.parameter is not None:
            found = logical.parameter
            assert found.line == logical.line
            entries.append([found.line, found.name, found.value])
    assert entries == truth["entries"]
    assert bool(main_cf.unreadable()) == truth["fatal"]
    if truth["explicit"] is not None:
        assert main_cf.parameters() == truth["explicit"]
    for name, value in main_cf.parameters().items():
        found_by_name = main_cf.get(name)
        assert found_by_name is not None
        assert found_by_name.value == value
    twice = [name for name in main_cf.parameters() if len(main_cf.occurrences(name)) > 1]
    assert sorted(twice) == truth["duplicates"]
    assert main_cf.render() == text


@corpus
def test_edits_come_to_what_was_asked_for(truth: dict[str, Any]) -> None:
    text = (CORPUS / truth["file"]).read_bytes()
    for edit in truth["edits"]:
        name, want = edit["name"], dict(truth["explicit"])
        if edit["op"] == "set":
            after = with_set(text, name, edit["want"])
            want[name] = edit["want"]
        else:
            after = commented_out(text, name)
            del want[name]
        assert parsed(after).parameters() == want, edit
        assert not parsed(after).unreadable(), edit


# --- what holds for any bytes ------------------------------------------------------------------


@given(st.binary() | texts())
def test_a_document_renders_to_its_own_bytes(text: bytes) -> None:
    assert parsed(text).render() == text
    assert encoded(decoded(text)) == text


@given(texts(), st.sampled_from(NAMES), values())
def test_set_changes_its_own_parameter_alone(text: bytes, name: str, value: str) -> None:
    before = parsed(text)
    after = parsed(with_set(text, name, value))
    found = after.get(name)
    assert found is not None
    assert found.value == value
    assert len(after.occurrences(name)) == 1
    assert after.parameters() == {**before.parameters(), name: value}
    assert len(after.unreadable()) == len(before.unreadable())


@given(texts(), st.sampled_from(NAMES), values())
def test_set_keeps_every_byte_of_the_other_lines(text: bytes, name: str, value: str) -> None:
    after = with_set(text, name, value)
    kept, others = lines_of_others(after, name), lines_of_others(text, name)
    # A last line without an end gets one where another line comes below it.
    assert kept in (others, others + b"\n", others + b"\r\n")
    assert kept == others or not others.endswith(b"\n")


@given(texts(), st.sampled_from(NAMES), values())
def test_to_set_twice_changes_nothing_more(text: bytes, name: str, value: str) -> None:
    once = with_set(text, name, value)
    assert with_set(once, name, value) == once


@given(texts(), st.lists(st.tuples(st.sampled_from(NAMES), values()), unique_by=lambda p: p[0]))
def test_many_changes_at_once_come_to_the_same_parameters(
    text: bytes, wanted: list[tuple[str, str]]
) -> None:
    before = parsed(text)
    edit = Edit(before)
    for name, value in wanted:
        edit.set(name, value)
    for bad in before.unreadable():
        edit.comment_out(bad)
    after = edit.result()
    assert after.parameters() == {**before.parameters(), **dict(wanted)}
    assert not after.unreadable()


@given(texts(), st.sampled_from(NAMES))
def test_comment_out_removes_its_own_parameter_alone(text: bytes, name: str) -> None:
    before = parsed(text)
    after = parsed(commented_out(text, name))
    assert after.get(name) is None
    assert after.parameters() == {n: v for n, v in before.parameters().items() if n != name}
    assert len(after.unreadable()) == len(before.unreadable())


@given(texts(), st.sampled_from(NAMES))
def test_comment_out_puts_signs_before_lines_and_drops_only_what_is_there_already(
    text: bytes, name: str
) -> None:
    before = parsed(text)
    own = {row for place in before.occurrences(name) for row in place.rows}
    signed = [b"#" + line if row in own else line for row, line in enumerate(before.lines)]
    after = parsed(commented_out(text, name)).lines
    rest = iter(signed)
    assert all(line in rest for line in after), "a line is new, or out of its order"
    assert {line.rstrip(b"\r\n") for line in after} == {line.rstrip(b"\r\n") for line in signed}
    others = Counter(line for row, line in enumerate(before.lines) if row not in own)
    assert not others - Counter(after)


# --- where a new setting goes ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            b"# Who may relay.\n#mynetworks = 10.0.0.0/8\n#mynetworks = hash:/x\n\nbiff = no\n",
            b"# Who may relay.\n#mynetworks = 10.0.0.0/8\n#mynetworks = hash:/x\n"
            b"mynetworks = N\n\nbiff = no\n",
            id="under its last commented example",
        ),
        pytest.param(
            b"#  mynetworks=\n#\t10.0.0.0/8,\n#  11.0.0.0/8\n# Prose follows.\nbiff = no\n",
            b"#  mynetworks=\n#\t10.0.0.0/8,\n#  11.0.0.0/8\nmynetworks = N\n"
            b"# Prose follows.\nbiff = no\n",
            id="under an example of several lines",
        ),
        pytest.param(
            b"biff = no,\n#mynetworks = 1\n  really\n# end\nx = 1\n",
            b"biff = no,\n#mynetworks = 1\n  really\nmynetworks = N\n# end\nx = 1\n",
            id="not between a setting's head and its tail",
        ),
        pytest.param(
            b"#mynetworks = 1\n  orphan\n\n  too\nx = 1\n",
            b"#mynetworks = 1\n  orphan\n\n  too\nmynetworks = N\nx = 1\n",
            id="not above an orphan, which would continue it",
        ),
        pytest.param(
            b"#mynetworks_style = host\n# mynetworks is what counts = yes\nx = 1\n",
            b"#mynetworks_style = host\n# mynetworks is what counts = yes\nx = 1\nmynetworks = N\n",
            id="not under a comment that is no example of it",
        ),
        pytest.param(b"", b"mynetworks = N\n", id="an empty file"),
        pytest.param(b"x = 1", b"x = 1\nmynetworks = N\n", id="no final newline"),
        pytest.param(b"# end", b"# end\nmynetworks = N\n", id="no newline after a comment"),
        pytest.param(b"#mynetworks =", b"#mynetworks =\nmynetworks = N\n", id="nor after example"),
        pytest.param(
            b"#mynetworks =\n#\t1",
            b"#mynetworks =\n#\t1\nmynetworks = N\n",
            id="nor after one of several lines",
        ),
        pytest.param(b"x = 1\r\ny = 2", b"x = 1\r\ny = 2\r\nmynetworks = N\r\n", id="CR LF"),
        pytest.param(
            b"x = 1\r\ny = 2\r",
            b"x = 1\r\ny = 2\r\nmynetworks = N\r\n",
            id="cut within its CR LF",
        ),
        pytest.param(
            b"#mynetworks = 1\r\nx = 1\r\n",
            b"#mynetworks = 1\r\nmynetworks = N\r\nx = 1\r\n",
            id="CR LF under an example",
        ),
    ],
)
def test_a_new_setting_goes(before: bytes, after: bytes) -> None:
    assert with_set(before, "mynetworks", "N") == after


def test_new_settings_without_example_stand_at_the_end_in_the_order_asked_for() -> None:
    edit = Edit(parsed(b"x = 1"))
    edit.set("b", "2")
    edit.set("a", "")
    assert edit.result().render() == b"x = 1\nb = 2\na =\n"


# --- what becomes of a setting that stands there -----------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(b"a=0\n", b"a = N\n", id="rewritten where it stands"),
        pytest.param(b"a = 0\r\nx = 1\r\n", b"a = N\r\nx = 1\r\n", id="its CR LF kept"),
        pytest.param(b"x = 1\r\na = 0\n", b"x = 1\r\na = N\n", id="its own end, not a neighbour's"),
        pytest.param(b"a\t=   N \n", b"a\t=   N \n", id="left alone where it is right"),
        pytest.param(b"a =\n  N\n", b"a =\n  N\n", id="also over several lines"),
        pytest.param(
            b"a = 0,\n# why\n  1,\n\n\t2\nx = 1\n",
            b"a = N\n# why\n\nx = 1\n",
            id="its tail goes, comments within it stay",
        ),
        pytest.param(b"a = N\nx = 1\na = 0\n", b"a = N\nx = 1\n", id="an added duplicate goes"),
        pytest.param(b"a = 0\nx = 1\na = N\n", b"x = 1\na = N\n", id="a wrong earlier one goes"),
        pytest.param(b"a = 0\nx = 1\na = 1\n", b"a = N\nx = 1\n", id="of wrong ones the first"),
        pytest.param(
            b"a = N\na = N\n  \n# c\na = 0\n  1\n", b"a = N\n  \n# c\n", id="of many, one is left"
        ),
        pytest.param(b"#a = 5\nx = 1\na = 0\n", b"#a = 5\nx = 1\na = N\n", id="comments are left"),
        pytest.param(b"a = 0\0junk\nb = 1\0\n", b"a = N\nb = 1\0\n", id="a NUL of its own goes"),
        pytest.param(b"\xe4 = \xff\na = 0\n", b"\xe4 = \xff\na = N\n", id="bytes not UTF-8 stay"),
    ],
)
def test_a_setting_that_stands_there(before: bytes, after: bytes) -> None:
    assert with_set(before, "a", "N") == after


def test_a_correction_brings_the_old_bytes_back() -> None:
    text = b"# Ours.\nmynetworks =\n\t10.0.0.0/8,\n\t11.0.0.0/8\nx = 1\n"
    drifted = text + b"mynetworks = 0.0.0.0/0\n"
    assert with_set(drifted, "mynetworks", "10.0.0.0/8,\t11.0.0.0/8") == text


def test_a_line_of_5_megabytes() -> None:
    long = b"x" * (5 * 1024 * 1024)
    text = b"long = " + long + b"\n#a = 1\nend = 1"
    found = parsed(text).get("long")
    assert found is not None
    assert found.value == long.decode()
    assert with_set(text, "a", "N") == text.replace(b"#a = 1\n", b"#a = 1\na = N\n")


# --- commented out -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(b"x = 1\na =\n", b"x = 1\n#a =\n", id="one line"),
        pytest.param(b"x = 1\na = 1", b"x = 1\n#a = 1", id="no final newline"),
        pytest.param(b"a = 1\r\n", b"#a = 1\r\n", id="CR LF"),
        pytest.param(
            b"x = 1\na = 1,\n# c\n\t2\ny = 1\n",
            b"x = 1\n#a = 1,\n# c\n#\t2\ny = 1\n",
            id="head and tail, so that x does not get the tail",
        ),
        pytest.param(b"a = 1\na = 2\n", b"#a = 1\n#a = 2\n", id="every one of duplicates"),
        pytest.param(
            b"#a = 1\r\nx = 1\na = 1\n", b"#a = 1\r\nx = 1\n", id="the same comment is not added"
        ),
        pytest.param(
            b"#a = 1,\n#\t2\na = 1,\n\t2\n", b"#a = 1,\n#\t2\n", id="nor one of several lines"
        ),
        pytest.param(
            b"#a =\na =\r\r\n", b"#a =\n#a =\r\r\n", id="a comment that lacks a byte is another"
        ),
        pytest.param(
            b"#a = 1,\na = 1,\n\t2\n",
            b"#a = 1,\n#a = 1,\n#\t2\n",
            id="half of it is not the same comment",
        ),
    ],
)
def test_comment_out(before: bytes, after: bytes) -> None:
    assert commented_out(before, "a") == after


def test_a_line_that_no_program_can_read_is_commented_out_whole() -> None:
    main_cf = parsed(b"x = 1\n<<<<<<< HEAD\n  = 2\ny = 1\n= 3\n\0\n")
    bad = main_cf.unreadable()
    assert [(logical.line, logical.error) for logical in bad] == [
        (2, "missing '=' after attribute name"),
        (5, "missing attribute name"),
        (6, "missing attribute name"),
    ]
    assert main_cf.text_of(bad[0]) == "<<<<<<< HEAD\n  = 2"
    edit = Edit(main_cf)
    for logical in bad:
        edit.comment_out(logical)
    assert edit.result().render() == b"x = 1\n#<<<<<<< HEAD\n#  = 2\ny = 1\n#= 3\n#\0\n"


def test_an_orphan_is_neither_a_parameter_nor_a_fault() -> None:
    main_cf = parsed(b"\n  a = 1\n# c\n\tb = 2\nc = 3\n")
    assert main_cf.parameters() == {"c": "3"}
    assert main_cf.unreadable() == ()
    assert [logical.line for logical in main_cf.logical_lines] == [2, 5]


# --- what a parameter said before -----------------------------------------------------------------


def put_back(text: bytes, name: str, lines: str | None) -> bytes:
    edit = Edit(parsed(text))
    edit.put_back(name, lines)
    return edit.result().render()


ODD = (
    b"a = 1\n",
    b"  \n# c\na=1 ,\n\t 2\n\n# within\n   3\nb = 1\n",
    b"b = 1\n\ta   =   1\n",
    b"#a = example\n\na   = 1\nb = 1\n",
    b"b = 1\r\na = 1\r\n  2\r\n",
    b"b = 1\na = 1\n",
    b"b = 1\na =\n",
    b"b = 1\na = \xff\xfe\nc = 1\n",
    b"b = 1\na = 1",
    b"b = 1\na = 1,\n  2",
    b"b = 1\na = 1\n# within\n  2",
    b"#a = 1\nb = 1\na = 1\n",
)


@pytest.mark.parametrize("text", ODD)
def test_what_was_set_anew_comes_back_to_the_byte(text: bytes) -> None:
    before = parsed(text).lines_of("a")
    assert put_back(with_set(text, "a", "9"), "a", before) == text


@pytest.mark.parametrize("text", ODD[:-1])
def test_what_was_commented_out_comes_back_to_the_byte(text: bytes) -> None:
    before = parsed(text).lines_of("a")
    assert put_back(commented_out(text, "a"), "a", before) == text


@pytest.mark.parametrize("text", [b"b = 1\n", b"#a = example\nb = 1\n", b"", b"b = 1\r\n"])
def test_what_was_added_goes_again(text: bytes) -> None:
    assert parsed(text).lines_of("a") is None
    assert put_back(with_set(text, "a", "9"), "a", None) == text


def test_several_places_come_back_with_the_same_meaning() -> None:
    text = b"a = 1\nb = 1\na = 2\n"
    before = parsed(text).lines_of("a")
    assert before == "a = 1\na = 2\n"
    assert put_back(with_set(text, "a", "9"), "a", before) == b"a = 1\na = 2\nb = 1\n"


def test_what_stands_as_it_did_is_left_alone() -> None:
    text = b"a =  1\n# c\n 2\nb = 1\n"
    assert put_back(text, "a", parsed(text).lines_of("a")) == text


def test_a_comment_inside_another_setting_does_not_take_over_its_tail() -> None:
    text = b"b = 1\n#a = 1\n  2\n"
    assert put_back(text, "a", "a = 1\n") == text + b"a = 1\n"


def test_comments_that_somebody_has_changed_since_stay_as_they_are() -> None:
    text = b"a = 1\n# one\n  2\nb = 1\n"
    before = parsed(text).lines_of("a")
    assert before == "a = 1\n# one\n  2\n"
    now = with_set(text, "a", "9").replace(b"# one", b"# two")
    assert put_back(now, "a", before) == b"a = 1\n  2\n# two\nb = 1\n"


@given(texts(), st.sampled_from(NAMES), values())
def test_after_set_the_parameters_are_as_they_were(text: bytes, name: str, value: str) -> None:
    before = parsed(text)
    again = put_back(with_set(text, name, value), name, before.lines_of(name))
    assert parsed(again).parameters() == before.parameters()
    assert Counter(line.error for line in parsed(again).logical_lines) == Counter(
        line.error for line in before.logical_lines
    )


@given(texts(), st.sampled_from(NAMES))
def test_after_comment_out_the_parameters_are_as_they_were(text: bytes, name: str) -> None:
    before = parsed(text)
    again = put_back(commented_out(text, name), name, before.lines_of(name))
    assert parsed(again).parameters() == before.parameters()


@given(texts(), texts(), st.sampled_from(NAMES))
def test_put_back_changes_its_own_parameter_alone(text: bytes, old: bytes, name: str) -> None:
    """Whatever somebody has made of main.cf meanwhile."""
    before = parsed(old)
    again = parsed(put_back(text, name, before.lines_of(name))).parameters()
    assert again.pop(name, None) == before.parameters().get(name)
    others = parsed(text).parameters()
    others.pop(name, None)
    assert again == others
