"""What the values of main.cf refer to, and whether it exists: pure, and a table of rules.

Postfix's own programs check grammar and numbers, not names: with a misspelt restriction, a table
that does not exist or a transport that is not in master.cf, they start, and mail is refused or
deferred. What is across the network, inside a table, or unreadable is not judged.
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

# The author of main.cf decides how much there is to check; no more than this is checked.
_MOST: Final = 5000
_MOST_ABSENT: Final = 100
_MOST_CHARACTERS: Final = 1 << 16

_Finder = Callable[[str, str, Inventory], Iterator[Reference]]


class _Rule(NamedTuple):
    """What the values of some parameters name, chosen by a flag or by a pattern of their names."""

    flag: str
    name: re.Pattern[str] | None
    find: _Finder


# The agent builds these files itself (aliases.py).
_ELSEWHERE: Final = ("alias_maps", "alias_database")
# No host, domain or address contains one of these: such a word silently matches nothing.
_UNLIKELY: Final = re.compile(r"[\"';]")
_NO_ADDRESS: Final = re.compile(r"[\"';|*]")
_TABLE_TYPE: Final = re.compile(r"[a-z]+:")
# `$$` is a dollar sign. A test whether a parameter is set may name one that does not exist.
_NAMED: Final = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\}|\((\w+)\))")
_LIMIT: Final = re.compile(r"(?:>=|<=)")
_VERSION: Final = re.compile(r"(?:0[xX])?[0-9a-fA-F]*")
# The service that writes maillog_file (postlogd(8)).
_POSTLOG: Final = "postlog_service_name"


def references(explicit: Mapping[str, str], inventory: Inventory) -> tuple[Reference, ...]:
    """Return what main.cf's own values name, and the options of master.cf's services.

    `explicit` are the parameters of main.cf as written there. Returns nothing if the names of the
    installed Postfix version are not known.
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


def named_services(effective: Mapping[str, str], inventory: Inventory) -> tuple[Reference, ...]:
    """Return the services that all parameters name, those at their defaults, too."""
    found = ((n, v, rule) for n, v in effective.items() for rule in _SERVICE_RULES if v)
    return tuple(
        each
        for name, value, rule in found
        if rule.name is not None and rule.name.fullmatch(name)
        for each in rule.find(name, value, inventory)
        if each.kind == "service"
    )


def _all(explicit: Mapping[str, str], inventory: Inventory) -> Iterator[Reference]:
    for name, raw in explicit.items():
        yield from _parameters(name, raw, inventory)
        yield from _of(name, raw, inventory.settings.get(name, raw), inventory)
    if "proxy_read_maps" in explicit and "local_recipient_maps" not in explicit:
        # The only default table that smtpd opens through proxymap, which must list it.
        default = inventory.settings.get("local_recipient_maps", "")
        yield from _maps("local_recipient_maps", default, inventory)
    for service in inventory.services or ():
        options = service.options()
        merged = inventory.under(options)
        settled = merged.under({name: _expanded(raw, merged) for name, raw in options.items()})
        for name, raw in options.items():
            if not {service.command, "global"} & set(values.readers(name)):
                continue  # it has no effect there
            for each in _of(name, raw, settled.settings[name], settled):
                yield replace(each, service=service.full_name)


def _expanded(value: str, inventory: Inventory) -> str:
    """Expand plain names. The settings are already expanded, but the options themselves are not."""

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
    """Yield the parameters that a value names. Postfix expands an unknown one to nothing."""
    if "$" not in raw or values.is_expanded_late(name):
        return
    for found in _NAMED.finditer(raw):
        named = found[1] or found[2] or found[3]
        if not named:
            continue
        is_there = named in inventory.settings
        meant = "" if is_there else nearest(named, inventory.settings)
        hint = f"; did you mean {meant}?" if meant else ""
        why = f"there is no parameter {named}, so {found[0]} expands to nothing{hint}"
        presence = Presence.EXISTS if is_there else Presence.ABSENT
        yield reference(name, "parameter", found[0], presence, "main.cf", why)


def _maps(name: str, value: str, inventory: Inventory) -> Iterator[Reference]:
    for word in words(value):
        yield from tables(name, word, inventory)


def _patterns(name: str, value: str, inventory: Inventory) -> Iterator[Reference]:
    """match_list_parse() in util/match_list.c: files, tables, and literal patterns."""
    unlikely = _NO_ADDRESS if "networks" in values.flags(name) else _UNLIKELY
    for word in words(value):
        pattern = word.lstrip("!")
        if "$" in pattern or pattern.startswith("#"):
            continue
        if pattern.startswith("/"):
            is_mask = pattern[1:].isdigit()
            hint = "write the mask directly after the address" if is_mask else "create it"
            why = f"there is no file {pattern}; {hint}, or correct the name"
            yield reference(name, "file", pattern, inventory.file(pattern), pattern, why)
        elif unlikely.search(pattern) and not _TABLE_TYPE.match(pattern):
            parted = "whitespace and commas separate list items, and quotes have no meaning"
            why = f"{word} matches nothing: {parted}"
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
        why = f"no service in master.cf creates {path}, and there is no such socket in the queue"
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
    """Where Dovecot is asked; with Cyrus it is the base name of a configuration file."""
    if inventory.settings.get("smtpd_sasl_type") != "dovecot" or "$" in value:
        return
    if inventory.settings.get("smtpd_sasl_auth_enable", "").lower() != "yes":
        return
    yield _server(name, value, value.removeprefix("unix:"), inventory)


def _server(name: str, said: str, path: str, inventory: Inventory) -> Reference:
    """The socket of a server that is not part of Postfix: if it is missing, it may still appear."""
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


def _file(name: str, value: str, inventory: Inventory) -> Iterator[Reference]:
    """A value that is a file if it begins with `/`, and a name or keyword otherwise."""
    if value.startswith("/"):
        why = f"there is no file {value}; create it, or correct the name"
        yield reference(name, "file", value, inventory.file(value), value, why)


def _tls_file(name: str, value: str, inventory: Inventory) -> Iterator[Reference]:
    """Only read with TLS on; without the file TLS is off, or no client gets through."""
    if _tls_level(name, inventory) == "none":
        return
    for path in words(value):
        if path.startswith("/"):
            why = f"there is no file {path}, and TLS cannot start without it"
            yield reference(name, "file", path, inventory.file(path), path, why)


def _tls_level(name: str, inventory: Inventory) -> str:
    """Return the TLS level for the parameter's side (postconf(5), smtpd_tls_security_level)."""
    side = name.partition("_")[0]
    level = inventory.settings.get(f"{side}_tls_security_level", "").lower()
    if level:
        return level
    return "may" if inventory.settings.get(f"{side}_use_tls", "").lower() == "yes" else "none"


def _is_used(name: str, inventory: Inventory) -> bool:
    """Whether it matters at this level: some are for opportunistic TLS, the others for the rest."""
    level = _tls_level(name, inventory)
    return level != "none" and ("_mandatory_" in name) is (level not in ("may", "dane"))


def _protocols(name: str, value: str, inventory: Inventory) -> Iterator[Reference]:
    """tls_proto_mask_lims() in tls/tls_misc.c. A bound without a version is no bound."""
    if "$" in value or not _is_used(name, inventory):
        return
    known = {protocol.lower() for protocol in known_names.TLS_PROTOCOLS}
    for word in words(value.replace(":", " ")):
        limited = _LIMIT.match(word) is not None
        protocol = word[2:] if limited else word.removeprefix("!")
        is_number = limited and _VERSION.fullmatch(protocol) is not None
        is_known = is_number or protocol.lower() in known
        versions = ", ".join(known_names.TLS_PROTOCOLS)
        why = f'"{protocol}" is not a TLS version, and TLS does not start with it; {versions}'
        presence = Presence.EXISTS if is_known else Presence.ABSENT
        yield reference(name, "protocol", protocol, presence, "OpenSSL", why)


def _grade(name: str, value: str, inventory: Inventory) -> Iterator[Reference]:
    """tls_cipher_grade_table[] of tls/tls_misc.c; smtp_tls_ciphers and the like."""
    if not value or "$" in value or not _is_used(name, inventory):
        return
    is_known = value.lower() in known_names.CIPHER_GRADES
    why = f'"{value}" is not a cipher grade; {", ".join(known_names.CIPHER_GRADES)}'
    presence = Presence.EXISTS if is_known else Presence.ABSENT
    yield reference(name, "cipher grade", value, presence, "postconf(5)", why)


_SERVICE_RULES: Final = (
    _Rule("", re.compile(r"\w+_transport|content_filter"), _transport),
    _Rule("", re.compile(r"(?!postlog)\w+_service_name"), _service),
)
# The flags are those of parameters.py; the patterns follow Postfix's own naming of parameters.
_RULES: Final = (
    _Rule("restrictions", None, restrictions),
    _Rule("maps", re.compile(r"(?:smtp|lmtp|milter)_(?:\w+_)?(?:header|body)_checks"), _maps),
    _Rule("", re.compile(r"\w+_(?:command|reply|delivery_status)_filter"), _maps),
    _Rule("patterns", None, _patterns),
    *_SERVICE_RULES,
    _Rule("", re.compile(r"maillog_file"), _log_file),
    # mail_params_init() of global/mail_params.c, bounce/bounce.c, tls/tls_misc.c.
    _Rule("", re.compile(r"myorigin|bounce_template_file|tls_config_file"), _file),
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
    """Return those that are proven not to exist."""
    return tuple(each for each in found if each.presence is Presence.ABSENT)
