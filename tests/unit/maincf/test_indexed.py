"""Which indexed tables are named, and when a draft takes the old index's place."""

from __future__ import annotations

import pytest

from pf_agent.maincf.aliases import Source
from pf_agent.maincf.indexed import (
    Draft,
    Table,
    indexed_in,
    not_built,
    not_exchanged,
    of_parameter,
    wanted,
)
from pf_agent.model import OnWarning, TableRules

HOME = "/etc/postfix"
# As Debian's postinst leaves it: whoever has this has no table to look after.
DEBIANS = b"""\
alias_maps = hash:/etc/aliases
alias_database = hash:/etc/aliases
smtp_tls_session_cache_database = btree:${data_directory}/smtp_scache
"""
MASTER_CF = b"""\
smtp      inet  n       -       y       -       -       smtpd
submission inet n       -       y       -       -       smtpd
    -o smtpd_sender_login_maps=hash:/etc/postfix/logins
    -o { smtpd_client_restrictions = check_client_access btree:/etc/postfix/in, reject }
    -o smtpd_tls_session_cache_database=btree:/var/lib/postfix/smtpd_scache
#cleanup  unix  n       -       y       -       0       cleanup
#   -o virtual_alias_maps=hash:/etc/postfix/none
"""


def said(value: str, before: str = "") -> list[str]:
    return [t.said for t in indexed_in(f"{before}transport_maps = {value}\n".encode(), b"", HOME)]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("hash:/a", ["hash:/a"]),
        ("hash:/a, btree:/b\n  lmdb:/c cdb:/d", ["hash:/a", "btree:/b", "lmdb:/c", "cdb:/d"]),
        ("dbm:/a sdbm:/b", ["dbm:/a", "sdbm:/b"]),
        ("proxy:hash:/a", ["hash:/a"]),
        ("pipemap:{hash:/a, regexp:/r}", ["hash:/a"]),
        ("unionmap:{static:x,proxy:btree:/b}", ["btree:/b"]),
        ("{ hash:/a, search_order = sender }", ["hash:/a"]),
        ("!hash:/a", ["hash:/a"]),
        ("reject_unauth_destination, check_client_access hash:/a", ["hash:/a"]),
        ("hash:/a hash:/a", ["hash:/a"]),
        ("hash:$config_directory/a", ["hash:/etc/postfix/a"]),
        ("$default_database_type:/a", ["hash:/a"]),
        # What only Postfix can tell, and what is no index.
        ("hash:$unknown/a", []),
        ("${x?{hash:/$y}}", []),
        ("hash:a, regexp:/r, cidr:/c, pcre:/p, texthash:/t, static:hash, /hash:/a", []),
        ("ldap:/etc/postfix/hash", []),
    ],
)
def test_a_table_is_found_wherever_it_stands(value: str, found: list[str]) -> None:
    assert said(value) == found


def test_a_name_of_main_cf_is_put_in() -> None:
    assert said("$mine", "mine = btree:/b\n") == ["btree:/b"]
    assert said("lmdb:$d/x", "d = /srv\n") == ["lmdb:/srv/x"]


def test_each_instance_has_its_own_directory() -> None:
    (table,) = indexed_in(b"x = hash:$config_directory/x\n", b"", "/etc/postfix-out")
    assert table.source == Source("/etc/postfix-out/x", "/etc/postfix-out/x.db")


def test_the_options_of_master_cf_count() -> None:
    found = indexed_in(b"", MASTER_CF, HOME)
    assert [table.said for table in found] == ["hash:/etc/postfix/logins", "btree:/etc/postfix/in"]


def test_newaliases_and_caches_are_left_out() -> None:
    assert indexed_in(DEBIANS, b"", HOME) == ()
    assert indexed_in(b"address_verify_map = btree:/var/lib/postfix/verify\n", b"", HOME) == ()


def test_what_only_alias_maps_has_is_built_by_postalias() -> None:
    text = b"alias_maps = hash:/etc/aliases, hash:/etc/lists\nx_maps = $alias_maps hash:/etc/x\n"
    assert [(t.said, t.program) for t in indexed_in(text, b"", HOME)] == [
        ("hash:/etc/lists", "postalias"),
        ("hash:/etc/x", "postmap"),
    ]


def test_so_many_are_looked_after() -> None:
    text = "".join(f"a{n} = hash:/{n}\n" for n in range(300))
    assert len(indexed_in(text.encode(), b"", HOME)) == 200


def test_those_of_one_parameter() -> None:
    text = b"a = hash:/a\ntransport_maps = $a hash:/b\nc = hash:/c\n"
    assert [t.path for t in of_parameter("transport_maps", text, HOME)] == ["/a", "/b"]
    assert of_parameter("nosuch", text, HOME) == ()


def test_rules_say_which_are_left_alone() -> None:
    tables = (Table("hash", "/etc/postfix/a"), Table("hash", "/etc/postfix/generated/b"))
    assert wanted(tables, TableRules()) == tables
    assert wanted(tables, TableRules(ignore=("/etc/postfix/generated/*",))) == tables[:1]
    assert wanted(tables, TableRules(rebuild=False)) == ()


@pytest.mark.parametrize(
    ("draft", "rule", "why"),
    [
        (Draft("no", 0, (), 1, None), OnWarning.BUILD, "no"),
        (Draft("", 0, (), 1, 0), OnWarning.KEEP, ""),  # emptied on purpose
        (Draft("", 0, ("/a:1: odd",), 1, 1), OnWarning.KEEP, ""),  # Postfix said nothing
        (Draft("", 1, ("/a:1: bad",), 1, 1), OnWarning.KEEP, "/a:1: bad"),
        (Draft("", 2, ("/a:1: bad", "/a:2: bad"), 1, 1), OnWarning.KEEP, "/a:1: bad; /a:2: bad"),
        (Draft("", 1, ("/a:1: bad",), 1, 1), OnWarning.BUILD, ""),
        (Draft("", 1, ("/a:1: bad",), 1, 0), OnWarning.BUILD, "/a:1: bad; no valid line is left"),
        (Draft("", 1, ("/a:1: bad",), 1, None), OnWarning.BUILD, ""),
    ],
)
def test_what_keeps_the_old_index(draft: Draft, rule: OnWarning, why: str) -> None:
    assert not_built(draft, rule) == why


def test_an_index_of_two_files_is_not_replaced() -> None:
    assert "two files" in not_exchanged(Table("sdbm", "/a"))
    assert not_exchanged(Table("hash", "/a")) == ""
