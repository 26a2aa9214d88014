"""What must hold of every attack: while it is under way, and once it is over."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pf_agent.bus.agent1 import NAME, PATH
from tests.machine.attacks.attack import Attack, Attacked
from tests.machine.attacks.inside.ground import MARK, SECRET
from tests.machine.site import INTRUDE, Site, eventually

# More than a correction takes, and a thread or two.
MOST_GROWTH_KIB = 32 * 1024
_REST_SECONDS = 60.0
_ANSWER_SECONDS = 40
_NEVER = ("suspended", "rolled-back", "config-rejected", "contested", "started", "stopped")

# All files that are root's affair: what they are, whose, and when they were written.
_FILES = """
import json, os, stat
found = {}
for top in ("/etc", "/usr/lib/pf-agent", "/usr/lib/python3/dist-packages/pf_agent", "/usr/bin"):
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            try:
                seen = os.lstat(path)
            except FileNotFoundError:
                continue
            is_folder = stat.S_ISDIR(seen.st_mode)
            found[path] = [seen.st_mode, seen.st_uid, seen.st_gid]
            found[path] += [] if is_folder else [seen.st_size, seen.st_mtime_ns, seen.st_nlink]
print(json.dumps(found))
"""
# What a correction, newaliases and the site's arrangement write.
_OURS = ("/etc/postfix/main.cf", "/etc/aliases", "/etc/pf-agent/desired.d/", "/etc/systemd/system/")

_HELD = """
import json, os, sys
pid = sys.argv[1]
with open(f"/proc/{pid}/status") as file:
    status = dict(line.split(":", 1) for line in file)
held = len(os.listdir(f"/proc/{pid}/fd"))
print(json.dumps([int(status["VmRSS"].split()[0]), held, int(status["Threads"])]))
"""


def _healed(attacked: Attacked) -> None:
    attacked.site.machine.sh(INTRUDE)
    attacked.site.wait_right()


def _answered(attacked: Attacked) -> None:
    machine = attacked.site.machine
    call = ["busctl", f"--timeout={_ANSWER_SECONDS}", "call", NAME, PATH, NAME, "Reconcile"]
    machine.run(call, timeout=_ANSWER_SECONDS + 20)
    told = machine.run(["pf-agent", "status"], check=False, timeout=_ANSWER_SECONDS)
    assert told.returncode in (0, 1), f"pf-agent status: {told.returncode} {told.stderr}"
    assert told.stdout != "", "pf-agent status says nothing"


def _activated(attacked: Attacked) -> None:
    eventually(lambda: bool(attacked.of_root("activated")), "a record of the activation")


def during(attack: Attack) -> Mapping[str, Callable[[Attacked], None]]:
    """Return what must hold while it is under way, in the order of asking."""
    asked = {"drift is healed": _healed, "root's order is answered": _answered}
    return {**asked, "Postfix has the correction": _activated} if attack.starts else asked


@dataclass(frozen=True)
class Stood:
    """How the machine stood before the attack."""

    site: Site
    since: str
    pid: str
    restarts: str
    memory: int
    descriptors: int
    threads: int
    files: Mapping[str, list[int]]

    @classmethod
    def now(cls, site: Site) -> Stood:
        pid = site.show("pf-agent", "MainPID")
        restarts = site.show("pf-agent", "NRestarts")
        return cls(site, site.cursor(), pid, restarts, *_held(site, pid), _files(site))

    def promises(self, attacked: Attacked) -> Iterator[tuple[str, Callable[[], None]]]:
        """Yield what must hold now that it is over, each with what asks for it."""
        yield "all comes to rest by itself", self._rests
        yield "the record is true", partial(self._is_true, attacked)
        yield "it is the same process", self._is_the_same
        yield "it holds no more than before", self._holds_no_more
        yield "no other file was changed", self._left_alone

    def _rests(self) -> None:
        self.site.forget_restarts()
        self.site.wait_right()
        self.site.wait_settled()
        eventually(self.site.serves, "port 25 greets")

    def _is_true(self, attacked: Attacked) -> None:
        """One drift, one correction, an activation; nothing that nobody did."""
        records = attacked.of_root()
        # The sum of a cycle has no kind; a wish that the attack's stage took back is unmanaged now.
        found = attacked.of_root("drift-detected")
        drift = _only([r for r in found if r.get("PF_AGENT_KIND") not in (None, "unmanaged")])
        told = (drift["PF_AGENT_PARAMETER"], drift["PF_AGENT_ACTUAL"])
        assert told == ("mynetworks", "0.0.0.0/0"), f"another drift: {told}"
        corrected = _only(attacked.of_root("drift-corrected"))
        assert corrected["PF_AGENT_CYCLE"] == drift["PF_AGENT_CYCLE"], "another cycle's correction"
        assert attacked.of_root("activated") != [], "no activation"
        for record in records:
            assert record.get("PF_AGENT_EVENT") not in _NEVER, record["MESSAGE"]
            assert "PF_AGENT_TRACEBACK" not in record, record["PF_AGENT_TRACEBACK"]
            assert str(record["MESSAGE"]).isprintable(), record["MESSAGE"]
            text = json.dumps(record)
            assert MARK not in text, text
            assert SECRET not in text, text

    def _is_the_same(self) -> None:
        assert self.site.show("pf-agent", "MainPID") == self.pid, "it was started anew"
        assert self.site.show("pf-agent", "NRestarts") == self.restarts, "it was started anew"
        assert self.site.show("pf-agent-errands", "NRestarts") == "0", "so were the errands"

    def _holds_no_more(self) -> None:
        def is_back() -> bool:
            _, descriptors, threads = _held(self.site, self.pid)
            return descriptors <= self.descriptors and threads <= self.threads

        eventually(is_back, "its descriptors and threads are given back", _REST_SECONDS)
        grown = _held(self.site, self.pid)[0] - self.memory
        assert grown < MOST_GROWTH_KIB, f"{grown} KiB more"

    def _left_alone(self) -> None:
        now = _files(self.site)
        changed = [
            path
            for path in sorted({*now, *self.files})
            if now.get(path) != self.files.get(path) and not path.startswith(_OURS)
        ]
        assert changed == [], f"changed: {' '.join(changed)}"


def _only(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    assert len(records) == 1, f"records: {[record['MESSAGE'] for record in records]}"
    return records[0]


def _held(site: Site, pid: str) -> tuple[int, int, int]:
    """Its memory in KiB, its descriptors, its threads."""
    memory, descriptors, threads = json.loads(site.run_python(_HELD, pid))
    return memory, descriptors, threads


def _files(site: Site) -> dict[str, list[int]]:
    found: dict[str, list[int]] = json.loads(site.run_python(_FILES))
    return found
