"""Wishes that pass every check and break the start: rejected, and nothing else goes with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

import pytest

from pf_agent import names
from pf_agent.words.diffs import unified_diff
from tests.machine.nspawn import Machine
from tests.machine.site import (
    EXTRA,
    MAIN_CF,
    SETTLE_SECONDS,
    UNUSED,
    Site,
    eventually,
    mapped_by_the_agent,
)

pytestmark = pytest.mark.long

ADDRESS = f"{names.CONFIG_DIRECTORY}/{names.DESIRED_DROPINS}/55-address.toml"

# sd-messages.h: SD_MESSAGE_UNIT_STARTING.
_UNIT_STARTING = "7d4958e842da4a758f6c1cdc7b36dcc5"

# The name is gone by the time that Postfix starts, as one that a DNS server no longer knows.
LOSE_NAME = """
[Service]
ExecStartPre=+-/bin/sh -c 'sed "/away.example.test/d" /etc/hosts > /run/hosts && cp /run/hosts /etc'
"""


def port_taken(site: Site) -> AbstractContextManager[None]:
    """The port is another program's."""
    return site.port_taken("127.0.0.9")


@contextmanager
def name_lost(site: Site) -> Iterator[None]:
    """A name that resolves while the text is judged, and no more when Postfix starts."""
    site.dropin(site.unit, "lose-name", LOSE_NAME)
    site.machine.sh("echo '127.0.0.1 away.example.test' >> /etc/hosts")
    try:
        yield
    finally:
        site.dropin(site.unit, "lose-name", "")
    site.machine.sh("echo '127.0.0.1 away.example.test' >> /etc/hosts")


@contextmanager
def folder_of_another(site: Site) -> Iterator[None]:
    """A data folder that is there, and belongs to another user."""
    site.machine.sh("install -d -o daemon -g daemon -m 700 /srv/data")
    yield


@contextmanager
def read_only_queue(site: Site) -> Iterator[None]:
    """A queue that has all it needs, on a file system that nobody can write to."""
    site.machine.sh("mkdir -p /srv/queue && cp -a /var/spool/postfix/. /srv/queue")
    site.machine.sh("mount --bind /srv/queue /srv/queue && mount -o remount,bind,ro /srv/queue")
    try:
        yield
    finally:
        site.machine.run(["umount", "/srv/queue"])


@contextmanager
def not_in_the_chroot(site: Site) -> Iterator[None]:
    """A filter's socket that is there, but not where Debian's chrooted smtpd can see it."""
    yield


class Trap(NamedTuple):
    """A setting that breaks the start, what makes it do so, and what Postfix logs then."""

    setting: str
    around: Callable[[Site], AbstractContextManager[None]]
    logged: str


TRAPS = {
    "a port taken": Trap(
        'inet_interfaces = ["127.0.0.1", "127.0.0.9"]',
        port_taken,
        "fatal: bind 127.0.0.9 port 25: Address already in use",
    ),
    "a name that is lost": Trap(
        'inet_interfaces = "127.0.0.1, away.example.test"',
        name_lost,
        "fatal: config variable inet_interfaces: host not found: away.example.test",
    ),
    "a folder of another user": Trap(
        'data_directory = "/srv/data"',
        folder_of_another,
        "fatal: open lock file /srv/data/master.lock: cannot open file: Permission denied",
    ),
    "a queue that is read-only": Trap(
        'queue_directory = "/srv/queue"', read_only_queue, "Read-only file system"
    ),
    "a socket outside the chroot": Trap(
        'smtpd_milters = "unix:/run/filter.sock"', not_in_the_chroot, "filter.sock"
    ),
}


@pytest.fixture(scope="module")
def site(agent_machine: Machine) -> Site:
    agent_machine.write_text(ADDRESS, '[settings]\ninet_interfaces = "127.0.0.1"\n')
    agent_machine.wait_until(f"grep -qx 'inet_interfaces = 127.0.0.1' {MAIN_CF}")
    return Site.prepared(agent_machine)


@pytest.fixture(autouse=True)
def _at_rest(site: Site) -> Iterator[None]:
    site.forget_restarts()
    yield
    site.forget_restarts()
    site.take_back_extra()
    site.machine.wait_until("pf-agent diff")
    if site.read() != site.good:
        # With a drift of ours, so that Postfix is restarted and this is what it last ran with.
        site.put(site.good.replace(b"inet_interfaces = 127.0.0.1\n", b"inet_interfaces = all\n"))
        site.wait_right()
    site.wait_settled()


def ask_for(site: Site, setting: str) -> None:
    site.machine.write_text(EXTRA, f"[settings]\n{setting}\n")


def is_rejected(site: Site, parameter: str) -> bool:
    """Whether a wish for `parameter` is told of, and all else is well."""
    return site.stands() == ("in-sync", 0) and parameter in "".join(site.told()["problems"])


def events(site: Site, since: str) -> list[str]:
    """What the agent has put on record, oldest first."""
    entries = site.entries(since)
    return [entry[names.FIELD_EVENT] for entry in entries if names.FIELD_EVENT in entry]


def tries(site: Site, since: str) -> int:
    """How often systemd set about starting Postfix."""
    return sum(
        entry.get("MESSAGE_ID") == _UNIT_STARTING and entry.get("UNIT") == site.unit
        for entry in site.entries(since)
    )


def look_again(site: Site) -> None:
    """Have the agent look, and come back when it has."""
    site.machine.run(["systemctl", "reload", "pf-agent"])


@pytest.mark.parametrize("name", TRAPS)
def test_a_wish_that_postfix_does_not_come_up_with_is_rejected(site: Site, name: str) -> None:
    trap, before, since = TRAPS[name], site.read(), site.cursor()
    parameter = trap.setting.partition(" ")[0]
    with trap.around(site):
        ask_for(site, trap.setting)
        site.wait_for("activated", since)
        *each, record = site.records("rolled-back", since)
        (activated,) = site.records("activated", since)
        assert activated[names.FIELD_CYCLE] == record[names.FIELD_CYCLE]
        assert "the text that it last served with" in activated["MESSAGE"]
        assert site.read() == before
        assert site.serves()
        assert tries(site, since) == 2  # with what is desired, and with what was before

        assert [found[names.FIELD_PARAMETER] for found in each] == [parameter]
        assert trap.logged in record[names.FIELD_LOG]
        assert record[names.FIELD_REASON] in record["MESSAGE"]
        assert f"{parameter} ({EXTRA}:2)" in record["MESSAGE"]
        assert record["PRIORITY"] == "3"
        mapped = mapped_by_the_agent(site.machine)  # it has the log read by the other unit
        assert [name for name in UNUSED if name in mapped] == []
        tried = site.machine.read_bytes(record[names.FIELD_DISPLACED])
        assert f"\n{parameter} = ".encode() in tried
        assert record[names.FIELD_DIFF] == unified_diff(tried, before, MAIN_CF)
        # What is enforced is served; what is not is told of.
        site.wait_settled()
        assert is_rejected(site, parameter)
        assert trap.logged in site.told()["problems"][0]

        # Nothing has changed, so nothing is tried: not at the next looks, nor by the next process,
        # nor where somebody writes something else into main.cf.
        later, invocation = site.cursor(), site.show(site.unit, "InvocationID")
        look_again(site)
        site.machine.sh(f"echo '# is it right now?' >> {MAIN_CF}")
        look_again(site)
        site.machine.run(["systemctl", "restart", "pf-agent"])
        look_again(site)
        site.wait_settled()
        assert is_rejected(site, parameter)
        assert site.read() == before + b"# is it right now?\n"
        assert site.show(site.unit, "InvocationID") == invocation
        assert events(site, later) == ["stopped", "started"]

        # The state in force is enforced meanwhile.
        later = site.cursor()
        site.machine.run(["sed", "-i", "s|^mynetworks *=.*|mynetworks = 0.0.0.0/0|", MAIN_CF])
        site.wait_for("activated", later)
        assert site.read() == before + b"# is it right now?\n"
        site.put(before)
        # And where the drop-in is taken away, nothing is left of it.
        site.take_back_extra()
        assert site.stands() == ("in-sync", 0)


def test_it_is_tried_again_when_the_desired_state_changes(site: Site) -> None:
    since = site.cursor()
    with port_taken(site):
        ask_for(site, TRAPS["a port taken"].setting)
        site.wait_for("rolled-back", since)
        site.wait_for("activated", since)
        since = site.cursor()
        ask_for(site, 'inet_interfaces = "127.0.0.1"\nsmtpd_helo_required = true')
        site.wait_for("activated", since)
        site.wait_settled()
        assert b"smtpd_helo_required = yes\n" in site.read()
        assert site.serves()
        assert site.told()["problems"] == []


def test_it_is_tried_again_when_what_it_was_refused_for_is_there(site: Site) -> None:
    since = site.cursor()
    with port_taken(site):
        ask_for(site, TRAPS["a port taken"].setting)
        site.wait_for("activated", since)
        site.wait_settled()
    since = site.cursor()
    site.wait_for("activated", since)
    site.wait_settled()
    assert b"inet_interfaces = 127.0.0.1 127.0.0.9\n" in site.read()
    assert site.told()["problems"] == []


def test_several_wishes_go_back_together_and_what_nobody_wished_for_stays(site: Site) -> None:
    """relay_domains was set by hand, and Postfix reloaded, after it was last restarted."""
    site.machine.sh(f"echo 'relay_domains = example.org' >> {MAIN_CF} && postfix reload")
    before, since = site.read(), site.cursor()
    with port_taken(site), site.gate() as gate:
        ask_for(site, "smtpd_helo_required = true")
        gate.wait_reached()
        ask_for(site, f"smtpd_helo_required = true\n{TRAPS['a port taken'].setting}")
        site.wait_for("drift-corrected", since)
        site.machine.wait_until(f"grep -q 127.0.0.9 {MAIN_CF}")
        gate.open()
        site.wait_for("rolled-back", since)
        site.wait_settled()
        *each, _record = site.records("rolled-back", since)
        undone = {found[names.FIELD_PARAMETER] for found in each}
        assert undone <= {"inet_interfaces", "smtpd_helo_required"}
        assert "inet_interfaces" in undone
        assert b"relay_domains = example.org\n" in site.read()
        assert b"127.0.0.9" not in site.read()
        assert site.serves()
        if undone == {"inet_interfaces", "smtpd_helo_required"}:
            assert site.read() == before


def test_a_text_that_stood_there_for_a_moment_condemns_no_other(site: Site) -> None:
    """Postfix starts amid somebody's edit, and does not come up; what was made of it was not tried.

    The agent hears of both at once: that main.cf has drifted, and that the restart has failed.
    """
    good = site.read()
    assert good.count(b"disable_vrfy_command = yes\n") == 1
    drifted = good.replace(b"disable_vrfy_command = yes\n", b"disable_vrfy_command = no\n")
    bad = drifted + b"message_size_limit = ten\n# somebody's own line\n"
    since = site.cursor()
    with site.gate() as gate:
        site.put(drifted)
        gate.wait_reached()
        agent = site.show("pf-agent", "MainPID")
        site.machine.run(["kill", "-STOP", agent])
        try:
            site.put(bad)
            gate.open()
            site.machine.wait_until(f"systemctl is-failed {site.unit}")
        finally:
            site.machine.run(["kill", "-CONT", agent])
        site.wait_for("activated", since)
    assert events(site, since).count("activation-failed") == 1
    assert site.records("rolled-back", since) == []
    assert site.read() == good + b"# somebody's own line\n"
    assert site.serves()


def test_killed_while_postfix_restarts_with_the_text_before(site: Site) -> None:
    before, since = site.read(), site.cursor()
    with_that_text = f"! grep -q 127.0.0.9 {MAIN_CF}"
    with port_taken(site), site.gate(with_that_text) as gate:
        ask_for(site, TRAPS["a port taken"].setting)
        site.wait_for("rolled-back", since)
        gate.wait_reached()
        assert site.read() == before
        killed = site.show("pf-agent", "MainPID")
        site.machine.run(["kill", "-9", killed])
        # Ordered after Postfix, the agent comes when that start is over.
        gate.open()
        site.wait_for("activated", since)
        assert site.show("pf-agent", "MainPID") not in ("0", killed)
        site.wait_settled()
        assert is_rejected(site, "inet_interfaces")
        assert site.read() == before
        assert site.serves()


def test_apply_without_the_service_rejects_and_says_so(site: Site) -> None:
    site.machine.run(["systemctl", "stop", "pf-agent"])
    trap, before, since = TRAPS["a port taken"], site.read(), site.cursor()
    try:
        with port_taken(site):
            ask_for(site, trap.setting)
            done = site.machine.run(["pf-agent", "apply"], check=False, timeout=SETTLE_SECONDS)
            assert (done.returncode, done.stderr) == (1, "")
            record = site.records("rolled-back", since)[-1]
            assert done.stdout == f"{record['MESSAGE']}\n"
            assert trap.logged in done.stdout
            assert (site.read(), tries(site, since)) == (before, 2)
            assert site.serves()
            # The daemon knows, and does not try it.
            invocation = site.show(site.unit, "InvocationID")
            site.machine.run(["systemctl", "start", "pf-agent"])
            site.wait_settled()
            assert is_rejected(site, "inet_interfaces")
            assert site.show(site.unit, "InvocationID") == invocation
        # Who runs apply wants it tried, and the port is free.
        site.forget_restarts()
        site.machine.run(["pf-agent", "apply"], timeout=SETTLE_SECONDS)
        assert b"inet_interfaces = 127.0.0.1 127.0.0.9\n" in site.read()
        assert site.told()["problems"] == []
    finally:
        site.machine.run(["systemctl", "start", "pf-agent"])


def test_a_wish_that_is_not_to_blame_is_kept(site: Site) -> None:
    """The port is taken whatever the text says: Postfix was not up before the wish, either."""
    site.machine.run(["systemctl", "stop", names.POSTFIX_UNIT, site.unit])
    since = site.cursor()
    with site.port_taken("0.0.0.0"):
        ask_for(site, "smtpd_helo_required = true")
        site.machine.wait_until(f"grep -q '^smtpd_helo_required = yes' {MAIN_CF}")
        site.machine.run(["systemctl", "start", names.POSTFIX_UNIT, site.unit], check=False)
        site.wait_for("activation-failed", since)
        eventually(lambda: site.stands() == ("failing", 1), "it says so")
        site.machine.run(["systemctl", "restart", "pf-agent"])
    # Nobody does anything.
    site.wait_settled()
    assert b"smtpd_helo_required = yes\n" in site.read()
    assert site.records("rolled-back", since) == []
    assert site.serves()
