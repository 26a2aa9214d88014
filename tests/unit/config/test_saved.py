"""The desired state to JSON and back, and what a damaged file does to it: nothing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_agent.config.saved import from_json, members_of, saved_state, to_json
from pf_agent.config.values import name_fault, value_fault
from pf_agent.model import BLANKS, DesiredState, DocumentKind, Place, Unmanaged

_NO_COUNT = "provenance: 'a': line: it is not a count"

FILE = "/etc/pf-agent/desired.toml"
DROPIN = "/etc/pf-agent/desired.d/50-site.toml"

names = st.text(min_size=1).filter(lambda name: name_fault(name) is None)
values = st.text().map(lambda text: text.strip(BLANKS)).filter(lambda v: not value_fault(v))
places = st.builds(Place, st.text(), st.none() | st.integers(1, 10**6))


@st.composite
def states(draw: st.DrawFn, folder: str | None = None) -> DesiredState:
    chosen = draw(st.dictionaries(names, values, max_size=5))
    use_default = draw(st.frozensets(names, max_size=5)).difference(chosen)
    spoken_of = draw(st.permutations([*chosen, *use_default]))
    return DesiredState(
        settings=chosen,
        use_default=use_default,
        template=draw(st.none() | st.just("/etc/postfix/main.cf.proto")),
        provenance={name: draw(places) for name in spoken_of},
        unmanaged=draw(st.sampled_from(Unmanaged)),
        ignore=tuple(draw(st.lists(st.text(), max_size=3))),
        config_directory=folder,
        place=draw(st.none() | places),
    )


STATE = DesiredState(
    settings={"a": "1"},
    use_default=frozenset({"c", "b"}),
    template="/t",
    provenance={"a": Place(FILE, 2), "b": Place(DROPIN)},
    unmanaged=Unmanaged.REPORT,
    ignore=("x_*",),
)


def test_shape() -> None:
    assert to_json({"-": STATE}) == {
        "-": {
            "settings": {"a": "1"},
            "use_default": ["b", "c"],
            "template": "/t",
            "provenance": {"a": {"file": FILE, "line": 2}, "b": {"file": DROPIN, "line": None}},
            "unmanaged": "report",
            "ignore": ["x_*"],
            "config_directory": None,
            "place": None,
        }
    }


@given(states(), st.none() | states("/etc/postfix-out"))
def test_there_and_back(state: DesiredState, other: DesiredState | None) -> None:
    both = {"-": state, **({"out": other} if other else {})}
    assert from_json(json.loads(json.dumps(to_json(both)))) == both


@pytest.mark.parametrize(
    ("name", "folder", "fact"),
    [
        ("..", "/x", "'..': it is not an instance"),
        ("out", None, "'out': it has a wrong config_directory"),
        ("-", "/x", "'-': it has a wrong config_directory"),
        ("out", "x", "'out': config_directory: it is not an absolute path"),
    ],
)
def test_instances_without_a_folder_of_their_own(name: str, folder: object, fact: str) -> None:
    saved = {**to_json({"-": STATE})["-"], "config_directory": folder}
    with pytest.raises(ValueError, match=f"^{re.escape(fact)}$"):
        from_json({name: saved})


@pytest.mark.parametrize(
    ("member", "value", "fact"),
    [
        ("settings", [], "settings: it is not an object"),
        ("settings", {"a b": "1"}, "settings: 'a b': it is not a parameter's name"),
        ("settings", {"a": 1}, "settings: 'a': it is not a string"),
        ("settings", {"a": "x\ny"}, "settings: 'a': it has no usable value"),
        ("settings", {"a": " x"}, "settings: 'a': it has no usable value"),
        ("settings", {"a": "\udcff"}, "settings: 'a': it has no usable value"),
        ("settings", {"a": "1", "b": "2"}, "a parameter is both set and at its default"),
        ("use_default", "b", "use_default: it is not an array"),
        ("use_default", [1], "use_default: it is not a string"),
        ("use_default", [["b"]], "use_default: it is not a string"),
        ("use_default", ["#"], "use_default: it contains something that is not a parameter's name"),
        ("template", "t", "template: it is not an absolute path"),
        ("template", 5, "template: it is not a string"),
        ("provenance", None, "provenance: it is not an object"),
        (
            "provenance",
            {"z": {"file": "f", "line": 1}},
            "provenance names an unknown parameter",
        ),
        (
            "provenance",
            {"a": {"file": "f"}},
            "provenance: 'a': it has unexpected members",
        ),
        ("provenance", {"a": {"file": 1, "line": 1}}, "provenance: 'a': file: it is not a string"),
        ("provenance", {"a": {"file": "f", "line": 0}}, "provenance: 'a': line: it counts from 1"),
        (
            "provenance",
            {"a": {"file": "f", "line": True}},
            _NO_COUNT,
        ),
        (
            "provenance",
            {"a": {"file": "f", "line": "1"}},
            _NO_COUNT,
        ),
        ("unmanaged", "drop", "unmanaged: 'drop' is not a valid Unmanaged"),
        ("unmanaged", ["keep"], "unmanaged: ['keep'] is not a valid Unmanaged"),
        ("ignore", "x", "ignore: it is not an array"),
        ("ignore", [1], "ignore: it is not a string"),
        ("place", {"file": "f"}, "place: it has unexpected members"),
        ("more", 1, "it has unexpected members"),
    ],
)
def test_malformed(member: str, value: object, fact: str) -> None:
    document = {"-": {**to_json({"-": STATE})["-"], member: value}}
    with pytest.raises(ValueError, match=f"^'-': {re.escape(fact)}$"):
        from_json(document)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from([*to_json({"-": STATE})["-"], None]),
    st.booleans(),
)
def test_arbitrary_json_raises_nothing_but_value_errors(
    value: Any, member: str | None, bare: bool
) -> None:
    inner = value if member is None else {**to_json({"-": STATE})["-"], member: value}
    document = inner if bare else {"-": inner}
    problem = ""
    try:
        assert isinstance(from_json(document), dict)
    except ValueError as error:
        problem = str(error)
    assert problem.isprintable()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (DocumentKind.TABLE, {'"a b"@example.org': "OK", "10.0.0.1": "REJECT # a = 1"}),
        (DocumentKind.ALIASES, {"#a = b": "x, y", "root": '|"/usr/bin/x y"'}),
    ],
)
def test_a_state_of_entries_comes_back(kind: DocumentKind, settings: dict[str, str]) -> None:
    state = DesiredState(settings, frozenset({"gone = 1" if kind is DocumentKind.ALIASES else "b"}))
    kept = replace(state, kind=kind)
    assert saved_state(json.loads(json.dumps(members_of(kept)))) == kept


@pytest.mark.parametrize(
    ("settings", "use_default"),
    [
        ({"a b": "x"}, []),
        ({"a": ""}, []),
        ({"a": "x\ny"}, []),
        ({"A": "x"}, []),
        ({}, ["a b"]),
        ({}, ["Example.ORG"]),
    ],
)
def test_entries_that_no_source_could_have_are_damage(
    settings: dict[str, str], use_default: list[str]
) -> None:
    members = members_of(DesiredState({}, frozenset(), kind=DocumentKind.TABLE))
    with pytest.raises(ValueError, match="it "):
        saved_state({**members, "settings": settings, "use_default": use_default})
