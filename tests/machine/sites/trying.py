"""Lets events happen to a site, one after the other, and says which promises were broken."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.machine.nspawn import MachineError
from tests.machine.sites.events import EVENTS, applies
from tests.machine.sites.promises import Broken, Stage, settle
from tests.machine.sites.standing import Standing

BROKEN_OFF = "broken off"
_JOURNAL_LINES = 60
# What Postfix logs of each client and each mail, which the campaign's own bring.
_EACH_MAIL = ("connect from", ": client=", "postfix/qmgr", "postfix/cleanup", "postfix/pickup")


@dataclass
class Case:
    """One event at one site: how it went; `broken` says by promise what was found instead."""

    kind: str
    event: str
    seconds: float = 0.0
    step: str = ""
    broken: Broken = field(default_factory=dict)
    journal: str = ""

    def __str__(self) -> str:
        where = f"{self.kind}, {self.event}" + (f", {self.step}" if self.step else "")
        said = [f"{promise}: {found}" for promise, found in self.broken.items()]
        return "; ".join([f"{where} ({self.seconds:.1f} s)", *said])


def try_events(name: str, site: Standing, events: Sequence[str]) -> Iterator[Case]:
    """Try these events; the site is repaired after one that broke a promise.

    Raises AssertionError or MachineError where it cannot be repaired.
    """
    for event in events:
        if not applies(event, site):
            continue
        site.site.forget_restarts()
        since, begin = site.site.cursor(), time.monotonic()
        case = Case(name, event)
        try:
            _try(site, case)
        except (AssertionError, MachineError, OSError, subprocess.SubprocessError) as error:
            case.broken[BROKEN_OFF] = f"{type(error).__name__}: {error}"
        case.seconds = time.monotonic() - begin
        if case.broken:
            case.journal = _journal(site, since)
            yield case
            site.repair()
        else:
            yield case


def _try(site: Standing, case: Case) -> None:
    steps = EVENTS[case.event](site)
    try:
        for stage in steps:
            case.step, case.broken = stage.what, settle(site, stage)
            if case.broken:
                return
    finally:
        steps.close()
    case.step = "at the end"
    case.broken = settle(site, Stage(site.before, answers=False, failing=site.is_deaf))
    if not case.broken:
        case.step = ""


def _journal(site: Standing, since: str) -> str:
    command = ["journalctl", "--no-pager", "-o", "short-precise", f"--after-cursor={since}"]
    units = [word for unit in ("pf-agent*", "postfix*") for word in ("-u", unit)]
    found = site.machine.run([*command, *units], check=False).stdout.splitlines()
    kept = [line for line in found if not any(word in line for word in _EACH_MAIL)]
    return "\n".join(kept[-_JOURNAL_LINES:])
