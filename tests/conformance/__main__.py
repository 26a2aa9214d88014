"""Hold the agent to real Postfix over as many generated files as are asked for."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.conformance.expect import Disagreement
from tests.conformance.run import run, run_edits, run_entries, run_master, write_out
from tests.conformance.truth import Truth, version
from tests.machine.image import ImageError, cache_dir, image

Check = Callable[[Truth, int, int], "Counter[str]"]

RELEASES = ("bookworm", "trixie")
# Hypothesis remembers each file of a run so as not to make it twice: longer runs eat memory.
RUN_FILES = 10_000


def main() -> int:
    """Return 0 when all agree, 1 when a file does not or there is no Postfix to ask."""
    parser = argparse.ArgumentParser(prog="tools/conformance", description=__doc__)
    parser.add_argument("--files", type=int, default=RUN_FILES, help="files for each release")
    parser.add_argument("--release", choices=RELEASES, help="default: one after the other")
    parser.add_argument("--seed", type=int, default=1, help="another number, other files")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--master", action="store_true", help="master.cf files, not main.cf")
    other.add_argument("--edits", action="store_true", help="changes of master.cf files")
    other.add_argument("--tables", action="store_true", help="sources of tables and of aliases")
    asked = parser.parse_args()
    ways = {run_master: asked.master, run_edits: asked.edits, run_entries: asked.tables}
    over = next((way for way, is_asked in ways.items() if is_asked), run)
    try:
        for release in [asked.release] if asked.release else RELEASES:
            _conform(image(release), asked.files, asked.seed, over)
    except Disagreement as failure:
        print(f"{failure}\nkept as {write_out(failure, cache_dir() / 'conformance')}")
        return 1
    except ImageError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _conform(root: Path, files: int, seed: int, over: Callable[..., Counter[str]]) -> None:
    """Check so many files and print what was seen. Raises Disagreement."""
    postfix, start = f"Postfix {version(root)}", time.monotonic()
    seen: Counter[str] = Counter()
    with Truth(root) as truth:
        while seen["files"] < files:
            seen += over(truth, min(RUN_FILES, files - seen["files"]), seed)
            seed += 1
            seconds = time.monotonic() - start
            print(f"{postfix}: {seen['files']} files, {seconds:.0f} s", file=sys.stderr, flush=True)
    print(f"{postfix}: all agree")
    for kind, number in sorted(seen.items()):
        print(f"{number:10} {kind}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
