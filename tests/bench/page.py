"""Measure the page in Cockpit: when it is ready, what its session takes, what the agent pays.

One booted machine, one browser, nobody else at work; prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from tests.campaigns.crash import package
from tests.machine.cockpit.chromium import Chromium
from tests.machine.cockpit.storm import drifts
from tests.machine.golden import golden, with_cockpit
from tests.machine.image import ImageError, image
from tests.machine.nspawn import Machine, MachineError
from tests.machine.site import Site

RELEASES = ("bookworm", "trixie")
CYCLES = 400
LOGINS = 5
REST_SECONDS = 30
# For what begins with a session, or is left from what was done, to be over.
SETTLE_SECONDS = 20
AGENT = "pf-agent.service"
REST = (Path(__file__).parent / "inside" / "rest.py").read_text(encoding="utf-8")
INSTALLED = "/usr/share/cockpit/pf-agent"
MIB = 1024


# By the browser's clock: since Cockpit's own window began, when the login was over.
READY = """
document.querySelector("body[data-ready] #history tbody") &&
    Date.now() - top.performance.timeOrigin
"""


def ready_seconds(chromium: Chromium) -> float:
    """Log in; the seconds until the page has its state and its rows, to a quarter of a second."""
    chromium.login("anna", administrative=True)
    milliseconds: float = chromium.wait(READY.strip())
    return milliseconds / 1000


def at_rest(site: Site, units: str) -> dict[str, Any]:
    """Return what some units cost while nothing happens: inside/rest.py."""
    time.sleep(SETTLE_SECONDS)
    said = site.run_python(REST, units, str(REST_SECONDS), "0", timeout=REST_SECONDS + 60)
    found: dict[str, Any] = json.loads(said)
    return found


def session_of_anna(site: Site, chromium: Chromium) -> dict[str, Any]:
    """What a new session of hers costs, in which the page is open if there is one."""
    site.machine.sh("loginctl terminate-user anna", check=False)
    site.machine.wait_until("! pgrep -u anna")
    chromium.login("anna", administrative=True)
    chromium.wait_shell("return document.querySelector('iframe')")
    sessions = site.machine.run(["loginctl", "show-user", "anna", "-p", "Sessions", "--value"])
    units = [f"session-{name}.scope" for name in sessions.stdout.split()]
    return at_rest(site, ",".join(units))


def measure(site: Site, deb: Path) -> list[tuple[str, str]]:
    """The rows of the table."""
    with drifts(site, CYCLES, 0.0) as storm:
        storm.wait(timeout=600)
    site.wait_right()
    site.forget_restarts()
    site.end_contest()
    site.wait_settled()
    alone = at_rest(site, AGENT)
    with Chromium(site.machine) as chromium:
        ready = [ready_seconds(chromium) for _ in range(LOGINS)]
        taken = session_of_anna(site, chromium)
        beside = at_rest(site, AGENT)
        site.machine.run(["mv", INSTALLED, "/root"])
        empty = session_of_anna(site, chromium)
    return [
        (
            f"login -> page ready, {CYCLES} cycles on record, median",
            f"{statistics.median(ready):.2f} s",
        ),
        ("the same, worst of 5", f"{max(ready):.2f} s"),
        ("memory of the session (PSS)", f"{taken['pss'] / MIB:.1f} MiB"),
        ("memory of a session without the page", f"{empty['pss'] / MIB:.1f} MiB"),
        ("processor of the session while the page is open", f"{taken['cpu']:.2%} of a core"),
        ("the agent at rest, alone: wake-ups a minute", f"{alone['wakeups']:.1f}"),
        ("the same while the page is open", f"{beside['wakeups']:.1f}"),
        ("the agent at rest, alone: processor", f"{alone['cpu']:.4%}"),
        ("the same while the page is open", f"{beside['cpu']:.4%}"),
        ("the agent's memory, alone (PSS)", f"{alone['pss'] / MIB:.1f} MiB"),
        ("the same while the page is open", f"{beside['pss'] / MIB:.1f} MiB"),
        ("the package", f"{deb.stat().st_size / 1000:.0f} kB"),
    ]


def main() -> int:
    """Return 0 when all was measured, whatever came out of it."""
    parser = argparse.ArgumentParser(prog="tools/bench --page", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--release", choices=RELEASES, default="trixie", help="(trixie)")
    release = parser.parse_args().release
    began = time.monotonic()
    deb = package()
    page_deb = deb.with_name(f"cockpit-{deb.name}")
    try:
        layers = with_cockpit(release, golden(release, image(release), deb), page_deb)
        with Machine(*layers) as machine:
            rows = measure(Site.prepared(machine), page_deb)
    except (ImageError, MachineError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"| figure | {release} |\n| --- | --- |")
    for name, value in rows:
        print(f"| {name} | {value} |")
    print(f"measured in {time.monotonic() - began:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
