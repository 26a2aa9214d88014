"""A drop-in's text with other wishes in it: what is kept, and that it says what was asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_agent import names
from pf_agent.config import desired, dropin, dropin_entries, dropin_services
from pf_agent.config.desired import by_instance
from pf_agent.config.dropin import Wishes, edited, removed, written
from pf_agent.config.table import Source
from pf_agent.errors import ConfigError
from pf_agent.model import BLANKS, DesiredState

pytest.importorskip("tomlkit")

PATH = "50-local.toml"
OUT = "out"


def edit(text: str, wishes: Wishes, instance: str = names.DEFAULT_INSTANCE) -> str:
    return edited(Source(PATH, text.encode()), wishes, instance)


def stated(text: str, instance: str = names.DEFAULT_INSTANCE) -> DesiredState:
    return by_instance(desired.load([Source(PATH, text.encode())]))[instance]


def without(text: str, *parameters: str, instance: str = names.DEFAULT_INSTANCE) -> str:
    return removed(Source(PATH, text.encode()), parameters, instance)


SHOWN = """\
# Our own.

use_default = [
    "mailq_path",  # since March
    "setgid_group",
]

# What we set.
[settings]
mynetworks = [
    "127.0.0.0/8",
]  # loopback alone

relayhost = "[a]:25"  # until May

# The second Postfix.
[instances.out.settings]
biff = false
"""


def test_a_value_is_replaced_where_it_stands() -> None:
    found = edit(SHOWN, {"relayhost": "[b]:587", "mynetworks": "10.0.0.0/8"})
    before = '"[a]:25"', '[\n    "127.0.0.0/8",\n]  #'
    after = '"[b]:587"', '"10.0.0.0/8"  #'
    assert found == SHOWN.replace(before[0], after[0]).replace(before[1], after[1])


def test_a_new_setting_comes_below_the_last_one_of_its_table() -> None:
    found = edit(SHOWN, {"a": "1", "b": "x"})
    last = "# until May\n"
    assert found == SHOWN.replace(last, f'{last}a = 1\nb = "x"\n')
    found = edit(SHOWN, {"a": "1"}, OUT)
    assert found == f"{SHOWN}a = 1\n"


def test_a_new_default_joins_the_others() -> None:
    last = '    "setgid_group",\n'
    found = edit(SHOWN, {"biff": None}).replace('    "biff"\n', '    "biff",\n')  # tomlkit 0.9
    assert found == SHOWN.replace(last, f'{last}    "biff",\n')


def test_what_was_set_becomes_a_default_and_the_other_way_round() -> None:
    found = stated(edit(SHOWN, {"relayhost": None, "mailq_path": "/x"}))
    assert found.use_default == {"setgid_group", "relayhost"}
    assert found.settings.keys() == {"mynetworks", "mailq_path"}
    assert found.settings["mailq_path"] == "/x"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('use_default = ["x", "y"]', 'use_default = ["y"]'),
        ('use_default = ["y", "x"]', 'use_default = ["y", ]'),
        ("use_default = ['x']", "use_default = []"),
        (
            'use_default = [\n  "x",  # why x\n  "y",\n  # x\n]',
            'use_default = [\n  # why x\n  "y",\n  # x\n]',
        ),
        ('use_default = [\n  "y",\n  "x"\n]', 'use_default = [\n  "y",\n]'),
    ],
)
def test_how_a_default_goes(before: str, after: str) -> None:
    assert edit(before, {"x": "1"}) == f"{after}\n\n[settings]\nx = 1\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", 'use_default = ["x"]\n'),
        ("# head\n", '# head\n\nuse_default = ["x"]\n'),
        ("# head\n[settings]\na = 1", '# head\nuse_default = ["x"]\n\n[settings]\na = 1'),
        (
            "# head\n\n# about it\n[settings]\n",
            '# head\n\nuse_default = ["x"]\n\n# about it\n[settings]\n',
        ),
    ],
)
def test_where_the_first_default_goes(before: str, after: str) -> None:
    assert edit(before, {"x": None}) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '[instances.out]\nuse_default = ["x"]\n'),
        ("[instances.out]", '[instances.out]\nuse_default = ["x"]\n'),
        (
            "[instances.out]\n[instances.out.settings]\n",
            '[instances.out]\nuse_default = ["x"]\n[instances.out.settings]\n',
        ),
        (
            "[instances.out.settings]\na = 1\n",
            '[instances.out.settings]\na = 1\n\n[instances.out]\nuse_default = ["x"]\n',
        ),
    ],
)
def test_where_the_first_default_of_an_instance_goes(before: str, after: str) -> None:
    assert edit(before, {"x": None}, OUT) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "[settings]\nx = 1\n"),
        ("use_default = []", "use_default = []\n\n[settings]\nx = 1\n"),
        ("[settings]", "[settings]\nx = 1\n"),
        ("[settings]\na = 1", "[settings]\na = 1\nx = 1\n"),
        ("[settings]\n\n# tail\n", "[settings]\nx = 1\n\n# tail\n"),
    ],
)
def test_where_the_first_setting_goes(before: str, after: str) -> None:
    assert edit(before, {"x": "1"}) == after


def test_many_defaults_stand_one_a_line() -> None:
    many = [f"parameter_{number}" for number in range(9)]
    found = edit("", dict.fromkeys(many))
    assert found.startswith('use_default = [\n    "parameter_0",\n')
    assert stated(found).use_default == set(many)


def test_what_says_the_same_already_stays_as_it_is() -> None:
    wishes = {"mynetworks": "127.0.0.0/8", "mailq_path": None}
    assert edit(SHOWN, wishes) == SHOWN
    assert edit(SHOWN, {"biff": "no"}, OUT) == SHOWN


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("10485760", "10485760"),
        ("0", "0"),
        ("007", '"007"'),
        ("-1", '"-1"'),
        ("yes", '"yes"'),
        ("", '""'),
        ("9" * 19, f'"{"9" * 19}"'),
        (r"pcre:{/\.x$/ \"a\"}", r"""'pcre:{/\.x$/ \"a\"}'"""),
        ("it's \\", '"it\'s \\\\"'),
        ("a;\tb", '"a;\\tb"'),
        ("x" * 300, f'"{"x" * 300}"'),
    ],
)
def test_how_a_value_is_written(value: str, text: str) -> None:
    assert written(value) == text


@pytest.mark.parametrize("text", ["settings = {}\n", "settings.a = 1\n", "instances = {out = {}}"])
def test_what_cannot_be_edited_is_left_to_a_person(text: str) -> None:
    instance = OUT if "out" in text else names.DEFAULT_INSTANCE
    with pytest.raises(ConfigError) as caught:
        edit(text, {"x": "1"}, instance)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{PATH}: x cannot be added")
    assert problem.endswith("; edit it by hand")


def test_a_faulty_drop_in_is_named_with_its_line() -> None:
    with pytest.raises(ConfigError, match=rf"^{PATH}:2: \[settings\] a: expected"):
        edit("[settings]\na = 1.5\n", {"x": "1"})


@pytest.mark.parametrize("name", ["template", "a b", ""])
def test_a_name_that_is_no_parameter_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be added"):
        edit("", {name: "1"})


# --- any text ------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c", "d.e", "f", "smtp_x"])
VALUES = st.one_of(
    st.text(st.characters(blacklist_characters="\0\n", blacklist_categories=["Cs"])),
    st.sampled_from(["1", "0", "yes", "'", '"', "\\", "'''", "\x7f", "\r", "x # y", "[1]"]),
).map(lambda text: text.strip(BLANKS))
WISHES = st.dictionaries(NAMES, st.none() | VALUES, max_size=4)
INSTANCES = st.sampled_from([names.DEFAULT_INSTANCE, OUT])
COMMENT = st.sampled_from(["", "# note one", "# [x] two", '# a "b', "# c = 1"])


@st.composite
def tables(draw: st.DrawFn, path: str) -> str:
    """One instance's part of a file as somebody may write it."""
    names_of = draw(st.lists(NAMES, unique=True))
    cut = draw(st.integers(0, len(names_of)))
    lines = []
    if names_of[:cut]:
        quoted = [f'"{name}"' for name in names_of[:cut]]
        if draw(st.booleans()):
            lines += ["use_default = [", *(f"  {q}, {draw(COMMENT)}" for q in quoted), "]"]
        else:
            lines.append(f"use_default = [{', '.join(quoted)}] {draw(COMMENT)}")
    if path and (lines or draw(st.booleans())):
        lines.insert(0, f"[{path}]")
    lines += draw(st.lists(COMMENT, max_size=2))
    is_empty: bool = draw(st.booleans())
    if names_of[cut:] or is_empty:
        lines.append(f"[{path}.settings]" if path else "[settings]")
        for name in names_of[cut:]:
            value = draw(
                st.sampled_from(["1", '"x"', "'y'", "true", '[\n "p",\n "q",\n]', '"""z"""'])
            )
            lines += [f'"{name}" = {value} {draw(COMMENT)}', *draw(st.lists(COMMENT, max_size=1))]
    return "".join(f"{line}\n" for line in lines)


@st.composite
def texts(draw: st.DrawFn) -> str:
    text = "".join(f"{line}\n" for line in draw(st.lists(COMMENT, max_size=2)))
    text += draw(tables("")) + draw(tables("instances.out")) + draw(COMMENT)
    return text if draw(st.booleans()) else text.removesuffix("\n")


@given(texts(), WISHES, INSTANCES)
def test_any_text_says_what_was_wished_and_all_else_as_before(
    text: str, wishes: Wishes, instance: str
) -> None:
    before = desired.load([Source(PATH, text.encode())])
    found = edit(text, wishes, instance)
    after = desired.load([Source(PATH, found.encode())])
    for name, old in by_instance(before).items():
        new = by_instance(after)[name]
        asked = wishes if name == instance else {}
        settings = {key: value for key, value in old.settings.items() if key not in asked}
        assert new.settings == settings | {k: v for k, v in asked.items() if v is not None}
        defaults = {key for key in old.use_default if key not in asked}
        assert new.use_default == defaults | {k for k, v in asked.items() if v is None}
    if by_instance(before).get(instance) is not None:
        assert edit(found, wishes, instance) == found


@given(texts(), WISHES, INSTANCES)
def test_comments_on_lines_of_their_own_stay_in_their_order(
    text: str, wishes: Wishes, instance: str
) -> None:
    def own_lines(text: str) -> list[str]:
        return [line for line in text.split("\n") if line.startswith("#")]

    assert own_lines(edit(text, wishes, instance)) == own_lines(text)


@given(texts(), WISHES)
def test_what_is_only_added_to_loses_no_line(text: str, wishes: Wishes) -> None:
    there = stated(text).parameters()
    found = edit(text, {k: v for k, v in wishes.items() if k not in there and v is not None})
    lines = iter(found.split("\n"))
    assert all(line in lines for line in text.removesuffix("\n").split("\n"))


def test_a_file_with_the_line_ends_of_windows_is_edited() -> None:
    text = '[settings]\r\na = "1"\r\n[instances.out.settings]\r\na = "2"\r\n'
    assert stated(edit(text, {"a": "3", "b": "4"})).settings == {"a": "3", "b": "4"}
    assert stated(edit(text, {"b": "4"}, OUT), OUT).settings == {"a": "2", "b": "4"}


# --- taken out ------------------------------------------------------------------------------------


def test_what_is_taken_out_leaves_the_rest_as_it_is_written() -> None:
    assert without(SHOWN, "mynetworks", "setgid_group") == SHOWN.replace(
        '    "setgid_group",\n', ""
    ).replace('mynetworks = [\n    "127.0.0.0/8",\n]  # loopback alone\n', "")
    found = stated(without(SHOWN, "relayhost"))
    assert found.parameters() == {"mailq_path", "setgid_group", "mynetworks"}


def test_only_the_instance_that_is_meant_loses_it() -> None:
    text = SHOWN.replace("[settings]\n", "[settings]\nbiff = true\n")
    after = without(text, "biff", instance=OUT)
    assert "biff" in stated(after).settings
    assert stated(after, OUT).settings == {}
    assert without(text, "biff") == SHOWN


def test_what_is_not_there_is_taken_out_of_nothing() -> None:
    assert without(SHOWN, "relay_domains") == SHOWN


@pytest.mark.parametrize("instance", ["-", "postfix-out"])
def test_a_table_without_its_last_entry_is_no_longer_named(instance: str) -> None:
    table = "tables" if instance == "-" else f"instances.{instance}.tables"
    head, left = "# head\n\n", f'[{table}."hash:/b"]\n"y" = "1" # c\n'
    whole = f'{head}[{table}."hash:/a"]\n"x" = "1"\n\n{left}'
    text = dropin_entries.removed(Source("f", whole.encode()), ["x"], instance, "hash:/a")
    assert text == head + left
    assert dropin_entries.removed(Source("f", text.encode()), ["y"], instance, "hash:/b") == head


def test_a_table_with_rules_stays_without_its_last_entry() -> None:
    whole = '[tables."hash:/a"]\nx = "1"\n[tables."hash:/a".rules]\nunmanaged = "report"\n'
    text = dropin_entries.removed(Source("f", whole.encode()), ["x"], "-", "hash:/a")
    assert text == whole.replace('x = "1"\n', "")


def test_a_table_of_which_nothing_is_said_is_not_managed() -> None:
    """An empty one must not create the file."""
    empty = Source("f", b'[tables."hash:/a"]\n[tables."hash:/b".rules]\nunmanaged = "report"\n')
    assert list(desired.load([empty]).documents) == ["hash:/b"]


@pytest.mark.parametrize(
    "service",
    [
        '[services."uucp/unix"]\nenabled = false\n',
        '[services."uucp/unix"]\nchroot = true\n[services."uucp/unix".options]\nrelay = "x"\n',
        '[services]\n"uucp/unix".enabled = false\n',
    ],
)
@pytest.mark.parametrize("after", ["", '\n[services."smtp/inet"]\nchroot = true\n'])
def test_a_service_that_is_removed_is_not_asked_for(service: str, after: str) -> None:
    text = f"[settings]\na = 1\n\n# a comment\n{service}{after}"
    left = dropin_services.removed(Source("x.toml", text.encode()), ["uucp/unix"], "-")
    assert "# a comment\n" in left
    found = dropin_services.stated(Source("x.toml", left.encode()), "-").parameters()
    assert found == ({"smtp/inet", "smtp/inet/chroot"} if after else set())
    assert dropin.stated(Source("x.toml", left.encode()), "-").settings == {"a": "1"}


def test_a_service_that_was_off_can_be_asked_for_again() -> None:
    text = '[services."uucp/unix"]\nenabled = false\n'
    left = dropin_services.edited(Source("x.toml", text.encode()), {"uucp/unix": "enabled"}, "-")
    assert left == '[services."uucp/unix"]\n'
    off = dropin_services.edited(Source("x.toml", left.encode()), {"uucp/unix": None}, "-")
    assert off == text
