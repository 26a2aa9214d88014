"""A machine as its administrator left it, with main.cf settled at the desired state.

Every wait is a bounded poll, and every answer comes from the machine itself: its files, including
the agent's status.json, and its journal.
"""

from __future__ import annotations

import difflib
import json
import os
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pf_agent import names
from pf_agent.config import desired
from pf_agent.config.table import Source
from pf_agent.model import DesiredState
from tests.machine.nspawn import Machine

MAIN_CF = names.MAIN_CF
# An intruder's way to make an open relay.
INTRUDE = f"sed -i 's|^mynetworks *=.*|mynetworks = 0.0.0.0/0|' {MAIN_CF}"
PENDING = f"{names.STATE_DIRECTORY}/pending.json"
LAST_GOOD = f"{names.STATE_DIRECTORY}/last-good.main.cf"
DISPLACED = f"{names.STATE_DIRECTORY}/displaced"
DROPIN = f"{names.CONFIG_DIRECTORY}/{names.DESIRED_DROPINS}/50-site.toml"

DESIRED_TOML = f"{names.CONFIG_DIRECTORY}/{names.DESIRED_TOML}"
AGENT_TOML = f"{names.CONFIG_DIRECTORY}/{names.AGENT_TOML}"
# The drop-in that `set` and `adopt` write to.
LOCAL = f"{names.CONFIG_DIRECTORY}/{names.DESIRED_DROPINS}/50-local.toml"
# The additional settings of a test.
EXTRA = f"{names.CONFIG_DIRECTORY}/{names.DESIRED_DROPINS}/90-extra.toml"
# For apt and dpkg: they must not ask questions.
QUIET = {"DEBIAN_FRONTEND": "noninteractive"}

SITE = '[settings]\nmyhostname = "mail.example.test"\nmydomain = "example.test"\n'

# Three restarts a minute are allowed, so after a burst the next one may be a minute away.
SETTLE_SECONDS = 180.0
_RIGHT_SECONDS = 60.0
_RIGHT = ("-rw-r--r--", 0, 0)
_DRIFTS = f"{names.RUN_DIRECTORY}/drifts.json"
_STATUS = f"{names.RUN_DIRECTORY}/status.json"
# What the agent's libraries would load, but the daemon does not use: parts of paths.
UNUSED = (
    "libcrypto",
    "libssl",
    "libsystemd",
    "libgcrypt",
    "/_asyncio.",
    "/_bz2.",
    "/_hashlib.",
    "/_ssl.",
)

# sd-messages.h: SD_MESSAGE_UNIT_STARTED.
_UNIT_STARTED = "39f53479d3a045ac8e11786248231fbf"

# The shell's own words: no program is started. An answer's last line has no "-" (RFC 5321, 4.2.1).
_GREET = r"""
exec 3<> /dev/tcp/127.0.0.1/25 || exit
answer() {
    while IFS= read -r -t 20 -u 3 line; do
        [[ $line == [0-9][0-9][0-9]-* ]] || { echo "${line:0:3}"; return; }
    done
}
[ "$(answer)" = 220 ] || exit
printf 'EHLO localhost\r\n' >&3
answer
printf 'QUIT\r\n' >&3
answer > /dev/null
"""

# A start that takes as long as the test wants: what comes first is then not a matter of speed.
_GATE = """
[Service]
ExecStartPre=/bin/sh -c '{condition} && until test -e /run/gate-is-open; do sleep 0.1; done; true'
"""

_HOLD_PORT = """
import socket, sys, time
port = socket.socket()
port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
port.bind((sys.argv[1], 25))
port.listen()
print("taken", flush=True)
time.sleep(3600)
"""


@dataclass
class Site:
    """The machine, and the main.cf that it must return to.

    `unit` is the unit that holds Postfix's master.
    """

    machine: Machine
    good: bytes
    unit: str

    @classmethod
    def prepared(cls, machine: Machine) -> Site:
        """Name the site in a drop-in, wait until all is settled, and take that as the good text.

        The golden image has the drop-in already; others may have been added since.
        """
        if machine.at(DROPIN).exists():
            machine.run(["systemctl", "reload", "pf-agent"])
        else:
            # Postfix with "No configuration" comes without one, and newaliases then waits a second.
            machine.write_text("/etc/aliases", "postmaster: root\n")
            machine.write_text(DROPIN, SITE)
            machine.wait_until(f"grep -qx 'mydomain = example.test' {MAIN_CF}")
        site = cls(machine, b"", "")
        site.wait_settled()
        site.good = site.read()
        site.unit = site.unit_of_master()
        return site

    def desired(self) -> DesiredState:
        """Return what the files in the machine's /etc/pf-agent ask for."""
        paths = [f"{names.CONFIG_DIRECTORY}/{names.DESIRED_TOML}", DROPIN]
        return desired.load([Source(path, self.machine.read_bytes(path)) for path in paths])

    # main.cf

    def read(self) -> bytes:
        return self.machine.read_bytes(MAIN_CF)

    def line_of(self, name: str, text: bytes | None = None) -> int:
        """Return the number of the line that sets `name`, the last one if there are several."""
        lines = (self.good if text is None else text).split(b"\n")
        found = [
            i for i, line in enumerate(lines, 1) if line.split(b"=")[0].strip().decode() == name
        ]
        return found[-1]

    def put(self, text: bytes) -> None:
        """Put a whole text in main.cf's place, like an editor that renames over the old one."""
        self.machine.run(
            ["sh", "-c", f"cat > {MAIN_CF}.new && mv {MAIN_CF}.new {MAIN_CF}"], input=text
        )

    def wait_right(self, expected: bytes | None = None) -> None:
        """Wait until main.cf is byte for byte `expected` (the good text), root's and 0644."""
        text = self.good if expected is None else expected
        try:
            eventually(lambda: self._is(text), f"main.cf as expected, {_RIGHT}", _RIGHT_SECONDS)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self._differences(text)}") from None

    def _is(self, expected: bytes) -> bool:
        """Whether main.cf is this text, root's and 0644."""
        with suppress(OSError):
            seen, text = self.machine.peek(MAIN_CF)
            is_right = (stat.filemode(seen.st_mode), seen.st_uid, seen.st_gid) == _RIGHT
            return is_right and text == expected
        return False

    def _differences(self, expected: bytes) -> str:
        shown = self.machine.sh(f"ls -l {MAIN_CF}; cat {MAIN_CF}", check=False)
        found, before = shown.split("\n"), os.fsdecode(expected).split("\n")
        diff = difflib.unified_diff(before, found, "expected", "found", n=1, lineterm="")
        return "\n".join(repr(line)[1:200] for line in diff)

    def wait_settled(self, timeout: float = SETTLE_SECONDS) -> None:
        """Wait until Postfix was seen to run with main.cf as it is. Call `wait_right` first."""
        eventually(self._is_settled, "in sync, and nothing to be activated", timeout)

    def _is_settled(self) -> bool:
        is_pending = os.path.lexists(self.machine.at(PENDING))
        return not is_pending and self.status().get("phase") == "in-sync"

    def wait_phase(self, phase: str) -> None:
        """Wait until the daemon's status has this phase."""
        eventually(lambda: self.status().get("phase") == phase, phase, SETTLE_SECONDS)

    def status(self) -> dict[str, Any]:
        """Return the status.json of a running daemon, for polls; an empty one without."""
        with suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads(self.machine.peek(_STATUS)[1])
            if self.machine.at(f"/proc/{found['pid']}").exists():
                return found
        return {}

    def wait_remembered(self) -> None:
        """Wait until the agent has kept the good text as the one to restore."""
        self.wait_right()
        eventually(self._is_remembered, "the good text as the last good one", SETTLE_SECONDS)

    def _is_remembered(self) -> bool:
        with suppress(OSError):
            return self.machine.peek(LAST_GOOD)[1] == self.good
        return False

    # Records

    def cursor(self) -> str:
        """Return the cursor of the journal's latest entry; what is `since` it comes after."""
        return self.machine.followed.cursor()

    def records(self, event: str, since: str) -> list[dict[str, Any]]:
        """Return the agent's records of one event, oldest first."""
        return [r for r in self.entries(since) if r.get(names.FIELD_EVENT) == event]

    def entries(self, since: str) -> list[dict[str, Any]]:
        """Return all entries of the journal since then, from any sender, oldest first.

        journalctl is not used: systemd 252's skips the first entry after a cursor if it is also
        given a match.
        """
        return self.machine.followed.entries(since)

    def said(self, since: str) -> list[str]:
        """Return what the agent has sent to the journal: its records, and its remarks."""
        return [
            str(entry["MESSAGE"])
            for entry in self.entries(since)
            if entry.get("SYSLOG_IDENTIFIER") == names.PROGRAM
        ]

    def drift_of(self, since: str) -> list[dict[str, Any]]:
        """Return the records of single differences, without the one that sums up a cycle."""
        return [r for r in self.records("drift-detected", since) if names.FIELD_KIND in r]

    def drift_once(self) -> int:
        """Let mynetworks drift, wait until Postfix runs with the right value; return the cycle."""
        since = self.cursor()
        self.machine.run(["sed", "-i", "s|^mynetworks *=.*|mynetworks = 10.0.0.0/8|", MAIN_CF])
        eventually(lambda: bool(self.records("activated", since)), "an activation", SETTLE_SECONDS)
        self.wait_settled()
        return int(self.records("activated", since)[0][names.FIELD_CYCLE])

    def wait_for(self, event: str, since: str) -> None:
        """Wait until the event is recorded."""
        eventually(lambda: bool(self.records(event, since)), f"a record: {event}", SETTLE_SECONDS)

    def cycle_of(self, since: str) -> int:
        """The cycle of the first drift since then, as soon as it is on record."""
        self.wait_for("drift-detected", since)
        return int(self.records("drift-detected", since)[0][names.FIELD_CYCLE])

    # The command

    def agent(
        self, *arguments: str, user: str = "root", check: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run `pf-agent` with these arguments."""
        becoming = [] if user == "root" else ["runuser", "-u", user, "--"]
        command = [*becoming, "pf-agent", *arguments]
        return self.machine.run(command, check=check, timeout=SETTLE_SECONDS)

    def told(self) -> dict[str, Any]:
        """Return the output of `pf-agent status --json`; `code` is its exit code."""
        done = self.agent("status", "--json")
        return {**json.loads(done.stdout), "code": done.returncode}

    def stands(self) -> tuple[str, int]:
        """Return the phase, and the exit code of `pf-agent status`."""
        told = self.told()
        return told["phase"], told["code"]

    # Units

    def unit_of_master(self) -> str:
        script = 'cat "/proc/$(tr -d " " < /var/spool/postfix/pid/master.pid)/cgroup"'
        return self.machine.sh(script).strip().splitlines()[-1].rpartition("/")[2]

    def show(self, unit: str, name: str) -> str:
        """Return one property of a unit."""
        return self.machine.run(["systemctl", "show", "-P", name, unit]).stdout.strip()

    def starts(self, since: str) -> list[str]:
        """Return the invocations of Postfix's master that systemd started since then."""
        return self._starts(self.entries(since))

    def starts_of_boot(self) -> list[str]:
        """Return those since the machine was switched on."""
        return self._starts(self.machine.journal("-b"))

    def _starts(self, entries: list[dict[str, Any]]) -> list[str]:
        return [
            str(entry["INVOCATION_ID"])
            for entry in entries
            if entry.get("MESSAGE_ID") == _UNIT_STARTED and entry.get("UNIT") == self.unit
        ]

    def restart_moments(self) -> list[float]:
        """Return when the agent asked for a restart within the last minutes, from its own notes."""
        found: list[float] = json.loads(
            self.machine.read_text(f"{names.RUN_DIRECTORY}/restarts.json")
        )
        return found

    def forget_restarts(self) -> None:
        """Reset the budget for tests that would otherwise only wait for earlier restarts."""
        kept = [f"{names.RUN_DIRECTORY}/{n}" for n in (names.RESTARTS, names.WISHED_RESTARTS)]
        self._remove(*kept, _DRIFTS)
        self.machine.run(["systemctl", "reset-failed", names.POSTFIX_UNIT, self.unit])

    def closed_window(self) -> str:
        """Return an agent.toml text with which nothing is restarted for two hours, at any time."""
        hour = int(self.machine.sh("date +%H"))
        opens, closes = (f"{(hour + later) % 24:02d}:00" for later in (2, 3))
        return f'[activation]\nwindow = "{opens}-{closes}"\n'

    def take_back_extra(self) -> None:
        """Take away what a test asked for besides, and wait until nothing of it is told as wrong.

        Where it was refused, main.cf and the phase were right all along: neither says that the
        daemon has seen that it is gone.
        """
        self.machine.run(["rm", "-f", EXTRA])
        eventually(
            lambda: self.status().get("problems") == [], "nothing told as wrong", SETTLE_SECONDS
        )

    def remember_drifts(self, parameter: str, count: int) -> None:
        """Have the agent believe that a parameter drifted so often, once a minute."""
        now = float(self.machine.sh("date +%s"))
        moments = [now - 60 * number for number in range(count, 0, -1)]
        self.machine.write_text(_DRIFTS, json.dumps({parameter: moments}))

    def end_contest(self) -> None:
        """Have the agent forget it: consecutive changes by tests are not a contest.

        It reads its notes at each look, and needs none where all is well.
        """
        self._remove(_DRIFTS)
        if self.status().get("phase") != "in-sync":
            self.machine.run(["systemctl", "reload", "pf-agent"])

    def _remove(self, *paths: str) -> None:
        """Remove files of the machine, without running a program."""
        for path in paths:
            self.machine.at(path).unlink(missing_ok=True)

    def explicit(self) -> dict[str, str]:
        """Return what main.cf sets according to Postfix's own postconf."""
        lines = self.machine.run(["postconf", "-n"]).stdout.splitlines()
        pairs = (line.partition("=") for line in lines)
        return {name.strip(): value.strip() for name, _, value in pairs}

    def is_obeyed(self) -> bool:
        """Whether Postfix's own programs read the desired state in main.cf."""
        wanted, explicit = self.desired(), self.explicit()
        set_right = wanted.settings.items() <= explicit.items()
        return set_right and not wanted.use_default & explicit.keys()

    def serves(self) -> bool:
        """Whether port 25 greets and accepts an EHLO."""
        done = self.machine.run(["bash", "-c", _GREET], check=False)
        return done.stdout == "250\n"

    def run_python(self, script: str, *arguments: str, timeout: float = 60.0) -> str:
        """Run a Python script in the machine; return what it printed."""
        return self.machine.run(["python3", "-c", script, *arguments], timeout=timeout).stdout

    @contextmanager
    def gate(self, condition: str = "true") -> Iterator[Gate]:
        """Make every start of Postfix for which a shell condition holds wait at a gate."""
        gate = Gate(self)
        self.machine.run(["rm", "-f", "/run/gate-is-open"])
        self.dropin(self.unit, "gate", _GATE.format(condition=condition))
        try:
            yield gate
        finally:
            if self.machine.is_running:
                gate.open()
                self.dropin(self.unit, "gate", "")

    @contextmanager
    def port_taken(self, address: str) -> Iterator[None]:
        """Have another program listen on port 25 of an address, without ever answering."""
        self.machine.run(["ip", "address", "replace", "127.0.0.9/8", "dev", "lo"])
        command = ["timeout", "400", "python3", "-c", _HOLD_PORT, address]
        with self.machine.start(command, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"taken\n"
            try:
                yield
            finally:
                listeners = f"ss -Hltnp 'src {address} and sport = :25'"
                self.machine.sh(f"kill $({listeners} | grep -o 'pid=[0-9]*' | cut -d= -f2)")

    def dropin(self, unit: str, name: str, text: str) -> None:
        """Give a unit a drop-in; an empty text removes it."""
        path = f"/etc/systemd/system/{unit}.d/{name}.conf"
        if text:
            self.machine.write_text(path, text)
        else:
            self.machine.run(["rm", "-f", path])
        self.machine.run(["systemctl", "daemon-reload"])


@dataclass
class Gate:
    """Where a start of Postfix stands still."""

    site: Site

    def is_reached(self) -> bool:
        return self.site.show(self.site.unit, "ActiveState") == "activating"

    def wait_reached(self) -> None:
        """Wait until a start has reached the gate: the restart is in progress."""
        eventually(self.is_reached, "Postfix is being started", SETTLE_SECONDS)

    def open(self) -> None:
        """Let this start go on, and all later ones."""
        self.site.machine.run(["touch", "/run/gate-is-open"])


def mapped_by_the_agent(machine: Machine) -> str:
    """Return which files the daemon has mapped in memory (proc(5), maps)."""
    return machine.sh('cat "/proc/$(systemctl show -P MainPID pf-agent)/maps"')


def eventually(holds: Callable[[], bool], what: str, timeout: float = 150.0) -> None:
    """Wait until `holds` returns true, or fail, naming `what` was waited for."""
    began = time.monotonic()
    while not holds():
        waited = time.monotonic() - began
        if waited > timeout:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(min(0.05 + waited / 10, 0.5))  # some questions start a program in the machine
