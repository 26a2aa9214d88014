"""The restrictions of smtpd(8): which names exist, and what argument each takes. Pure.

The names are in known_names.py, from generic_checks() in smtpd/smtpd_check.c. A client that reaches
an unknown one gets "451 4.3.5 Server configuration error".
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Final

from pf_agent.maincf import known_names
from pf_agent.maincf.inventory import Inventory, reference
from pf_agent.maincf.lists import words
from pf_agent.maincf.slips import nearest
from pf_agent.maincf.tables import tables
from pf_agent.model import Presence, Reference

_KIND: Final = "restriction"
# What follows these is never reached (generic_checks()), unless it is only warned about.
_LAST: Final = ("permit", "reject", "defer", "check_relay_domains")
_WARN: Final = "warn_if_reject"
_WANTED: Final = {
    "table": "a table, type:name",
    "policy": "a policy server, as unix:private/policy",
    "number": "a number of seconds",
    "domain": "the domain of a list",
}


def restrictions(parameter: str, value: str, inventory: Inventory) -> Iterator[Reference]:
    """Yield what a list of restrictions names."""
    yield from _listed(parameter, list(words(value)), inventory, ())


def _listed(
    parameter: str, said: Sequence[str], inventory: Inventory, within: tuple[str, ...]
) -> Iterator[Reference]:
    """`within`: the classes that led here. A class that leads back to itself is not followed."""
    is_warning = False
    rest = iter(range(len(said)))
    for at in rest:
        name = said[at]
        argument = argument_of(name)
        if argument:
            follows = said[at + 1] if at + 1 < len(said) else ""
            yield from _with_argument(parameter, name, argument, follows, inventory)
            next(rest, None)
        elif argument is None:
            yield from _other(parameter, name, inventory, within)
        else:
            yield reference(parameter, _KIND, name, Presence.EXISTS, "smtpd(8)")
        if name.lower() in _LAST and not is_warning:
            return
        is_warning = name.lower() == _WARN


def argument_of(name: str) -> str | None:
    """Return what a restriction takes as its argument, "" for nothing; None if it is unknown.

    Its name may be in upper or lower case.
    """
    name = name.lower()
    if not name.replace("_", "").isalnum():
        return None
    start = known_names.RESTRICTIONS.find(f"\n{name} ")
    if start >= 0:
        return known_names.RESTRICTIONS[start + 1 :].partition("\n")[0].partition(" ")[2]
    return "" if f"\n{name}\n" in known_names.RESTRICTIONS else None


def _with_argument(
    parameter: str, name: str, wanted: str, follows: str, inventory: Inventory
) -> Iterator[Reference]:
    is_right = {
        "table": ":" in follows,
        "policy": ":" in follows,
        "number": follows.isascii() and follows.isdigit(),
        # If another restriction's name follows, it was meant to be the next restriction.
        "domain": bool(follows) and argument_of(follows) is None,
    }[wanted]
    if "$" in follows:
        return
    presence = Presence.EXISTS if is_right else Presence.ABSENT
    instead = f', not "{follows}"' if follows else ""
    why = f"{name} lacks its argument: {_WANTED[wanted]} must follow it{instead}"
    yield reference(parameter, _KIND, name, presence, "smtpd(8)", why)
    if is_right and wanted == "table":
        yield from tables(parameter, follows, inventory)
    elif is_right and wanted == "policy":
        yield from _policy(parameter, follows, inventory)


def _policy(parameter: str, said: str, inventory: Inventory) -> Iterator[Reference]:
    """A policy server (SMTPD_POLICY_README): one that Postfix does not run may be unavailable."""
    endpoint = next(words(said[1:].rpartition("}")[0]), "") if said.startswith("{") else said
    kind, _, path = endpoint.partition(":")
    presence = inventory.socket(path) if kind == "unix" else Presence.UNKNOWN
    why = f"no service in master.cf creates {path}, and there is no such socket in the queue"
    yield reference(parameter, "policy server", endpoint, presence, path, why)


def _other(
    parameter: str, name: str, inventory: Inventory, within: tuple[str, ...]
) -> Iterator[Reference]:
    """A name that is no built-in restriction of smtpd: a table, a class, or unknown."""
    if "$" in name or name in within:
        return
    if name.startswith("{") or ":" in name:
        if parameter in known_names.WITHOUT_ACCESS and not within:
            why = f"a check_..._access must come before {name} here; write which one"
            yield reference(parameter, _KIND, name, Presence.ABSENT, why=why)
        yield from tables(parameter, name, inventory)
        return
    classes = list(words(inventory.settings.get("smtpd_restriction_classes", "")))
    if name not in classes:
        yield _unknown(parameter, name, classes)
    elif name in inventory.settings:
        yield reference(parameter, "class", name, Presence.EXISTS, "smtpd_restriction_classes")
        inner = list(words(inventory.settings[name]))
        for each in _listed(name, inner, inventory, (*within, name)):
            # A newly named class also asks for what is in it.
            by_way = f" ({parameter} names {name})"
            yield replace(each, why=each.why + by_way) if each.why else each


def _unknown(parameter: str, name: str, classes: Collection[str]) -> Reference:
    known = [line.partition(" ")[0] for line in known_names.RESTRICTIONS.split("\n") if line]
    meant = nearest(name.lower(), [*known, *classes])
    hint = f"; did you mean {meant}?" if meant else "; see smtpd_restriction_classes"
    why = f'smtpd knows no restriction "{name}"{hint}'
    return reference(parameter, _KIND, name, Presence.ABSENT, "smtpd(8)", why)
