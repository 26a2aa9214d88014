"""The peers on the machine: their files brought in, one of them at work at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.figures import PF_AGENT, SCRIPT
from tests.bench.image import SALT
from tests.machine.nspawn import Machine
from tests.machine.site import MAIN_CF

FOLDER = Path(__file__).with_name("peers")
GOOD = "/usr/local/share/postfix/main.cf"

_BIN = "/usr/local/sbin"
_SETTLED = f"""
quiet() {{
    cmp -s {MAIN_CF} {GOOD} || return 1
    systemctl list-jobs --no-legend | grep -q . && return 1
    test $(($(date +%s) - $(stat -c %Y /var/spool/postfix/pid/master.pid))) -ge 3
}}
until quiet; do sleep 0.1; done
systemctl reset-failed
"""
_AGENT_SETTLED = """
settled() {
    test ! -e /var/lib/pf-agent/pending.json &&
        pf-agent status --json | grep -q '"phase": "\\(in-sync\\|contested\\)"'
}
rm -f /run/pf-agent/restarts.json /run/pf-agent/drifts.json
systemctl reset-failed
systemctl reload pf-agent
until settled; do sleep 0.1; done
rm -f /run/pf-agent/restarts.json /run/pf-agent/drifts.json
systemctl reload pf-agent
"""


@dataclass(frozen=True)
class Peer:
    """Who keeps main.cf right.

    `units` watch by themselves; a `command` is run in the instant of the drift. `needs` is a
    program, without which this release has no such peer. Between drifts it is quiet for at least
    half a second, and for up to `cycle` seconds more, so that a loop is met at any point.
    """

    name: str
    units: Sequence[str] = ()
    command: Sequence[str] = ()
    needs: str = ""
    cycle: float = 0.5
    settle: str = _SETTLED


AGENT = Peer(PF_AGENT, ["pf-agent.service"], settle=_AGENT_SETTLED)
ALL: Sequence[Peer] = (
    Peer(SCRIPT, command=[f"{_BIN}/postfix-desired"]),
    Peer("script-cool", command=[f"{_BIN}/postfix-desired-cool"]),
    Peer("inotifywait", ["postfix-watch.service"], needs="inotifywait"),
    Peer("path", ["postfix-desired.path"]),
    Peer("monit", ["monit.service"], needs="monit", cycle=1.0),
    Peer("cfengine", ["cfengine-loop.service"], needs="cf-agent"),
    Peer("puppet", ["puppet-loop.service"], needs="puppet", cycle=4.0),
    Peer(
        "ansible",
        command=["ansible-playbook", "-i", "localhost,", "/etc/ansible/postfix.yml"],
        needs="ansible-playbook",
    ),
    Peer(
        "salt",
        command=[f"{SALT}/bin/salt-call", "--local", "state.apply", "postfix"],
        needs=f"{SALT}/bin/salt-call",
    ),
    Peer("mgmt", ["mgmt-postfix.service"], needs="mgmt"),
)


def bring(machine: Machine) -> None:
    """Put every peer's files in their places; main.cf as it is is what they shall restore."""
    machine.run(["install", "-D", "-m", "644", MAIN_CF, GOOD])
    for peer in ALL:
        machine.copy_in(list((FOLDER / peer.name).iterdir()), "/")
    machine.sh("chmod 600 /etc/monit/monitrc; systemctl daemon-reload")


def is_there(machine: Machine, peer: Peer) -> bool:
    """Whether this machine has the peer's program."""
    return not peer.needs or not machine.run(["which", peer.needs], check=False).returncode


@contextmanager
def at_work(machine: Machine, peer: Peer) -> Iterator[None]:
    """Only this peer looks after main.cf, and has found it right."""
    for unit in peer.units:
        machine.run(["systemctl", "start", unit])
    # All of them have begun to watch by then: mgmt, which starts etcd first, after five.
    machine.sh(f"sleep 6; {peer.settle}", timeout=300)
    try:
        yield
    finally:
        for unit in peer.units:
            machine.run(["systemctl", "stop", unit])
