"""What is desired stands, and what nobody changed is not touched, whatever Postfix depends on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pf_agent import names
from pf_agent.cli.wish import LOCAL
from tests.machine.beside import beside
from tests.machine.site import (
    AGENT_TOML,
    EXTRA,
    INTRUDE,
    LAST_GOOD,
    MAIN_CF,
    SETTLE_SECONDS,
    Site,
    eventually,
)

pytestmark = pytest.mark.long

MILTER = "inet:localhost:8891"

# A milter that lets all pass without a look: it wants to hear of nothing (mfapi(3), SMFIP_NO...).
_MILTER = """
import socket, socketserver, struct
class Milter(socketserver.StreamRequestHandler):
    def handle(self):
        while len(head := self.rfile.read(4)) == 4:
            body = self.rfile.read(struct.unpack("!I", head)[0])
            if body[:1] == b"O":
                said = b"O" + struct.pack("!III", 6, 0, 0x1fffff)
            elif body[:1] in b"DA":
                continue
            elif body[:1] == b"Q":
                return
            else:
                said = b"c"
            self.wfile.write(struct.pack("!I", len(said)) + said)
socketserver.ThreadingTCPServer.allow_reuse_address = True
server = socketserver.ThreadingTCPServer(("127.0.0.1", 8891), Milter)
print("listens", flush=True)
server.serve_forever()
"""


@pytest.fixture(autouse=True)
def _at_rest(site: Site) -> Iterator[None]:
    site.forget_restarts()
    site.end_contest()
    yield
    site.forget_restarts()
    site.machine.run(["rm", "-f", EXTRA, AGENT_TOML])
    site.machine.run(["systemctl", "reload", "pf-agent"])
    site.put(site.good)
    site.machine.run(["systemctl", "restart", names.POSTFIX_UNIT])
    site.wait_right()
    site.wait_settled()


def forget_all(site: Site) -> None:
    """As if the agent had never enforced anything."""
    site.machine.sh(f"cd {names.STATE_DIRECTORY} && rm -rf displaced *.json *.main.cf cycle")


@contextmanager
def milter(site: Site) -> Iterator[None]:
    """A filter that is up."""
    command = ["timeout", "400", "python3", "-c", _MILTER]
    with site.machine.start(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"listens\n"
        try:
            yield
        finally:
            listeners = "ss -Hltnp 'sport = :8891'"
            site.machine.sh(f"kill $({listeners} | grep -o 'pid=[0-9]*' | cut -d= -f2)")


def test_a_correction_stands_though_a_filter_is_away_and_nothing_was_corrected_yet(
    site: Site,
) -> None:
    """From observing to enforcing; nobody listens where smtpd_milters points to."""
    site.machine.write_text(AGENT_TOML, 'mode = "observe"\n')
    site.machine.run(["systemctl", "stop", "pf-agent"])
    forget_all(site)
    own = site.good + f"smtpd_milters = {MILTER}\n".encode()
    site.put(own)
    site.machine.run(["systemctl", "restart", names.POSTFIX_UNIT])
    site.machine.run(["systemctl", "start", "pf-agent"])
    site.machine.write_text(AGENT_TOML, 'mode = "enforce"\n')
    site.machine.run(["systemctl", "reload", "pf-agent"])
    since = site.cursor()
    site.machine.sh(INTRUDE)
    site.wait_for("activation-failed", since)
    site.wait_right(own)
    site.wait_phase("failing")
    found = site.told()
    assert (found["code"], found["in_sync"]) == (1, False)
    # Postfix 3.10 says so in place of the greeting.
    assert any(f" got {code} " in str(found["summary"]) for code in (421, 451))
    for _ in range(2):
        site.machine.run(["systemctl", "restart", "pf-agent"])
        site.wait_phase("failing")
        site.wait_right(own)
    invocation = site.show(site.unit, "InvocationID")
    with milter(site):
        site.wait_settled()
        assert site.serves()
    assert site.records("rolled-back", since) == []
    # It was asked again, not restarted again.
    assert site.show(site.unit, "InvocationID") == invocation


def test_a_filter_set_by_hand_stays_when_its_server_goes(site: Site) -> None:
    site.drift_once()
    with milter(site):
        site.machine.sh(f"echo 'smtpd_milters = {MILTER}' >> {MAIN_CF} && postfix reload")
        site.machine.run(["systemctl", "reload", "pf-agent"])
        site.wait_settled()
    own, since = site.read(), site.cursor()
    site.machine.sh(INTRUDE)
    site.wait_for("activation-failed", since)
    site.wait_phase("failing")
    site.wait_right(own)
    assert site.records("rolled-back", since) == []
    with milter(site):
        site.wait_settled()
    assert site.read() == own


def test_up_with_the_desired_values_where_the_first_drift_keeps_postfix_down(site: Site) -> None:
    """Somebody's own text that Postfix cannot start with, and that passes every check."""
    site.wait_remembered()
    site.machine.sh("install -d -o daemon -g daemon -m 700 /srv/data")
    since = site.cursor()
    bad = site.good.replace(b"disable_vrfy_command = yes", b"disable_vrfy_command = no")
    site.put(bad + b"data_directory = /srv/data\nrelay_domains = example.org\n")
    site.wait_for("rolled-back", since)
    site.wait_for("activated", since)
    site.wait_settled()
    *each, record = site.records("rolled-back", since)
    assert [found[names.FIELD_PARAMETER] for found in each] == ["data_directory"]
    assert "data_directory" in record["MESSAGE"]
    # Only what keeps it down goes back.
    text = site.read()
    assert b"data_directory = /srv/data" not in text
    assert b"relay_domains = example.org\n" in text
    assert b"disable_vrfy_command = yes\n" in text
    assert site.serves()
    assert site.stands() == ("in-sync", 0)


def test_a_text_that_was_never_served_with_is_not_the_one_to_bring_back(site: Site) -> None:
    site.machine.sh("install -d -o daemon -g daemon -m 700 /srv/data")
    site.machine.sh(f"echo 'data_directory = /srv/data' >> {MAIN_CF}")
    site.machine.run(["systemctl", "reload", "pf-agent"])
    # Whatever is remembered of it, Postfix comes up when it is restarted.
    since = site.cursor()
    site.machine.run(["systemctl", "restart", site.unit], check=False)
    site.wait_for("activated", since)
    site.wait_settled()
    assert site.serves()
    assert b"/srv/data" not in site.machine.read_bytes(LAST_GOOD)


def test_a_table_of_somebody_elses_that_is_missing_does_not_stall_the_agent(site: Site) -> None:
    since = site.cursor()
    own = site.good + b"virtual_alias_maps = mysql:/x\n"
    site.put(own.replace(b"\nmynetworks = ", b"\nmynetworks = 0.0.0.0/0 "))
    site.wait_for("activation-failed", since)
    site.wait_right(own)
    site.wait_phase("failing")
    site.machine.run(["sed", "-i", "/virtual_alias_maps/d", MAIN_CF])
    site.wait_settled()  # the agent restarts Postfix for it
    assert site.records("rolled-back", since) == []
    assert site.stands()[1] == 0


def test_a_faulty_wish_that_is_taken_away_leaves_nothing(site: Site) -> None:
    since = site.cursor()
    site.machine.write_text(EXTRA, '[settings]\nsmtpd_recipient_restrictions = "nonsense"\n')
    eventually(
        lambda: bool(site.records("rolled-back", since) + site.records("config-rejected", since)),
        "it is rejected",
        SETTLE_SECONDS,
    )
    site.take_back_extra()
    site.wait_right()
    site.wait_settled()
    found = site.told()
    assert (found["problems"], found["code"]) == ([], 0)


@pytest.mark.parametrize("by", ["a lock on the aliases", "idle connections"])
def test_nobody_else_on_the_host_can_veto_a_change(site: Site, by: str) -> None:
    hold = {
        "a lock on the aliases": "flock -s /etc/aliases.db sleep 400",
        "idle connections": "python3 -c '"
        "import socket, time\n"
        'held = [socket.create_connection(("127.0.0.1", 25)) for _ in range(120)]\n'
        "time.sleep(400)'",
    }[by]
    site.machine.run(["newaliases"])
    with beside(site.machine, "veto", "nobody", ["sh", "-c", hold]):
        since = site.cursor()
        site.machine.run(["pf-agent", "set", "message_size_limit=20000000"], timeout=120)
        site.wait_for("drift-corrected", since)
        site.machine.wait_until(f"grep -qx 'message_size_limit = 20000000' {MAIN_CF}")
        eventually(
            lambda: bool(
                site.records("activated", since) + site.records("activation-failed", since)
            ),
            "Postfix was asked",
            SETTLE_SECONDS,
        )
    site.wait_settled()
    assert site.records("rolled-back", since) == []
    assert b"message_size_limit = 20000000\n" in site.read()
    site.machine.run(["rm", "-f", LOCAL])
    site.machine.run(["systemctl", "reload", "pf-agent"])


def test_a_first_state_that_keeps_postfix_down_is_taken_back_whole(site: Site) -> None:
    """Postfix served before the agent took over, and is down after it."""
    site.machine.sh("install -d -o daemon -g daemon -m 700 /srv/data")
    site.machine.run(["systemctl", "stop", "pf-agent"])
    forget_all(site)
    own = site.good.replace(b"disable_vrfy_command = yes", b"disable_vrfy_command=no")
    site.put(own)
    site.machine.run(["systemctl", "restart", names.POSTFIX_UNIT])
    site.machine.write_text(EXTRA, '[settings]\ndata_directory = "/srv/data"\n')
    since = site.cursor()
    site.machine.run(["systemctl", "start", "pf-agent"])
    site.wait_for("rolled-back", since)
    site.wait_phase("observing")
    eventually(site.serves, "Postfix serves")
    site.wait_right(own)
    found = site.told()
    assert "data_directory" in str(found["problems"])
    assert found["in_sync"] is False
    # It only looks: drift stays, and is told.
    site.machine.sh(INTRUDE)
    site.machine.run(["systemctl", "restart", "pf-agent"])
    site.wait_phase("observing")
    assert b"mynetworks = 0.0.0.0/0\n" in site.read()
    site.take_back_extra()
    site.wait_right()
    site.wait_settled()


def test_while_suspended_apply_says_so(site: Site) -> None:
    site.machine.run(["pf-agent", "suspend", "--reason", "work"])
    try:
        site.machine.sh(INTRUDE)
        done = site.machine.run(["pf-agent", "apply"], check=False)
        assert done.returncode == 1
        assert "--force" in done.stderr
        assert "work" in done.stderr
        assert b"mynetworks = 0.0.0.0/0\n" in site.read()
        site.machine.run(["pf-agent", "apply", "--force"], timeout=SETTLE_SECONDS)
        assert site.read() == site.good
    finally:
        site.machine.run(["pf-agent", "resume"])
