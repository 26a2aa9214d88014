"""One machine, and what is measured on it: each group of rows is a method of its own."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pf_agent import names
from tests.bench import peers
from tests.bench.figures import CURVE, PF_AGENT, SCRIPT, Samples
from tests.bench.peers import AGENT, ALONE, Peer
from tests.certificate import chain
from tests.machine.nspawn import Machine, MachineError
from tests.machine.site import EXTRA, MAIN_CF, Site

INSIDE = Path(__file__).with_name("inside")
_THERE = "/root/inside"
_UNIT = AGENT.units[0]
_GIVE_UP = 20.0
# Twice our interval for systemd's watchdog; the others have shorter cycles or none.
_OURS_SECONDS, _REST_SECONDS = 60, 20
_OPENS = 5_000
_DURING = 15
_STORMS = 5
_LOOKS = 200
_STARTS = 15
_RUNS = 20
_INSTANCES = 100
_INSTANCES_TOML = f"{names.CONFIG_DIRECTORY}/{names.DESIRED_DROPINS}/60-instances.toml"

_CHAIN = "/etc/ssl/submission.pem"
_OPTIONS = (
    "syslog_name=postfix/submission",
    f"smtpd_tls_chain_files={_CHAIN}",
    "smtpd_tls_security_level=encrypt",
)
_SERVICES_TOML = "".join(
    ['[services."submission/inet".options]\n']
    + [f'{name} = "{value}"\n' for name, _, value in (each.partition("=") for each in _OPTIONS)]
)
# A table that smtpd asks, with an entry whose text is in the answer.
_TABLE = f"""
    seq -f "user%06g@mail.example.test OK" $1 > {peers.TABLE}.new
    echo "probe@mail.example.test 450 4.7.1 edit 0" >> {peers.TABLE}.new
    mv {peers.TABLE}.new {peers.TABLE}
    postmap {peers.TABLE}
    postconf -e "smtpd_recipient_restrictions = check_recipient_access hash:{peers.TABLE}"
    systemctl restart {names.POSTFIX_UNIT}
"""
_NO_TABLE = f"""
    cp -p {peers.GOOD} {MAIN_CF}
    rm {peers.TABLE} {peers.TABLE}.db
    systemctl restart {names.POSTFIX_UNIT}
"""
_ENTRIES = {"tables": 1_000, "large": 100_000}

Say = Callable[[str], None]


def concerns(group: str, peer: Peer) -> bool:
    """Tell whether a group of rows has a figure for this peer."""
    if peer is ALONE or group == "restart":
        return peer is ALONE and group == "restart"
    if group == "fresh":
        return peer.name in (PF_AGENT, SCRIPT)
    if group in ("during", "idle", "opened", "memory"):
        return bool(peer.units)
    if group in peers.OTHERS:
        return peer.name in [other.name for other in peers.OTHERS[group]]
    return group == "correct" or peer is AGENT


class Measure:
    """The measurements on one machine with pf-agent; `found` has the results so far.

    `drifts` is for one call: what is measured in rounds is called once in each.
    """

    def __init__(self, machine: Machine, drifts: int, say: Say) -> None:
        self._machine = machine
        self._drifts, self._say = drifts, say
        self.found: dict[str, dict[str, Samples]] = {}
        self._site = Site.prepared(machine)
        machine.copy_in([INSIDE], "/root")
        self._serve_submission()
        peers.bring(machine)
        machine.run(["systemctl", "stop", _UNIT])

    def _serve_submission(self) -> None:
        """Have master.cf say what the peers are to restore."""
        machine = self._machine
        machine.write_text(_CHAIN, chain())
        machine.run(["chmod", "600", _CHAIN])
        machine.run(["postconf", "-M", "submission/inet=submission inet n - y - - smtpd"])
        machine.run(["postconf", "-P", *(f"submission/inet/{option}" for option in _OPTIONS)])
        machine.run(["systemctl", "restart", names.POSTFIX_UNIT])

    @contextmanager
    def prepared(self, group: str) -> Iterator[None]:
        """Have all there that a group of rows needs and no other has; the agent does not run."""
        if group == "services":
            self._machine.write_text(EXTRA, _SERVICES_TOML)
        elif group in _ENTRIES:
            self._machine.run(["sh", "-ec", _TABLE, "sh", str(_ENTRIES[group])], timeout=300)
        try:
            yield
        finally:
            self._machine.run(["rm", "-f", EXTRA])
            if group in _ENTRIES:
                self._machine.sh(_NO_TABLE)

    def note(self, sample: str, who: str, values: Sequence[float | None]) -> None:
        """Add these to the earlier results."""
        by = self.found.setdefault(sample, {})
        by[who] = [*by.get(who, ()), *values]

    # --- drift --------------------------------------------------------------------------------

    def correct(self, peer: Peer) -> None:
        """Drift at rest, until main.cf is right and Postfix greets again; a part of the drifts."""
        found = self._drift(peer, "single", self._drifts + 1)
        self.note("first", peer.name, [found.pop(0)["right"]])
        self.note("right", peer.name, [each["right"] for each in found])
        self.note("greets", peer.name, [each["greets"] for each in found])

    def fresh(self, peer: Peer) -> None:
        """Do the same with new texts: no earlier judgement can be used."""
        found = self._drift(peer, "fresh", self._drifts + 1)[1:]
        self.note("fresh", peer.name, [each["right"] for each in found])

    def restart(self, peer: Peer) -> None:
        """Measure what no correction can be faster than."""
        found = self._drift(peer, "restart", self._drifts)
        self.note("restart", peer.name, [each["greets"] for each in found])

    def services(self, peer: Peer) -> None:
        """Let master.cf drift, until it is right and the port of the service serves right."""
        found = self._drift(peer, "single", self._drifts + 1, "master.cf")[1:]
        self.note("services-right", peer.name, [each["right"] for each in found])
        self.note("services-serves", peer.name, [each["greets"] for each in found])

    def tables(self, peer: Peer) -> None:
        """Edit the source of a table, until smtpd answers with the new entry."""
        found = self._drift(peer, "used", self._drifts + 1, "table")[1:]
        self.note("tables-used", peer.name, [each["used"] for each in found])

    def large(self, peer: Peer) -> None:
        """Do the same with a table of many entries, and measure what it takes of memory."""
        if peer.units:
            self._unit(peer, "peak", 0)
        found = self._drift(peer, "used", self._drifts + 1, "table")[1:]
        self.note("large-used", peer.name, [each["used"] for each in found])
        if peer.units:
            self.note("large-memory", peer.name, [self._unit(peer, "peak", 0)["peak"]])

    def during(self, peer: Peer) -> None:
        """Drift while Postfix is being restarted because of another drift."""
        found = self._drift(peer, "during", _DURING)
        self.note("during", peer.name, [each["during"] for each in found])

    def storm(self, peer: Peer) -> None:
        """Write 200 drifts in 2 s."""
        right, restarts = [], []
        for _ in range(_STORMS):
            since = self._site.cursor()
            right += [each["right"] for each in self._drift(peer, "storm", 200)]
            self._machine.sh(peer.settle, timeout=300)
            restarts.append(float(len(self._site.starts(since))))
        self.note("storm", peer.name, right)
        self.note("storm-restarts", peer.name, restarts)

    def _drift(
        self, peer: Peer, way: str, count: int, file: str = "main.cf"
    ) -> list[dict[str, float | None]]:
        request = {
            "file": file,
            "way": way,
            "count": count,
            "command": peer.command,
            "settle": peer.settle,
            "least": 0.5,
            "most": 0.5 + peer.cycle,
            "give_up": _GIVE_UP,
        }
        command = ["python3", f"{_THERE}/drifts.py", json.dumps(request)]
        found: list[dict[str, float | None]] = []
        with self._machine.start(command, stdout=subprocess.PIPE) as running:
            assert running.stdout is not None
            for line in running.stdout:
                found.append(json.loads(line))
                self._say(f"{peer.name}: {way} {len(found)}: {_words(found[-1])}")
        if running.returncode:
            raise MachineError(f"{peer.name}: {way}: exit code {running.returncode}")
        return found

    # --- rest ---------------------------------------------------------------------------------

    def idle(self, peer: Peer) -> None:
        """Measure while nothing happens."""
        self._rest(peer, "idle", 0)

    def opened(self, peer: Peer) -> None:
        """Measure while Postfix reads main.cf all the time."""
        self._rest(peer, "opened", _OPENS)

    def memory(self, peer: Peer) -> None:
        """Measure the PSS of the processes that are there all the time."""
        self._rests(peer)
        self.note("pss", peer.name, [self._unit(peer, 3, 0)["pss"]])

    def _rests(self, peer: Peer) -> None:
        """Wait until its helpers have ended."""
        for unit in peer.helpers:
            self._machine.wait_until(f"! systemctl -q is-active {unit}", 180)

    def _rest(self, peer: Peer, name: str, opens: int) -> None:
        self._rests(peer)
        seconds = _OURS_SECONDS if peer is AGENT else _REST_SECONDS
        found = self._unit(peer, seconds, opens)
        self._say(f"{peer.name}: {name}: {found}")
        self.note(f"{name}-wakeups", peer.name, [found["wakeups"]])
        self.note(f"{name}-cpu", peer.name, [found["cpu"]])

    def _unit(self, peer: Peer, *arguments: Any) -> dict[str, float]:
        units = ",".join([*peer.units, *peer.helpers])
        command = ["python3", f"{_THERE}/rest.py", units, *map(str, arguments)]
        done = self._machine.run(command, timeout=300)
        found: dict[str, float] = json.loads(done.stdout)
        return found

    # --- pf-agent alone -----------------------------------------------------------------------

    def look(self, peer: Peer) -> None:
        """Measure a look that finds nothing, beside `postconf -n`, and a turn of the daemon."""
        self.note("look", PF_AGENT, self._looks("look", 25, 27_000, _LOOKS))
        self.note("look", SCRIPT, self._looks("run", _LOOKS, "postconf", "-n"))
        turn = self._unit(peer, "looks", _LOOKS)
        self.note("turn", PF_AGENT, [turn["cpu"] * turn["seconds"] / _LOOKS])

    def curve(self, _peer: Peer) -> None:
        """Measure a look by the number of managed parameters."""
        for parameters in CURVE:
            rounds = max(15, min(_LOOKS, 100_000 // parameters))
            found = self._looks("look", parameters, 1_000_000, rounds)
            self._say(f"a look at {parameters} parameters: {min(found) * 1000:.1f} ms")
            self.note(f"look-{parameters}", PF_AGENT, found)

    def status(self, _peer: Peer) -> None:
        """Measure how long a person waits for `pf-agent status`."""
        self.note("status", PF_AGENT, self._looks("run", _RUNS, "pf-agent", "status"))

    def start(self, _peer: Peer) -> None:
        """Measure from the unit's start to READY, by systemd's own clock."""
        moments = ("InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic")
        found = []
        for _ in range(_STARTS):
            self._machine.run(["systemctl", "restart", _UNIT])
            began, ready = (int(self._site.show(_UNIT, name)) for name in moments)
            found.append((ready - began) / 1e6)
            time.sleep(0.5)
        self.note("start", PF_AGENT, found)

    def instances(self, peer: Peer) -> None:
        """Measure the memory of 100 more Postfix instances whose main.cf is right."""
        self._rests(peer)
        before = self._unit(peer, 3, 0)["pss"]
        script = f"""
            all=$(seq -f /etc/postfix-i%03g {_INSTANCES})
            for folder in $all; do
                cp -a /etc/postfix "$folder"
                echo "[instances.${{folder#/etc/postfix-}}.settings]"
                echo 'mynetworks = ["127.0.0.0/8", "[::1]/128", "172.16.0.0/12", "[fe80::]/64"]'
            done > /root/instances.toml
            postconf -e "multi_instance_directories = $(echo $all)"
            mv /root/instances.toml {_INSTANCES_TOML}
        """
        self._machine.sh(script)
        in_sync = 'pf-agent status --json | grep -c \'"phase": "in-sync"\''
        self._machine.wait_until(f"test $({in_sync}) = {_INSTANCES + 1}", 180)
        self._rests(peer)
        found = self._unit(peer, 3, 0)
        self._machine.sh(f"rm -rf {_INSTANCES_TOML} /etc/postfix-i*; cp {peers.GOOD} {MAIN_CF}")
        self._machine.sh(peer.settle, timeout=120)
        self.note("instances-pss", PF_AGENT, [(found["pss"] - before) / _INSTANCES])
        self.note("instances-processes", PF_AGENT, [found["processes"]])

    def _looks(self, *arguments: Any) -> list[float]:
        command = ["python3", f"{_THERE}/looks.py", *map(str, arguments)]
        found: list[float] = json.loads(self._machine.run(command, timeout=600).stdout)
        return found


def _words(found: dict[str, float | None]) -> str:
    times = {name: value for name, value in found.items() if value is not None}
    return ", ".join(f"{name} {value * 1000:.1f} ms" for name, value in times.items()) or "never"
