"""A drop-in's text with other entries of a table in it: what is kept, and what it says then."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_agent import names
from pf_agent.config.dropin import Wishes, key_of
from pf_agent.config.dropin_entries import edited, removed, stated
from pf_agent.config.table import Source
from pf_agent.errors import ConfigError
from pf_agent.maincf.entries import folded
from pf_agent.model import BLANKS

pytest.importorskip("tomlkit")

PATH = "50-local.toml"
TABLE = "hash:/etc/postfix/transport"
OTHER = "hash:/etc/postfix/other"
OUT = "out"
SHOWN = f"""\
# Our own.
[settings]
biff = false

[tables."{TABLE}"]  # the ways
"Example.ORG" = "smtp:[a]"  # until May
"gone.example" = false

[tables."{TABLE}".rules]
unmanaged = "report"

[tables."{OTHER}"]
"Example.ORG" = "theirs"
"""


def edit(text: str, wishes: Wishes, instance: str = names.DEFAULT_INSTANCE) -> str:
    return edited(Source(PATH, text.encode()), wishes, instance, TABLE)


def says(text: str, instance: str = names.DEFAULT_INSTANCE, table: str = TABLE) -> Wishes:
    found = stated(Source(PATH, text.encode()), instance, table)
    return {**dict.fromkeys(found.use_default), **found.settings}


def test_a_value_is_replaced_where_it_stands_however_its_key_is_written() -> None:
    found = edit(SHOWN, {"example.org": "smtp:[b]", "gone.example": "x"})
    after = SHOWN.replace('"smtp:[a]"', '"smtp:[b]"').replace(
        'gone.example" = false', 'gone.example" = "x"'
    )
    assert found == after
    assert edit(SHOWN, {"example.org": None}) == SHOWN.replace('"smtp:[a]"', "false")


def test_a_new_entry_comes_below_the_last_one_and_above_the_rules() -> None:
    found = edit(SHOWN, {"new.example": "y", "none": None})
    last = '"gone.example" = false\n'
    assert found == SHOWN.replace(last, f'{last}"new.example" = "y"\nnone = false\n')


def test_a_table_that_is_not_there_is_added() -> None:
    assert edit("# x\n", {"a": "b"}) == f'# x\n\n[tables."{TABLE}"]\na = "b"\n'
    out = edit("", {"a": "b"}, OUT)
    assert says(out, OUT) == {"a": "b"}
    assert f'[instances.{OUT}.tables."{TABLE}"]' in out


def test_rules_alone_are_no_place_for_entries() -> None:
    text = f'[tables."{TABLE}".rules]\nunmanaged = "report"\n'
    found = edit(text, {"a": "b"})
    assert says(found) == {"a": "b"}
    assert 'unmanaged = "report"' in found


@pytest.mark.parametrize(
    "text", [f'tables."{TABLE}".a = "b"\n', f'[tables]\n"{TABLE}" = {{ a = "b" }}\n']
)
def test_in_a_dotted_or_inline_table_one_is_replaced_and_none_added(text: str) -> None:
    assert says(edit(text, {"a": "c"})) == {"a": "c"}
    with pytest.raises(ConfigError, match=r"edit it by hand|not valid TOML"):
        edit(text, {"n": "c"})


def test_what_is_removed_is_gone_and_the_rest_stays() -> None:
    found = removed(Source(PATH, SHOWN.encode()), ["example.org"], names.DEFAULT_INSTANCE, TABLE)
    assert says(found) == {"gone.example": None}
    assert says(found, table=OTHER) == {"example.org": "theirs"}
    assert "# Our own." in found


_KEYS = st.text(min_size=1, max_size=12).map(folded) | st.sampled_from(["example.org"])
_VALUES = st.text(max_size=12).map(lambda text: text.strip(BLANKS))


@given(st.dictionaries(_KEYS, st.none() | _VALUES, min_size=1, max_size=4))
def test_it_says_what_was_wished_and_all_else_stays(wishes: dict[str, str | None]) -> None:
    found = edit(SHOWN, wishes)
    assert says(found) == {**says(SHOWN), **wishes}
    assert says(found, table=OTHER) == says(SHOWN, table=OTHER)
    for kept in ("# Our own.", "# the ways", "# until May", 'unmanaged = "report"', "biff = false"):
        assert kept in found
    for key in wishes:
        assert key_of(key) in found or folded("Example.ORG") == key
