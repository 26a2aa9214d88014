"""What is heard at Postfix's port, whether its master lives, and what it logged: of a real one.

Asked as the daemon asks, through pf-agent-errands.service and so within its sandbox; the daemon
itself is stopped, and does not interfere.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.machine.nspawn import Machine
from tests.machine.site import MAIN_CF, Site

pytestmark = pytest.mark.long

MASTER_CF = "/etc/postfix/master.cf"
UNITS = ["postfix.service", "postfix@-.service"]
# Of the machine's own; no mynetworks holds them.
STRANGER, STRANGER_6 = "192.0.2.10", "2001:db8::10"
LOG = "/var/log/mail.probe"
ASK = """
import json, sys
from dataclasses import asdict
from pf_agent.postfix.errands import Errands
errands = Errands("/etc/postfix", "/run/pf-agent-errands.socket")
greeting = errands.greeting()
heard = None if greeting is None else errands.probe(greeting)
print(json.dumps([greeting and asdict(greeting), heard and asdict(heard)]))
"""
LIVES = """
from pf_agent.postfix.errands import Errands
errands = Errands("/etc/postfix", "/run/pf-agent-errands.socket")
print(*{errands.lives() for _ in range(50)})
"""
LOGGED = """
import json, sys
from pf_agent.postfix.errands import Errands
errands = Errands("/etc/postfix", "/run/pf-agent-errands.socket")
units, since = json.loads(sys.argv[1])
print(json.dumps([errands.log_tail(units, since), errands.fatal_lines(units, since)]))
"""
TALK = """
import smtplib, sys
client = smtplib.SMTP("127.0.0.1")
client.helo("x")
client.mail("x@example.test")
print(client.rcpt("root"), flush=True)
sys.stdin.read()
"""
POSTSCREEN = """
smtp inet n - y - 1 postscreen
smtpd pass - - y - - smtpd
dnsblog unix - - y - 0 dnsblog
tlsproxy unix - - y - 0 tlsproxy
"""
HASTY = "postscreen_greet_wait = 1s\n"
TLS = "smtpd_tls_security_level = encrypt\nsmtpd_tls_cert_file = /etc/ssl/probe.pem\n"
GOOD_KEY, NO_KEY = "smtpd_tls_key_file = /etc/ssl/probe.key\n", "smtpd_tls_key_file = /nothere\n"
BEHIND_FRIENDS = "smtpd_client_restrictions = permit_mynetworks, {}\n"
# 3.7 says it at MAIL, 3.10 in place of a greeting.
AWAY = "Service unavailable - try again later"


class Port:
    """Postfix in a machine, made to run with other settings for a while."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.good = {path: machine.read_text(path) for path in (MAIN_CF, MASTER_CF)}

    def tell(self, settings: str, service: str = "") -> None:
        """Run with these lines after main.cf's own, and with `service` for that on port 25."""
        master_cf = self.good[MASTER_CF]
        if service:
            rows = master_cf.splitlines()
            rows = [row for row in rows if row.split()[:2] != ["smtp", "inet"]]
            master_cf = "\n".join([*rows, service, ""])
        self.run_with(self.good[MAIN_CF] + settings, master_cf)

    def run_with(self, main_cf: str, master_cf: str) -> None:
        self.machine.write_text(MASTER_CF, master_cf)
        self.machine.write_text(MAIN_CF, main_cf)
        # No program waits for a file that is not hot.
        self.machine.sh(f"touch -d '10 seconds ago' {MAIN_CF}; systemctl reset-failed")
        self.machine.run(["systemctl", "restart", "postfix"], check=False)

    def python(self, code: str, *arguments: str) -> str:
        return self.machine.run(["python3", "-Ic", code, *arguments], timeout=90).stdout.strip()

    def asked(self) -> tuple[dict[str, Any], dict[str, Any]]:
        greeting, heard = json.loads(self.python(ASK))
        print(greeting, heard, sep="\n")
        return greeting, heard

    def lives(self) -> bool:
        said = self.python(LIVES)
        assert said in ("True", "False"), said
        return said == "True"

    def logged(self, since: float) -> tuple[list[str], list[str]]:
        tail, fatal = json.loads(self.python(LOGGED, json.dumps([UNITS, since])))
        print(*tail, "--", *fatal, sep="\n")
        return tail, fatal

    def now(self) -> float:
        return float(self.machine.sh("date +%s.%N"))


@pytest.fixture(scope="module")
def port(agent_machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Port:
    machine = agent_machine
    Site.prepared(machine)
    machine.run(["systemctl", "disable", "--now", "pf-agent"])
    machine.sh(
        "systemctl start pf-agent-errands.socket;"
        f"ip addr add {STRANGER}/32 dev lo; ip addr add {STRANGER_6}/128 dev lo"
    )
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=mail"]
    names = ["-keyout", str(folder / "probe.key"), "-out", str(folder / "probe.pem")]
    subprocess.run([*make, *names], check=True, capture_output=True)
    machine.copy_in([Path(folder / "probe.key"), Path(folder / "probe.pem")], "/etc/ssl")
    return Port(machine)


# --- it serves ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "service", "expected"),
    [
        pytest.param("", "", {"address": "127.0.0.1", "stranger": STRANGER}, id="plain"),
        pytest.param("smtpd_upstream_proxy_protocol = haproxy\n", "", {"proxy": True}, id="proxy"),
        pytest.param(
            "p = haproxy\n",
            "smtp inet n - y - - smtpd -o smtpd_upstream_proxy_protocol=$p",
            {"proxy": True},
            id="proxy in master.cf",
        ),
        pytest.param(HASTY, POSTSCREEN, {"proxy": False}, id="postscreen"),
        pytest.param(
            HASTY + "postscreen_upstream_proxy_protocol = haproxy\n",
            POSTSCREEN,
            {"proxy": True},
            id="postscreen behind a proxy",
        ),
        pytest.param(
            HASTY + "postscreen_greet_banner = wait a moment\n"
            "postscreen_bare_newline_enable = yes\npostscreen_greet_action = enforce\n",
            POSTSCREEN,
            {},
            id="postscreen with lines of its own",
        ),
        pytest.param(TLS + GOOD_KEY, "", {"tls": True}, id="TLS"),
        pytest.param(
            GOOD_KEY + "smtpd_tls_cert_file = /etc/ssl/probe.pem\nsmtpd_enforce_tls = yes\n",
            "",
            {"tls": True},
            id="TLS in the old way",
        ),
        pytest.param(
            TLS + GOOD_KEY + "smtpd_tls_req_ccert = yes\n",
            "",
            {"tls": True},
            id="a certificate of ours is wanted",
        ),
        pytest.param(
            GOOD_KEY + "smtpd_tls_cert_file = /etc/ssl/probe.pem\n",
            "smtp inet n - y - - smtpd -o smtpd_tls_wrappermode=yes",
            {"wrapped": True},
            id="TLS before the greeting",
        ),
        pytest.param(HASTY + TLS + GOOD_KEY, POSTSCREEN, {"tls": True}, id="postscreen, TLS"),
        pytest.param(
            "inet_protocols = ipv6\n",
            "",
            {"address": "::1", "stranger": STRANGER_6},
            id="version 6 alone",
        ),
        pytest.param(
            f"inet_interfaces = {STRANGER}\n",
            "",
            {"address": STRANGER, "stranger": ""},
            id="one address",
        ),
        pytest.param(
            f"inet_interfaces = [{STRANGER_6}]\n",
            "",
            {"address": STRANGER_6},
            id="one of version 6",
        ),
        pytest.param(
            "",
            f"{STRANGER}:smtp inet n - y - - smtpd",
            {"address": STRANGER},
            id="bound in master.cf",
        ),
        pytest.param(
            "inet_interfaces = loopback-only\n",
            "",
            {"address": "127.0.0.1", "stranger": ""},
            id="loopback alone",
        ),
        pytest.param(
            "smtpd_client_restrictions = reject\nsmtpd_delay_reject = no\n",
            "",
            {},
            id="554 for a greeting",
        ),
        pytest.param(
            "smtpd_client_restrictions = defer\nsmtpd_delay_reject = no\n",
            "",
            {},
            id="450 for a greeting",
        ),
        pytest.param(
            "smtpd_milters = inet:localhost:8891\nmilter_default_action = reject\n",
            "",
            {},
            id="a milter is away, and so all is refused",
        ),
        pytest.param(
            BEHIND_FRIENDS.format("reject_unknown_client_hostname"), "", {}, id="stranger deferred"
        ),
    ],
)
def test_it_serves(port: Port, settings: str, service: str, expected: dict[str, object]) -> None:
    port.tell(settings, service)
    greeting, heard = port.asked()
    assert greeting.items() >= expected.items()
    assert heard["trouble"] == ""


# --- it does not ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "service", "words", "who"),
    [
        pytest.param(TLS + NO_KEY, "", "TLS not available", "", id="no key"),
        pytest.param(HASTY + TLS + NO_KEY, POSTSCREEN, "TLS not available", "", id="nor here"),
        pytest.param("smtpd_milters = inet:localhost:8891\n", "", AWAY, "", id="milter away"),
        pytest.param(
            "smtpd_recipient_restrictions = bogus\n",
            "",
            "4.3.5 Server configuration error",
            "",
            id="bogus",
        ),
        pytest.param(
            "smtpd_recipient_restrictions = check_policy_service inet:127.0.0.1:9998\n",
            "",
            "Server configuration problem",
            "",
            id="policy server away",
        ),
        pytest.param(
            "mydestination = hash:/nothere\n", "", "Temporary lookup failure", "", id="table away"
        ),
        pytest.param(
            BEHIND_FRIENDS.format("check_client_access hash:/nothere"),
            "",
            "Server configuration error",
            STRANGER,
            id="a stranger's table",
        ),
        pytest.param(
            BEHIND_FRIENDS.format("check_policy_service inet:127.0.0.1:9998"),
            "",
            "Server configuration problem",
            STRANGER,
            id="a stranger's policy server",
        ),
        pytest.param(
            "inet_protocols = ipv6\n" + BEHIND_FRIENDS.format("check_client_access hash:/nothere"),
            "",
            "Server configuration error",
            STRANGER_6,
            id="a stranger of version 6",
        ),
        pytest.param(
            "smtpd_upstream_proxy_protocol = haproxy\n"
            + BEHIND_FRIENDS.format("check_client_access hash:/nothere"),
            "",
            "Server configuration error",
            STRANGER,
            id="a stranger by a proxy",
        ),
        pytest.param(
            HASTY + BEHIND_FRIENDS.format("check_client_access hash:/nothere"),
            POSTSCREEN,
            "Server configuration error",
            STRANGER,
            id="a stranger by postscreen",
        ),
    ],
)
def test_it_does_not_serve(port: Port, settings: str, service: str, words: str, who: str) -> None:
    port.tell(settings, service)
    _, heard = port.asked()
    assert words in heard["words"]
    assert 400 <= heard["code"] < 500
    assert ("asked from" in heard["trouble"]) == bool(who)
    assert who in heard["trouble"]


def test_a_stranger_that_came_or_went_meanwhile_is_no_other_greeting(port: Port) -> None:
    port.tell("")
    code = ASK.replace("probe(greeting)", "probe(replace(greeting, stranger='192.0.2.77'))")
    code = code.replace("import asdict", "import asdict, replace")
    _, heard = json.loads(port.python(code))
    assert heard["trouble"] == ""


def test_who_is_not_heard(port: Port) -> None:
    port.tell("smtpd_timeout = bogus\n")
    _, heard = port.asked()
    assert "no greeting" in heard["trouble"]
    assert (heard["greeted"], heard["code"]) == (False, 0)
    assert port.lives()
    port.tell("message_size_limit = ten\n")
    _, heard = port.asked()
    assert "no connection (Connection refused)" in heard["trouble"]
    assert not port.lives()


# --- master ---------------------------------------------------------------------------------------


def test_whether_master_lives_whoever_started_it(port: Port) -> None:
    machine = port.machine
    pid = "$(cat /var/spool/postfix/pid/master.pid)"
    port.tell("")
    assert port.lives()
    # One that is served meanwhile outlives master.
    talking = machine.start(["python3", "-c", TALK], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert talking.stdout is not None
    assert talking.stdout.readline()
    machine.sh(f"kill -9 {pid}")
    wait_until_dead(port)
    talking.communicate()
    print(machine.sh("systemctl is-active postfix postfix@- | cat", check=False).split())
    machine.sh("systemctl stop postfix; postfix start")
    assert port.lives()
    machine.sh("postfix stop")
    assert not port.lives()


def wait_until_dead(port: Port) -> None:
    for _ in range(20):
        if not port.lives():
            return
    pytest.fail("master was killed, and is said to live")


def test_asking_wakes_nobody(port: Port) -> None:
    processes = "ps -o pid= --ppid $(cat /var/spool/postfix/pid/master.pid) | sort"
    port.tell("")
    port.machine.wait_until(f"{processes} | wc -l | grep -qx 2")  # pickup and qmgr
    before, since = port.machine.sh(processes), port.now()
    assert port.lives()
    assert port.machine.sh(processes) == before
    assert port.logged(since) == ([], [])


# --- the log --------------------------------------------------------------------------------------

WRONG = "postfix/smtpd: fatal: parameter smtpd_timeout: bad time value or unit: bogus"


@pytest.mark.parametrize("file", ["", f"maillog_file = {LOG}\n"])
def test_why_it_does_not_serve_is_found_where_it_logs(port: Port, file: str) -> None:
    since = port.now()
    port.tell(f"{file}smtpd_timeout = bogus\n")
    port.asked()
    tail, fatal = port.logged(since)
    assert WRONG in tail
    assert fatal[0] == WRONG
    assert port.logged(port.now() + 2) == ([], [])


def test_what_is_missing_for_a_log_of_its_own_is_found(port: Port) -> None:
    port.machine.sh(f"rm -f {LOG}")
    whole = port.good[MASTER_CF]
    lacking = "\n".join(row for row in whole.splitlines() if not row.startswith("postlog"))
    since = port.now()
    port.run_with(f"{port.good[MAIN_CF]}maillog_file = {LOG}\n", f"{lacking}\n")
    tail, fatal = port.logged(since)
    assert not port.lives()
    why = "fatal: missing 'postlog' service in master.cf"
    assert any(why in line for line in tail)
    assert why in fatal[0]
