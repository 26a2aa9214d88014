"""Kills the agent at a chosen system call of its work, starts it again, and checks everything.

For the campaign, which tries every call, and for the test, which tries some.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pf_agent import names
from pf_agent.model import Exposure, PendingActivation
from tests.machine import tracer
from tests.machine.drifting import SECONDS, UNIT, Drifts, has_told, of_unit, ready_tracer, stat_of
from tests.machine.nspawn import Machine
from tests.machine.subjects import SUBJECTS, Subject
from tests.machine.wholeness import Edit

NEVER = 0  # no call has this number: nothing is killed, and the calls are counted

_HOLD = "/run/hold"

# The shell stops itself before it becomes the agent, so that the tracer sees that from its first
# system call on; in the unit, only if the test asks for it.
_HELD_APPLY = "kill -STOP $$; exec /usr/bin/pf-agent apply"
_QUICK = f"""
[Service]
RestartSec=50ms
ExecStart=
ExecStart=/bin/sh -c 'if test -e {_HOLD}; then kill -STOP $$$$; fi; exec /usr/bin/pf-agent run'
"""


@dataclass(frozen=True)
class Point:
    """Where something was killed, and what was found then.

    `cycle` is the cycle of a marker left by then, None after drift alone. `was_over`: the file was
    right and the marker gone. `faults` is empty if all was well.
    """

    way: str
    number: int
    call: str
    who: str
    edit: Edit
    cycle: int | None
    was_right: bool
    was_over: bool
    faults: tuple[str, ...]

    def __str__(self) -> str:
        stood = "new" if self.was_right else "old"
        where = f"{self.way} {self.number}: {self.call} of {self.who}"
        return f"{where}, {self.edit.subject.path} was the {stood} one"


class Crashes(Drifts):
    """A machine where the agent is at rest, and is killed over and over.

    Each way takes the number of a call and returns the point; if the work ended before that call,
    it returns the calls made, each with its name and process.
    """

    def __init__(self, machine: Machine, subject: Subject = SUBJECTS["main.cf"]) -> None:
        super().__init__(machine, subject, _QUICK)
        self.points: list[Point] = []
        self._since = self.site.cursor()

    # --- the ways -------------------------------------------------------------------------------

    def correction(self, number: int) -> Point | list[list[str]]:
        """Kill a running daemon, between the drift and seeing Postfix run with the right text."""
        before, edit = self.status(), self.ready()
        with self._traced(self.agent(), number) as tracing:
            self.put(edit.wrong)
            told = self._told(tracing, lambda: self.is_done(edit, before))
        return self._after(told, "correction", edit, lambda: self.wait_done(edit))

    def errand(self, number: int) -> Point | list[list[str]]:
        """Kill the unit that runs Postfix's programs, while a daemon that lives on corrects."""
        before, edit = self.status(), self.ready()
        with self._traced(self.errands(), number) as tracing:
            self.put(edit.wrong)
            told = self._told(tracing, lambda: self.is_done(edit, before))

        def mended() -> bool:
            # After newaliases was killed, its alias database is rebuilt after a while.
            return self.is_done(edit) and not self.status().get("detail")

        return self._after(told, "errand", edit, lambda: self.poll(mended, "in sync, and no but"))

    def take_up(self, number: int) -> Point | list[list[str]]:
        """Kill a daemon that starts after another one was killed right after the exchange."""
        self.machine.run(["systemctl", "stop", UNIT])
        edit = self.ready()
        cycle = self._cut_off(edit)
        self.whole.path(_HOLD).touch()
        self.machine.run(["systemctl", "start", "--no-block", UNIT])
        agent = self.poll(self._held_unit, "the unit is started")
        self.whole.path(_HOLD).unlink()
        with self._traced(agent, number) as tracing:
            told = self._told(tracing, lambda: self.is_done(edit))
        return self._after(told, "take-up", edit, lambda: self.wait_done(edit), cycle)

    def apply(self, number: int) -> Point | list[list[str]]:
        """Kill `pf-agent apply`, while no daemon runs; then call it again."""
        self.machine.run(["systemctl", "stop", UNIT])
        edit = self.ready()
        self.put(edit.wrong)
        with self.machine.start(["sh", "-c", _HELD_APPLY], stdout=subprocess.DEVNULL) as held:
            # nsenter stops together with what it has started.
            agent = self.poll(
                lambda: _is_stopped(held.pid) and _stopped_below(held.pid), "apply is started"
            )
            with self._traced(agent, number) as tracing:
                held.send_signal(signal.SIGCONT)
                told = self._told(tracing, lambda: held.poll() is not None)
        return self._after(
            told, "apply", edit, lambda: self.machine.run(["pf-agent", "apply"], timeout=SECONDS)
        )

    def power_cut(self, number: int) -> Point | list[list[str]]:
        """Kill the whole machine at a call of the daemon's correction; then switch it on again."""
        before, edit = self.status(), self.ready()
        with self._traced(self.agent(), number, self.machine.leader) as tracing:
            self.put(edit.wrong)
            told = self._told(tracing, lambda: self.is_done(edit, before))
        if told["killed"]:
            self.machine.kill()  # cleans up, once all processes are gone

        def switch_on() -> None:
            self.machine.boot()
            self.wait_done(edit)

        return self._after(told, "power cut", edit, switch_on)

    def rest(self) -> None:
        """Have the daemon run again, after the last `apply`."""
        self.machine.run(["systemctl", "start", UNIT])
        self.poll(lambda: self.status().get("phase") == "in-sync", "the daemon is at rest")

    # --- one of them ----------------------------------------------------------------------------

    def _told(
        self, tracing: subprocess.Popen[bytes], is_done: Callable[[], bool]
    ) -> dict[str, Any]:
        """Return what the tracer prints once it has killed, or all was done without that."""
        self.poll(lambda: has_told(tracing) or is_done(), "killed, or done")
        tracing.terminate()
        printed, _ = tracing.communicate(timeout=SECONDS)
        told: dict[str, Any] = json.loads(printed)
        return told

    def _after(
        self,
        told: dict[str, Any],
        way: str,
        edit: Edit,
        again: Callable[[], object],
        cycle: int | None = None,
    ) -> Point | list[list[str]]:
        if not told["killed"]:
            calls: list[list[str]] = told["points"]
            return calls
        whole = self.whole
        faults = [*whole.at_death(edit)]
        was_right, is_pending = whole.text() == edit.right, whole.is_pending()
        if self.machine.is_running:
            self.forget_restarts()
        again()
        faults += whole.in_the_end(edit)
        number, (call, who) = len(told["points"]), told["points"][-1]
        was_over = was_right and not is_pending
        point = Point(way, number, call, who, edit, cycle, was_right, was_over, tuple(faults))
        self.points.append(point)
        return point

    def _cut_off(self, edit: Edit) -> int:
        """Create the state right after the exchange; return the cycle."""
        path, subject = self.whole.path, self.subject
        state = subject.store(str(self.machine.files))
        cycle, now = state.next_cycle(), time.time()
        state.mark_pending(PendingActivation(cycle, (subject.part,), Exposure(now, now)))
        self.put(edit.right)
        path(f"/etc/postfix/{subject.left_beside}cut_off").write_bytes(edit.wrong)
        if subject.is_started:
            path(f"{subject.path}.tmp").touch(0o600)  # Postfix's lock (edit_file(3))
        path(f"{names.RUN_DIRECTORY}/.drifts.json.new").touch(0o600)
        return cycle

    # --- what is on record ----------------------------------------------------------------------

    def recorded(self) -> tuple[Counter[str], list[str]]:
        """Return how often what was recorded for the points so far, and what is wrong with that."""
        entries = self.machine.journal(f"--after-cursor={self._since}")
        found = Counter(
            (str(entry[names.FIELD_EVENT]), str(entry.get(names.FIELD_CYCLE)))
            for entry in entries
            if names.FIELD_EVENT in entry
        )
        drifted: dict[str, set[str]] = {}
        for entry in entries:
            if names.FIELD_KIND in entry:
                cycles = drifted.setdefault(str(entry.get(names.FIELD_ACTUAL)), set())
                cycles.add(str(entry[names.FIELD_CYCLE]))
        counts: Counter[str] = Counter()
        faults = []
        for point in self.points:
            cycles = drifted.get(point.edit.value, set())
            times = {"drift-detected": len(cycles)}
            for event in self.subject.events:
                of = {str(point.cycle)} if point.cycle is not None else cycles
                times[event] = sum(found[event, cycle] for cycle in of)
            counts.update(f"{event} {n} times" for event, n in times.items())
            faults += [f"{point}: {fault}" for fault in _too_little(point, times)]
        return counts, faults

    # --- the machine ----------------------------------------------------------------------------

    def _held_unit(self) -> int:
        return next((pid for pid in of_unit(self.machine) if _is_stopped(pid)), 0)

    def _traced(
        self, pid: int, number: int, victim: int | None = None
    ) -> AbstractContextManager[subprocess.Popen[bytes]]:
        words = [str(word) for word in (pid, number, victim) if word is not None]
        return ready_tracer([sys.executable, tracer.__file__, *words])


def _too_little(point: Point, times: dict[str, int]) -> Iterator[str]:
    """Yield what the journal lacks or repeats: each fact once; the interrupted one may be missing.

    A record is sent when its subject is done, so a crash right between the two loses it.
    """
    drifts, corrected = times["drift-detected"], times["drift-corrected"]
    activated = times.get("activated", 1)  # a table is in use as soon as its index is built
    is_cut = point.way == "power cut"  # what journald's own socket held is lost
    if point.cycle is None and not is_cut and not 1 <= drifts <= 2:
        yield f"{drifts} cycles of this drift"
    if corrected > 1 or (corrected == 0 and not point.was_right):
        yield f"{corrected} corrections on record"
    if activated > 1 or (activated == 0 and not point.was_over):
        yield f"{activated} activations on record"


def _stopped_below(pid: int) -> int:
    """Return the stopped process among the descendants of a process, 0 for none."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found = int(child) if _is_stopped(int(child)) else _stopped_below(int(child))
        if found:
            return found
    return 0


def _is_stopped(pid: int) -> bool:
    return stat_of(pid)[0] == "T"
