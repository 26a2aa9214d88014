"""What values.py says, by its rules; tests/machine/test_values.py holds it to Postfix itself."""

from __future__ import annotations

import socket
from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_agent.maincf.lists import words
from pf_agent.maincf.values import fault, pair_faults, readers, reload_suffices, same

NINES = "9" * 5000
NOT_NULL = 'non-null host address bits in "10.0.0.1/8", perhaps you should use "10.0.0.0/8" instead'
TEXT = st.text("0123456789+- ,\t\r{}$()abhmsw:/.!y", max_size=12)


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("soft_bounce", "yes", "YES"),
        ("message_size_limit", "10485760", "+010485760"),
        ("smtpd_timeout", "600s", "10m"),
        ("smtpd_timeout", "10min", "10m"),
        ("smtpd_timeout", "300", "300s"),
        ("maximal_queue_lifetime", "5", "120h"),
        ("mydestination", "$myhostname, localhost", "$myhostname localhost"),
        ("mynetworks", "127.0.0.0/8 [::1]/128", " 127.0.0.0/8,\t[::1]/128,"),
        ("smtpd_etrn_restrictions", "check_x {a b}, reject", "check_x {a b} reject"),
        ("inet_interfaces", "192.0.2.1, 192.0.2.2", "192.0.2.1 192.0.2.2"),
        ("alias_maps", "hash:/etc/aliases ${x?{a, b}}", "hash:/etc/aliases,${x?{a, b}}"),
        ("no_such_parameter", "a", "a"),
        ("smtpd_timeout", "bogus", "bogus"),
    ],
)  # fmt: skip
def test_the_same_to_postfix(name: str, ours: str, theirs: str) -> None:
    assert same(name, ours, theirs)
    assert same(name, theirs, ours)


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("soft_bounce", "yes", "yes,"),
        ("soft_bounce", "yes", "no"),
        ("soft_bounce", "yes,", "YES,"),
        ("message_size_limit", "10", "10M"),
        ("smtpd_timeout", "600s", "10M"),
        ("smtpd_timeout", "0", "00"),  # both below the least
        ("smtpd_timeout", "${x}0", "${x}0s"),
        ("postscreen_dnsbl_max_ttl", "3600", "3600s"),  # its default unit depends on another
        ("mydestination", "a b", "b a"),
        ("mydestination", "a b", "a\vb"),
        ("mydestination", "", ","),
        ("mydestination", "a $(b) c", "a, $(b) c"),
        ("mydestination", "$ a", "$, a"),
        ("mydestination", "{a b}", "{a, b}"),
        ("inet_interfaces", "all", "all,"),
        ("inet_interfaces", "a b", "a\rb"),
        ("smtpd_banner", "$myhostname ESMTP", "$myhostname  ESMTP"),
        ("smtpd_banner", "a, b", "a b"),
        ("mailbox_command", "a, b", "a b"),
        ("myhostname", "a", "A"),
        ("no_such_parameter", "yes", "YES"),
        ("", "yes", "YES"),
    ],
)
def test_not_the_same(name: str, ours: str, theirs: str) -> None:
    assert not same(name, ours, theirs)
    assert not same(name, theirs, ours)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("smtpd_timeout", "bogus", "parameter smtpd_timeout: bad time value or unit: bogus"),
        ("smtpd_timeout", "", "parameter smtpd_timeout: bad time value or unit: "),
        ("smtpd_timeout", "h", "invalid smtpd_timeout: 0 (min 1)"),
        ("in_flow_delay", "11", "invalid in_flow_delay: 11 (max 10)"),
        ("in_flow_delay", "3551w", "parameter in_flow_delay: bad time value or unit: 3551w"),
        ("message_size_limit", "ten", "bad numerical configuration: message_size_limit = ten"),
        ("bounce_size_limit", NINES, f"bad numerical configuration: bounce_size_limit = {NINES}"),
        ("line_length_limit", "511", "invalid line_length_limit parameter value 511 < 512"),
        ("fork_attempts", "2147483648", "bad numerical configuration: fork_attempts = 2147483648"),
        ("soft_bounce", "true", "bad boolean configuration: soft_bounce = true"),
        ("smtpd_banner", "", "bad string length 0 < 1: smtpd_banner = "),
        ("smtpd_expansion_filter", "", "bad string length (0 < 1): smtpd_expansion_filter = "),
        ("default_verp_delimiters", "+", "bad string length 1 < 2: default_verp_delimiters = +"),
        ("default_verp_delimiters", "é", ""),
        ("default_verp_delimiters", "éé", "bad string length 4 > 2: default_verp_delimiters = éé"),
        ("mynetworks", "10.0.0.0/99", 'mynetworks: bad mask length in "10.0.0.0/99"'),
        ("mynetworks", "a 10.0.0.1/8", f"mynetworks: {NOT_NULL}"),
        ("smtpd_timeout", "7\t\udcff", "parameter smtpd_timeout: bad time value or unit: 7??"),
        ("mynetworks", "/etc/x hash:/etc/y a.example .b 10.0.0.999 !10.0.0.0/8 [FE80::]/64", ""),
        ("mynetworks", "fe80::/64", "unsupported dictionary type: fe80"),
        ("no_such_parameter", "", ""),
        ("smtpd_timeout time", "bogus", ""),
    ],
)  # fmt: skip
def test_faults(name: str, value: str, words: str) -> None:
    assert fault(name, value) == words


@pytest.mark.parametrize(
    ("message", "mailbox", "words"),
    [
        ("10", "5", "configuration error: {} is smaller than message_size_limit"),
        ("0", "5", "configuration error: {} is limited but message_size_limit is unlimited"),
        ("10", "0", ""),
        ("10", "10", ""),
        ("10", "ten", ""),
    ],
)
@pytest.mark.parametrize("name", ["mailbox_size_limit", "virtual_mailbox_limit"])
def test_pairs(name: str, message: str, mailbox: str, words: str) -> None:
    found = pair_faults({"message_size_limit": message, name: mailbox})
    assert found == ({name: words.format(name)} if words else {})


def test_pairs_judge_nothing_that_is_missing() -> None:
    assert pair_faults({"mailbox_size_limit": "5"}) == {}
    assert pair_faults({"message_size_limit": "5"}) == {}


def test_readers() -> None:
    assert readers("smtpd_timeout") == ("smtpd",)
    assert readers("mynetworks") == ("global",)
    assert readers("no_such_parameter") == ()


def test_reload() -> None:
    assert reload_suffices(["mynetworks", "smtpd_banner"])
    assert reload_suffices([])
    assert not reload_suffices(["mynetworks", "inet_interfaces"])
    assert not reload_suffices(["no_such_parameter"])


@given(TEXT)
def test_words_are_what_lies_between_separators(value: str) -> None:
    found = list(words(value))
    assert "" not in found
    assert list(words(", ".join(found))) == found or value.count("{") != value.count("}")


@given(st.sampled_from(["mynetworks", "smtpd_timeout", "soft_bounce", "smtpd_banner"]), TEXT, TEXT)
def test_the_same_is_an_equivalence(name: str, ours: str, theirs: str) -> None:
    assert same(name, ours, ours)
    assert same(name, ours, theirs) == same(name, theirs, ours)


@given(st.text("0123456789abcdef:.", max_size=24) | st.ip_addresses(v=6).map(str))
def test_addresses_are_those_of_the_c_library(address: str) -> None:
    if ":" not in address:
        return
    try:
        socket.inet_pton(socket.AF_INET6, address)
        said = ""
    except OSError:
        said = f'mynetworks: bad address pattern: "{address}"'
    assert fault("mynetworks", f"[{address}]") == said


@given(st.ip_addresses(v=6) | st.integers(0, 2**49).map(IPv6Address), st.integers(0, 128))
def test_addresses_are_written_as_by_the_c_library(address: IPv6Address, length: int) -> None:
    packed = int(address)
    right = packed >> (128 - length) << (128 - length)
    found = fault("mynetworks", f"[{address}]/{length}")
    if packed == right:
        assert found == ""
    else:
        written = socket.inet_ntop(socket.AF_INET6, right.to_bytes(16, "big"))
        assert f'use "{written}/{length}"' in found
