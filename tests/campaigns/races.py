"""Writers that race the agent for a file: what it displaced is kept, and nobody reads a half.

The files are main.cf, master.cf and the source of a table, one after the other.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.campaigns.crash import package
from tests.checkout import CHECKOUT
from tests.machine.image import image
from tests.machine.nspawn import Machine
from tests.machine.site import EXTRA, Site
from tests.machine.subjects import SUBJECTS
from tests.races.texts import FORMS, Base

RELEASES = ("bookworm", "trixie")
_FOLDER = "/root/races"
_SECONDS = 1800.0
_RIGHT = "pf-agent diff"
# What is raced for where the guide names nothing.
_WISHES = {
    "master.cf": '[services."races/unix"]\nprivate = false\nchroot = false\n'
    'command = "pipe"\narguments = ["user=nobody", "argv=/bin/echo", "right"]\n',
    "table": SUBJECTS["table"].wish,
}


def main() -> int:
    """Return 0 only where no fault was found."""
    parser = argparse.ArgumentParser(prog="tools/campaign races", description=__doc__)
    parser.add_argument("--writes", type=int, default=50_000, help="of each file (50000)")
    parser.add_argument("--release", action="append", help="only this one; default: both at once")
    parser.add_argument("--file", choices=FORMS, help="only this one; default: all, in turn")
    parser.add_argument("--seed", type=int, default=4711)
    arguments = parser.parse_args()
    deb = package()
    releases = arguments.release or RELEASES
    files = [arguments.file] if arguments.file else list(FORMS)
    with ThreadPoolExecutor(len(releases)) as pool:
        campaigns = [
            pool.submit(_campaign, release, deb, files, arguments.writes, arguments.seed)
            for release in releases
        ]
        count = sum(campaign.result() for campaign in campaigns)
    print(f"races: {count} faults")
    return 1 if count else 0


def _campaign(release: str, deb: Path, files: Sequence[str], writes: int, seed: int) -> int:
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
        for file in files:
            where = f"races: {release}, {file}"
            for name, (share, options) in parts.items():
                print(f"{where}: {name}: {share} writes", flush=True)
                report = race(site, share, *options, f"--seed={seed}", file=file)
                found = faults(report)
                count += len(found)
                for line in [*_told(report), *found]:
                    print(f"{where}: {line}", flush=True)
    return count


def _told(report: dict[str, Any]) -> list[str]:
    ways = ", ".join(f"{way} {count}" for way, count in report["ways"].items())
    reads = ", ".join(f"{name} {seen['reads']}" for name, seen in report["readers"].items())
    return [
        f"{report['writes']} writes in {report['seconds']} s: {ways}",
        f"{report['displaced']} texts displaced, {report['overtaken']} of them written in the"
        " instant before the exchange",
        *([f"reads: {reads}"] if reads else []),
    ]


def race(site: Site, writes: int, *options: str, file: str = "main.cf") -> dict[str, Any]:
    """Let the writers of tests/races write so often; return their report.

    The agent is at rest before, and the file is right and free of the versions after.
    """
    machine, form = site.machine, FORMS[file]
    machine.sh(f"rm -rf {_FOLDER}")
    machine.copy_in([CHECKOUT / "tests" / "races"], f"{_FOLDER}/tests")
    if file in _WISHES:
        site.end_contest()  # of the file before
        machine.write_text(EXTRA, _WISHES[file])
        machine.run(["systemctl", "reload", "pf-agent"])
        machine.wait_until(_RIGHT, 120)
        site.wait_settled()
    good = machine.read_bytes(form.path)
    machine.write_bytes(f"{_FOLDER}/good", good)
    machine.run(
        ["sh", "-c", 'cat > "$1.new" && mv "$1.new" "$1"', "sh", form.path],
        input=Base(good, form).text,
    )
    machine.wait_until(_RIGHT)
    command = [*("env", "-C", _FOLDER, "python3", "-m", "tests.races", f"{_FOLDER}/good")]
    command += [f"{_FOLDER}/scratch", SUBJECTS[file].displaced, f"--file={file}"]
    command += [f"--writes={writes}", *options]
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
