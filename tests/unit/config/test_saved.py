"""The desired state to JSON and back, and what a damaged file does to it: nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pf_agent.config.desired import BLANKS, name_fault, value_fault
from pf_agent.config.saved import from_json, to_json
from pf_agent.errors import ConfigError
from pf_agent.model import DesiredState, Place, Unmanaged

FILE = "/etc/pf-agent/desired.toml"
DROPIN = "/etc/pf-agent/desired.d/50-site.toml"

names = st.text(min_size=1).filter(lambda name: name_fault(name) is None)
values = st.text().map(lambda text: text.strip(BLANKS)).filter(lambda v: not value_fault(v))
places = st.builds(Place, st.text(), st.none() | st.integers(min_value=1))


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
@settings(max_examples=100, deadline=None)
def test_there_and_back(state: DesiredState, other: DesiredState | None) -> None:
    both = {"-": state, **({"out": other} if other else {})}
    assert from_json(json.loads(json.dumps(to_json(both)))) == both


@pytest.mark.parametrize(
    ("name", "folder", "fact"),
    [
        ("..", "/x", '".." is no instance'),
        ("out", None, "out has a wrong config_directory"),
        ("-", "/x", "- has a wrong config_directory"),
        ("out", "x", "config_directory is not an absolute path"),
    ],
)
def test_instances_without_a_folder_of_their_own(name: str, folder: object, fact: str) -> None:
    saved = {**to_json({"-": STATE})["-"], "config_directory": folder}
    with pytest.raises(ConfigError) as caught:
        from_json({name: saved})
    assert fact in caught.value.problems[0]


@pytest.mark.parametrize(
    ("member", "value", "fact"),
    [
        ("settings", [], "settings is not an object"),
        ("settings", {"a b": "1"}, 'settings "a b" is no parameter\'s name'),
        ("settings", {"a": 1}, "settings a has no usable value"),
        ("settings", {"a": "x\ny"}, "settings a has no usable value"),
        ("settings", {"a": " x"}, "settings a has no usable value"),
        ("settings", {"a": "\udcff"}, "settings a has no usable value"),
        ("settings", {"a": "1", "b": "2"}, "a parameter is both set and at its default"),
        ("use_default", "b", "use_default is not an array"),
        ("use_default", [1], "use_default holds what is no string"),
        ("use_default", [["b"]], "use_default holds what is no string"),
        ("use_default", ["#"], "use_default holds what is no parameter's name"),
        ("template", "t", "template is not an absolute path"),
        ("template", 5, "template is not an absolute path"),
        ("provenance", None, "provenance is not an object"),
        (
            "provenance",
            {"z": {"file": "f", "line": 1}},
            "provenance names a parameter not spoken of",
        ),
        ("provenance", {"a": {"file": "f"}}, "provenance a has other members than it should"),
        ("provenance", {"a": {"file": 1, "line": 1}}, "provenance a names no file"),
        ("provenance", {"a": {"file": "f", "line": 0}}, "provenance a has no usable line"),
        ("provenance", {"a": {"file": "f", "line": True}}, "provenance a has no usable line"),
        ("provenance", {"a": {"file": "f", "line": "1"}}, "provenance a has no usable line"),
        ("unmanaged", "drop", "unmanaged has an unknown value"),
        ("unmanaged", ["keep"], "unmanaged has an unknown value"),
        ("ignore", "x", "ignore is not an array"),
        ("ignore", [1], "ignore holds what is no string"),
        ("place", {"file": "f"}, "provenance place has other members than it should"),
        ("more", 1, "instance - has other members than it should"),
    ],
)
def test_malformed(member: str, value: object, fact: str) -> None:
    document = {"-": {**to_json({"-": STATE})["-"], member: value}}
    with pytest.raises(ConfigError) as caught:
        from_json(document)
    assert caught.value.problems == (
        f"the saved desired state cannot be used: {fact}; the next good desired.toml replaces it",
    )


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from([*to_json({"-": STATE})["-"], None]),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_arbitrary_json_raises_nothing_but_config_errors(
    value: Any, member: str | None, bare: bool
) -> None:
    inner = value if member is None else {**to_json({"-": STATE})["-"], member: value}
    document = inner if bare else {"-": inner}
    problems: tuple[str, ...] = ()
    try:
        assert isinstance(from_json(document), dict)
    except ConfigError as error:
        problems = error.problems
    assert all(problem.isprintable() for problem in problems)
