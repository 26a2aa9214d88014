"""Runs in the machine: what the processes of some units cost while there is nothing to do.

    python3 rest.py UNIT,... SECONDS OPENS     OPENS: how often a second main.cf is opened and read
    python3 rest.py UNIT,... looks COUNT       so many changes of main.cf that are no drift
    python3 rest.py UNIT,... peak 0            the most memory since this was last asked for

Prints a JSON object: wake-ups, processor time in seconds, memory (PSS, and the peak of RSS) in KiB.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from multiprocessing import Process
from pathlib import Path

MAIN_CF = "/etc/postfix/main.cf"
_BATCH_SECONDS = 0.01
_LOOK_SECONDS = 0.05
_TICKS = os.sysconf("SC_CLK_TCK")

# For each thread: how often it went to sleep by itself, and for how many seconds it ran.
Threads = Mapping[str, tuple[int, float]]


def processes(units: frozenset[str]) -> list[str]:
    """Return the pids in the control groups of some units."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            groups = (folder / "cgroup").read_text()
        except OSError:
            continue
        if any(units.intersection(line.split("/")) for line in groups.splitlines()):
            found.append(folder.name)
    return found


def threads(pids: list[str]) -> Threads:
    found = {}
    for pid in pids:
        for folder in Path("/proc", pid, "task").glob("*"):
            try:
                status = (folder / "status").read_text()
                nanoseconds = int((folder / "schedstat").read_text().split()[0])
            except OSError:
                continue
            fields = dict(line.split(":", 1) for line in status.splitlines())
            found[folder.name] = int(fields["voluntary_ctxt_switches"]), nanoseconds / 1e9
    return found


def ended(pids: list[str]) -> float:
    """Return the CPU seconds of their children that have ended (proc(5): cutime, cstime)."""
    total = 0
    for pid in pids:
        try:
            fields = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[13]) + int(fields[14])
    return total / _TICKS


def pss(pids: list[str]) -> int:
    total = 0
    for pid in pids:
        try:
            lines = Path("/proc", pid, "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def peak(pids: list[str]) -> int:
    """Return the most that was resident, and begin anew (proc(5): VmHWM, clear_refs)."""
    total = 0
    for pid in pids:
        try:
            lines = Path("/proc", pid, "status").read_text().splitlines()
            Path("/proc", pid, "clear_refs").write_text("5")
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return total


def read_again_and_again(rate: int, seconds: float) -> None:
    begin, done = time.monotonic(), 0
    while (now := time.monotonic()) < begin + seconds:
        while done < (now - begin) * rate:
            handle = os.open(MAIN_CF, os.O_RDONLY)
            os.read(handle, 65536)
            os.close(handle)
            done += 1
        time.sleep(_BATCH_SECONDS)


def touch(count: int) -> None:
    for _ in range(count):
        os.utime(MAIN_CF)
        time.sleep(_LOOK_SECONDS)


def main() -> None:
    units = frozenset(sys.argv[1].split(","))
    how, number = sys.argv[2], int(sys.argv[3])
    pids = processes(units)
    if how == "peak":
        print(json.dumps({"peak": peak(pids)}))
        return
    before, children = threads(pids), ended(pids)
    begin = time.monotonic()
    if how == "looks":
        touch(number)
    elif number:
        reader = Process(target=read_again_and_again, args=(number, float(how)))
        reader.start()
        reader.join()
    else:
        time.sleep(float(how))
    seconds = time.monotonic() - begin
    after = threads(pids)
    both = before.keys() & after.keys()
    found = {
        "wakeups": sum(after[name][0] - before[name][0] for name in both) / seconds * 60,
        "cpu": (sum(after[n][1] - before[n][1] for n in both) + ended(pids) - children) / seconds,
        "seconds": seconds,
        "pss": pss(processes(units)),
        "processes": len(pids),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
