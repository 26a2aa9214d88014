"""[services]: what master.cf must say of submission, on a real Postfix and its ports."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from difflib import SequenceMatcher

import pytest

from pf_agent import names
from tests.machine.site import AGENT_TOML, EXTRA, INTRUDE, Site, eventually

pytestmark = pytest.mark.long

MASTER_CF = "/etc/postfix/master.cf"
STORE = f"{names.STATE_DIRECTORY}/documents/master.cf"
RUN_STORE = f"{names.RUN_DIRECTORY}/documents/master.cf"
# Without TLS, it needs no certificate.
WISH = """
[services."submission/inet"]
chroot = false
[services."submission/inet".options]
smtpd_tls_security_level = "none"
syslog_name = "postfix/submission"
[services."smtp/inet"]
use_default = ["smtpd_relay_restrictions"]
"""
TAKEN = '[services."2588/inet"]\nchroot = false\n'
TAKE = "systemd-run --collect --unit=taker python3 -m http.server 2588"
UNTIL_TAKEN = 'until ss -Hltn "sport = :2588" | grep -q .; do sleep 0.1; done'
_ASK = """
import smtplib, sys
with smtplib.SMTP("127.0.0.1", int(sys.argv[1]), timeout=20) as client:
    print(client.ehlo()[0])
"""
_RELAY = """
import smtplib
with smtplib.SMTP("127.0.0.1", 25, timeout=20, source_address=("127.0.0.9", 0)) as client:
    client.ehlo()
    client.mail("a@elsewhere.example")
    print(client.rcpt("b@elsewhere.example")[0])
"""


@pytest.fixture(scope="module")
def stock(site: Site) -> bytes:
    """master.cf as the package has it."""
    return site.machine.read_bytes(MASTER_CF)


@pytest.fixture(scope="module")
def right(site: Site, stock: bytes) -> bytes:
    """master.cf once the wish is fulfilled."""
    wish(site, WISH)
    assert is_open(site, 587)
    return site.machine.read_bytes(MASTER_CF)


@pytest.fixture(autouse=True)
def _at_rest(site: Site, right: bytes) -> Iterator[None]:
    """Each test begins and ends with a master.cf that is right, and no restart that counts."""
    site.forget_restarts()
    yield
    site.agent("resume", check=True)
    if site.machine.read_text(EXTRA) != WISH:
        wish(site, WISH)
    put(site, right)
    wait_right(site, right)
    site.wait_right()
    site.wait_settled()


def wish(site: Site, text: str) -> None:
    """Ask for it, and wait until Postfix runs with it."""
    site.machine.write_text(EXTRA, text)
    site.machine.run(["systemctl", "reload", "pf-agent"])
    eventually(lambda: is_asked(site, text), "the wish to be seen", 60)
    site.wait_settled()


def is_asked(site: Site, text: str) -> bool:
    """Whether the agent has made master.cf say it, or nothing of master.cf is asked for."""
    path = site.machine.at(f"{STORE}/wishes.json")
    if not os.path.exists(path) or os.path.exists(site.machine.at(f"{STORE}/pending.json")):
        return False
    served = json.loads(path.read_bytes()).get("served") or {}
    found = served.get("settings", {}).get("submission/inet/syslog_name", "")
    return f'"{found}"' in text


def put(site: Site, text: bytes) -> None:
    """As an editor does that renames over the old file."""
    site.machine.run(
        ["sh", "-c", f"cat > {MASTER_CF}.new && mv {MASTER_CF}.new {MASTER_CF}"], input=text
    )


def is_right(site: Site, expected: bytes) -> bool:
    try:
        seen, text = site.machine.peek(MASTER_CF)
    except OSError:
        return False
    return (seen.st_mode, seen.st_uid, seen.st_gid, text) == (0o100644, 0, 0, expected)


def wait_right(site: Site, expected: bytes) -> None:
    eventually(lambda: is_right(site, expected), "master.cf as before", 60)


def is_open(site: Site, port: int) -> bool:
    return site.machine.run(["python3", "-c", _ASK, str(port)], check=False).stdout == "250\n"


def wait_started(site: Site, since: str) -> None:
    site.wait_for("activated", since)
    site.wait_settled()


def test_the_wish_comes_true_and_all_else_is_as_it_was(
    site: Site, stock: bytes, right: bytes
) -> None:
    found = site.machine.run(["postconf", "-M", "submission/inet"]).stdout.split()
    assert found[:8] == ["submission", "inet", "n", "-", "n", "-", "-", "smtpd"]
    options = site.machine.run(["postconf", "-P", "submission/inet/*"]).stdout
    assert "submission/inet/smtpd_tls_security_level = none" in options
    before, after = stock.decode().split("\n"), right.decode().split("\n")
    changed = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    gone = [row for kind, i, j, *_ in changed if kind != "equal" for row in before[i:j]]
    assert [row for row in gone if not row.startswith("#")] == []
    assert gone[0].startswith("#submission inet")
    assert not site.status()["problems"]
    assert site.told()["documents"] == {"master.cf": ""}


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("postconf -P submission/inet/smtpd_tls_security_level=may", "smtpd_tls_security_level"),
        ("postconf -F submission/inet/chroot=y", "chroot"),
        (f"sed -i 's|^submission inet|#submission inet|' {MASTER_CF}", ""),
    ],
)
def test_what_drifts_is_corrected_and_on_record(
    site: Site, right: bytes, command: str, part: str
) -> None:
    since = site.cursor()
    site.machine.sh(command)
    wait_started(site, since)
    said = {record[names.FIELD_PARAMETER] for record in site.drift_of(since)}
    assert "/".join(filter(None, ("submission/inet", part))) in said
    text = site.machine.read_text(MASTER_CF)
    assert "\nsubmission" in text
    assert is_open(site, 587)


def test_an_editor_that_renames_changes_nothing_but_its_own(site: Site, right: bytes) -> None:
    since = site.cursor()
    own = b"# a comment of somebody's\n" + right + b"# and another\n"
    put(site, own.replace(b"smtpd_tls_security_level=none", b"smtpd_tls_security_level=may"))
    wait_right(site, own)
    wait_started(site, since)
    (record,) = site.drift_of(since)
    assert record[names.FIELD_PARAMETER] == "submission/inet/smtpd_tls_security_level"
    assert (record["PF_AGENT_EXPECTED"], record["PF_AGENT_ACTUAL"]) == ("none", "may")


def test_what_is_there_by_hand_and_keeps_postfix_down_goes_back(site: Site, right: bytes) -> None:
    since = site.cursor()
    put(site, right + b"nosuchport inet n - n - - smtpd\n")
    site.machine.run(["systemctl", "restart", site.unit], check=False)
    site.wait_for("rolled-back", since)
    wait_right(site, right)
    wait_started(site, since)
    assert site.serves()


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        ('[services."submission/inet"]\ncommand = "nosuchd"\n', "nosuchd"),
        ('[services."nosuchport/inet"]\ncommand = "smtpd"\n', "nosuchport"),
        ('[services."192.0.2.77:2525/inet"]\ncommand = "smtpd"\n', "192.0.2.77"),
    ],
)
def test_a_refused_wish_leaves_the_file_and_says_where(
    site: Site, right: bytes, refused: str, why: str
) -> None:
    since = site.cursor()
    site.machine.write_text(EXTRA, refused)
    site.wait_for("config-rejected", since)
    record = site.records("config-rejected", since)[0]
    assert why in record["MESSAGE"]
    assert f"{EXTRA}:" in record["MESSAGE"]
    assert is_right(site, right)
    assert why in site.told()["documents"]["master.cf"]
    assert site.starts(since) == []


def test_a_port_that_another_program_listens_on_is_refused_until_it_is_free(
    site: Site, right: bytes
) -> None:
    site.machine.sh(f"{TAKE}; {UNTIL_TAKEN}")
    try:
        since = site.cursor()
        site.machine.write_text(EXTRA, WISH + TAKEN)
        site.wait_for("config-rejected", since)
        assert "another program listens on port 2588" in site.told()["documents"]["master.cf"]
        # What was taken up before is still looked after, at its own ports.
        put(site, right.replace(b"\n  -o syslog_name=postfix/", b"\n  -o syslog_name=x/"))
        site.wait_for("drift-corrected", since)
        wait_right(site, right)
    finally:
        site.machine.run(["systemctl", "stop", "taker"])
    site.machine.run(["systemctl", "reload", "pf-agent"])
    eventually(lambda: is_open(site, 2588), "Postfix at the port", 60)
    # Else the wish would go back, as one that nobody asks for before it served.
    marker = site.machine.at(f"{STORE}/pending.json")
    eventually(lambda: not os.path.exists(marker), "Postfix seen to serve with it", 60)


def test_a_wish_with_which_postfix_does_not_come_up_goes_back(site: Site, right: bytes) -> None:
    # The port is free when the wish is judged, and taken as Postfix starts.
    script = f"grep -q ^2588 {MASTER_CF} || exit 0; {TAKE}; {UNTIL_TAKEN}"
    site.dropin(site.unit, "taker", f"[Service]\nExecStartPre=/bin/sh -c '{script}'\n")
    try:
        since = site.cursor()
        site.machine.write_text(EXTRA, WISH + TAKEN)
        site.wait_for("rolled-back", since)
        wait_right(site, right)
        wait_started(site, since)
        assert site.serves()
        assert "2588/inet" in site.told()["documents"]["master.cf"]
    finally:
        site.dropin(site.unit, "taker", "")
        site.machine.run(["systemctl", "stop", "taker"], check=False)


@pytest.mark.parametrize(
    "harm", ["rm -f {0}", ": > {0}", "rm -f {0}; mkfifo {0}", "chmod 600 {0}", "echo oops >> {0}"]
)
def test_a_destroyed_file_comes_back(site: Site, right: bytes, harm: str) -> None:
    site.machine.sh(harm.format(MASTER_CF))
    expected = right + b"#oops\n" if "oops" in harm else right
    wait_right(site, expected)


def test_both_files_at_once_are_one_restart(site: Site, right: bytes) -> None:
    since = site.cursor()
    site.machine.sh(f"{INTRUDE}; sed -i s/level=none/level=may/ {MASTER_CF}")
    wait_right(site, right)
    site.wait_right()
    wait_started(site, since)
    assert len(site.starts(since)) == 1


def test_while_the_restart_waits_nobody_is_served_with_what_drifted(
    site: Site, right: bytes
) -> None:
    site.machine.run(["ip", "address", "replace", "127.0.0.9/8", "dev", "lo"])
    before = site.machine.read_bytes(AGENT_TOML)
    site.machine.write_text(AGENT_TOML, site.closed_window())
    site.machine.run(["systemctl", "reload", "pf-agent"])
    try:
        since = site.cursor()
        # With `permit` smtpd refuses to start, whatever follows it: if the agent asks the port
        # before its own reload, master waits a minute for the next one.
        opened = b"smtpd_relay_restrictions=check_client_access,static:OK,defer_unauth_destination"
        option = b"smtpd\n  -o " + opened + b"\n  -o mynetworks=\n"
        line = next(x for x in right.splitlines(True) if x.startswith(b"smtp      inet"))
        put(site, right.replace(line, line.replace(b"smtpd\n", option)))
        site.machine.run(["systemctl", "reload", site.unit])
        wait_right(
            site, right.replace(line, line.replace(b"smtpd\n", b"smtpd\n  -o mynetworks=\n"))
        )
        eventually(lambda: is_closed(site), "no relay", 60)
        assert site.starts(since) == []
        assert os.path.exists(site.machine.at(f"{names.STATE_DIRECTORY}/pending.json"))
    finally:
        site.machine.run(["sh", "-c", f"cat > {AGENT_TOML}"], input=before)
        put(site, right)
        site.machine.run(["systemctl", "reload", "pf-agent"])


def is_closed(site: Site) -> bool:
    return site.machine.run(["python3", "-c", _RELAY], check=False).stdout == "454\n"


def test_suspended_it_is_told_and_left(site: Site, right: bytes) -> None:
    site.agent("suspend", check=True)
    site.wait_phase("suspended")
    since = site.cursor()
    wrong = right.replace(b"smtpd_tls_security_level=none", b"smtpd_tls_security_level=may")
    put(site, wrong)
    site.wait_for("drift-detected", since)
    assert is_right(site, wrong)
    site.agent("resume", check=True)
    wait_right(site, right)


def test_a_port_of_postfixs_own_is_not_another_programs(site: Site, right: bytes) -> None:
    site.agent("suspend", check=True)
    site.wait_phase("suspended")
    # Commented out by hand, and Postfix has not been told.
    site.machine.run(["postconf", "-M#", "submission/inet"])
    assert is_open(site, 587)
    told = site.agent("check")
    assert (told.returncode, "another program" in told.stdout + told.stderr) == (0, False)
    site.agent("resume", check=True)
    wait_right(site, right)


def test_apply_without_the_service(site: Site, right: bytes) -> None:
    site.machine.run(["systemctl", "stop", "pf-agent"])
    try:
        put(site, right.replace(b"smtpd_tls_security_level=none", b"smtpd_tls_security_level=may"))
        since = site.cursor()
        would = site.agent("apply", "--dry-run")
        assert (would.returncode, "-o smtpd_tls_security_level=none" in would.stdout) == (
            3,
            True,
        )
        done = site.agent("apply", "--json")
        found = json.loads(done.stdout)
        assert (done.returncode, found["documents"]["master.cf"]["result"]) == (0, "corrected")
        assert is_right(site, right)
        assert len(site.starts(since)) == 1
        assert site.agent("apply").stdout == "in sync\nmaster.cf: in sync\n"
    finally:
        site.machine.run(["systemctl", "start", "pf-agent"])


def test_what_is_kept_is_enforced_while_the_files_are_broken(site: Site, right: bytes) -> None:
    site.machine.write_text(EXTRA, "[services\n")
    since = site.cursor()
    site.machine.run(["systemctl", "restart", "pf-agent"])
    put(site, right.replace(b"smtpd_tls_security_level=none", b"smtpd_tls_security_level=may"))
    site.wait_for("drift-corrected", since)
    wait_right(site, right)


def test_a_wish_that_nobody_asks_for_any_more_before_it_served_goes_back(
    site: Site, right: bytes
) -> None:
    since = site.cursor()
    blocked = WISH.replace('"none"', '"none"\nsmtpd_proxy_timeout = "77s"')
    with site.gate():
        site.machine.write_text(EXTRA, blocked)
        eventually(lambda: b"77s" in site.machine.read_bytes(MASTER_CF), "the wish", 60)
        site.machine.write_text(EXTRA, WISH)
        eventually(lambda: b"77s" not in site.machine.read_bytes(MASTER_CF), "no wish", 60)
    wait_right(site, right)
    wait_started(site, since)


def test_with_auto_it_is_a_reload(site: Site, right: bytes) -> None:
    before = site.machine.read_bytes(AGENT_TOML)
    site.machine.write_text(AGENT_TOML, 'activation = "auto"\n')
    site.machine.run(["systemctl", "reload", "pf-agent"])
    try:
        since = site.cursor()
        put(site, right.replace(b"smtpd_tls_security_level=none", b"smtpd_tls_security_level=may"))
        wait_right(site, right)
        wait_started(site, since)
        assert site.starts(since) == []
        assert "reloaded" in site.records("activated", since)[-1]["MESSAGE"]
    finally:
        site.machine.run(["sh", "-c", f"cat > {AGENT_TOML}"], input=before)
        site.machine.run(["systemctl", "reload", "pf-agent"])
