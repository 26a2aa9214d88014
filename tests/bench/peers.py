"""The peers on the machine: installs their files, and runs one of them at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pf_agent import names
from tests.bench.figures import PF_AGENT, RESTART, SCRIPT
from tests.bench.image import SALT
from tests.machine.nspawn import Machine
from tests.machine.site import MAIN_CF

FOLDER = Path(__file__).with_name("peers")
GOOD = "/usr/local/share/postfix/main.cf"
MASTER_CF = "/etc/postfix/master.cf"
GOOD_MASTER_CF = "/usr/local/share/postfix/master.cf"
TABLE = "/etc/postfix/recipients"

_BIN = "/usr/local/sbin"
_SETTLED = f"""
quiet() {{
    cmp -s {MAIN_CF} {GOOD} && cmp -s {MASTER_CF} {GOOD_MASTER_CF} || return 1
    systemctl list-jobs --no-legend | grep -q . && return 1
    test $(($(date +%s) - $(stat -c %Y /var/spool/postfix/pid/master.pid))) -ge 3
}}
patience=$(($(date +%s) + 60))
until quiet; do
    if [ "$(date +%s)" -gt $patience ]; then
        echo "not settled within a minute: put right by the bench" >&2
        cp -p {GOOD} {MAIN_CF}
        cp -p {GOOD_MASTER_CF} {MASTER_CF}
        systemctl restart postfix.service
        patience=$(($(date +%s) + 60))
    fi
    sleep 0.1
done
systemctl reset-failed
"""
# A table needs no restart. CFEngine compares dates by the second.
_BUILT = f"""
patience=$(($(date +%s) + 10))
while test {TABLE} -nt {TABLE}.db; do
    if [ "$(date +%s)" -gt $patience ]; then
        echo "not built within ten seconds: put right by the bench" >&2
        postmap {TABLE}
    fi
    sleep 0.1
done
sleep 1
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
    """A program that keeps main.cf right.

    `units` watch continuously from `starts` seconds after their start, and start `helpers` that end
    by themselves. A `command` is run at the moment of the drift. `needs` is a program, without
    which this release has no such peer. Between drifts it is quiet for at least half a second, and
    for up to `cycle` seconds more, so that a loop is met at any point.
    """

    name: str
    units: Sequence[str] = ()
    helpers: Sequence[str] = ()
    command: Sequence[str] = ()
    needs: str = ""
    starts: float = 1.0
    cycle: float = 0.5
    settle: str = _SETTLED


AGENT = Peer(PF_AGENT, ["pf-agent.service"], ["pf-agent-errands.service"], settle=_AGENT_SETTLED)
# No peer: Postfix is restarted, and nothing else.
ALONE = Peer(RESTART, command=["systemctl", "restart", names.POSTFIX_UNIT])
ALL: Sequence[Peer] = (
    Peer(SCRIPT, command=[f"{_BIN}/postfix-desired"]),
    Peer("script-cool", command=[f"{_BIN}/postfix-desired-cool"]),
    Peer("inotifywait", ["postfix-watch.service"], needs="inotifywait"),
    Peer("path", ["postfix-desired.path"]),
    Peer("monit", ["monit.service"], needs="monit", starts=2.0, cycle=1.0),
    Peer("cfengine", ["cfengine-loop.service"], needs="cf-agent"),
    Peer("puppet", ["puppet-loop.service"], needs="puppet", starts=5.0, cycle=4.0),
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
    # It starts etcd first.
    Peer("mgmt", ["mgmt-postfix.service"], needs="mgmt", starts=6.0),
)


_SERVICES: Sequence[Peer] = (
    AGENT,
    Peer(SCRIPT, command=[f"{_BIN}/postfix-services-desired"]),
    Peer("cfengine", ["cfengine-services.service"]),
    Peer("puppet", ["puppet-services.service"], starts=5.0, cycle=4.0),
    Peer(
        "ansible",
        command=["ansible-playbook", "-i", "localhost,", "/etc/ansible/services.yml"],
    ),
    Peer("mgmt", ["mgmt-services.service"], starts=6.0),
)
_TABLES: Sequence[Peer] = (
    replace(AGENT, settle=_BUILT),
    Peer(SCRIPT, command=["postmap", TABLE], settle=_BUILT),
    Peer("cfengine", ["cfengine-table.service"], settle=_BUILT),
    Peer("puppet", ["puppet-table.service"], starts=5.0, cycle=4.0, settle=_BUILT),
    Peer(
        "ansible",
        command=["ansible-playbook", "-i", "localhost,", "/etc/ansible/table.yml"],
        settle=_BUILT,
    ),
    Peer("mgmt", ["mgmt-table.service"], starts=6.0, settle=_BUILT),
)
# For groups of rows that are not about main.cf: the peers that can do it, and how.
OTHERS: Mapping[str, Sequence[Peer]] = {
    "services": _SERVICES,
    "tables": _TABLES,
    "large": _TABLES[:2],
}


def of_group(group: str, peer: Peer) -> Peer:
    """Return how the peer is put to work for a group of rows that concerns it."""
    return next((other for other in OTHERS.get(group, ()) if other.name == peer.name), peer)


def bring(machine: Machine) -> None:
    """Put every peer's files in place; they are to restore main.cf and master.cf as they are."""
    machine.run(["install", "-D", "-m", "644", MAIN_CF, GOOD])
    machine.run(["install", "-D", "-m", "644", MASTER_CF, GOOD_MASTER_CF])
    for peer in ALL:
        machine.copy_in(list((FOLDER / peer.name).iterdir()), "/")
    machine.sh("chmod 600 /etc/monit/monitrc; systemctl daemon-reload")


def is_there(machine: Machine, peer: Peer) -> bool:
    """Whether this machine has the peer's program."""
    return not peer.needs or not machine.run(["which", peer.needs], check=False).returncode


@contextmanager
def at_work(machine: Machine, peer: Peer) -> Iterator[None]:
    """Have only this peer manage Postfix, after it has found all right."""
    for unit in peer.units:
        machine.run(["systemctl", "start", unit])
    machine.sh(f"sleep {peer.starts if peer.units else 0}; {peer.settle}", timeout=300)
    try:
        yield
    finally:
        for unit in peer.units:
            machine.run(["systemctl", "stop", unit])
