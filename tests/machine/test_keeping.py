"""Keeping a change that was undone, with the printed command; who gave an order; the login line."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest

from pf_agent import names
from pf_agent.cli.wish import LOCAL
from tests.machine.nspawn import Machine
from tests.machine.site import AGENT_TOML, MAIN_CF, SETTLE_SECONDS, Site, eventually
from tests.machine.test_instances import completed
from tests.machine.test_notify import MAILBOX

pytestmark = pytest.mark.long

KEEP = "main.cf was put back; to keep the change:"
SECRET = "Pl4nted-by-anna"
SASL = "smtp_sasl_password_maps"
DRIFTED = "10.0.0.0/8"
NOTIFY = '[notify]\nunit = "pf-agent-notify@.service"\n'
PASSWORD = "correct horse"
LOGGED_IN = ("systemd-run", "--quiet", "--pipe", "--wait", "-p", "PAMName=login", "-p", "User=anna")
SUSPEND = f"""
import sys, time
from pf_agent.files.kept_suspension import KeptSuspension
from pf_agent.model import Suspension
kept = KeptSuspension("{names.STATE_DIRECTORY}/suspension.json")
kept.keep_suspension(Suspension(time.time() - float(sys.argv[1]), None, "anna", "the queue moves"))
"""


@pytest.fixture(scope="module")
def site(agent_machine: Machine) -> Site:
    """Return the machine with anna, who may use sudo, and bob, whose sessions end at once."""
    site = Site.prepared(agent_machine)
    site.machine.install_kept("sudo")
    site.machine.sh("useradd --create-home anna; useradd --create-home --shell /bin/true bob")
    site.machine.run(["chpasswd"], input=f"root:{PASSWORD}\n")
    site.machine.write_text("/etc/sudoers.d/anna", "anna ALL=(ALL) NOPASSWD: ALL\n")
    return site


@pytest.fixture(autouse=True)
def _as_before(site: Site) -> None:
    """Undo what the previous test has adopted."""
    site.machine.run(["rm", "-f", LOCAL])
    site.agent("resume")
    site.machine.run(["systemctl", "reload", "pf-agent"])
    site.wait_settled()
    site.put(site.good)
    site.wait_right()
    site.wait_settled()
    site.forget_restarts()
    site.end_contest()


def anna(site: Site, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as anna, with sudo."""
    words = ["runuser", "-u", "anna", "--", "sudo", "-n", *command]
    return site.machine.run(words, check=False, timeout=SETTLE_SECONDS)


def corrected(site: Site, *command: str) -> str:
    """Let anna change main.cf; return the cycle once Postfix runs with the right text again."""
    since = site.cursor()
    done = anna(site, *command)
    assert done.returncode == 0, done.stderr
    eventually(lambda: bool(site.records("activated", since)), "an activation", SETTLE_SECONDS)
    site.wait_settled()
    return str(site.records("activated", since)[0][names.FIELD_CYCLE])


def printed(text: str) -> list[str]:
    """Return the printed command that keeps the change."""
    _, _, rest = text.partition(f"{KEEP}\n")
    return shlex.split(rest.partition("\n")[0])


def keep(site: Site, command: Sequence[str]) -> dict[str, Any]:
    """Run the command as anna; return its record."""
    since = site.cursor()
    done = anna(site, *command)
    assert done.returncode == 0, done.stderr
    eventually(lambda: bool(site.records("adopted", since)), "the order on record")
    (record,) = site.records("adopted", since)
    eventually(lambda: bool(site.records("activated", since)), "Postfix with it", SETTLE_SECONDS)
    site.wait_settled()
    return record


def look_again(site: Site) -> None:
    """Make the agent look at main.cf twice: by signal and over D-Bus."""
    site.machine.run(["systemctl", "reload", "pf-agent"])
    call = ["busctl", "call", *["org.pfagent.Agent1", "/org/pfagent/Agent1", "org.pfagent.Agent1"]]
    site.machine.run([*call, "Reconcile"])


def test_the_printed_command_keeps_the_change(site: Site) -> None:
    cycle = corrected(site, "postconf", "-e", f"mynetworks = {DRIFTED}")
    assert site.explicit()["mynetworks"] != DRIFTED
    command = printed(site.agent("history", cycle).stdout)
    assert command == ["pf-agent", "adopt", "--cycle", cycle, "mynetworks"]
    to_do = f"  to do: `{shlex.join(command)}` keeps the change, if it was right\n"
    assert site.agent("status").stdout.endswith(to_do)
    assert site.told()["last_drift"]["keep"] == shlex.join(command)
    record = keep(site, command)
    assert (
        record["MESSAGE"]
        == f"mynetworks adopted from the text that cycle {cycle} replaced, by anna"
    )
    assert (record[names.FIELD_BY], record[names.FIELD_CYCLE]) == ("anna", cycle)
    assert DRIFTED not in str(record)
    look_again(site)
    assert site.explicit()["mynetworks"] == DRIFTED
    assert "to do: " not in site.agent("status").stdout
    assert site.told()["last_drift"]["keep"] is None
    assert site.agent("diff").returncode == 0
    assert site.serves()
    site.machine.run(["journalctl", "--sync"])
    *_, order = [x for x in json.loads(site.agent("history", "--json").stdout) if x["by"]]
    life = site.machine.read_text(f"{names.STATE_DIRECTORY}/life").strip()
    assert (order["outcome"], order["by"], order["about"]) == ("adopted", "anna", f"{life}/{cycle}")
    (past, _) = json.loads(site.agent("history", cycle, "--json").stdout)
    assert shlex.split(past["keep"]) == command
    (drift,) = past["drift"]
    assert (drift["parameter"], drift["kind"], drift["actual"]) == (
        "mynetworks",
        "changed",
        DRIFTED,
    )
    assert drift["line"] == site.line_of("mynetworks")
    rows = site.agent("history", "--limit", "2").stdout.splitlines()
    assert len(rows) == 3
    assert any(row.split()[-1] == "adopted" and " anna " in row for row in rows)
    assert "adopted from the text" in site.agent("history", cycle).stdout


def test_all_that_drifted_and_a_line_that_was_deleted(site: Site) -> None:
    script = f"sed -i -e '/^message_size_limit/d' -e 's|^mynetworks *=.*|mynetworks = {DRIFTED}|'"
    cycle = corrected(site, "sh", "-c", f"{script} {MAIN_CF}")
    record = keep(site, ["pf-agent", "adopt", "--cycle", cycle])
    assert set(record[names.FIELD_PARAMETER].split(", ")) == {"mynetworks", "message_size_limit"}
    look_again(site)
    assert site.explicit()["mynetworks"] == DRIFTED
    assert "message_size_limit" not in site.explicit()
    assert 'use_default = ["message_size_limit"]' in site.machine.read_text(LOCAL)


def test_a_secret_is_adopted_and_no_output_has_it(site: Site) -> None:
    assert anna(site, "pf-agent", "set", f"{SASL}=").returncode == 0
    eventually(lambda: SASL in site.explicit(), "the empty list")
    site.wait_settled()
    # In a file, since sudo logs the command line.
    value = f"inline:{{ {{ [mail.example.org]:587 = anna:{SECRET} }} }}"
    site.machine.write_text("/root/edit", f"postconf -e '{SASL} = {value}'\n")
    cycle = corrected(site, "sh", "/root/edit")
    since = site.cursor()
    shown = site.agent("history", cycle).stdout + site.agent("history", cycle, "--json").stdout
    record = keep(site, printed(shown))
    done = anna(site, "pf-agent", "adopt", "--json", "--cycle", cycle, SASL)
    assert json.loads(done.stdout)["settings"] == {SASL: "(hidden)"}
    assert site.explicit()[SASL] == value
    assert SECRET in site.machine.read_text(LOCAL)
    told = [entry for entry in site.entries(since) if "SYSLOG_IDENTIFIER" in entry]
    assert record in told
    for text in (shown, done.stdout, done.stderr, *map(str, told)):
        assert SECRET not in text


def test_a_refused_value_leaves_all_as_it_was(site: Site) -> None:
    cycle = corrected(site, "postconf", "-e", "message_size_limit = lots")
    since = site.cursor()
    before = site.machine.sh(f"ls -l {names.CONFIG_DIRECTORY} {names.CONFIG_DIRECTORY}/desired.d")
    done = anna(site, "pf-agent", "adopt", "--cycle", cycle, "message_size_limit")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "message_size_limit: Postfix refuses it: " in done.stderr
    after = site.machine.sh(f"ls -l {names.CONFIG_DIRECTORY} {names.CONFIG_DIRECTORY}/desired.d")
    assert after == before
    look_again(site)
    site.wait_right()
    assert site.records("adopted", since) == []
    done = anna(site, "pf-agent", "adopt", "--cycle", "99999")
    assert done.returncode == 1
    assert "has no text of it (the newest 200 are kept)" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_of_the_mail_does_what_it_says(site: Site) -> None:
    site.machine.write_text(AGENT_TOML, NOTIFY)
    site.machine.run(["systemctl", "reload", "pf-agent"])
    site.machine.run(["rm", "-rf", MAILBOX])
    cycle = corrected(site, "postconf", "-e", f"mynetworks = {DRIFTED}")
    site.machine.wait_until(f"grep -q 'Subject: .* cycle {cycle}' {MAILBOX}/*", SETTLE_SECONDS)
    site.machine.write_text(AGENT_TOML, "")
    site.machine.run(["systemctl", "reload", "pf-agent"])
    mail = site.machine.sh(f"cat {MAILBOX}/*")
    assert f"\ncycle {cycle}, " in mail
    assert ": mynetworks: activated, written by " in mail
    assert f"\n-mynetworks = {DRIFTED}\n+mynetworks = 127.0.0.0/8 " in mail
    command = printed(mail)
    assert command == ["pf-agent", "adopt", "--cycle", cycle, "mynetworks"]
    keep(site, command)
    look_again(site)
    assert site.explicit()["mynetworks"] == DRIFTED


def test_cycles_are_completed(site: Site) -> None:
    cycle = corrected(site, "postconf", "-e", f"mynetworks = {DRIFTED}")
    assert cycle in completed(site, "adopt", "--cycle", "")
    assert "--cycle" in completed(site, "adopt", "--c")
    assert cycle in completed(site, "history", "")


def by(site: Site, event: str, *command: str, typed: str | None = None) -> str:
    """Run an order; return the user whom its record names."""
    since = site.cursor()
    done = site.machine.run(command, input=typed, check=False, timeout=SETTLE_SECONDS)
    assert done.returncode == 0, done.stderr
    eventually(lambda: bool(site.records(event, since)), event)
    found = site.records(event, since)[0]
    assert f"by {found[names.FIELD_BY]}" in str(found["MESSAGE"])
    return str(found[names.FIELD_BY])


def test_each_order_names_the_person(site: Site) -> None:
    sudo = ["runuser", "-u", "anna", "--", "sudo", "-n", "pf-agent"]
    assert by(site, "set", *sudo, "set", "message_size_limit=20971520") == "anna"
    assert by(site, "adopted", *sudo, "adopt", "relayhost") == "anna"
    assert by(site, "unset", *sudo, "unset", "relayhost", "message_size_limit") == "anna"
    assert by(site, "suspended", *sudo, "suspend", "--for", "1h") == "anna"
    assert by(site, "resumed", *sudo, "resume") == "anna"
    # By root with sudo, and in a root shell that anna opened from her own login.
    by_root = ["sudo", "-n", "pf-agent", "suspend"]
    assert by(site, "suspended", *by_root) == "root"
    assert by(site, "resumed", "pf-agent", "resume") == "root"
    command = "sudo -n pf-agent suspend; pf-agent resume"
    typed = f"{PASSWORD}\n"
    assert by(site, "suspended", *LOGGED_IN, "su", "root", "-c", command, typed=typed) == "anna"
    command = "pf-agent set message_size_limit=20971521"
    assert by(site, "set", *LOGGED_IN, "su", "root", "-c", command, typed=typed) == "anna"
    service = ["systemd-run", "--quiet", "--wait", "--pipe", "pf-agent"]
    assert by(site, "unset", *service, "unset", "message_size_limit") == "root"
    login = ["systemd-run", "--quiet", "--pipe", "--wait", "-p", "PAMName=login", "-p", "User=root"]
    assert by(site, "set", *login, "pf-agent", "set", "message_size_limit=20971522") == "root"


def greeted(site: Site) -> list[str]:
    """Return what is printed about the agent at a login: login(1) runs pam_motd(8)."""
    screen = site.machine.sh(
        "script -qec 'setsid --wait --ctty login -f bob' /dev/null < /dev/null"
    )
    assert "Linux mail " in screen, "Debian's own script was run"
    return [line.strip() for line in screen.splitlines() if line.startswith("pf-agent: ")]


def test_a_login_tells_what_is_wrong_and_nothing_else(site: Site) -> None:
    assert greeted(site) == []
    site.machine.run(["systemctl", "stop", names.POSTFIX_UNIT])
    site.wait_phase("stopped")
    told = "pf-agent: stopped: somebody stopped Postfix; see `pf-agent status`"
    assert greeted(site) == [told]
    site.machine.run(["systemctl", "start", names.POSTFIX_UNIT])
    site.wait_settled()
    assert greeted(site) == []
    for seconds, days in ((80_000, []), (200_000, ["suspended for 2 days"])):
        site.agent("resume")
        site.wait_settled()
        site.run_python(SUSPEND, str(seconds))
        site.machine.run(["systemctl", "reload", "pf-agent"])
        site.wait_phase("suspended")
        assert greeted(site) == [f"pf-agent: {each}; see `pf-agent status`" for each in days]


def test_nobody_but_root_has_a_say_in_what_a_login_tells(site: Site) -> None:
    path = f"{names.RUN_DIRECTORY}/status.json"
    for command in (f"echo x > {path}", f"mv {path} {path}.old", f"ln -s /tmp/x {path}.new"):
        done = site.machine.run(["runuser", "-u", "nobody", "--", "sh", "-c", command], check=False)
        assert done.returncode != 0
    assert (
        site.machine.sh("run-parts --lsbsysinit /etc/update-motd.d | grep pf-agent || true") == ""
    )
    kept = site.machine.sh("stat -c '%U %a' /etc/update-motd.d/90-pf-agent")
    assert kept == "root 755\n"
