"""Kills the agent at every system call of its work that changes anything, and looks what is left.

One machine for each release, side by side, for main.cf, master.cf and a table in turn. For every N
from 1 on until the work ends before its N-th such call: the daemon's correction of a drift, the
daemon's start after a crash, `pf-agent apply`; and at some points of a correction, the machine's
power.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.checkout import CHECKOUT
from tests.machine.crashing import NEVER, Crashes, Point
from tests.machine.image import image
from tests.machine.nspawn import Machine, MachineError
from tests.machine.subjects import SUBJECTS

RELEASES = ("bookworm", "trixie")
_WAYS = ("correction", "errand", "take-up", "power-cut", "apply")
_POWER_CUTS = 12
_TOLD_EVERY = 50

_printing = threading.Lock()


def say(text: str) -> None:
    """Print a line; the machines are at it side by side."""
    with _printing:
        print(text, flush=True)


def package() -> Path:
    """Build the package from this checkout; return the .deb."""
    quick = {**os.environ, "DEB_BUILD_OPTIONS": "nocheck", "DEB_BUILD_PROFILES": "nocheck"}
    done = subprocess.run(
        [CHECKOUT / "tools" / "deb"], check=True, env=quick, stdout=subprocess.PIPE, text=True
    )
    return Path(done.stdout.strip())


def every_point(
    way: Callable[[int], Point | list[list[str]]], every: int, most: int = sys.maxsize
) -> Iterator[Point]:
    """Kill at each `every`-th call, until the work ends without, `most` times at most."""
    for number in range(every, every * min(most, 10_000) + 1, every):
        point = way(number)
        if isinstance(point, list):
            return
        yield point


def campaign(
    release: str, file: str, deb: Path, every: int, names: Collection[str]
) -> tuple[list[Point], list[str]]:
    """Return the points of one file on one release, and the faults."""
    begin, faults = time.monotonic(), []
    where = f"{release}, {file}"

    def fault(text: str) -> None:
        faults.append(text)
        say(f"{where}: FAULT {text}")

    with Machine(image(release)) as machine:
        machine.serve_apt([deb])
        machine.apt_install("pf-agent")
        crashes = Crashes(machine, SUBJECTS[file])
        calls = crashes.correction(NEVER)
        assert isinstance(calls, list)
        by_call = told(Counter(call for call, _ in calls))
        say(f"{where}: a correction makes {len(calls)} calls: {by_call}")
        try:
            for point in all_points(crashes, every, names, len(calls) // _POWER_CUTS):
                for text in point.faults:
                    fault(f"{point}: {text}")
                if len(crashes.points) % _TOLD_EVERY == 0:
                    spent = time.monotonic() - begin
                    say(f"{where}: {len(crashes.points)} points, {spent:.0f} s, {point}")
        except (AssertionError, MachineError, subprocess.SubprocessError) as error:
            done = crashes.points[-1] if crashes.points else "the first one"
            fault(f"broken off after {done}: {error}")
            if not machine.is_running:
                return crashes.points, faults
            say(machine.sh("journalctl -b --no-pager -n 60", check=False))
        counts, wrong = crashes.recorded()
        for text in wrong:
            fault(text)
        say(f"{where}: on record, of so many points: {told(counts)}")
        say(f"{where}: {told(Counter(point.way for point in crashes.points))}")
    return crashes.points, faults


def all_points(crashes: Crashes, every: int, names: Collection[str], apart: int) -> Iterator[Point]:
    """These ways, one after the other; the power is cut at calls that are so far `apart`."""
    ways = {
        "correction": every_point(crashes.correction, every),
        "errand": every_point(crashes.errand, every),
        "take-up": every_point(crashes.take_up, every),
        "power-cut": every_point(crashes.power_cut, max(1, apart), _POWER_CUTS),
        "apply": every_point(crashes.apply, every),
    }
    for name in names:
        yield from ways[name]


def told(counts: Counter[str]) -> str:
    """Counts on one line, the most frequent first."""
    return ", ".join(f"{what} {count}" for what, count in counts.most_common())


def main() -> int:
    """Return 0 where no fault was found."""
    parser = argparse.ArgumentParser(prog="tools/campaign crash", description=__doc__)
    parser.add_argument("--release", choices=RELEASES, help="one release; default: both")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="each K-th call only")
    parser.add_argument("--way", choices=_WAYS, help="what is killed; default: all, in turn")
    parser.add_argument("--file", choices=SUBJECTS, help="what drifts; default: all, in turn")
    arguments = parser.parse_args()
    ways = [arguments.way] if arguments.way else _WAYS
    releases = [arguments.release] if arguments.release else list(RELEASES)
    deb = package()
    files = [arguments.file] if arguments.file else list(SUBJECTS)
    with ThreadPoolExecutor(len(releases)) as pool:
        results = [
            pool.submit(campaign, release, file, deb, arguments.every, ways)
            for file in files
            for release in releases
        ]
    points = [point for result in results for point in result.result()[0]]
    faults = [fault for result in results for fault in result.result()[1]]
    say(f"by call: {told(Counter(point.call for point in points))}")
    say(f"by process: {told(Counter(point.who for point in points))}")
    say(f"crash: {len(points)} points in {len(results)} machines, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
