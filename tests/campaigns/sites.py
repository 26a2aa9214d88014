"""Servers as people run them, and what happens to them: pf-agent never makes it worse.

A machine for each site: Postfix as an administrator set it up, with whatever it asks, and pf-agent
in charge. For each event, main.cf must then say what the desired state in force says, nothing else
in it may have changed, Postfix must serve whom it served before, the agent must be in sync without
a hand, and an open relay must never stand.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.campaigns.crash import RELEASES, package, say
from tests.machine.image import image
from tests.machine.nspawn import Machine, MachineError
from tests.machine.sites.events import EVENTS
from tests.machine.sites.kinds import KINDS
from tests.machine.sites.promises import PROMISES, take_over
from tests.machine.sites.standing import Standing
from tests.machine.sites.trying import BROKEN_OFF, Case, try_events

_BROKEN_OFF = (AssertionError, MachineError, OSError, subprocess.SubprocessError)
_JOURNAL = "journalctl -b --no-pager -n 60 -u 'pf-agent*' -u 'postfix*'"


def visit(release: str, deb: Path, name: str, events: Sequence[str], until: float) -> list[Case]:
    """Return how the events went at one site; none begins after `until` (time.monotonic)."""
    begin, cases = time.monotonic(), list[Case]()
    if begin > until:
        return []
    try:
        with Machine(image(release)) as machine:
            machine.serve_apt([deb])
            try:
                _let_happen(release, machine, name, events, until, cases)
            except _BROKEN_OFF:
                say(machine.sh(_JOURNAL, check=False))
                raise
    except _BROKEN_OFF as error:
        what = "repair" if cases else "setup"
        cases.append(Case(name, what, broken={BROKEN_OFF: str(error)}))
        say(f"{release}: FAULT {cases[-1]}")
    passed = sum(not case.broken for case in cases)
    spent = time.monotonic() - begin
    say(f"{release}: {name}: {len(cases)} cases, {passed} passed, {spent:.0f} s")
    return cases


def _let_happen(
    release: str,
    machine: Machine,
    name: str,
    events: Sequence[str],
    until: float,
    cases: list[Case],
) -> None:
    begin = time.monotonic()
    site = Standing(machine, KINDS[name], take_over)
    say(f"{release}: {name} stands after {time.monotonic() - begin:.0f} s")
    for case in try_events(name, site, events):
        cases.append(case)
        say(f"{release}: {'FAULT' if case.broken else 'passed'} {case}")
        if case.broken:
            say(case.journal)
        if time.monotonic() > until:
            return


def summary(release: str, cases: Sequence[Case]) -> None:
    """Print the counts: by site, by event, and by promise."""
    for what, key in (("site", "kind"), ("event", "event")):
        done = Counter(getattr(case, key) for case in cases)
        passed = Counter(getattr(case, key) for case in cases if not case.broken)
        told = ", ".join(f"{name} {passed[name]}/{count}" for name, count in done.items())
        say(f"{release}: passed by {what}: {told}")
    broken = Counter(promise for case in cases for promise in case.broken)
    for promise, count in broken.items():
        say(f"{release}: broken in {count} cases: {PROMISES.get(promise, promise)}")


def campaign(
    deb: Path, sites: Sequence[str], events: Sequence[str], until: float, release: str
) -> list[Case]:
    """Return all cases of one release."""
    cases = [case for name in sites for case in visit(release, deb, name, events, until)]
    summary(release, cases)
    return cases


def main() -> int:
    """Return 0 where no promise was broken."""
    parser = argparse.ArgumentParser(prog="tools/campaign sites", description=__doc__)
    parser.add_argument("--release", choices=RELEASES, help="one release; default: both at once")
    parser.add_argument("--sites", nargs="+", choices=KINDS, default=list(KINDS), metavar="SITE")
    parser.add_argument(
        "--events", nargs="+", choices=EVENTS, default=list(EVENTS), metavar="EVENT"
    )
    parser.add_argument("--seconds", type=float, default=14400.0, help="no case begins later")
    arguments = parser.parse_args()
    deb, until = package(), time.monotonic() + arguments.seconds
    releases = [arguments.release] if arguments.release else list(RELEASES)
    one = partial(campaign, deb, arguments.sites, arguments.events, until)
    with ThreadPoolExecutor() as pool:
        cases = [case for found in pool.map(one, releases) for case in found]
    broken = sum(bool(case.broken) for case in cases)
    say(f"sites: {len(cases)} cases, {len(cases) - broken} passed, {broken} faults")
    return 1 if broken or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
