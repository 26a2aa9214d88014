"""What Postfix runs with: "in sync" is true of it, whoever started or stopped it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from pf_agent import names
from pf_agent.activation import pacing
from pf_agent.cli.wish import LOCAL
from tests.machine.nspawn import Machine
from tests.machine.site import AGENT_TOML, EXTRA, INTRUDE, MAIN_CF, SETTLE_SECONDS, Site, eventually

pytestmark = pytest.mark.long

_OUTSIDE = """
ip netns add outside
ip link add inside0 type veth peer name outside0
ip link set outside0 netns outside
ip address add 203.0.113.1/24 dev inside0
ip link set inside0 up
ip -n outside address add 203.0.113.9/24 dev outside0
ip -n outside link set outside0 up
"""

# A stranger connects anew again and again, until nobody is relayed any more; prints how many were
# within and after so many seconds of the drift.
_STRANGER = """
import smtplib, sys, time
count = int(sys.argv[1])
relayed = []
for _ in range(count):
    try:
        with smtplib.SMTP("203.0.113.1", 25, local_hostname="x.example", timeout=10) as client:
            client.ehlo()
            client.docmd("MAIL", "FROM:<a@example.org>")
            relayed.append(client.docmd("RCPT", "TO:<b@example.com>")[0])
            client.docmd("RSET")
    except (OSError, smtplib.SMTPException):
        relayed.append(0)
print(*relayed)
"""


@pytest.fixture(scope="module")
def site(agent_machine: Machine) -> Site:
    agent_machine.sh(_OUTSIDE)
    return Site.prepared(agent_machine)


@pytest.fixture(autouse=True)
def _at_rest(site: Site) -> Iterator[None]:
    site.forget_restarts()
    site.end_contest()
    yield
    site.forget_restarts()
    site.machine.run(["rm", "-f", EXTRA, LOCAL, AGENT_TOML])
    site.machine.run(["systemctl", "reload", "pf-agent"])
    site.machine.run(["systemctl", "start", names.POSTFIX_UNIT])
    site.put(site.good)
    site.wait_right()
    site.wait_settled()


def strangers(site: Site, count: int = 5) -> list[int]:
    """What strangers get who connect anew, one after the other: 250 is relayed."""
    command = ["ip", "netns", "exec", "outside", "python3", "-c", _STRANGER, str(count)]
    return [int(code) for code in site.machine.run(command).stdout.split()]


def listens_on(site: Site) -> str:
    return site.machine.sh("ss -Hltn 'sport = :25' | awk '{print $4}' | sort")


def adopt_while_suspended(site: Site, name: str, value: str) -> None:
    """Somebody sets a parameter, makes that the desired value and resumes, without a restart."""
    since = site.cursor()
    site.machine.run(["pf-agent", "suspend"])
    site.machine.run(["postconf", "-e", f"{name} = {value}"])
    site.machine.run(["pf-agent", "adopt", name])
    site.machine.run(["pf-agent", "resume"])
    site.wait_for("activated", since)
    site.wait_settled()


def test_what_was_adopted_while_suspended_is_served(site: Site) -> None:
    assert "0.0.0.0:25" in listens_on(site)
    adopt_while_suspended(site, "inet_interfaces", "127.0.0.1")
    assert listens_on(site) == "127.0.0.1:25\n"


def test_a_greeting_that_was_adopted_while_suspended_is_served(site: Site) -> None:
    """Postfix greets with the former value: until it is restarted, it does not serve as desired."""
    adopt_while_suspended(site, "smtpd_banner", "$myhostname ESMTP adopted")
    assert site.stands()[0] == "in-sync"
    greeting = site.machine.sh("exec bash -c 'head -n 1 < /dev/tcp/127.0.0.1/25'")
    assert greeting.rstrip().endswith(" ESMTP adopted")


def test_apply_finds_what_is_not_served(site: Site) -> None:
    site.machine.run(["systemctl", "stop", "pf-agent"])
    try:
        site.machine.run(["postconf", "-e", "inet_interfaces = 127.0.0.1"])
        site.machine.run(["pf-agent", "adopt", "inet_interfaces"])
        site.machine.run(["pf-agent", "apply"], timeout=SETTLE_SECONDS)
        assert listens_on(site) == "127.0.0.1:25\n"
    finally:
        site.machine.run(["systemctl", "start", "pf-agent"])


def drift_while_the_agent_is_stopped(site: Site) -> None:
    """An open relay that Postfix was reloaded with, and an idle smtpd that has it."""
    site.machine.run(["systemctl", "stop", "pf-agent"])
    try:
        site.machine.sh(f"{INTRUDE} && touch -d '1 minute ago' {MAIN_CF} && postfix reload")
        eventually(lambda: strangers(site) == [250] * 5, "every stranger is relayed")
    finally:
        site.machine.run(["systemctl", "start", "pf-agent"])


def wait_until_nobody_is_relayed(site: Site) -> None:
    """A bounded poll, and from then on nobody at all."""
    site.machine.wait_until(f"! grep -q 0.0.0.0/0 {MAIN_CF}")
    eventually(lambda: 250 not in strangers(site, 1), "a stranger is refused")
    assert 250 not in strangers(site, 20)


def test_nobody_new_is_relayed_while_the_window_is_closed(site: Site) -> None:
    site.machine.write_text(AGENT_TOML, site.closed_window())
    since, invocation = site.cursor(), site.show(site.unit, "InvocationID")
    drift_while_the_agent_is_stopped(site)
    wait_until_nobody_is_relayed(site)
    assert site.show(site.unit, "InvocationID") == invocation
    assert site.stands()[0] == "activating"
    assert site.records("activated", since) == []


def test_nobody_new_is_relayed_while_the_budget_is_spent(site: Site) -> None:
    now = int(site.machine.sh("date +%s"))
    moments = f"[{now - 2}, {now - 1}, {now}]"
    site.machine.write_text(f"{names.RUN_DIRECTORY}/{names.RESTARTS}", moments)
    invocation = site.show(site.unit, "InvocationID")
    drift_while_the_agent_is_stopped(site)
    wait_until_nobody_is_relayed(site)
    assert site.show(site.unit, "InvocationID") == invocation


def test_nobody_new_is_relayed_in_a_contest(site: Site) -> None:
    now = int(site.machine.sh("date +%s"))
    moments = [now - 50 + 10 * row for row in range(5)]
    site.machine.write_text(
        f"{names.RUN_DIRECTORY}/drifts.json", json.dumps({"mynetworks": moments})
    )
    site.machine.write_text(f"{names.RUN_DIRECTORY}/{names.RESTARTS}", f"[{now}]")
    drift_while_the_agent_is_stopped(site)
    wait_until_nobody_is_relayed(site)


def test_nobody_new_is_relayed_at_rest(site: Site) -> None:
    drift_while_the_agent_is_stopped(site)
    wait_until_nobody_is_relayed(site)


@pytest.mark.quiet
def test_what_was_healed_while_it_was_hot_needs_no_reload(site: Site) -> None:
    """Processes that start in the moment of a drift read main.cf again (dict_load_file_xt())."""
    site.machine.write_text(AGENT_TOML, site.closed_window())
    site.machine.run(["systemctl", "reload", "pf-agent"])
    site.machine.run(["postconf", "-e", "smtpd_banner = $myhostname ESMTP"])
    # A busy host may heal one of them later; then there is a reload, and rightly.
    assert 0 in (_reloads_after_hot_drifts(site) for _ in range(4))


def _reloads_after_hot_drifts(site: Site) -> int:
    """How often Postfix was reloaded while new processes started amid drifts."""
    since = site.cursor()
    with site.machine.start(
        ["ip", "netns", "exec", "outside", "python3", "-c", _STRANGER, "200"]
    ) as asking:
        for _ in range(5):
            site.machine.sh(INTRUDE)
            site.wait_right()
            site.machine.run(["pkill", "-x", "smtpd"], check=False)
        asking.wait()
    assert 250 not in strangers(site, 10)
    entries = site.entries(since)
    said = [str(entry.get("MESSAGE", "")) for entry in entries]
    return sum(words.startswith("reload -- version") for words in said)


def test_a_wish_is_not_held_up_by_somebody_elses_fight(site: Site) -> None:
    now = int(site.machine.sh("date +%s"))
    moments = [now - 80 + 10 * row for row in range(8)]
    site.machine.write_text(
        f"{names.RUN_DIRECTORY}/drifts.json", json.dumps({"mynetworks": moments})
    )
    site.machine.write_text(
        f"{names.RUN_DIRECTORY}/{names.RESTARTS}", f"[{now - 2}, {now - 1}, {now}]"
    )
    site.machine.run(["rm", "-f", f"{names.RUN_DIRECTORY}/{names.WISHED_RESTARTS}"])
    since = site.cursor()
    site.machine.write_text(EXTRA, "[settings]\nmessage_size_limit = 20480000\n")
    site.wait_for("activated", since)
    wished = f"{names.RUN_DIRECTORY}/{names.WISHED_RESTARTS}"
    (moment,) = json.loads(site.machine.read_text(wished))
    # What drift would have had to wait for: the budget alone is nearly a minute.
    assert moment < pacing.restart_allowed_at((now - 2, now - 1, now), now)
    said = [record["MESSAGE"] for record in site.records("drift-detected", since)]
    assert said == [
        'message_size_limit is "10485760", must be "20480000" (line '
        f"{site.line_of('message_size_limit')}): the desired state changed",
        "the desired state changed: message_size_limit",
    ]


def test_wishes_in_a_row_are_no_contest(site: Site) -> None:
    since = site.cursor()
    for size in range(5):
        site.machine.run(["pf-agent", "set", f"message_size_limit={20480000 + size}"])
    site.machine.wait_until(f"grep -qx 'message_size_limit = 20480004' {MAIN_CF}")
    site.wait_settled()
    assert site.records("contested", since) == []
    assert site.stands() == ("in-sync", 0)


def test_what_a_person_stopped_is_left_stopped(site: Site) -> None:
    since = site.cursor()
    site.machine.run(["systemctl", "stop", names.POSTFIX_UNIT])
    site.wait_phase("stopped")
    site.machine.sh(INTRUDE)
    site.wait_right()
    site.wait_phase("stopped")
    site.machine.run(["systemctl", "restart", "pf-agent"])
    site.wait_phase("stopped")
    assert site.stands()[1] == 1
    assert site.show(site.unit, "ActiveState") == "inactive"
    assert site.starts(since) == []
    told = [record["MESSAGE"] for record in site.records("activation-failed", since)]
    assert any("stopped by an administrator" in message for message in told)
    # Whoever starts it: that start is verified like ours.
    site.machine.run(["systemctl", "start", names.POSTFIX_UNIT])
    site.wait_for("activated", since)
    site.wait_settled()
    assert len(site.starts(since)) == 1


@pytest.mark.parametrize("verb", ["disable", "mask"])
def test_what_is_disabled_or_masked_is_never_started(site: Site, verb: str) -> None:
    since = site.cursor()
    site.machine.run(["systemctl", "stop", names.POSTFIX_UNIT])
    site.machine.run(["systemctl", verb, names.POSTFIX_UNIT])
    try:
        site.machine.sh(INTRUDE)
        site.wait_right()
        site.wait_phase("stopped")
        assert site.starts(since) == []
    finally:
        undo = {"disable": "enable", "mask": "unmask"}[verb]
        site.machine.run(["systemctl", undo, names.POSTFIX_UNIT])


@pytest.mark.parametrize("way", ["pkill -9 -x master", "postfix stop"])
def test_a_master_that_is_gone_is_not_one_that_was_stopped(site: Site, way: str) -> None:
    since = site.cursor()
    site.machine.sh(way)
    site.wait_for("activated", since)
    site.wait_settled()
    assert site.serves()


_HOLD_DPKG = """
import fcntl, time
held = open("/var/lib/dpkg/lock-frontend", "w")
fcntl.lockf(held, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(400)
"""


def test_while_dpkg_is_at_work_nothing_is_started(site: Site) -> None:
    """A maintainer script stops Postfix, unpacks, and starts it again."""
    since = site.cursor()
    with site.machine.start(["python3", "-c", _HOLD_DPKG], stdout=subprocess.PIPE) as dpkg:
        assert dpkg.stdout is not None
        assert dpkg.stdout.readline() == b"held\n"
        site.machine.run(["pkill", "-9", "-x", "master"])
        site.machine.sh(INTRUDE)
        site.wait_right()
        site.machine.run(["systemctl", "reload", "pf-agent"])
        assert not site.serves()
        assert site.starts(since) == []
        # Not in its own words: who carries the command into the machine would be killed with it.
        site.machine.run(["pkill", "-f", "[l]ock-frontend"])
    site.wait_for("activated", since)
    site.wait_settled()
    assert site.serves()


def test_a_package_that_is_not_configured_is_told_of_and_not_started(site: Site) -> None:
    since = site.cursor()
    site.machine.sh("dpkg --unpack /srv/postfix/*.deb")
    site.machine.run(["pkill", "-9", "-x", "master"], check=False)
    site.machine.run(["systemctl", "reload", "pf-agent"])
    site.wait_phase("stopped")
    told = [record["MESSAGE"] for record in site.records("activation-failed", since)]
    assert any("run `dpkg --configure -a`" in message for message in told)
    assert not site.serves()
    site.machine.run(["dpkg", "--configure", "-a"], timeout=120)
    site.machine.run(["systemctl", "start", names.POSTFIX_UNIT])
    site.wait_settled()
    assert site.serves()
