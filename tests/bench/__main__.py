"""Measure pf-agent beside what people would use instead, in one run, and print one table.

Each peer is at work alone, on one booted machine, after the other. The table is Markdown; beside
it the samples and the plot of the latencies are kept in the folder that the last line names.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence

from tests.bench import peers
from tests.bench.figures import GROUPS, PEERS, PF_AGENT, markdown, misses
from tests.bench.image import bench_image
from tests.bench.measure import Measure, concerns
from tests.bench.peers import AGENT, ALONE, Peer
from tests.bench.plot import draw
from tests.campaigns.crash import package
from tests.machine.image import ImageError, cache_dir
from tests.machine.nspawn import Machine, MachineError

RELEASES = ("bookworm", "trixie")
ROUNDS = 3
IN_ROUNDS = ("correct", "fresh", "services", "tables", "large", "restart")
BEGAN = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - BEGAN:5.0f} s] {text}", file=sys.stderr, flush=True)


def run(measure: Measure, machine: Machine, wanted: Sequence[Peer], groups: Sequence[str]) -> None:
    """Measure each of these peers in each of these groups of rows."""
    # What is compared is measured in turn: a machine that gets slower gets slower for all.
    in_rounds = [group for group in groups if group in IN_ROUNDS]
    turns = [in_rounds] * ROUNDS if in_rounds else []
    turns += [[group] for group in groups if group not in IN_ROUNDS]
    for number, turn in enumerate(turns, 1):
        for peer in wanted:
            for group in turn:
                if concerns(group, peer):
                    say(f"{number} of {len(turns)}: {peer.name}: {group}")
                    working = peers.of_group(group, peer)
                    with measure.prepared(group), peers.at_work(machine, working):
                        getattr(measure, group)(working)


def report(release: str, measure: Measure) -> None:
    """Print the table of what was measured so far; keep it with the samples and the plot."""
    folder = cache_dir() / "bench"
    table = markdown(measure.found)
    (folder / f"{release}.json").write_text(json.dumps(measure.found, indent=1))
    (folder / f"{release}.md").write_text(table)
    if "right" in measure.found:
        draw(measure.found, folder / f"latency-{release}.svg")
    print(table)
    for miss in misses(measure.found):
        print(f"not reached: {miss}")
    say(f"the samples, the table and the plot are in {folder}")


def main() -> int:
    """Return 0 if all was measured, whatever the result."""
    parser = argparse.ArgumentParser(prog="tools/bench", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--release", choices=RELEASES, default="trixie", help="(trixie)")
    parser.add_argument("--only", metavar="ROW,...", help=f"of {','.join(GROUPS)}")
    parser.add_argument("--peers", metavar="PEER,...", help=f"of {','.join([PF_AGENT, *PEERS])}")
    parser.add_argument("--drifts", type=int, default=25, help="for each median, at least 15 (25)")
    arguments = parser.parse_args()
    if arguments.drifts < 15:
        parser.error("a median of fewer than 15 drifts says little: --drifts 15 at least")
    groups = arguments.only.split(",") if arguments.only else list(GROUPS)
    names = arguments.peers.split(",") if arguments.peers else [PF_AGENT, *PEERS]
    wanted = [peer for peer in (AGENT, ALONE, *peers.ALL) if peer is ALONE or peer.name in names]
    if unknown := [*({*groups} - {*GROUPS}), *({*names} - {PF_AGENT, *PEERS})]:
        parser.error(f"unknown: {', '.join(unknown)}")
    try:
        with Machine(bench_image(arguments.release)) as machine:
            machine.serve_apt([package()])
            machine.apt_install("pf-agent")
            measure = Measure(machine, -(-arguments.drifts // ROUNDS), say)
            there = [peer for peer in wanted if peers.is_there(machine, peer)]
            try:
                run(measure, machine, there, groups)
            finally:
                report(arguments.release, measure)
    except (ImageError, MachineError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
