"""master.cf: which services Postfix runs, with which options of their own (master(5)).

The lines are read as main.cf's are: a line that starts with a blank continues the one above. It
takes master.cf itself as well as what `postconf -M` prints.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

_SMTP_PORT: Final = "25"
_ARGUMENTS: Final = 7


class Service(NamedTuple):
    """One service: `smtp`, `inet`, `smtpd` and the program's arguments, braces taken off."""

    name: str
    kind: str
    program: str
    arguments: tuple[str, ...]

    @property
    def address(self) -> str:
        """What stands before the port of an inet service, brackets taken off; "" for nothing."""
        return self.name.rpartition(":")[0].strip("[]")

    @property
    def is_on_port_25(self) -> bool:
        """Whether this is the SMTP port."""
        port = self.name.rpartition(":")[2]
        return self.kind == "inet" and port in ("smtp", _SMTP_PORT)

    def overrides(self) -> tuple[str, ...]:
        """Return the `name=value` of its `-o` options, which stand over those of main.cf."""
        found = []
        words = iter(self.arguments)
        for word in words:
            if word == "-o":
                found.append(next(words, ""))
            elif word.startswith("-o"):
                found.append(word[2:])
        return tuple(setting for setting in found if "=" in setting)


def parse(text: str) -> tuple[Service, ...]:
    """Read master.cf; a line with too few columns is no service."""
    lines: list[str] = []
    for line in text.split("\n"):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0].isspace() and lines:
            lines[-1] += line
        else:
            lines.append(line)
    rows = (tuple(_words(line)) for line in lines)
    return tuple(
        Service(row[0], row[1], row[_ARGUMENTS], row[_ARGUMENTS + 1 :])
        for row in rows
        if len(row) > _ARGUMENTS
    )


def enabled(services: Iterable[Service], disable: str) -> tuple[Service, ...]:
    """Return those that `master_service_disable` leaves: `inet`, `smtp/inet`, `!smtp/inet`.

    The first pattern that fits decides, in any case of letters (global/match_service.c).
    """
    patterns = disable.replace(",", " ").split()
    return tuple(service for service in services if not _fits(service, patterns))


def on_port_25(services: Iterable[Service]) -> Service | None:
    """Return the service on the SMTP port; of several the one that is not bound to an address."""
    found = [service for service in services if service.is_on_port_25]
    return min(found, key=lambda service: bool(service.address), default=None)


def behind(service: Service, services: Iterable[Service], name: str) -> Service:
    """Return the smtpd that postscreen(8) hands its clients to, `name` in master.cf; or itself."""
    handed = [s for s in services if s.kind == "pass" and s.name == name]
    return handed[0] if handed and service.program == "postscreen" else service


def smtp_server(services: Iterable[Service]) -> Service | None:
    """Return the smtpd that takes in mail from the network: on port 25, else behind postscreen."""
    servers = [s for s in services if s.program == "smtpd" and s.kind in ("inet", "pass")]
    return min(servers, key=lambda s: (not s.is_on_port_25, s.kind == "inet"), default=None)


def _fits(service: Service, patterns: Sequence[str]) -> bool:
    for pattern in patterns:
        bare = pattern.lstrip("!")
        whole = f"{service.name}/{service.kind}" if "/" in bare else service.kind
        if whole.lower() == bare.lower():
            return (len(pattern) - len(bare)) % 2 == 0
    return False


def _words(line: str) -> Iterator[str]:
    """The columns of a line: blanks part them, but not inside braces (mystrtok.c)."""
    word, level = "", 0
    for char in f"{line} ":
        if char.isspace() and level == 0:
            if word:
                yield word[1:-1].strip() if word[0] == "{" and word[-1] == "}" else word
            word = ""
            continue
        level = max(level + (char == "{") - (char == "}"), 0)
        word += char
