"""What real Postfix does with values that refer to something, right and wrong: tests/references.

A machine for each release, one after the other, with plain Postfix in the world that
tests/references/world.py describes. Each case of cases.toml is written over its main.cf and
master.cf, Postfix is stopped and started, and a client inside mynetworks and a stranger send a
message. What they are answered, what becomes of the message and what Postfix says goes into
truth.json, with one word for all of it.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tests.campaigns.crash import RELEASES, say
from tests.machine.image import image
from tests.machine.nspawn import Machine
from tests.references import cases, world
from tests.references.cases import BASE_CASE, TRUTH, Case

_TOLD_EVERY = 25
# By case; what truth.json holds, by case and version of Postfix.
Seen = dict[str, dict[str, Any]]
Truth = dict[str, Seen]


def look(machine: Machine, wanted: Sequence[Case], default: str) -> Iterator[dict[str, Any]]:
    """Yield what is seen of each case, in their order."""
    command = ["python3", f"{world.PROGRAMS}/inside.py"]
    with machine.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as inside:
        assert inside.stdin is not None
        assert inside.stdout is not None
        for case in wanted:
            asked = {
                "name": case.name,
                "to": case.to,
                "main_cf": world.main_cf(dict(case.settings)),
                "master_cf": cases.master_cf(default, case),
                # `postfix start` asks for postlog's line, and only then.
                "checked": "maillog_file" in case.settings,
            }
            inside.stdin.write(json.dumps(asked).encode() + b"\n")
            inside.stdin.flush()
            yield json.loads(inside.stdout.readline())


def visit(release: str, wanted: Sequence[Case]) -> tuple[str, Seen]:
    """Return the version of a release's Postfix, and what it does with each case."""
    seen: Seen = {}
    with Machine(image(release)) as machine:
        default = world.settle(machine)
        version = ".".join(machine.sh("postconf -hd mail_version").split(".")[:2])
        begin = time.monotonic()
        for number, told in enumerate(look(machine, wanted, default), 1):
            seen[told["name"]] = told["seen"]
            if told["seconds"] > 10:
                say(f"{release}: {told['seconds']} s: {told['name']}")
            if number % _TOLD_EVERY == 0 or number == len(wanted):
                spent = time.monotonic() - begin
                say(f"{release}: {number} of {len(wanted)} cases after {spent:.0f} s")
    return version, seen


def judge(known: Sequence[Case], truth: Truth) -> None:
    """Give each case its verdict, and say what a case claims and no run has shown."""
    for case in known:
        for version, seen in truth[case.name].items():
            other = truth[case.than].get(version, {})
            seen["verdict"] = cases.verdict(case, seen, other)
            if case.silent and not cases.is_proven(seen, other):
                say(f"not shown to match nothing: {case.name}, on Postfix {version}")


def keep(known: Sequence[Case], version: str, seen: Seen) -> Truth:
    """Put what was seen into truth.json, beside what it has of other cases and versions."""
    before = json.loads(TRUTH.read_text()) if TRUTH.exists() else {}
    truth: Truth = {case.name: before.get(case.name, {}) for case in known}
    for name, found in seen.items():
        truth[name][version] = found
    judge(known, truth)
    lines = (
        f"{json.dumps(name)}: {{\n"
        + ",\n".join(f"  {json.dumps(key)}: {json.dumps(of)}" for key, of in sorted(by.items()))
        + "\n}"
        for name, by in truth.items()
    )
    TRUTH.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return truth


def main() -> int:
    """Return 0 where every case was tried."""
    parser = argparse.ArgumentParser(prog="tools/campaign references", description=__doc__)
    parser.add_argument("--release", choices=RELEASES, help="one release; default: both")
    parser.add_argument("--only", default="", help="only cases whose names this expression finds")
    arguments = parser.parse_args()
    known = cases.load()
    wanted = [c for c in known if re.search(arguments.only, c.name) or c.name == BASE_CASE]
    compared = {c.than for c in wanted}
    wanted = [c for c in known if c in wanted or c.name in compared]
    for release in [arguments.release] if arguments.release else RELEASES:
        version, seen = visit(release, wanted)
        truth = keep(known, version, seen)
        count = Counter(by[version]["verdict"] for by in truth.values() if version in by)
        told = ", ".join(f"{word} {number}" for word, number in sorted(count.items()))
        say(f"references: Postfix {version}: {count.total()} cases: {told}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
