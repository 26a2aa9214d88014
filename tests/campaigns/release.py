"""Upgrades Debian 12 to 13 under the agent, which runs on: right, and with no needless restart.

As the release notes have it: `apt-get upgrade --without-new-pkgs`, then `full-upgrade`, here
from a folder of packages and with nobody to ask. Of Postfix that is 3.7 to 3.10, and two units
become one; of Python 3.11 to 3.13, with the old one's modules gone under the agent.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pf_agent import names
from tests.archive import DEBIAN, archive
from tests.campaigns.crash import package, say
from tests.machine.image import cache_dir, image
from tests.machine.nspawn import Machine
from tests.machine.site import MAIN_CF, QUIET, SETTLE_SECONDS, Site

_APT = "apt-get -q -y -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold"
_STEPS = (f"{_APT} upgrade --without-new-pkgs", f"{_APT} full-upgrade")
_SECONDS = 1500.0


def packages(root: Path) -> Path:
    """Return a folder with what the machine of this root folder takes from Debian 13; kept."""
    folder = cache_dir() / "machines" / f"{root.name}-to-trixie"
    if folder.is_dir():
        return folder
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        work = Path(scratch)
        (work / "sources").write_text(f"deb {archive(DEBIAN)} trixie main\n")
        for name in ("lists/partial", "debs/partial"):
            (work / name).mkdir(parents=True)
        options = {
            "APT::Sandbox::User": "root",
            "Dir::Cache": work,
            "Dir::Cache::archives": work / "debs",
            "Dir::Etc::sourcelist": work / "sources",
            "Dir::Etc::sourceparts": "-",
            "Dir::State::extended_states": root / "var/lib/apt/extended_states",
            "Dir::State::lists": work / "lists",
            "Dir::State::status": root / "var/lib/dpkg/status",
        }
        apt = ["apt-get", "-q", "-y", *(f"-o{name}={value}" for name, value in options.items())]
        for step in (["update"], ["--no-install-recommends", "--download-only", "dist-upgrade"]):
            subprocess.run([*apt, *step], check=True, stdout=subprocess.DEVNULL)
        shutil.copytree(work / "debs", folder, ignore=shutil.ignore_patterns("partial", "lock"))
    return folder


def starts(site: Site) -> list[str]:
    """Each start of Postfix in this boot, by the units of Debian 12 or 13, and dpkg's last step."""
    units = ("postfix@-.service", "postfix.service")
    told = [e for e in site.machine.journal("-b") if e.get("UNIT") in units]
    return [
        f"{entry['UNIT']}: {entry['MESSAGE']} {_meanwhile(site, entry)}"
        for entry in told
        if str(entry["MESSAGE"]).startswith("Started")
    ]


def _meanwhile(site: Site, entry: dict[str, Any]) -> str:
    moment = int(entry["__REALTIME_TIMESTAMP"]) // 1_000_000
    when = site.machine.run(["date", "-d", f"@{moment}", "+%F %T"]).stdout.strip()
    script = f'awk \'$1 " " $2 <= "{when}"\' /var/log/dpkg.log | tail -n 1'
    return f"({when}; dpkg: {site.machine.sh(script).strip()})"


def ours(site: Site, since: str) -> Iterator[str]:
    """What the agent put on record."""
    for entry in site.machine.journal(f"--after-cursor={since}"):
        if entry.get("SYSLOG_IDENTIFIER") == "pf-agent":
            yield str(entry["MESSAGE"])


def faults(site: Site, since: str, invocation: str) -> Iterator[str]:
    """Tell what is not as it must be after the upgrade."""
    machine = site.machine
    if machine.read_text("/etc/debian_version").split(".")[0].strip() != "13":
        yield "it is not Debian 13"
    if site.desired().settings.items() - site.explicit().items():
        yield f"main.cf: {sorted(site.desired().settings.items() - site.explicit().items())}"
    if not site.serves():
        yield "Postfix does not serve"
    if site.stands() != ("in-sync", 0):
        yield f"the agent stands at {site.stands()}"
    if site.show("pf-agent", "NRestarts") != "0":
        yield "the agent crashed"
    if machine.run(["dpkg", "--audit"]).stdout:
        yield "dpkg is not content"
    entries = machine.journal(f"--after-cursor={since}")
    yield from (str(e["MESSAGE"]) for e in entries if "Traceback" in str(e.get("MESSAGE")))
    say(f"the agent's process is {'the old' if _invocation(site) == invocation else 'a new'} one")


def _invocation(site: Site) -> str:
    return site.show("pf-agent", "InvocationID")


def campaign(deb: Path) -> list[str]:
    """Upgrade one machine; return what went wrong."""
    base = image("bookworm")
    with Machine(base) as machine:
        machine.serve_apt([deb])
        machine.apt_install("pf-agent")
        site = Site.prepared(machine)
        machine.serve_apt([deb, *packages(base).glob("*.deb")])
        since, invocation, before = site.cursor(), _invocation(site), len(starts(site))
        level = site.explicit().get("compatibility_level")
        began = time.monotonic()
        for step in _STEPS:
            machine.run(["sh", "-c", step], timeout=_SECONDS, env=QUIET)
        say(f"upgraded within {time.monotonic() - began:.0f} s")
        machine.wait_until("pf-agent diff", SETTLE_SECONDS)
        site.wait_settled()
        site.unit = names.POSTFIX_UNIT
        found = list(faults(site, since, invocation))
        if site.explicit().get("compatibility_level") != level:
            found.append(f"compatibility_level was {level}: {site.explicit()}")
        say("\n".join(["starts of Postfix:", *starts(site)[before:]]))
        say("\n".join(["the agent's records:", *ours(site, since)]))
        return [*found, *drift_is_healed(site)]


def drift_is_healed(site: Site) -> list[str]:
    """Whether the agent corrects and activates as before, by the process that runs and anew."""
    for command in (["true"], ["systemctl", "restart", "pf-agent"]):
        site.machine.run(command)
        site.wait_settled()
        site.forget_restarts()
        since = site.cursor()
        site.drift_once()
        if len(site.starts(since)) != 1:
            return [f"after {command}: {len(site.starts(since))} starts of Postfix"]
        if "0.0.0.0/0" in site.machine.read_text(MAIN_CF):
            return [f"after {command}: the drift stands"]
    return []


def main() -> int:
    """Return 0 only where no fault was found."""
    parser = argparse.ArgumentParser(prog="tools/campaign release", description=__doc__)
    parser.parse_args()
    found = campaign(package())
    for fault in found:
        say(f"FAULT {fault}")
    say(f"release: {len(found)} faults")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
