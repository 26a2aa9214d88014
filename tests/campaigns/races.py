"""Writers that race the agent for main.cf: what it displaced is kept, and nobody reads a half."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.checkout import CHECKOUT
from tests.machine.image import image
from tests.machine.nspawn import Machine
from tests.machine.site import Site
from tests.races.texts import Base

RELEASES = ("bookworm", "trixie")
_FOLDER = "/root/races"
_SECONDS = 1800.0


def main() -> int:
    """Return 0 only where no fault was found."""
    parser = argparse.ArgumentParser(prog="tools/campaign races", description=__doc__)
    parser.add_argument("--writes", type=int, default=50_000, help="on each release (50000)")
    parser.add_argument("--release", action="append", help="only this one; default: both at once")
    parser.add_argument("--seed", type=int, default=4711)
    arguments = parser.parse_args()
    deb = _package()
    releases = arguments.release or RELEASES
    with ThreadPoolExecutor(len(releases)) as pool:
        campaigns = [
            pool.submit(_campaign, release, deb, arguments.writes, arguments.seed)
            for release in releases
        ]
        count = sum(campaign.result() for campaign in campaigns)
    print(f"races: {count} faults")
    return 1 if count else 0


def _campaign(release: str, deb: Path, writes: int, seed: int) -> int:
    """Return how many faults one release has."""
    whole = writes // 10
    parts = {
        "every way of saving": (writes - whole, ["--pause=0.01"]),
        "whole texts, read all the time": (whole, ["--pause=0.03", "--whole"]),
    }
    count = 0
    with Machine(image(release)) as machine:
        machine.serve_apt([deb])
        machine.apt_install("pf-agent")
        site = Site.prepared(machine)
        for name, (share, options) in parts.items():
            print(f"races: {release}: {name}: {share} writes", flush=True)
            report = race(site, share, *options, f"--seed={seed}")
            found = faults(report)
            count += len(found)
            for line in [*_told(report), *found]:
                print(f"races: {release}: {line}", flush=True)
    return count


def _package() -> Path:
    """Build the package from this checkout; return the .deb."""
    quick = {**os.environ, "DEB_BUILD_OPTIONS": "nocheck", "DEB_BUILD_PROFILES": "nocheck"}
    done = subprocess.run(
        [CHECKOUT / "tools" / "deb"], check=True, env=quick, stdout=subprocess.PIPE, text=True
    )
    return Path(done.stdout.strip().splitlines()[-1])


def _told(report: dict[str, Any]) -> list[str]:
    ways = ", ".join(f"{way} {count}" for way, count in report["ways"].items())
    reads = ", ".join(f"{name} {seen['reads']}" for name, seen in report["readers"].items())
    return [
        f"{report['writes']} writes in {report['seconds']} s: {ways}",
        f"{report['displaced']} texts displaced, {report['overtaken']} of them written in the"
        " instant before the exchange",
        *([f"reads: {reads}"] if reads else []),
    ]


def race(site: Site, writes: int, *options: str) -> dict[str, Any]:
    """Let the writers of tests/races write so often; return their report. The agent is at rest
    before, and main.cf is right and free of the versions after."""
    machine = site.machine
    machine.sh(f"rm -rf {_FOLDER}")
    machine.copy_in([CHECKOUT / "tests" / "races"], f"{_FOLDER}/tests")
    small = Base(site.good).text
    machine.write_bytes(f"{_FOLDER}/good", site.good)
    site.put(small)
    site.wait_right(small)
    command = [*("env", "-C", _FOLDER, "python3", "-m", "tests.races", f"{_FOLDER}/good")]
    command += [f"{_FOLDER}/scratch", f"--writes={writes}", *options]
    report: dict[str, Any] = json.loads(machine.run(command, timeout=_SECONDS).stdout)
    return report


def faults(report: dict[str, Any]) -> list[str]:
    """What a report has that must not be, in words."""
    found = [f"version {version} is lost" for version in report["lost"]]
    found += report["flaws"]
    found += [f"/etc/postfix/{name} is left behind" for name in report["litter"]]
    for reader, seen in report["readers"].items():
        found += [f"{reader}: {flaw}" for flaw in seen["flaws"]]
    return found


if __name__ == "__main__":
    sys.exit(main())
