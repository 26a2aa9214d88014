"""What the values of main.cf refer to, and whether it is there: pure, and a table of rules.

Postfix's own programs see grammar and numbers, not names: with a misspelt restriction, a table that
is not there or a transport that master.cf has not, they start, and mail is refused or deferred.
What is across the network, what a table holds and what cannot be read is not judged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from pf_agent.maincf import known_names, values
from pf_agent.maincf.inventory import Inventory, reference
from pf_agent.maincf.lists import words
from pf_agent.maincf.restrictions import restrictions
from pf_agent.maincf.slips import nearest
from pf_agent.maincf.tables import tables
from pf_agent.model import Presence, Reference

# Whoever writes main.cf says how much there is to look for: so much is looked for.
_MOST: Final = 5000
_MOST_ABSENT: Final = 100
_MOST_CHARACTERS: Final = 1 << 16

_Finder = Callable[[str, str, Inventory], Iterator[Reference]]


class _Rule(NamedTuple):
    """What the values of some parameters name: those of a flag, or of a name like this."""

    flag: str
    name: re.Pattern[str] | None
    find: _Finder


# Those whose files the agent makes itself (aliases.py).
_ELSEWHERE: Final = ("alias_maps", "alias_database")
# No host, domain or address has one of these: such a word matches nothing, and nobody says so.
_UNLIKELY: Final = re.compile(r"[\"';]")
_NO_ADDRESS: Final = re.compile(r"[\"';|*]")
_TABLE_TYPE: Final = re.compile(r"[a-z]+:")
# `$$` is a dollar. What asks whether a parameter is set may name one that is not.
_NAMED: Final = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\}|\((\w+)\))")
_LIMIT: Final = re.compile(r"(?:>=|<=)")
_VERSION: Final = re.compile(r"(?:0[xX])?[0-9a-fA-F]*")
# The service that writes maillog_file (postlogd(8)).
_POSTLOG: Final = "postlog_service_name"


def references(explicit: Mapping[str, str], inventory: Inventory) -> tuple[Reference, ...]:
    """Return what main.cf's own values name, and the options of master.cf's services.

    `explicit` are the parameters of main.cf as they stand there. Nothing, where the installed
    Postfix is one whose names are not known.
    """
    if not inventory.is_known:
        return ()
    found: dict[Reference, None] = {}
    absent = 0
    for each in _all(explicit, inventory):
        found[each] = None
        absent += each.presence is Presence.ABSENT
        if absent >= _MOST_ABSENT or len(found) >= _MOST:
            break
    return tuple(found)


def _all(explicit: Mapping[str, str], inventory: Inventory) -> Iterator[Reference]:
    for name, raw in explicit.items():
        yield from _parameters(name, raw, inventory)
        yield from _of(name, raw, inventory.settings.get(name, raw), inventory)
    if "proxy_read_maps" in explicit and "local_recipient_maps" not in explicit:
        # The one default that smtpd opens through proxymap, which must list it.
        default = inventory.settings.get("local_recipient_maps", "")
        yield from _maps("local_recipient_maps", default, inventory)
    for service in inventory.services or ():
        options = dict(_option(setting) for setting in service.overrides())
        merged = inventory.under(options)
        settled = merged.under({name: _expanded(raw, merged) for name, raw in options.items()})
        for name, raw in options.items():
            if not {service.program, "global"} & set(values.readers(name)):
                continue  # it has no effect there
            for each in _of(name, raw, settled.settings[name], settled):
                yield replace(each, service=f"{service.name}/{service.kind}")


def _option(setting: str) -> tuple[str, str]:
    name, _, value = setting.partition("=")
    return name.strip(), value.strip()


def _expanded(value: str, inventory: Inventory) -> str:
    """Put in the plain names. The settings are expanded already, but for the options themselves."""

    def named(found: re.Match[str]) -> str:
        return inventory.settings.get(found[1] or found[2] or found[3] or "", found[0])

    for _ in range(2):
        value = _NAMED.sub(named, value)
    return value


def _of(name: str, raw: str, value: str, inventory: Inventory) -> Iterator[Reference]:
    if name in _ELSEWHERE or max(len(raw), len(value)) > _MOST_CHARACTERS:
        return
    flags = values.flags(name)
    for rule in _RULES:
        if rule.flag in flags or (rule.name is not None and rule.name.fullmatch(name)):
            yield from rule.find(name, value, inventory)


def _parameters(name: str, raw: str, inventory: Inventory) -> Iterator[Reference]:
    """The parameters that a value names. Postfix puts nothing in for one that is none."""
    if "$" not in raw or values.is_expanded_late(name):
        return
    for found in _NAMED.finditer(raw):
        named = found[1] or found[2] or found[3]
        if not named:
            continue
        is_there = named in inventory.settings
        meant = "" if is_there else nearest(named, inventory.settings)
        hint = f"; did you mean {meant}?" if meant else ""
        why = f"there is no parameter {named}, so nothing stands for {found[0]}{hint}"
        presence = Presence.EXISTS if is_there else Presence.ABSENT
        yield reference(name, "parameter", found[0], presence, "main.cf", why)


def _maps(name: str, value: str, inventory: Inventory) -> Iterator[Reference]:
    for word in words(value):
        yield from tables(name, word, inventory)


def _patterns(name: str, value: str, inventory: Inventory) -> Iterator[Reference]:
    """match_list_parse() of util/match_list.c: files, tables, and what is matched itself."""
    unlikely = _NO_ADDRESS if "networks" in values.flags(name) else _UNLIKELY
    for word in words(value):
        pattern = word.lstrip("!")
        if "$" in pattern or pattern.startswith("#"):
            continue
        if pattern.startswith("/"):
            is_mask = pattern[1:].isdigit()
            hint = "the mask of an address stands right behind it" if is_mask else "write it"
            why = f"there is no file {pattern}; {hint}, or correct the name"
            yield reference(name, "file", pattern, inventory.file(pattern), pattern, why)
        elif unlikely.search(pattern) and not _TABLE_TYPE.match(pattern):
            why = f"{word} matches nothing: blanks and commas part a list, and nothing is quoted"
            yield reference(name, "pattern", word, Presence.ABSENT, why=why)
        elif _TABLE_TYPE.match(pattern) and not pattern.startswith("["):
            yield from tables(name, pattern, inventory)


def _transport(name: str, value: str, inventory: Inventory) -> Iterator[Reference]:
    """transport:nexthop (transport(5), "RESULT FORMAT")."""
    transport, _, nexthop = value.partition(":")
    if "$" in value or not transport:
        return
    yield from _service(name, transport, inventory)
    kind, _, path = nexthop.partition(":")
    if kind == "unix" and path:
        why = f"master.cf has no service for {path}, and nobody has made that socket in the queue"
        yield reference(name, "socket", nexthop, inventory.socket(path), path, why)


def _service(name: str, value: str, inventory: Inventory) -> Iterator[Reference]:
    if not value or "$" in value:
        return
    presence = inventory.service(value)
    why = ""
    if presence is Presence.ABSENT:
        meant = nearest(value, inventory.local_services())
        hint = f"; did you mean {meant}?" if meant else "; add it there"
        why = f'master.cf has no service "{value}"{hint}'
    yield reference(name, "service", value, presence, "master.cf", why)


def _log_file(name: str, value: str, inventory: Inventory) -> Iterator[Reference]:
    """postlogd(8) writes the file; MAILLOG_README wants it in master.cf."""
    if value and value != "/dev/stdout":
        yield from _service(name, inventory.settings.get(_POSTLOG, ""), inventory)


def _sasl_path(name: str, value: str, inventory: Inventory) -> Iterator[Reference]:
    """Where Dovecot is asked; for Cyrus it is the name of a file of its own."""
    if inventory.settings.get("smtpd_sasl_type") != "dovecot" or "$" in value:
        return
    if inventory.settings.get("smtpd_sasl_auth_enable", "").lower() != "yes":
        return
    yield _server(name, value, value.removeprefix("unix:"), inventory)


def _server(name: str, said: str, path: str, inventory: Inventory) -> Reference:
    """The socket of a server that is not Postfix's: where it is away, it may come."""
    found = inventory.socket(path)
    is_there = found is Presence.EXISTS
    return reference(name, "socket", said, found if is_there else Presence.UNKNOWN, path)


def _milters(name: str, value: str, inventory: Inventory) -> Iterator[Reference]:
    """MILTER_README."""
    for word in words(value):
        said = next(words(word[1:].rpartition("}")[0]), "") if word.startswith("{") else word
        kind, _, path = said.partition(":")
        if kind in ("unix", "local") and "$" not in path:
            yield _server(name, said, path, inventory)


def _tls_file(name: str, value: str, inventory: Inventory) -> Iterator[Reference]:
    """Read where TLS is on; without them it is off, or nobody gets through."""
    if _tls_level(name, inventory) == "none":
        return
    for path in words(value):
        if path.startswith("/"):
            why = f"there is no file {path}, and TLS cannot start without it"
            yield reference(name, "file", path, inventory.file(path), path, why)


def _tls_level(name: str, inventory: Inventory) -> str:
    """The level on the side of a parameter (postconf(5), smtpd_tls_security_level)."""
    side = name.partition("_")[0]
    level = inventory.settings.get(f"{side}_tls_security_level", "").lower()
    if level:
        return level
    return "may" if inventory.settings.get(f"{side}_use_tls", "").lower() == "yes" else "none"


def _is_used(name: str, inventory: Inventory) -> bool:
    """Whether it counts at this level: some are for opportunistic TLS, the others for the rest."""
    level = _tls_level(name, inventory)
    return level != "none" and ("_mandatory_" in name) is (level not in ("may", "dane"))


def _protocols(name: str, value: str, inventory: Inventory) -> Iterator[Reference]:
    """tls_proto_mask_lims() of tls/tls_misc.c. A bound without a version is none."""
    if "$" in value or not _is_used(name, inventory):
        return
    known = {protocol.lower() for protocol in known_names.TLS_PROTOCOLS}
    for word in words(value.replace(":", " ")):
        limited = _LIMIT.match(word) is not None
        protocol = word[2:] if limited else word.removeprefix("!")
        is_number = limited and _VERSION.fullmatch(protocol) is not None
        is_known = is_number or protocol.lower() in known
        versions = ", ".join(known_names.TLS_PROTOCOLS)
        why = f'"{protocol}" is no version of TLS, and TLS does not start with it; {versions}'
        presence = Presence.EXISTS if is_known else Presence.ABSENT
        yield reference(name, "protocol", protocol, presence, "OpenSSL", why)


def _grade(name: str, value: str, inventory: Inventory) -> Iterator[Reference]:
    """tls_cipher_grade_table[] of tls/tls_misc.c; smtp_tls_ciphers and the like."""
    if not value or "$" in value or not _is_used(name, inventory):
        return
    is_known = value.lower() in known_names.CIPHER_GRADES
    why = f'"{value}" is no grade of ciphers; {", ".join(known_names.CIPHER_GRADES)}'
    presence = Presence.EXISTS if is_known else Presence.ABSENT
    yield reference(name, "cipher grade", value, presence, "postconf(5)", why)


# The flags are those of parameters.py. Names are Postfix's own way of naming its parameters.
_RULES: Final = (
    _Rule("restrictions", None, restrictions),
    _Rule("maps", re.compile(r"(?:smtp|lmtp|milter)_(?:\w+_)?(?:header|body)_checks"), _maps),
    _Rule("", re.compile(r"\w+_(?:command|reply|delivery_status)_filter"), _maps),
    _Rule("patterns", None, _patterns),
    _Rule("", re.compile(r"\w+_transport|content_filter"), _transport),
    _Rule("", re.compile(r"(?!postlog)\w+_service_name"), _service),
    _Rule("", re.compile(r"maillog_file"), _log_file),
    _Rule("", re.compile(r"smtpd_sasl_path"), _sasl_path),
    _Rule("", re.compile(r"(?:smtpd|non_smtpd)_milters"), _milters),
    _Rule(
        "",
        re.compile(r"(?:smtp|smtpd|lmtp)_tls_(?:\w*(?:cert|key)_file|chain_files|CAfile)"),
        _tls_file,
    ),
    _Rule("", re.compile(r"\w+_tls_(?:mandatory_)?protocols"), _protocols),
    _Rule("", re.compile(r"\w+_tls_(?:mandatory_)?ciphers"), _grade),
)


def absences(found: tuple[Reference, ...]) -> tuple[Reference, ...]:
    """Return those that are proven not to be there."""
    return tuple(each for each in found if each.presence is Presence.ABSENT)
