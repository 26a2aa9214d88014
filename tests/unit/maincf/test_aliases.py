"""Which files hold the aliases; those that are not there, in the words of who would miss them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pf_agent.maincf.aliases import Source, buildable, faults, named_in, source_of
from pf_agent.model import Fault

ABSENT = "No such file or directory"


def there(*paths: str) -> Callable[[str], bool]:
    return frozenset(paths).__contains__


@pytest.mark.parametrize(
    ("maps", "words"),
    [
        ("hash:/a", "open database /a.db"),
        ("btree:/a", "open database /a.db"),
        ("lmdb:/a", "open database /a.lmdb"),
        ("cdb:/a", "open database /a.cdb"),
        ("texthash:/a", "open database /a"),
        ("regexp:/a", "open /a"),
        ("pcre:/a", "open /a"),
        ("cidr:/a", "open /a"),
        ("proxy:hash:/a", "open database /a.db"),
        ("nis:mail.aliases, hash:/a", "open database /a.db"),
    ],
)
def test_a_table_that_is_not_there(maps: str, words: str) -> None:
    assert faults({"alias_maps": maps}, there()) == (Fault("alias_maps", f"{words}: {ABSENT}"),)


@pytest.mark.parametrize(
    "maps",
    [
        *("", "nis:mail.aliases", "ldap:/a", "mysql:/a", "static:/a", "unionmap:{hash:/a}"),
        *("hash:relative", "hash:/there", "regexp:/there.db", "/a"),
    ],
)
def test_what_is_there_or_cannot_be_told(maps: str) -> None:
    assert faults({"alias_maps": maps}, there("/there.db")) == ()


def test_a_source_that_newaliases_would_miss() -> None:
    values = {"alias_database": "hash:/a, hash:/b, regexp:/c"}
    assert faults(values, there("/b")) == (Fault("alias_database", f"open /a: {ABSENT}"),)


def test_a_table_that_newaliases_will_make_is_not_missing() -> None:
    values = {"alias_maps": "hash:/a", "alias_database": "hash:/a"}
    assert faults(values, there("/a")) == ()
    assert buildable(values, there("/a")) == {"/a.db"}


def test_a_table_of_another_type_is_not_the_one_that_is_made() -> None:
    values = {"alias_maps": "lmdb:/a", "alias_database": "hash:/a"}
    assert faults(values, there("/a")) == (Fault("alias_maps", f"open database /a.lmdb: {ABSENT}"),)


def test_debians_file_is_made_where_it_is_missing() -> None:
    values = {"alias_maps": "hash:/etc/aliases", "alias_database": "hash:/etc/aliases"}
    assert faults(values, there()) == ()


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("", ["/etc/aliases"]),
        ("alias_database = hash:/etc/mail/aliases\n", ["/etc/mail/aliases"]),
        ("alias_database = lmdb:/srv/a, hash:/srv/b\n", ["/srv/a", "/srv/b"]),
        ("alias_database =\n  hash:/srv/a,\n  hash:/srv/b\n", ["/srv/a", "/srv/b"]),
        ("alias_database = hash:/srv/a\nalias_database = hash:/srv/b\n", ["/srv/b"]),
        ("alias_maps = hash:/srv/a, nis:x\nalias_database = $alias_maps\n", ["/srv/a"]),
        ("a = ${b}\nb = hash:/srv/a\nalias_database = $a $(c)\nc=hash:/c", ["/srv/a", "/c"]),
        ("alias_maps = hash:/srv/a\n", ["/etc/aliases"]),
        ("alias_database = $alias_maps\n", ["/etc/aliases"]),
        ("#alias_database = hash:/srv/a\n", ["/etc/aliases"]),
        ("alias_database =\n", []),
        ("alias_database = hash:$config_directory/aliases\n", ["/etc/postfix/aliases"]),
        ("mydomain = x.test\nalias_database = hash:/srv/$mydomain/a\n", ["/srv/x.test/a"]),
        ("alias_database = hash:aliases, nis:mail.aliases, texthash:/a, proxy:hash:/b\n", []),
        ("alias_database = /srv/a\n", ["/srv/a"]),
    ],
)
def test_the_files_that_newaliases_reads(text: str, paths: list[str]) -> None:
    named = named_in(text.encode())
    assert [source.path for source in named.sources] == paths
    assert named.is_all


@pytest.mark.parametrize(
    "value", ["hash:/srv/$mydomain/aliases", "$alias_database", "$a", "$no_such_name", "${a?b}"]
)
def test_a_name_that_cannot_be_told(value: str) -> None:
    text = f"alias_database = hash:/srv/a, {value}\na = $a\n"
    named = named_in(text.encode())
    assert not named.is_all
    assert {source.path for source in named.sources} <= {"/srv/a"}


@pytest.mark.parametrize(
    ("word", "database"),
    [("hash:/a", "/a.db"), ("btree:/a", "/a.db"), ("lmdb:/a", "/a.lmdb"), ("/a", "/a.cdb")],
)
def test_a_database_is_beside_its_source(word: str, database: str) -> None:
    assert source_of(word, "cdb") == Source("/a", database)
