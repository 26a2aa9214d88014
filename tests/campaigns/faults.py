"""Lets each system call of a correction fail once, with each error that it may end with.

The daemon corrects a drift on a booted machine, again and again; of main.cf, master.cf and a table
in turn. For each error and each N, the N-th call that may end with it does: in the agent, and, of
calls that change anything, in the programs that it starts. Then all calls of a kind fail for some
seconds, and all that may fail with an error. After each the daemon must have recovered by itself.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.campaigns.crash import RELEASES, package, say, told
from tests.machine.faulting import FaultPoint, Faults
from tests.machine.image import image
from tests.machine.injector import ERRORS
from tests.machine.nspawn import Machine, MachineError
from tests.machine.subjects import SUBJECTS

_WAYS = ("once", "lasting")
_LASTING_SECONDS = 3.0
_STARTS = 6  # of a fault that lasts: at how many places of the work it begins
_TOLD_EVERY = 50
# EINTR for seconds is no fault of a machine: each call is to be made again at once.
_LASTING_ERRORS = tuple(error for error in ERRORS if error != "EINTR")


def once(faults: Faults, error: str, every: int) -> Iterator[FaultPoint]:
    """Each `every`-th call that may fail so, until the work ends before."""
    number = every
    while (point := faults.fail(error, number)) is not None:
        yield point
        number += every


def lasting(faults: Faults, error: str, every: int) -> Iterator[FaultPoint]:
    """From some calls on all that may fail so, and from its first one on each kind of call."""
    calls = faults.calls(error)
    apart = max(1, len(calls) * every // _STARTS)
    kinds = list(dict.fromkeys(name for name, _, _ in calls))[::every]
    tried = [(number, "") for number in range(1, len(calls) + 1, apart)]
    tried += [(1, kind) for kind in kinds]
    for number, kind in tried:
        if (point := faults.fail(error, number, _LASTING_SECONDS, kind)) is not None:
            yield point


def all_points(
    faults: Faults, ways: list[str], errors: list[str], every: int
) -> Iterator[FaultPoint]:
    """These ways and errors, one after the other."""
    for way in ways:
        for error in errors:
            if way == "once":
                yield from once(faults, error, every)
            elif error in _LASTING_ERRORS:
                yield from lasting(faults, error, every)


def campaign(
    release: str, file: str, deb: Path, ways: list[str], errors: list[str], every: int
) -> tuple[list[FaultPoint], int]:
    """Return the points of one file on one release, and how many faults of the agent were found."""
    begin, found = time.monotonic(), 0
    where = f"{release}, {file}"
    counts: Counter[str] = Counter()

    with Machine(image(release)) as machine:
        machine.serve_apt([deb])
        machine.apt_install("pf-agent")
        faults = Faults(machine, SUBJECTS[file])
        if "once" in ways:
            numbers = Counter({error: len(faults.calls(error)) for error in errors})
            say(f"{where}: so many calls of a correction may fail with: {told(numbers)}")

        def judge() -> int:
            events, mistold = faults.recorded()
            counts.update(events)
            for text in mistold:
                say(f"{where}: FAULT {text}")
            spent = time.monotonic() - begin
            say(f"{where}: {len(faults.points)} points, {spent:.0f} s, {faults.points[-1]}")
            return len(mistold)

        try:
            for point in all_points(faults, ways, errors, every):
                for text in point.faults:
                    found += 1
                    say(f"{where}: FAULT {point}: {text}")
                if len(faults.points) % _TOLD_EVERY == 0:
                    found += judge()
        except (AssertionError, MachineError, subprocess.SubprocessError) as error:
            found += 1
            say(f"{where}: FAULT broken off at {faults.points[-1:]}: {error}")
            say(machine.sh("journalctl -b --no-pager -n 60", check=False))
        found += judge()
    say(f"{where}: on record: {told(counts)}")
    return faults.points, found


def main() -> int:
    """Return 0 where no fault was found."""
    parser = argparse.ArgumentParser(prog="tools/campaign faults", description=__doc__)
    parser.add_argument("--release", choices=RELEASES, help="one release; default: both, in turn")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="each K-th call only")
    parser.add_argument("--way", choices=_WAYS, help="default: once, then lasting")
    parser.add_argument("--error", choices=ERRORS, help="one error; default: all, in turn")
    parser.add_argument("--file", choices=SUBJECTS, help="what drifts; default: all, in turn")
    arguments = parser.parse_args()
    ways = [arguments.way] if arguments.way else list(_WAYS)
    errors = [arguments.error] if arguments.error else list(ERRORS)
    deb = package()
    points: list[FaultPoint] = []
    faults = 0
    for release in [arguments.release] if arguments.release else RELEASES:
        for file in [arguments.file] if arguments.file else SUBJECTS:
            passed, found = campaign(release, file, deb, ways, errors, arguments.every)
            points += passed
            faults += found
    for error in errors:
        of = Counter(point.call for point in points if point.error == error)
        say(f"{error}: {sum(of.values())} points: {told(of)}")
    say(f"by process: {told(Counter(point.who for point in points))}")
    late = sum(point.took > 1.0 for point in points)
    restarts = sum(point.restarts for point in points)
    say(
        f"{late} were recovered from after more than a second, {restarts} by a restart of the agent"
    )
    say(f"faults: {len(points)} points, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
