"""[services] of desired.toml -> what master.cf must say, part by part. Pure.

The names are those of postconf(1), -M, -F and -P: `submission/inet` and what follows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from pf_agent import names
from pf_agent.config.table import INT64, Table, shown, shown_key
from pf_agent.config.values import name_fault, unwritable, value_fault, value_of
from pf_agent.model import BLANKS, DesiredState, DocumentKind, Place

_FLAGS: Final = ("private", "unprivileged", "chroot")
# The built-in default (master(5)).
_DEFAULT: Final = "-"
# Debian's own, beside main.cf.proto: with the managed services alone, Postfix would serve nobody.
_TEMPLATE: Final = "/etc/postfix/master.cf.proto"
_WAKEUP: Final = re.compile(r"-|[0-9]+\??")
_ELSEWHERE: Final = (*names.SERVICE_FIELDS, names.SERVICE_COMMAND, names.SERVICE_ARGUMENTS)
_OPTION: Final = re.compile(r"-[^-o]*o")


@dataclass(frozen=True)
class Parts:
    """What a file says of services: the parts that it sets, and those that must not be there."""

    settings: Mapping[str, str] = field(default_factory=dict)
    use_default: frozenset[str] = frozenset()
    provenance: Mapping[str, Place] = field(default_factory=dict)


NO_PARTS: Final = Parts()


def read(section: Table) -> Parts:
    """Return what [services] of a file says; problems are noted in the table."""
    settings: dict[str, str] = {}
    use_default: set[str] = set()
    places: dict[str, Place] = {}
    for name in section:
        if fault := _name_fault(name):
            section.note(name, fault)
        inner = section.table(name)
        is_enabled = inner.truth("enabled", True)
        parts = dict(_parts(inner, name))
        absent = _absent(inner, parts)
        inner.refuse_unknown(f"an option belongs under [services.{shown(name)}.options]")
        if is_enabled:
            settings |= {name: names.SERVICE_ENABLED}
            settings |= {f"{name}/{part}": value for part, (value, _) in parts.items()}
            use_default |= {f"{name}/{part}" for part in absent}
        else:
            others = [key for key in inner if key != "enabled"]
            if others:
                fact = f"a service that is not enabled has no {shown_key(others[0])}"
                inner.note("enabled", f"{fact}; keep one of the two")
            use_default.add(name)
        places[name] = section.place(name)
        places |= {f"{name}/{part}": place for part, (_, place) in parts.items() if is_enabled}
        if is_enabled:
            places |= {f"{name}/{part}": inner.place("use_default") for part in absent}
    return Parts(settings, frozenset(use_default), places)


def laid_over(lower: Parts, upper: Parts) -> Parts:
    """Return both in one; if both mention a part, or one disables its service, `upper` applies."""
    gone = upper.use_default

    def is_kept(name: str) -> bool:
        return name not in gone and _service_of(name) not in gone

    settings = {name: value for name, value in lower.settings.items() if is_kept(name)}
    settings |= upper.settings
    absent = {name for name in lower.use_default if is_kept(name) and name not in upper.settings}
    use_default = frozenset(absent) | gone
    places = {**lower.provenance, **upper.provenance}
    mentioned = use_default.union(settings)
    return Parts(settings, use_default, {n: place for n, place in places.items() if n in mentioned})


def documents(parts: Parts, config_directory: str | None) -> dict[str, DesiredState]:
    """Return the desired state of master.cf by its name; nothing if no service is mentioned."""
    if parts == NO_PARTS:
        return {}
    kind = DocumentKind.MASTER_CF
    desired = DesiredState(
        parts.settings,
        parts.use_default,
        template=_TEMPLATE,
        provenance=parts.provenance,
        config_directory=config_directory,
        kind=kind,
    )
    return {kind.value: desired}


def _service_of(name: str) -> str:
    return "/".join(name.split("/")[:2])


def _name_fault(name: str) -> str | None:
    """Return why no service can have this name, or why postconf(1) could not name it."""
    service, slash, kind = name.partition("/")
    types = ", ".join(names.SERVICE_TYPES)
    if not slash:
        return f'a service\'s name has its type behind it; write "{name}/inet", or one of {types}'
    if kind not in names.SERVICE_TYPES:
        return f"{shown(kind)} is not a type of services; write one of {types}"
    if not service or any(blank in service for blank in BLANKS):
        return "a service's name may not be empty or contain whitespace; write one word"
    if service.startswith("#") or set(service) & set("{}"):
        return 'a service\'s name may not contain braces or begin with "#"; remove them'
    return unwritable("a service's name", service)


def _parts(table: Table, name: str) -> Iterator[tuple[str, tuple[str, Place]]]:
    """Yield each part that a service's table sets, with its value and its place."""
    for part, read_part in (
        (names.SERVICE_COMMAND, _command),
        *((flag, _flag) for flag in _FLAGS),
        ("wakeup", _wakeup),
        ("process_limit", _limit),
        (names.SERVICE_ARGUMENTS, _arguments),
    ):
        value = table.value(part)
        if value is None:
            continue
        text, fault = read_part(value)
        if part == "private" and name.endswith("/inet") and text in ("y", _DEFAULT):
            fault = "master does not start with an inet service that is private; write false"
        if fault:
            table.note(part, fault)
        else:
            yield part, (text, table.place(part))
    options = table.table("options")
    for option in options:
        way = "move it out of the options"
        misplaced = f"{option} is not a parameter; {way}" if option in _ELSEWHERE else ""
        setting = value_of(options, option, misplaced)
        if setting is None:
            continue
        if wrong := _option_fault(option, setting):
            options.note(option, wrong)
        else:
            yield option, (setting, options.place(option))


def _absent(table: Table, parts: Mapping[str, object]) -> tuple[str, ...]:
    """Return the options that a service must not have."""
    found = table.strings("use_default")
    for option in found:
        fault = name_fault(option)
        if option in _ELSEWHERE:
            fault = f"it is not a parameter; write {option} = {shown(_DEFAULT)}"
        elif option in parts:
            fault = "it is also in options; keep one of the two"
        if fault:
            table.note("use_default", f"{shown(option)}: {fault}")
    return found


def _flag(value: object) -> tuple[str, str]:
    if isinstance(value, bool):
        return ("y" if value else "n"), ""
    if value == _DEFAULT:
        return _DEFAULT, ""
    meant = {"y": "true", "yes": "true", "n": "false", "no": "false"}.get(str(value).lower())
    way = f"write {meant}" if meant else f"write true, false, or {shown(_DEFAULT)} for the default"
    return "", f"expected true or false, got {shown(value)}; {way}"


def _wakeup(value: object) -> tuple[str, str]:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0 and value in INT64:
        return str(value), ""
    if isinstance(value, str) and _WAKEUP.fullmatch(value):
        return value, ""
    return "", f'expected seconds, got {shown(value)}; write 60, or "60?" for only if it was used'


def _limit(value: object) -> tuple[str, str]:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0 and value in INT64:
        return str(value), ""
    if value == _DEFAULT:
        return _DEFAULT, ""
    way = f"write 50, 0 for any number, or {shown(_DEFAULT)} for the default"
    return "", f"expected a number of processes, got {shown(value)}; {way}"


def _command(value: object) -> tuple[str, str]:
    if not isinstance(value, str):
        return "", f'expected a string, got {shown(value)}; write "smtpd"'
    if not value or any(blank in value for blank in BLANKS):
        fact = f"expected a program's name, got {shown(value)}"
        return "", f"{fact}; write options under options, and other arguments as arguments"
    if "/" in value or value.startswith(("#", "{")):
        fact = "a program's name has no directory: master looks in daemon_directory"
        return "", f"{fact}; write {shown(value.rpartition('/')[2])}"
    return value, unwritable("a program's name", value) or ""


def _arguments(value: object) -> tuple[str, str]:
    """Arguments as they stand in master.cf: one string, or each a string of its own."""
    if isinstance(value, str):
        text = value.strip(BLANKS)
    elif isinstance(value, list) and all(isinstance(item, str) for item in value):
        text = " ".join(f"{{{item}}}" if re.search(r"\s|^$", item) else item for item in value)
    else:
        return "", f'expected an array of strings, got {shown(value)}; write ["flags=R", ...]'
    if any(_OPTION.match(word) for word in text.split()[:1]):
        return "", "an option that sets a parameter is no argument; move it to options"
    if _is_open(text):
        return "", 'a "{" without its "}" would take in all that follows; add it'
    return text, value_fault(text) or ""


def _option_fault(name: str, value: str) -> str | None:
    """Return why master.cf could not have this option."""
    if set(name) & set("{}"):
        return "an option's name may not contain braces; remove them"
    if _is_open(value):
        return 'a "{" without its "}" would take in all that follows in master.cf; add it'
    level = 0
    for char in value if any(blank in value for blank in BLANKS) else "":
        level += {"{": 1, "}": -1}.get(char, 0)
        if level < 0:
            return 'with whitespace in it, a value may not have a "}" without its "{"; remove it'
    return None


def _is_open(text: str) -> bool:
    """Whether a brace is not closed, as mystrtok(3) of Postfix counts them."""
    level = 0
    for char in text:
        level = max(0, level + {"{": 1, "}": -1}.get(char, 0))
    return level > 0
