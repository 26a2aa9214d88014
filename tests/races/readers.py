"""Readers beside the writers: the file must never be missing, and never be half a text."""

from __future__ import annotations

import re
import subprocess
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from tests.races.texts import FIRST, LAST, Base, address

_DRIFTED = "mynetworks"
_MOST_FLAWS = 20


@dataclass
class Seen:
    """How often it was read, and what was wrong with what was read."""

    reads: int = 0
    flaws: list[str] = field(default_factory=list)

    def add(self, flaw: str) -> None:
        self.reads += 1
        if flaw and len(self.flaws) < _MOST_FLAWS:
            self.flaws.append(flaw)


def read_plainly(path: Path, base: Base, over: Path) -> Seen:
    """Until `over` is there, read the file again and again, and hold each text to the versions."""
    seen = Seen()
    while not over.exists():
        try:
            seen.add(base.flaw(path.read_bytes()))
        except FileNotFoundError:
            seen.add(f"{path} is missing")
        time.sleep(0.002)
    return seen


def read_with_postconf(base: Base, rate: int, over: Path) -> Seen:
    """Until `over` is there, start so many `postconf -n` each second, whether or not those before
    have ended.

    One that finds main.cf just written waits two seconds, as all of Postfix does.
    """
    seen = Seen()
    running: deque[subprocess.Popen[str]] = deque()
    begin = time.monotonic()
    started = 0
    names = set(_settings(base.text.decode()))
    while (more := not over.exists()) or running:
        if more and started < (time.monotonic() - begin) * rate:
            running.append(
                subprocess.Popen(
                    ["postconf", "-n"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                )
            )
            started += 1
        elif running and running[0].poll() is not None:
            seen.add(_flaw(running.popleft(), names))
        else:
            time.sleep(0.002)
    return seen


def _flaw(process: subprocess.Popen[str], names: set[str]) -> str:
    output, complaints = process.communicate()
    # It says that where it reads the file a second time, which changed while it read it.
    others = [line for line in complaints.splitlines() if "overriding earlier entry" not in line]
    if process.returncode or others:
        return f"exit code {process.returncode}: {others}"
    found = _settings(output)
    if found.keys() != names:
        return f"it shows other parameters: {sorted(names ^ found.keys())}"
    number = found[FIRST.decode()]
    drifted = found[_DRIFTED]
    if found[LAST.decode()] != number:
        return f"it begins as {number} and ends as {found[LAST.decode()]}"
    is_version = re.fullmatch(r"10\.1\d\d\.1\d\d\.1\d\d/32", drifted)
    if is_version and drifted != address(int(number[1:])).decode():
        return f"it is marked {number} and drifted as {drifted}"
    return ""


def _settings(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+) = ?(.*)$", text, re.MULTILINE))
