"""Any bytes for every parser: atheris looks for some that break what targets.py promises."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.checkout import CHECKOUT
from tests.fuzz.targets import TARGETS

CORPUS = CHECKOUT / "tests" / "fuzz" / "corpus"
# Far above what a parser takes; a small input that needs more is a fault.
_MOST_MEMORY_MB = 1024
_MOST_SECONDS_AN_INPUT = 20


def main() -> int:
    """Return 0 only where no target was broken."""
    parser = argparse.ArgumentParser(prog="tools/campaign fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=3600, help="for each target (3600)")
    parser.add_argument("--target", choices=TARGETS, action="append", help="only this one")
    parser.add_argument("--keep", type=Path, help="put new inputs into DIR/TARGET", metavar="DIR")
    arguments = parser.parse_args()
    broken = [
        name
        for name in arguments.target or TARGETS
        if not _holds(name, arguments.seconds, arguments.keep)
    ]
    print(f"fuzz: {len(broken)} targets broken{': ' if broken else ''}{', '.join(broken)}")
    return 1 if broken else 0


def _holds(name: str, seconds: int, keep: Path | None) -> bool:
    """Fuzz one target; tell whether it held."""
    found = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    grown = (keep or found) / name
    grown.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        f"-rss_limit_mb={_MOST_MEMORY_MB}",
        f"-timeout={_MOST_SECONDS_AN_INPUT}",
        "-max_len=8192",
        "-print_final_stats=1",
        f"-artifact_prefix={found}/broken-",
    ]
    print(f"fuzz: {name}, {seconds} s", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", name, *options, str(grown), str(CORPUS / name)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    runs = re.search(r"number_of_executed_units: *(\d+)", done.stdout)
    covered = re.findall(r"cov: (\d+) ft: (\d+)", done.stdout)
    if done.returncode or runs is None:
        print(done.stdout[-3000:])
        print(f"fuzz: {name} is broken; the input is below {found}")
        return False
    edges, features = covered[-1] if covered else ("0", "0")
    print(f"fuzz: {name}: {int(runs[1]):,} inputs, {edges} edges, {features} features, none broke")
    shutil.rmtree(found)
    return True


if __name__ == "__main__":
    sys.exit(main())
