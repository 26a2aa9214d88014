"""The files and addresses that a value of main.cf names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_agent.maincf.things import is_address, things_in


@pytest.mark.parametrize(
    ("value", "things"),
    [
        ("inet:localhost:8891", ["inet:localhost:8891"]),
        ("inet:[::1]:8891", ["inet:[::1]:8891"]),
        ("inet:localhost:smtp", ["inet:localhost:smtp"]),
        ("unix:/run/opendkim.sock, inet:a:1", ["inet:a:1", "unix:/run/opendkim.sock"]),
        ("{ inet:a:1, connect_timeout=10s }", ["inet:a:1"]),
        ("local:/run/milter", ["unix:/run/milter"]),
        ("permit, check_policy_service inet:127.0.0.1:10023", ["inet:127.0.0.1:10023"]),
        ("check_policy_service unix:private/policy", []),
        ("tcp:127.0.0.1:9000", ["inet:127.0.0.1:9000"]),
        ("socketmap:inet:localhost:9001:virtual", ["inet:localhost:9001"]),
        ("socketmap:unix:/run/map:virtual", ["unix:/run/map"]),
        ("mysql:/etc/postfix/x.cf", ["/etc/postfix/x.cf"]),
        ("proxy:mysql:/etc/postfix/x.cf", ["/etc/postfix/x.cf"]),
        ("hash:/etc/postfix/virtual", ["/etc/postfix/virtual.db"]),
        ("proxy:btree:/a/b, cidr:/a/c", ["/a/b.db", "/a/c"]),
        ("lmdb:/a/b,cdb:/a/c dbm:/a/d", ["/a/b.lmdb", "/a/c.cdb", "/a/d.pag"]),
        ("texthash:/a/b", ["/a/b"]),
        ("/etc/ssl/private/key.pem", ["/etc/ssl/private/key.pem"]),
        ("127.0.0.1, 192.0.2.9 [2001:db8::9] all", ["127.0.0.1", "192.0.2.9", "[2001:db8::9]"]),
        ("127.0.0.0/8 [::1]/128", []),
        ("mail.example.net 20480000 yes $myhostname", []),
        ("", []),
    ],
)
def test_what_a_value_names(value: str, things: list[str]) -> None:
    assert list(things_in([value])) == things


def test_what_several_values_name_is_named_once() -> None:
    assert things_in(["inet:a:1", "inet:b:2 inet:a:1"]) == ("inet:a:1", "inet:b:2")


@given(st.lists(st.text(alphabet="inet:unix/.[]{},= \tahsh127\udcff", max_size=60)))
def test_any_value_has_its_things(values: list[str]) -> None:
    for thing in things_in(values):
        assert thing.startswith(("inet:", "unix:/", "/")) or is_address(thing)
