"""The cases of cases.toml, and the one word for what Postfix was seen to do with each: pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli

CASES = Path(__file__).with_name("cases.toml")
TRUTH = Path(__file__).with_name("truth.json")
BASE_CASE = "the base"
LOCAL = "alice@example.test"
_CLIENTS = ("inside", "stranger")
# Server configuration problem, and a table that cannot be asked (smtpd/smtpd_check.c).
_LAME_STATUSES = ("4.3.0", "4.3.5")
_UNSERVED = ("none", "421")
# The service `error` bounces because somebody said so.
_LOST = (
    "deferred",
    "waiting",
    *(f"bounced by {who}" for who in ("smtp", "lmtp", "local", "virtual")),
)
# At MAIL it is for want of a milter: restrictions are asked at RCPT (smtpd_delay_reject).
_NO_MILTER = "451 4.7.1"


@dataclass(frozen=True)
class Case:
    """Settings over the base, and what is asked about them.

    `options` are `-o` words of the smtpd on port 25, `master` lines that master.cf gets, `without`
    the name and type of services that it loses. `to` gets the message. `silent`: a value that
    matches nothing, without a word; proven where what is seen differs from the case `than`.
    """

    name: str
    why: str
    settings: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    master: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    to: str = LOCAL
    silent: bool = False
    than: str = BASE_CASE

    @property
    def wants_tls(self) -> bool:
        """Whether port 25 is told to offer TLS."""
        words = [f"{name}={value}" for name, value in self.settings.items()]
        level = re.compile(r"smtpd_tls_security_level=(?!none)")
        return any(level.match(word) for word in (*words, *self.options))


def load(path: Path = CASES) -> list[Case]:
    """Return all cases, in their order."""
    found = tomli.loads(path.read_text())["case"]
    lists: dict[str, Any]
    cases = list[Case]()
    for case in found:
        lists = {
            key: tuple(case.pop(key)) for key in ("options", "master", "without") & case.keys()
        }
        cases.append(Case(**case, **lists))
    return cases


def master_cf(default: str, case: Case) -> str:
    """Return Debian's master.cf as the case changes it."""
    lines = list[str]()
    dropped = False
    for line in default.splitlines():
        if not line.startswith((" ", "\t", "#")):
            dropped = " ".join(line.split()[:2]) in case.without
        if dropped:
            continue
        lines.append(line)
        if re.match(r"smtp\s+inet\s", line):
            lines += [f"  -o {option}" for option in case.options]
    return "\n".join([*lines, *case.master, ""])


def verdict(case: Case, seen: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return "well", "lame" or "down"; `other` is what was seen of the case `than`."""
    if not seen["alive"] or all(_is_unserved(seen[who]["connect"]) for who in _CLIENTS):
        return "down"
    if any(_is_lame(case, seen[who]) for who in _CLIENTS):
        return "lame"
    if seen["message"] in _LOST:
        return "lame"
    return "lame" if case.silent and is_proven(seen, other) else "well"


def is_proven(seen: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether somebody is served otherwise than in the other case."""
    return any(seen.get(what) != other.get(what) for what in ("message", *_CLIENTS))


def _is_lame(case: Case, answers: Mapping[str, str]) -> bool:
    asked = [answer for step, answer in answers.items() if step != "tls"]
    if any(_is_unserved(answer) or answer.endswith(_LAME_STATUSES) for answer in asked):
        return True
    if answers["mail"] == _NO_MILTER:
        return True
    has_tls = answers["tls"].startswith("TLS")
    return not has_tls and (case.wants_tls or answers["tls"] != "")


def _is_unserved(answer: str) -> bool:
    return answer.startswith(_UNSERVED)
