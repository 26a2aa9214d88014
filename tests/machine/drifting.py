"""A settled machine where main.cf or another file drifts over and over, each time differently.

What a campaign does to the agent meanwhile is in crashing.py and faulting.py. Everything is written
and read from the host.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pf_agent import names
from tests.checkout import CHECKOUT
from tests.machine.nspawn import Machine
from tests.machine.site import Site
from tests.machine.subjects import SUBJECTS, Subject
from tests.machine.wholeness import NOTES, Edit, Wholeness

UNIT = "pf-agent.service"
ERRANDS_UNIT = "pf-agent-errands.service"
SECONDS = 60.0
# 20 corrections within 30 s are a contest (daemon/documents.py).
_APART_SECONDS = 1.6


class Drifts:
    """The machine at rest, after one correction: the files present now do not count as strays.

    `subject` is what drifts, `dropin` is for the agent's unit.
    """

    def __init__(
        self, machine: Machine, subject: Subject = SUBJECTS["main.cf"], dropin: str = ""
    ) -> None:
        site = Site.prepared(machine)
        for unit in sorted({site.unit, names.POSTFIX_UNIT}):
            site.dropin(unit, "often", "[Unit]\nStartLimitIntervalSec=0\n")
        if dropin:
            site.dropin(UNIT, "campaign", dropin)
            machine.run(["systemctl", "restart", UNIT])
        good = subject.settle(site)
        site.drift_once()
        site.wait_remembered()
        self.machine, self.site = machine, site
        self.subject, self._good = subject, good
        self._edits, self._drifted_at = 0, 0.0
        self.whole = Wholeness(site, subject)
        if subject.document:
            edit = self.ready()
            self.put(edit.wrong)
            self.wait_done(edit)
            self.whole = Wholeness(site, subject)

    def ready(self) -> Edit:
        """Return the next drift, for `put`."""
        self.forget_restarts()
        if self.subject.document:
            # Else it is a contest, whose corrections are spaced.
            time.sleep(max(0.0, self._drifted_at + _APART_SECONDS - time.monotonic()))
            self._drifted_at = time.monotonic()
        self._edits += 1
        return Edit(self._edits, self._good, self.subject)

    def forget_restarts(self) -> None:
        """Reset the restart budget: a campaign has no time to wait between restarts."""
        for name in NOTES:
            self.whole.path(f"{names.RUN_DIRECTORY}/{name}").unlink(missing_ok=True)

    def put(self, text: bytes) -> None:
        """Put a text in the file's place."""
        new = self.whole.path(f"{self.subject.path}.edited")
        new.write_bytes(text)
        new.rename(self.whole.path(self.subject.path))

    def status(self) -> dict[str, Any]:
        """Return status.json; an empty one if there is none."""
        with suppress(FileNotFoundError):
            path = self.whole.path(f"{names.RUN_DIRECTORY}/status.json")
            found: dict[str, Any] = json.loads(path.read_bytes())
            return found
        return {}

    def is_done(self, edit: Edit, before: dict[str, Any] | None = None) -> bool:
        """Whether a living daemon says so; `before` is a status about the previous drift."""
        status, whole, is_document = self.status(), self.whole, bool(self.subject.document)
        # The status tells of main.cf's drift alone; of another file the kept text does.
        is_told = before is None or is_document or status.get("last_drift") != before["last_drift"]
        with suppress(FileNotFoundError):  # a machine without power has no files
            return (
                is_told
                and status.get("phase") == "in-sync"
                and whole.path(f"/proc/{status['pid']}").exists()
                and not whole.is_pending()
                and whole.text() == edit.right
                and (not is_document or whole.is_kept(edit.wrong))
                and self.subject.is_in_use(self.machine)
            )
        return False

    def wait_done(self, edit: Edit) -> None:
        """Wait until the daemon says so."""
        self.poll(lambda: self.is_done(edit), "in sync again")

    def agent(self) -> int:
        """Return the daemon's pid on the host."""
        # The status may be that of a process that is being started again at this moment.
        return self.poll(lambda: self._main_of(UNIT), "the agent runs")

    def errands(self) -> int:
        """Return the host's pid of the unit that runs Postfix's programs, started if idle."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(SECONDS)
            client.connect(str(self.whole.path(names.ERRANDS_SOCKET)))
            client.sendall(b'{"errand": "greeting", "directory": "/etc/postfix"}')
            client.shutdown(socket.SHUT_WR)
            while client.recv(4096):
                pass
        return self._main_of(ERRANDS_UNIT)

    def _main_of(self, unit: str) -> int:
        leader = self.machine.leader
        found = (pid for pid in of_unit(self.machine, unit) if int(stat_of(pid)[1]) == leader)
        return next(found, 0)

    def poll(self, holds: Callable[[], int], what: str, seconds: float = SECONDS) -> int:
        """Return what `holds` returns once that is not 0. AssertionError after `seconds`."""
        deadline = time.monotonic() + seconds
        while not (found := holds()):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds:g} s: {what}; {self.status()}")
            time.sleep(0.02)
        return found


@contextmanager
def ready_tracer(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a tracer, from the moment that it reports being ready; it is killed at the end."""
    # Unbuffered: its result may be there already, for `communicate` to read.
    with subprocess.Popen(command, bufsize=0, stdout=subprocess.PIPE, cwd=CHECKOUT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


def has_told(tracing: subprocess.Popen[bytes]) -> bool:
    """Tell whether a tracer prints its result, or has ended.

    Until that is read it may not end, and all that is traced stands still: a pipe holds 64 KiB.
    """
    assert tracing.stdout is not None
    return bool(select.select([tracing.stdout], [], [], 0)[0])


def of_unit(machine: Machine, unit: str = UNIT) -> Iterator[int]:
    """Yield the pids, on the host, of the processes in a unit."""
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        with suppress(OSError):
            groups = path.read_text()
            if f"/{machine.name}/" in groups and f"/{unit}\n" in groups:
                yield int(path.parent.name)


def stat_of(pid: int) -> list[str]:
    """Return proc(5)'s /proc/pid/stat from the state on."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return ["X", "0"]
