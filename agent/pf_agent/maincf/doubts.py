"""What Postfix accepts but harms mail: a name without a domain, a domain in two lists. Pure.

Its programs do not warn of the former, and of the latter only when mail for the domain arrives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from pf_agent.maincf.lists import words

_NAME: Final = "myhostname"
# What the other side hears; a site that sets these itself does not need a better myhostname.
_GREETINGS: Final = ("smtp_helo_name", "smtpd_banner")
# What Postfix appends to a name without a dot (postconf(5), "mydomain").
_NO_DOMAIN: Final = "localdomain"
# The pairs that resolve_addr() in trivial-rewrite/resolve.c warns about when mail for the domain
# arrives, in its words; and mydestination with relay_domains: such mail is delivered here, not
# relayed.
_PAIRS: Final = (
    ("mydestination", "virtual_alias_domains"),
    ("mydestination", "virtual_mailbox_domains"),
    ("mydestination", "relay_domains"),
    ("virtual_alias_domains", "virtual_mailbox_domains"),
    ("virtual_alias_domains", "relay_domains"),
    ("virtual_mailbox_domains", "relay_domains"),
)


def doubts(explicit: Mapping[str, str], effective: Mapping[str, str]) -> Iterator[str]:
    """Yield what is to be reported; each text begins with a parameter.

    `explicit` are the parameters of main.cf as written there, `effective` all of them, expanded.
    """
    yield from _name(explicit, effective)
    for one, other in _PAIRS:
        # At the oldest compatibility_level relay_domains defaults to mydestination.
        if other == "relay_domains" and one in explicit.get(other, one):
            continue
        others = _domains(effective, other)
        for domain in _domains(effective, one):
            if domain in others:
                what = f"do not list domain {domain} in BOTH {one} and {other}"
                yield f"{one}: {what}; remove it from one of them"


def _name(explicit: Mapping[str, str], effective: Mapping[str, str]) -> Iterator[str]:
    name = effective.get(_NAME, "")
    host, _, domain = name.partition(".")
    said = " ".join(effective.get(parameter, name) for parameter in _GREETINGS)
    if not name or domain not in ("", _NO_DOMAIN) or name not in said.split():
        return
    why = "" if _NAME in explicit else ", since this host has no full name"
    yield (
        f"{_NAME}: Postfix greets other servers as {name}{why}, and many reject mail because"
        f" of that; set the full name: pf-agent set {_NAME}={host}.example.org"
    )


def _domains(effective: Mapping[str, str], name: str) -> dict[str, None]:
    """Return the domains that a list names itself, without those in tables or files."""
    listed = [word.lower() for word in words(effective.get(name, ""))]
    without = {word[1:] for word in listed if word.startswith("!")}
    return dict.fromkeys(
        word
        for word in listed
        if word[:1].isalnum() and not set(word) & set(":/$={") and word not in without
    )
