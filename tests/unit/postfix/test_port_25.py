"""Where port 25 is asked, from where, and how, by what its service is told."""

from __future__ import annotations

import pytest

from pf_agent.postfix.port_25 import address, demands_tls, is_wrapped, stranger, wants_proxy

FRIENDS = "127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128"
OWN = ("192.0.2.10", "198.51.100.7", "2001:db8::10")


@pytest.mark.parametrize(
    ("bound", "interfaces", "protocols", "asked"),
    [
        ("", "all", "all", "127.0.0.1"),
        ("", "", "ipv4", "127.0.0.1"),
        ("", "all", "ipv6", "::1"),
        ("", "all", "ipv6, ipv4", "127.0.0.1"),
        ("", "loopback-only", "ipv6", "::1"),
        ("", "mail.example, localhost", "all", "127.0.0.1"),
        ("", "192.0.2.10, 127.0.0.1", "all", "127.0.0.1"),
        ("", "192.0.2.10", "all", "192.0.2.10"),
        ("", "[2001:db8::10]", "all", "2001:db8::10"),
        ("", "192.0.2.10, 2001:db8::10", "ipv6", "2001:db8::10"),
        ("", "127.0.0.1 2001:db8::10", "ipv6", "2001:db8::10"),
        ("", "[::1] 192.0.2.10", "ipv6", "::1"),
        ("", "mail.example", "all", "mail.example"),
        ("", "192.0.2.10", "ipv6", "192.0.2.10"),
        ("192.0.2.10", "all", "all", "192.0.2.10"),
    ],
)
def test_where_it_is_asked(bound: str, interfaces: str, protocols: str, asked: str) -> None:
    assert address(bound, interfaces, protocols) == asked


@pytest.mark.parametrize(
    ("asked", "interfaces", "protocols", "networks", "found"),
    [
        ("127.0.0.1", "all", "all", FRIENDS, "192.0.2.10"),
        ("127.0.0.1", "all", "all", f"{FRIENDS}, 192.0.2.0/24", "198.51.100.7"),
        ("127.0.0.1", "all", "all", f"{FRIENDS} 192.0.2.10 198.51.100.7", "2001:db8::10"),
        ("127.0.0.1", "all", "ipv4", f"{FRIENDS} 192.0.2.10 198.51.100.7", ""),
        ("127.0.0.1", "all", "all", f"{FRIENDS} 0.0.0.0/0 [::]/0", ""),
        ("127.0.0.1", "all", "all", f"!192.0.2.10 192.0.2.0/24 {FRIENDS}", "192.0.2.10"),
        ("127.0.0.1", "all", "all", f"!!192.0.2.10 {FRIENDS}", "198.51.100.7"),
        # What a table holds is not known: asked from there, at worst once more as a friend.
        ("127.0.0.1", "all", "all", f"hash:/etc/postfix/friends /x {FRIENDS}", "192.0.2.10"),
        ("127.0.0.1", "all", "all", "", ""),
        ("::1", "all", "ipv6", FRIENDS, "2001:db8::10"),
        # Nobody outside comes to loopback.
        ("127.0.0.1", "loopback-only", "all", FRIENDS, ""),
        ("127.0.0.1", "127.0.0.1, [::1]", "all", FRIENDS, ""),
        ("127.0.0.1", "127.0.0.1, 192.0.2.10", "all", f"{FRIENDS} 192.0.2.0/24", "198.51.100.7"),
        ("127.0.0.1", "127.0.0.1 192.0.2.10", "all", f"{FRIENDS} 192.0.2.10 198.51.100.7", ""),
        # Asked as a stranger already.
        ("192.0.2.10", "192.0.2.10", "all", FRIENDS, ""),
        ("192.0.2.10", "192.0.2.10", "all", f"{FRIENDS} 192.0.2.10", "198.51.100.7"),
        ("mail.example", "mail.example", "all", FRIENDS, "192.0.2.10"),
    ],
)
def test_who_asks_as_a_stranger(
    asked: str, interfaces: str, protocols: str, networks: str, found: str
) -> None:
    assert stranger(asked, interfaces, protocols, networks, OWN) == found


def test_what_is_near_is_no_stranger() -> None:
    own = ["127.0.0.2", "fe80::1", "169.254.1.1", "nonsense"]
    assert stranger("127.0.0.1", "all", "all", "127.0.0.1", own) == ""


@pytest.mark.parametrize(
    ("settings", "is_demanded"),
    [
        ({}, False),
        ({"smtpd_tls_security_level": "none"}, False),
        ({"smtpd_tls_security_level": "May", "smtpd_enforce_tls": "yes"}, False),
        ({"smtpd_tls_security_level": "encrypt"}, True),
        ({"smtpd_tls_security_level": "Secure"}, True),
        ({"smtpd_tls_security_level": "", "smtpd_enforce_tls": "yes"}, True),
        ({"smtpd_tls_security_level": "", "smtpd_enforce_tls": "no"}, False),
    ],
)
def test_where_tls_is_demanded(settings: dict[str, str], is_demanded: bool) -> None:
    assert demands_tls(settings) == is_demanded


def test_each_program_has_its_own_word_for_the_proxy() -> None:
    settings = {
        "smtpd_upstream_proxy_protocol": "haproxy",
        "postscreen_upstream_proxy_protocol": "",
    }
    assert wants_proxy("smtpd", settings)
    assert not wants_proxy("postscreen", settings)
    assert not wants_proxy("dovecot", settings)


def test_tls_before_the_greeting() -> None:
    assert is_wrapped("smtpd", {"smtpd_tls_wrappermode": "yes"})
    assert not is_wrapped("smtpd", {"smtpd_tls_wrappermode": "no"})
    assert not is_wrapped("postscreen", {"smtpd_tls_wrappermode": "yes"})
