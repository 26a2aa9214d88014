"""Attacks by a local user, by the user postfix and from the network: what is promised holds.

A machine for each release, one after the other. Each attack begins from a calm site; while it is
under way, main.cf drifts and must be healed, and root's orders must be answered; after it, the
record must be true, and nothing may be left: tests/machine/attacks/.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.campaigns.crash import RELEASES, package, say
from tests.machine.attacks.attack import Attack
from tests.machine.attacks.table import ATTACKS
from tests.machine.attacks.trying import Trial, prepare, try_all
from tests.machine.image import image
from tests.machine.nspawn import Machine, MachineError

_BROKEN_OFF = (AssertionError, MachineError, OSError, subprocess.SubprocessError)
_JOURNAL = "journalctl -b --no-pager -n 40 _UID=0 -t pf-agent -t systemd"


def campaign(release: str, deb: Path, attacks: Sequence[Attack]) -> list[Trial]:
    """Return how they went on one release; one that leaves no calm site behind is the last."""
    trials: list[Trial] = []
    with Machine(image(release)) as machine:
        machine.serve_apt([deb])
        machine.apt_install("pf-agent")
        try:
            for trial in try_all(prepare(machine), attacks):
                trials.append(trial)
                say(f"{release}: {'FAILED' if trial.broken else 'held'} {trial}")
                if trial.broken:
                    say(machine.sh(_JOURNAL, check=False))
        except _BROKEN_OFF as error:
            after = trials[-1].attack if trials else "the setup"
            say(f"{release}: FAILED broken off after {after}: {error}")
            say(machine.sh(_JOURNAL, check=False))
    return trials


def main() -> int:
    """Return 0 where every promise was kept."""
    parser = argparse.ArgumentParser(prog="tools/campaign attacks", description=__doc__)
    parser.add_argument("--release", choices=RELEASES, help="one release; default: both")
    parser.add_argument("--only", default="", metavar="EXPRESSION", help="of a name")
    arguments = parser.parse_args()
    attacks = [attack for attack in ATTACKS if re.search(arguments.only, str(attack))]
    if not attacks:
        parser.error(f"no attack has {arguments.only}")
    releases = [arguments.release] if arguments.release else list(RELEASES)
    deb = package()
    trials = [trial for release in releases for trial in campaign(release, deb, attacks)]
    failed = [trial for trial in trials if trial.broken]
    for promise, count in Counter(name for trial in failed for name in trial.broken).most_common():
        say(f"not kept in {count} attacks: {promise}")
    missing = len(attacks) * len(releases) - len(trials)
    say(
        f"attacks: {len(trials)} tried, {len(trials) - len(failed)} held, {len(failed)} failed,"
        f" {missing} not tried"
    )
    return 1 if failed or missing else 0


if __name__ == "__main__":
    sys.exit(main())
