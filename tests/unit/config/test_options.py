"""agent.toml: the options, their defaults and their problems."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_agent.config.options import load
from pf_agent.config.table import Source
from pf_agent.errors import ConfigError
from pf_agent.model import ActivationWay, AgentOptions, Mode, OnWarning, TableRules, Window
from tests.checkout import CHECKOUT

FILE = "/etc/pf-agent/agent.toml"
SHIPPED = CHECKOUT / "etc" / "agent.toml"


def options(text: str) -> AgentOptions:
    return load(Source(FILE, text.encode()))


def refusal(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        options(text)
    return caught.value.problems


def test_no_file_means_the_defaults() -> None:
    assert load(None) == AgentOptions()


def test_empty_file_means_the_defaults() -> None:
    assert options("") == AgentOptions()


def test_all_options() -> None:
    text = """\
mode = "observe"
[activation]
way = "auto"
window = "22:30-04:00"
[watch]
settle_seconds = 0.05
look_every_seconds = 86400
[metrics]
textfile = "/var/lib/prometheus/node-exporter/pf-agent.prom"
listen = "[::1]:9825"
[notify]
unit = "pf-agent-notify@.service"
[tables]
rebuild = false
on_warning = "build"
ignore = ["/etc/postfix/generated/*"]
"""
    read = options(text)
    assert read == AgentOptions(
        Mode.OBSERVE,
        ActivationWay.AUTO,
        Window(81000.0, 14400.0),
        0.05,
        86400.0,
        "/var/lib/prometheus/node-exporter/pf-agent.prom",
        "[::1]:9825",
        "pf-agent-notify@.service",
        TableRules(False, OnWarning.BUILD, ("/etc/postfix/generated/*",)),
    )
    assert isinstance(read.mode, Mode)


def test_what_is_no_truth_is_told_with_what_to_write() -> None:
    assert refusal('[tables]\nrebuild = "no"\n') == (
        f'{FILE}:2: [tables] rebuild: expected true or false, got "no"; write true',
    )


def test_the_way_alone_may_be_written_short() -> None:
    assert options('activation = "auto"\n') == AgentOptions(way=ActivationWay.AUTO)
    assert options('[activation]\nwindow = "02:00-04:00"\n').window == Window(7200.0, 14400.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('activation = "never"', 'activation: expected "restart" or "auto", got "never"'),
        ("activation = 1", "activation: expected a table, got 1"),
        ('[activation]\nway = "x"', '[activation] way: expected "restart" or "auto", got "x"'),
        ('[activation]\nwindow = "2-4"', "[activation] window: expected two times of day"),
        ('[activation]\nwindow = "24:00-04:00"', "[activation] window: expected two times of day"),
        ('[activation]\nwindow = "02:00-02:00"', "[activation] window: expected two times of day"),
        ('[metrics]\ntextfile = "x.prom"', "[metrics] textfile: expected an absolute path"),
        ('[metrics]\ntextfile = "/x"', "[metrics] textfile: expected an absolute path that ends"),
        ('[metrics]\nlisten = "0.0.0.0:80"', "[metrics] listen: expected a loopback address"),
        ('[metrics]\nlisten = "127.0.0.1:0"', "[metrics] listen: expected a loopback address"),
        ('[notify]\nunit = "x.service"', "[notify] unit: expected a template unit"),
        ('[notify]\nwhom = "x"', "[notify] whom: unknown key; known keys: unit"),
    ],
)
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    (problem,) = refusal(text)
    assert said in problem
    assert "; " in problem


def test_all_problems_at_once_in_the_order_of_lines() -> None:
    text = """\
mod = "enforce"
mode = "observ"
look_every_seconds = 5

[watch]
settle_seconds = "1s"
look_every_seconds = 0.5
settle_second = 1
mode = "enforce"

[inform]
"""
    assert refusal(text) == (
        f"{FILE}:1: mod: unknown key; did you mean mode?",
        f'{FILE}:2: mode: expected "enforce" or "observe", got "observ"; write mode = "observe"',
        f"{FILE}:3: look_every_seconds: unknown key; it belongs under [watch]",
        f'{FILE}:6: [watch] settle_seconds: expected a number, got "1s"; write 1.0',
        f"{FILE}:7: [watch] look_every_seconds: 0.5 is out of range; "
        "write a number from 1 to 86400",
        f"{FILE}:8: [watch] settle_second: unknown key; did you mean settle_seconds?",
        f"{FILE}:9: [watch] mode: unknown key; "
        "it belongs at the top of the file, above every [table]",
        f"{FILE}:11: inform: unknown key; "
        "known keys: activation, metrics, mode, notify, tables, watch",
    )


@pytest.mark.parametrize("number", ["0.049", "60.1", "-1", "0", "nan"])
def test_settle_seconds_out_of_range(number: str) -> None:
    assert refusal(f"[watch]\nsettle_seconds = {number}\n") == (
        f"{FILE}:2: [watch] settle_seconds: {number} is out of range; "
        "write a number from 0.05 to 60",
    )


def test_watch_is_no_table() -> None:
    assert refusal("watch = 5\n") == (
        f"{FILE}:1: watch: expected a table, got 5; "
        "write [watch] on a line of its own, its keys below",
    )


def test_syntax_error() -> None:
    assert refusal("mode = enforce\n") == (
        f"{FILE}:1: not valid TOML: Invalid value (column 8); text needs quotes",
    )


class TestShippedFile:
    def test_as_shipped_it_changes_nothing(self) -> None:
        assert load(Source(FILE, SHIPPED.read_bytes())) == AgentOptions()

    def test_every_option_stands_there_at_its_default(self) -> None:
        uncommented = re.sub(r"^#(?=[a-z\[])", "", SHIPPED.read_text("utf-8"), flags=re.MULTILINE)
        assert options(uncommented) == AgentOptions()
        written = re.findall(r"^(\w+) = ", uncommented, flags=re.MULTILINE)
        fields = [f for f in AgentOptions.__dataclass_fields__ if f != "tables"]
        assert written == [*fields, *TableRules.__dataclass_fields__]


@given(
    st.one_of(
        st.binary(),
        st.text().map(str.encode),
        st.lists(
            st.sampled_from(
                ["mode", "watch", "settle_seconds", "[", "]", ".", "=", "\n", '"observe"', "1", "'"]
            )
        ).map(lambda pieces: "".join(pieces).encode()),
    )
)
def test_arbitrary_text_raises_nothing_but_config_errors(raw: bytes) -> None:
    problems: tuple[str, ...] = ()
    read = AgentOptions()
    try:
        read = load(Source(FILE, raw))
    except ConfigError as error:
        problems = error.problems
        assert problems
    assert all(problem.startswith(FILE) for problem in problems)
    assert all(problem.isprintable() for problem in problems)
    assert 0.05 <= read.settle_seconds <= 60
    assert 1 <= read.look_every_seconds <= 86400
