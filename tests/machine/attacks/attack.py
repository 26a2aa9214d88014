"""What an attack is: who tries what, on which machine, and what must hold besides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pf_agent.bus.agent1 import NAME, PATH
from tests.machine.attacks.inside.ground import HOME, MARK
from tests.machine.site import DISPLACED, EXTRA, MAIN_CF, Site, eventually

NETWORK_ADDRESS = "192.0.2.7"
_MAILBOX = "/root/Maildir/new"
_SCRAPE = """
import urllib.request
with urllib.request.urlopen("http://127.0.0.1:9825/metrics", timeout=60) as answer:
    print(answer.read().decode())
"""


class Who(str, Enum):
    """Who attacks: the name of a user of the machine."""

    USER = "mallory"
    POSTFIX = "postfix"
    # Who has no login here at all, and comes from an address of its own.
    NETWORK = "nobody"


@dataclass(frozen=True)
class Attacked:
    """The site under attack; `since` is the place in the journal where that began."""

    site: Site
    since: str

    def of_root(self, event: str = "") -> list[dict[str, Any]]:
        """What root's pf-agent has on record since then; anybody may log under its name."""
        entries = self.site.machine.followed.entries(self.since)
        ours = [e for e in entries if e.get("SYSLOG_IDENTIFIER") == "pf-agent" and is_of_root(e)]
        return [e for e in ours if not event or e.get("PF_AGENT_EVENT") == event]


def is_of_root(entry: dict[str, Any]) -> bool:
    """By journald's word."""
    return entry.get("_UID") == "0"


Check = Callable[[Attacked], None]
Arranged = Callable[[Site], AbstractContextManager[object]]


@dataclass(frozen=True)
class Attack:
    """One attack: `does` is its MODULE.FUNCTION in `inside/`.

    `arranged` is how the machine is besides, `where` says it; with `starts` a start of Postfix can
    succeed there. `during` and `after` raise AssertionError where something does not hold that
    promises.py does not ask of every attack.
    """

    does: str
    who: Who = Who.USER
    arranged: Arranged = nullcontext
    during: Sequence[Check] = ()
    after: Sequence[Check] = ()
    where: str = ""
    starts: bool = True

    def __str__(self) -> str:
        return f"{self.does} by {self.who.value}{self.where and f', {self.where}'}"


# How the machine may be arranged


def wishing(*lines: str) -> Arranged:
    """The desired state says this, too."""
    text = "[settings]\n" + "".join(f"{line}\n" for line in lines)

    @contextmanager
    def arranged(site: Site) -> Iterator[None]:
        good = site.good
        site.machine.write_text(EXTRA, text)
        eventually(lambda: site.read() != good, f"main.cf with {lines}")
        site.wait_settled()
        site.good = site.read()
        try:
            yield
        finally:
            site.machine.run(["rm", "-f", EXTRA])
            site.good = good
            site.put(good)

    return arranged


def small(folder: str) -> Arranged:
    """A folder that is a file system of 4 MiB."""

    @contextmanager
    def arranged(site: Site) -> Iterator[None]:
        mount = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=1777", "none", folder]
        site.machine.run(mount)
        try:
            yield
        finally:
            site.machine.run(["umount", "--lazy", folder])

    return arranged


@contextmanager
def including(site: Site) -> Iterator[None]:
    """/etc/aliases includes a list that a user keeps in his home."""
    site.machine.sh(f"cp -p /etc/aliases /srv; echo 'l: :include:{HOME}/list' >> /etc/aliases")
    try:
        yield
    finally:
        site.machine.sh("cp -p /srv/aliases /etc/aliases; newaliases")


@contextmanager
def failing(site: Site) -> Iterator[None]:
    """No start of Postfix succeeds, so that the record quotes its log."""
    site.dropin(site.unit, "failing", "[Service]\nExecStartPre=/bin/false\n")
    try:
        yield
    finally:
        site.dropin(site.unit, "failing", "")
        site.machine.run(["systemctl", "reset-failed"])
        site.machine.run(["systemctl", "reload", "pf-agent"])


def gated(site: Site) -> AbstractContextManager[object]:
    """Each start of Postfix takes as long as the attack."""
    return site.gate()


# What may have to hold besides


def scraped(attacked: Attacked) -> None:
    """The metrics are there for who is to have them."""
    told = attacked.site.run_python(_SCRAPE, timeout=90)
    assert "pf_agent_up 1" in told, told


def obeyed_again_and_again(attacked: Attacked) -> None:
    """Root's order is answered twenty times over."""
    for _ in range(20):
        attacked.site.machine.run(["busctl", "call", NAME, PATH, NAME, "Reconcile"])


def shown_by_nobody(attacked: Attacked) -> None:
    """No command of the agent's shows what was forged."""
    for verb in ("history", "history --json", "explain mynetworks", "status", "status --json"):
        shown = attacked.site.machine.sh(f"pf-agent {verb}; true")
        assert shown != "", f"pf-agent {verb} says nothing"
        assert MARK not in shown, f"pf-agent {verb}: {shown}"


def mailed_as_it_was(attacked: Attacked) -> None:
    """The mail to root has the drift, and nothing that was forged."""
    machine = attacked.site.machine
    machine.sh("rm -f /var/lib/pf-agent-notify/mailed; mkdir -p " + _MAILBOX)
    before = machine.sh(f"ls {_MAILBOX}").split()
    machine.run(["systemctl", "start", "pf-agent-notify@digest"], timeout=120)
    machine.wait_until(f"test $(ls {_MAILBOX} | wc -l) -gt {len(before)}")
    new = set(machine.sh(f"ls {_MAILBOX}").split()) - {*before}
    mail = machine.read_text(f"{_MAILBOX}/{max(new)}")
    assert "mynetworks" in mail, mail
    assert MARK not in mail, mail


def told_as_failed(attacked: Attacked) -> None:
    """The failed start is on record, by Postfix's own words and nobody else's."""
    eventually(lambda: bool(attacked.of_root("activation-failed")), "a record of the failed start")


def told_either_way(attacked: Attacked) -> None:
    """How the start of Postfix went is on record; whose files it reads may hold it up."""
    told = ("activated", "activation-failed")
    eventually(lambda: any(map(attacked.of_root, told)), "a record of how the start went")


def not_told_as_done(attacked: Attacked) -> None:
    """What has not ended is not on record as if it had."""
    site = attacked.site
    eventually(
        lambda: site.show(site.unit, "ActiveState") == "activating", "a start of Postfix, held up"
    )
    # Not a reload: systemd would put it off until the start has ended.
    for _ in range(5):
        site.machine.run(["busctl", "call", NAME, PATH, NAME, "Reconcile"])
    told = [record["MESSAGE"] for record in attacked.of_root("activated")]
    assert told == [], f"told: {told}"


def aliases_wanted(attacked: Attacked) -> None:
    """An alias file that has just changed does not have root's orders wait."""
    attacked.site.machine.run(["touch", "/etc/aliases"])
    assert attacked.site.agent("status").stdout != "", "pf-agent status says nothing"


def named_as_held_up(attacked: Attacked) -> None:
    """What is on record is what postalias met, not what its sandbox had refused before."""
    reasons = [str(record["MESSAGE"]) for record in attacked.of_root("activation-failed")]
    assert not any("setpriv" in reason for reason in reasons), reasons


def aliases_built(attacked: Attacked) -> None:
    """The database of the aliases is built once the attack is over."""
    attacked.site.machine.wait_until("test /etc/aliases.db -nt /etc/aliases")


def run_by_root_there(attacked: Attacked) -> None:
    """Root stands in the attacker's folder and hands on its environment, as `sudo -E` may."""
    folder = f"/var/tmp/{MARK}"
    environment = f"PYTHONPATH={folder} PYTHONSTARTUP={folder}/json.py PYTHONHOME= HOME={HOME}"
    for verb in ("check", "status", "history"):
        said = attacked.site.machine.sh(f"cd {folder}; {environment} pf-agent {verb} 2>&1; true")
        assert said != "", f"pf-agent {verb} says nothing"
        assert MARK not in said, said
    attacked.site.machine.run(["test", "!", "-e", "/var/tmp/ran-as-root"])


def kept_from_others(attacked: Attacked) -> None:
    """What is displaced is for root alone, main.cf and the status are for everybody."""
    look = f"stat -c '%a %U %F' {MAIN_CF} {DISPLACED} /var/lib/pf-agent /run/pf-agent/status.json"
    modes = attacked.site.machine.sh(look).splitlines()
    assert modes == [
        "644 root regular file",
        "700 root directory",
        "700 root directory",
        "644 root regular file",
    ], modes
