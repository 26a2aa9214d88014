"""What cannot be written into a table's or an alias file's source, and that all else can."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_agent.maincf.edit import Edit
from pf_agent.maincf.entries import folded
from pf_agent.maincf.entry_faults import SOURCES, entry_fault, key_fault
from pf_agent.model import BLANKS, DocumentKind

TABLE, ALIASES = DocumentKind.TABLE, DocumentKind.ALIASES


@pytest.mark.parametrize(
    ("kind", "key", "words"),
    [
        (TABLE, "", "may not be empty"),
        (TABLE, "#a", 'begin with "#"'),
        (TABLE, " a", "begin with whitespace"),
        (TABLE, "a b", "double quotes"),
        (TABLE, 'a "b c', "double quotes"),
        (TABLE, '"a', "unbalanced"),
        (TABLE, "a:", 'end in ":"'),
        (TABLE, "a\\", "backslash"),
        (TABLE, "a\nb", "line break"),
        (TABLE, "a\0", "NUL"),
        (TABLE, "\udc80", "UTF-8"),
        (ALIASES, "", "may not be empty"),
        (ALIASES, "@", "postalias adds"),
        (ALIASES, "a\tb", "whitespace"),
        (ALIASES, "a\nb", "line break"),
    ],
)
def test_a_key(kind: DocumentKind, key: str, words: str) -> None:
    assert words in (key_fault(kind, key) or "")
    assert entry_fault(kind, key, "x") == key_fault(kind, key)


@pytest.mark.parametrize("key", ["a", '"a b"@x', "a\\ b", "@x", "10.0.0.1", "k:v", "ä", "A"])
def test_a_key_of_a_table_that_can_be_written(key: str) -> None:
    assert key_fault(TABLE, key) is None


@pytest.mark.parametrize("name", ["a", "a b", "#a", "a:b", 'a"b', "a@b", "(a)", "\\", ",", "ä"])
def test_an_alias_that_can_be_written(name: str) -> None:
    assert key_fault(ALIASES, name) is None


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (TABLE, "", "may not be empty"),
        (TABLE, " \t", "may not be empty"),
        (TABLE, "a\nb", "line break"),
        (TABLE, "a\0", "NUL"),
        (TABLE, "\udcff", "UTF-8"),
        (ALIASES, "", "may not be empty"),
        (ALIASES, "\\", "may not be empty"),
        (ALIASES, '"x', "open"),
        (ALIASES, "x\\", "open"),
        (ALIASES, "(x", "open"),
        (ALIASES, "[x", "open"),
    ],
)
def test_a_value(kind: DocumentKind, value: str, words: str) -> None:
    assert words in (entry_fault(kind, "a", value) or "")


@pytest.mark.parametrize("kind", SOURCES)
@given(key=st.text(max_size=6), value=st.text(max_size=6), end=st.sampled_from(["\n", "\r\n"]))
def test_what_has_no_fault_is_read_as_it_was_asked_for(
    kind: DocumentKind, key: str, value: str, end: str
) -> None:
    value = value.strip(BLANKS)
    if entry_fault(kind, key, value) is not None:
        return
    source = SOURCES[kind]
    edit = Edit(source.parse(f"some: thing{end}#note{end}".encode()))
    edit.set(folded(key), value)
    found = edit.result().get(folded(key))
    assert found is not None
    assert found.value == source.as_read(value)
