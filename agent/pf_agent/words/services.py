"""One service of master.cf, or one of its options, in the words of master(5) and for programs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pf_agent import names
from pf_agent.maincf.document import MainCf
from pf_agent.maincf.listeners import enabled
from pf_agent.maincf.master_cf import Entry, MasterCf
from pf_agent.maincf.secrets import masked, without_shapes
from pf_agent.maincf.service import Service
from pf_agent.words.sentences import listed, printable, shortened

_SWITCH: Final = "master_service_disable"
_TYPES: Final = {
    "inet": "a TCP port",
    "unix": "a UNIX-domain socket",
    "unix-dgram": "a UNIX-domain datagram socket",
    "fifo": "a named pipe",
    "pass": "a UNIX-domain socket that takes over open connections",
}
# What each value of a field comes to (master(5)); "-" is the default.
_FLAGS: Final = {
    "private": ("only Postfix's own programs reach it", "any program may use it"),
    "unprivileged": ("runs as mail_owner", "runs as root"),
    "chroot": ("confined to the queue directory", "not confined"),
}
_CHROOT: Final = "the default: not confined, from compatibility_level 1 on"


@dataclass(frozen=True)
class Beside:
    """What options are compared with: main.cf, and Postfix's defaults, empty if unknown."""

    main_cf: MainCf
    defaults: Mapping[str, str]

    def option(self, name: str, value: str | None) -> dict[str, Any]:
        """Return an option of a service, None if it does not set it, beside main.cf's value."""
        stands = self.main_cf.get(name)
        return {
            "parameter": printable(name),
            "value": None if value is None else printable(masked(name, value)),
            "main_cf": None if stands is None else printable(masked(name, stands.value)),
            "main_cf_line": None if stands is None else stands.line,
            "default": self.defaults.get(name),
        }

    def has_off(self, service: Service) -> bool:
        """Tell whether main.cf turns the service off."""
        disabled = self.main_cf.get(_SWITCH)
        return disabled is not None and not enabled([service], disabled.value)


def entry_of(master_cf: MasterCf, full_name: str) -> tuple[Entry | None, bool]:
    """Return the entry that counts, and whether it stands commented out; None if there is none."""
    live, commented = master_cf.occurrences(full_name), master_cf.commented_out(full_name)
    return next(reversed((*commented, *live)), None), not live and bool(commented)


def entry_dict(
    master_cf: MasterCf, entry: Entry | None, is_commented: bool, beside: Beside
) -> dict[str, Any]:
    """Return where a service stands, and what is wrong there, for `explain --json`."""
    wrong = () if entry is None else _problems(master_cf, entry, beside)
    return {
        "line": None if entry is None else entry.line,
        "last_line": None if entry is None else entry.last_line,
        "commented_out": is_commented,
        "problems": list(map(printable, wrong)),
    }


def _problems(master_cf: MasterCf, entry: Entry, beside: Beside) -> Iterator[str]:
    """Yield what is wrong with an entry, or keeps it from being what Postfix runs."""
    found, service = entry.found, entry.found.service
    if found.refused:
        yield f"Postfix does not start with it: {found.refused}"
    yield from found.remarks
    if service is None:
        return
    others = [e for e in master_cf.occurrences(service.full_name) if e.line < entry.line]
    if others:
        lines = listed([str(each.line) for each in others])
        yield f"defined in line {lines}, too; Postfix uses the last one"
    if beside.has_off(service):
        yield f"{_SWITCH} in main.cf turns it off"


def service_dict(service: Service, beside: Beside) -> dict[str, Any]:
    """Return the fields, options and other arguments for `explain --json`."""
    fields = service._asdict()
    other = {key: fields[key] for key in (*_FLAGS, "wakeup", "process_limit", "command")}
    return {
        "type": service.type,
        "fields": {name: printable(value) for name, value in other.items()},
        "arguments": [printable(without_shapes(word)) for word in service.other_arguments()],
        "options": [beside.option(name, value) for name, value in service.options().items()],
    }


def service_rows(service: Service, found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield labels and texts; `found` is what `service_dict` returned."""
    yield "type", f"{service.type}: {_TYPES.get(service.type, names.UNKNOWN)}"
    for name in _FLAGS:
        value: str = getattr(service, name)
        yield name, f"{value}: {_flag(service, name, value)}"
    yield "wakeup", f"{service.wakeup}: {_wakeup(service.wakeup)}"
    yield "process_limit", f"{service.process_limit}: {_limit(service.process_limit)}"
    yield "command", found["fields"]["command"]
    if found["arguments"]:
        yield "arguments", " ".join(found["arguments"])
    for option in found["options"]:
        yield "option", f"{option['parameter']} is {shortened(option['value'])}, {_main_cf(option)}"


def option_rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield labels and texts of one option, as `Beside.option` returned it, and its type."""
    value, default = found["value"], found["default"]
    yield "option", "not set: main.cf's value holds" if value is None else shortened(value)
    yield "main.cf", "not set" if found["main_cf"] is None else _stands(found)
    yield "type", found["type"]
    yield "default", names.UNKNOWN if default is None else shortened(default)


def place(found: Mapping[str, Any]) -> str:
    """Return where a service stands; `found` is what `entry_dict` returned, and the file."""
    first, last = found["line"], found["last_line"]
    if first is None:
        return f"{found['file']} has no such service"
    lines = f"line {first}" if first == last else f"lines {first} to {last}"
    out = ", commented out: Postfix does not run it" if found["commented_out"] else ""
    return f"{found['file']}, {lines}{out}"


def _main_cf(option: Mapping[str, Any]) -> str:
    if option["main_cf"] is not None:
        return f"in main.cf {_stands(option)}"
    if option["default"] is not None:
        return f"by default {shortened(option['default'])}"
    return "not set in main.cf"


def _stands(option: Mapping[str, Any]) -> str:
    return f"{shortened(option['main_cf'])} (line {option['main_cf_line']})"


def _flag(service: Service, name: str, value: str) -> str:
    if name == "private" and service.type == "inet" and value == "n":
        return "open to the network, as each inet service"
    if name == "chroot" and value == "-":
        return _CHROOT
    yes, no = _FLAGS[name]
    return {"y": yes, "n": no, "-": f"y, the default: {yes}"}.get(value, names.UNKNOWN)


def _wakeup(value: str) -> str:
    found = re.fullmatch(r"([0-9]+)(\??)", value)
    if value == "-" or (found is not None and int(found[1][:9]) == 0):
        return "never"
    if found is None:
        return names.UNKNOWN
    return f"every {found[1]} s" + (", once it was used" if found[2] else "")


def _limit(value: str) -> str:
    if value == "-":
        return "as many processes as default_process_limit says"
    if re.fullmatch("[0-9]+", value) is None:
        return names.UNKNOWN
    if value.strip("0") == "":
        return "any number of processes"
    return f"at most {value} process{'' if value == '1' else 'es'}"
