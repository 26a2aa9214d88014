"""Makes one system call of a correction fail, or all of a kind for a while; checks everything.

For the campaign, which tries every call, and for the test, which tries some. The daemon keeps
running: it has to recover by itself.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pf_agent import names
from tests.machine.drifting import ERRANDS_UNIT, SECONDS, UNIT, Drifts, has_told, ready_tracer
from tests.machine.nspawn import Machine
from tests.machine.subjects import SUBJECTS, Subject
from tests.machine.wholeness import NOTES, Edit, Wholeness

NEVER = 0  # no call has this number: nothing fails, and the calls are counted

# The longest backoff after one fault is the 10 s of a failed activation (course.py); a restart is
# added to that, on a busy machine.
_RECOVERS_WITHIN = 30.0
_TIDIED_WITHIN = 11.0
# What takes longer than this must be recorded.
_SILENT = 4.0
_ACTIVE_SILENT = 8.0
_BUSY = 0.01  # of one CPU
_MOST_CALLS_A_SECOND = 400
_MOST_RECORDS = 20

# What nobody can make sense of.
_OURS = re.compile(r"Traceback|internal error of pf-agent|Errno|Error\(|Exception")
_TROUBLE = ("correction-failed", "activation-failed")


@dataclass
class FaultPoint:
    """Which call failed, and how; and what was found then.

    `failed` is how many calls did, within `seconds`. `began` and `ended` are times of the clock.
    """

    error: str
    number: int
    call: str
    who: str
    what: str
    edit: Edit
    began: float
    seconds: float = 0.0
    failed: int = 1
    took: float = 0.0
    ended: float = 0.0
    installed: float = 0.0  # when the file got its present text
    restarts: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lasting = f" for {self.seconds:g} s" if self.seconds else ""
        what = f" ({self.what})" if self.what else ""
        return f"{self.error}{lasting} at {self.number}: {self.call}{what} of {self.who}"


class Faults(Drifts):
    """A machine where the agent's calls fail, over and over."""

    def __init__(self, machine: Machine, subject: Subject = SUBJECTS["main.cf"]) -> None:
        super().__init__(machine, subject)
        self.points: list[FaultPoint] = []
        self._judged = 0
        self._since = self.site.cursor()
        self._held = _held_by(self.agent())

    def calls(self, error: str, call: str = "") -> list[list[str]]:
        """Return a correction's calls that may fail so: name, process and subject of each."""
        told, _ = self._drift(error, NEVER, 0.0, call)
        return list(told["points"])

    def fail(
        self, error: str, number: int, seconds: float = 0.0, call: str = ""
    ) -> FaultPoint | None:
        """Let the call fail in a correction; None if the work ended before it.

        With `seconds`, all that may fail so fail until then, or all calls of one name.
        """
        before = self.agent()
        told, point = self._drift(error, number, seconds, call)
        if not told["failed"]:
            return None
        self.points.append(point)
        over = time.monotonic()
        try:
            self.poll(lambda: self._is_over(point.edit), "all is well", _RECOVERS_WITHIN)
            point.installed = self.whole.path(self.subject.path).stat().st_ctime
        except AssertionError as stuck:
            point.faults.append(str(stuck))
            self._help(point.edit)
        point.took = time.monotonic() - over
        self._look_after(point, before)
        point.ended = time.time()
        if any(note in point.what for note in NOTES):
            # If it could not write a restart down, it remembers it, and spaces the next ones. A
            # restart that it can write down is in the file, where it can be made to forget it.
            self.site.drift_once()
        return point

    def _drift(
        self, error: str, number: int, seconds: float, call: str
    ) -> tuple[dict[str, Any], FaultPoint]:
        before, edit = self.status(), self.ready()
        with self._injected(error, number, seconds, call) as injecting:
            began = time.time()
            self.put(edit.wrong)
            self.poll(lambda: has_told(injecting) or self.is_done(edit, before), "failed, or done")
            injecting.terminate()
            printed, _ = injecting.communicate(timeout=SECONDS)
        told: dict[str, Any] = json.loads(printed)
        name, who, what = told["points"][-1] if told["failed"] else ("", "", "")
        failed = told["failed"]
        return told, FaultPoint(error, number, name, who, what, edit, began, seconds, failed)

    def _is_over(self, edit: Edit) -> bool:
        """Whether the daemon says that all is well, including the aliases."""
        return self.is_done(edit) and not self.status().get("detail")

    def _help(self, edit: Edit) -> None:
        """Restart it: it did not recover, but must be as before for the next point."""
        self.machine.run(["systemctl", "restart", UNIT])
        self.put(edit.right)
        self.wait_done(edit)

    def _in_the_end(self, edit: Edit) -> list[str]:
        """Return what is wrong at once, and still is when leftovers are checked."""
        if found := [*self.whole.in_the_end(edit)]:
            time.sleep(_TIDIED_WITHIN)
            found = [*self.whole.in_the_end(edit)]
        return found

    def _look_after(self, point: FaultPoint, before: int) -> None:
        point.faults += self._in_the_end(point.edit)
        if point.failed > _MOST_CALLS_A_SECOND * max(point.seconds, 1.0):
            point.faults.append(f"busy: {point.failed} calls failed in {point.seconds:g} s")
        agent = self.agent()
        if busy := _busy(agent):
            point.faults.append(f"busy: {busy:.1%} of a processor")
        held = _held_by(agent)
        for what, most in self._held.items():
            if held[what] > most:
                point.faults.append(f"{held[what]} {what}, before {most}")
        self._held = held
        if agent != before:
            point.restarts, self._held = 1, {}  # it opens things when it first needs them
        if point.faults:
            self.whole = Wholeness(self.site, self.subject)  # each leftover is reported once

    # --- what is on record ----------------------------------------------------------------------

    def recorded(self) -> tuple[Counter[str], list[str]]:
        """Return what was recorded for the points since the last call, and its faults."""
        entries = self.machine.journal(f"--after-cursor={self._since}")
        if entries:
            self._since = str(entries[-1]["__CURSOR"])
        said = [entry for entry in entries if _is_of_agent(entry)]
        counts: Counter[str] = Counter()
        faults = []
        for point in self.points[self._judged :]:
            inside = [entry for entry in said if point.began <= _at(entry) <= point.ended]
            counts.update(kind for entry in inside for kind in [_event(entry)] if kind)
            faults += [f"{point}: {fault}" for fault in _mistold(point, inside)]
        self._judged = len(self.points)
        return counts, faults

    def _injected(
        self, error: str, number: int, seconds: float, call: str
    ) -> AbstractContextManager[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "tests.machine.injector"]
        command += [f"{self.agent()},{self.errands()}", error, str(number), str(seconds), call]
        return ready_tracer(command)


def _mistold(point: FaultPoint, entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what the journal must not say about a fault, and what it must."""
    lines = [str(entry.get("MESSAGE", "")) for entry in entries]
    for line in dict.fromkeys(lines):
        if _OURS.search(line):
            yield f"not for people: {line[:300]!r}"
    if any("PF_AGENT_TRACEBACK" in entry for entry in entries):
        yield "a traceback of our own"
    if len(lines) > _MOST_RECORDS:
        yield f"{len(lines)} records"
    moments: dict[str, list[float]] = {}
    for entry in entries:
        if entry.get(names.FIELD_EVENT) == "activated" and names.FIELD_CYCLE not in entry:
            continue  # newaliases, which is run again by itself
        moments.setdefault(_event(entry), []).append(_at(entry))
    for event in point.edit.subject.events:
        if len(found := moments.get(event, [])) != 1:
            yield f"{event} is on record {len(found)} times"
        elif found[0] < point.installed:
            yield f"{event} is on record {point.installed - found[0]:.3f} s before it is right"
    if "drift-detected" not in moments:
        yield "the drift is not on record"
    over = point.began + point.seconds
    late = (point.installed or point.ended) - over > _SILENT
    idle = moments.get("activated", [over])[-1] - over > _ACTIVE_SILENT
    if (late or idle) and not any(moments.get(event) for event in (*_TROUBLE, "")):
        yield f"not a word of why it took {point.took:.1f} s"


def _event(entry: Mapping[str, Any]) -> str:
    """Return which event an entry is about; "" for a remark.

    If journald was not available, the record is a line on stderr (journal.py).
    """
    told = re.match(rf"{names.PROGRAM}: ([a-z-]+): ", str(entry.get("MESSAGE", "")))
    return str(entry.get(names.FIELD_EVENT) or (told[1] if told else ""))


def _is_of_agent(entry: Mapping[str, Any]) -> bool:
    return bool({UNIT, ERRANDS_UNIT} & {entry.get("_SYSTEMD_UNIT"), entry.get("UNIT")})


def _at(entry: Mapping[str, Any]) -> float:
    return int(entry["__REALTIME_TIMESTAMP"]) / 1e6


def _held_by(pid: int) -> dict[str, int]:
    """Return how many file descriptors and threads a process has."""
    folders = {"descriptors": "fd", "threads": "task"}
    return {what: len(os.listdir(f"/proc/{pid}/{name}")) for what, name in folders.items()}


def _busy(pid: int) -> float:
    """Return its CPU use at rest; 0 if that is little. A second look is longer."""
    for seconds in (0.3, 3.0):
        begin, used = time.monotonic(), _used(pid)
        time.sleep(seconds)
        share = (_used(pid) - used) / (time.monotonic() - begin)
        if share < _BUSY:
            return 0.0
    return share


def _used(pid: int) -> float:
    """Return its seconds of CPU time, for all threads (proc(5), schedstat)."""
    found = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError):
            found += int(path.read_text().split()[0])
    return found / 1e9
