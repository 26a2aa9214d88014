"""The `[tables]` of a file: what is taken, and what is refused with its place."""

from __future__ import annotations

import pytest

from pf_agent.config.desired import load
from pf_agent.config.entries import is_table
from pf_agent.config.table import Source
from pf_agent.errors import ConfigError
from pf_agent.model import DesiredState, DocumentKind, Place, Unmanaged

NAME = "hash:/etc/postfix/transport"
SECRET = "Pl4nted-xK9"


def read(*texts: str) -> DesiredState:
    return load([Source(f"{i}.toml", text.encode()) for i, text in enumerate(texts)])


def table(*texts: str) -> DesiredState:
    return read(*(f'[tables."{NAME}"]\n{text}' for text in texts)).documents[NAME]


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        table(text)
    return caught.value.problems


def test_entries_have_the_keys_of_postfix_and_their_places() -> None:
    found = table('"Example.ORG" = "smtp:[a]"\nn = 5\nlist = ["a", "b"]\nnone = false\n')
    assert found.settings == {"example.org": "smtp:[a]", "n": "5", "list": "a, b"}
    assert found.use_default == {"none"}
    assert found.provenance["example.org"] == Place("0.toml", 2)
    assert found.kind is DocumentKind.TABLE


def test_a_later_file_wins_entry_by_entry() -> None:
    found = table('a = "1"\nb = "1"\nc = false\n', 'b = false\nc = "2"\n')
    assert found.settings == {"a": "1", "c": "2"}
    assert found.use_default == {"b"}


def test_rules_stand_below_the_table_and_may_be_a_key_too() -> None:
    rules = f'[tables."{NAME}".rules]\nunmanaged = "comment_out"\nignore = ["a*"]\n'
    found = table(f'a = "1"\n{rules}')
    assert (found.unmanaged, found.ignore) == (Unmanaged.COMMENT_OUT, ("a*",))
    assert table('rules = "x"\n').settings == {"rules": "x"}
    (problem,) = problems(f'{rules}b = "x"\n')
    assert "an entry belongs above, under the table itself" in problem


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = true\n", "a: expected a value, got true"),
        ("a = 1.5\n", "a: expected a value"),
        (f'a = {{ b = "{SECRET}" }}\n', "a: expected a value, got a table"),
        (f'a = ["{SECRET}", 5]\n', "a: expected a value, got an array"),
        ('a = "1"\nA = "2"\n', "A: Postfix takes it for the key at 0.toml:2; keep one of the two"),
    ],
)
def test_what_is_refused_is_told_with_its_place_and_without_what_may_be_a_password(
    text: str, words: str
) -> None:
    (problem,) = problems(text)
    assert problem.startswith("0.toml:")
    assert words in problem
    assert SECRET not in problem


@pytest.mark.parametrize("name", ["regexp:/etc/x", "hash:relative", "/etc/x", "hash:/a b", "hash:"])
def test_other_tables_have_no_entries(name: str) -> None:
    assert not is_table(name)
    with pytest.raises(ConfigError, match="not a table whose entries can be desired"):
        read(f"[tables.'{name}']\na = 'b'\n")


def test_an_instance_has_its_own() -> None:
    found = read(
        f'[instances.out]\nconfig_directory = "/etc/postfix-out"\n'
        f'[instances.out.tables."{NAME}"]\na = "b"\n'
    )
    assert found.documents == {}
    assert found.instances["out"].documents[NAME].settings == {"a": "b"}


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (NAME, "btree:/etc/postfix/transport", f'"{NAME}" (0.toml:1) is the same file'),
        (NAME, "hash:/etc/postfix/x/../transport", f'"{NAME}" (0.toml:1) is the same file'),
        (NAME, "hash:/etc/postfix/main.cf", "it is main.cf, which belongs in [settings]"),
    ],
)
def test_no_two_contend_for_a_file(first: str, second: str, words: str) -> None:
    texts = [f'[tables."{name}"]\na = "b"\n' for name in (first, second)]
    with pytest.raises(ConfigError) as caught:
        read(*texts)
    (problem,) = caught.value.problems
    assert problem.startswith(f'1.toml:1: [tables] "{second}": {words}')


def test_nor_do_two_instances() -> None:
    own = f'[tables."{NAME}"]\na = "b"\n'
    out = (
        '[instances.out]\nconfig_directory = "/etc/postfix-out"\n'
        f'[instances.out.tables."{NAME}"]\na = "b"\n'
    )
    with pytest.raises(ConfigError, match="is the same file; keep one of the two"):
        read(own + out)
