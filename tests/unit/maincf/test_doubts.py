"""What Postfix takes and mail suffers from."""

from __future__ import annotations

import pytest

from pf_agent.maincf.doubts import doubts

NAMED = {"myhostname": "mail.example.org"}
SAY = "do not list domain"


@pytest.mark.parametrize(
    ("name", "is_told"),
    [
        ("mail.example.org", False),
        ("vm", True),
        ("vm.localdomain", True),
        ("vm.localdomain.org", False),
        ("localhost.localdomain", True),
    ],
)
def test_a_name_without_a_domain_is_told(name: str, is_told: bool) -> None:
    found = list(doubts({"myhostname": name}, {"myhostname": name}))
    assert bool(found) is is_told
    for said in found:
        host = name.partition(".")[0]
        assert said.startswith(f"myhostname: Postfix greets other servers as {name}, and many ")
        assert said.endswith(f"pf-agent set myhostname={host}.example.org")
    unset = list(doubts({}, {"myhostname": name}))
    assert all("since this host has no full name" in said for said in unset)


def test_a_name_that_nobody_hears_is_not_told() -> None:
    heard = {"myhostname": "vm", "smtp_helo_name": "mx.a.org", "smtpd_banner": "mx.a.org ESMTP vm2"}
    assert list(doubts({}, heard)) == []
    assert list(doubts({}, heard | {"smtpd_banner": "vm ESMTP"})) != []


@pytest.mark.parametrize(
    ("explicit", "effective", "told"),
    [
        (
            {},
            {"mydestination": "a.org, B.org c.org", "virtual_mailbox_domains": "b.org,x.org"},
            ["mydestination", "b.org", "virtual_mailbox_domains"],
        ),
        (
            {"relay_domains": "a.org"},
            {"mydestination": "a.org", "relay_domains": "a.org"},
            ["mydestination", "a.org", "relay_domains"],
        ),
        # The default of old, and written out.
        ({}, {"mydestination": "a.org", "relay_domains": "a.org"}, []),
        (
            {"relay_domains": "$mydestination"},
            {"mydestination": "a.org", "relay_domains": "a.org"},
            [],
        ),
        (
            {},
            {"virtual_alias_domains": "a.org", "virtual_mailbox_domains": "a.org"},
            ["virtual_alias_domains", "a.org", "virtual_mailbox_domains"],
        ),
        # What is in a table or a file, and what is excluded, is not looked at.
        (
            {},
            {
                "mydestination": "hash:/a, /b, !a.org, .c.org, inline:{a.org=1}",
                "virtual_alias_domains": "hash:/a, /b, a.org, .c.org, inline:{a.org=1}",
            },
            [],
        ),
        ({}, {"mydestination": "!a.org, a.org", "virtual_alias_domains": "a.org"}, []),
    ],
)
def test_a_domain_of_two_lists_is_told(
    explicit: dict[str, str], effective: dict[str, str], told: list[str]
) -> None:
    expected = []
    if told:
        one, domain, other = told
        what = f"{SAY} {domain} in BOTH {one} and {other}"
        expected = [f"{one}: {what}; remove it from one of them"]
    assert list(doubts(explicit, NAMED | effective)) == expected
