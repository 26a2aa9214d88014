"""Let the writers race the agent on this machine; print, as JSON, what came of it."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

from tests.races.ledger import Collector
from tests.races.readers import read_plainly, read_with_postconf
from tests.races.texts import FORMS, Base
from tests.races.writers import Writer, ways

TMPFS = Path("/dev/shm")

_RATE = 100
_RIGHT_SECONDS = 90.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.races", description=__doc__)
    parser.add_argument("good", type=Path, help="a text that is right")
    parser.add_argument("folder", type=Path, help="for scratch, on the file's file system")
    parser.add_argument("displaced", type=Path, help="where the agent keeps what it displaced")
    parser.add_argument("--file", choices=FORMS, default="main.cf", help="(main.cf)")
    parser.add_argument("--writes", type=int, default=1000)
    parser.add_argument("--writers", type=int, default=3, help="that many at once")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds, for each writer")
    parser.add_argument("--seed", type=int, default=4711)
    parser.add_argument(
        "--whole", action="store_true", help="only whole texts; and read them all the time"
    )
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    base = Base(arguments.good.read_bytes(), FORMS[arguments.file])
    print(json.dumps(_race(arguments, base)))
    return 0


def _race(arguments: argparse.Namespace, base: Base) -> dict[str, object]:
    path = Path(base.form.path)
    written, right = arguments.folder / "written", arguments.folder / "right"
    for flag in written, right:
        flag.unlink(missing_ok=True)
    begin = time.monotonic()
    with ProcessPoolExecutor(arguments.writers + 3, multiprocessing.get_context("fork")) as pool:
        collecting = pool.submit(
            Collector(arguments.displaced, base, arguments.whole).collect, right
        )
        reading = {}
        if arguments.whole:
            reading["plain"] = pool.submit(read_plainly, path, base, written)
            if base.form.is_main_cf:
                reading["postconf -n"] = pool.submit(read_with_postconf, base, _RATE, written)
        writing = [pool.submit(_write, arguments, base, i) for i in range(arguments.writers)]
        try:
            for writer in writing:
                writer.result()
            seconds = time.monotonic() - begin
            written.touch()
            is_right = _becomes_right(path)
        finally:
            written.touch()
            right.touch()
        collector = collecting.result()
        seen = {name: reader.result() for name, reader in reading.items()}
    ledger = collector.ledger
    ledger.keep(path.read_bytes())
    for log in TMPFS.glob("races-*.log"):
        ledger.read_log(log.read_text().splitlines())
        log.unlink()
    if not is_right:
        ledger.flaws.append(f"{path} is not right after {_RIGHT_SECONDS} s")
    return {
        "writes": len(ledger.written),
        "seconds": round(seconds),
        "ways": ledger.ways(),
        "displaced": collector.count,
        "overtaken": collector.overtaken,
        "lost": ledger.lost(),
        "flaws": ledger.flaws,
        "litter": _beside(path),
        "readers": {name: asdict(found) for name, found in seen.items()},
    }


def _write(arguments: argparse.Namespace, base: Base, index: int) -> None:
    pauses = random.Random(arguments.seed + index)
    numbers = range(index + 1, arguments.writes + 1, arguments.writers)
    with open(TMPFS / f"races-{index}.log", "w") as log:
        writer = Writer(base.form.path, base, index, str(arguments.folder), log, pauses)
        writer.run(numbers, ways(base.form, arguments.whole), arguments.pause)


def _becomes_right(path: Path) -> bool:
    deadline = time.monotonic() + _RIGHT_SECONDS
    while time.monotonic() < deadline:
        # In this order: while the file is right, only what a slow writer left is still taken up.
        is_right = not subprocess.run(["pf-agent", "diff"], stdout=subprocess.DEVNULL).returncode
        if is_right and not _beside(path):
            return True
        time.sleep(0.2)
    return False


def _beside(path: Path) -> list[str]:
    """What stands beside the file while the agent is not done."""
    return sorted(name for name in os.listdir(path.parent) if name.startswith(f".{path.name}"))


if __name__ == "__main__":
    sys.exit(main())
