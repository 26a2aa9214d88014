"""pf-agent-notify@.service on a real machine: root's mail, and many cycles in one."""

from __future__ import annotations

import email
from email.message import Message

from pf_agent import names
from tests.machine.site import Site, eventually

# Where local(8) puts root's mail under the desired state that ships (home_mailbox = Maildir/).
MAILBOX = "/root/Maildir/new"
BETWEEN = "=====end-of-mail====="
MAILED = "/var/lib/pf-agent-notify/mailed"
TIMER = "pf-agent-digest.timer"
RIGHT = b"mynetworks = 127.0.0.0/8 [::1]/128 172.16.0.0/12 [fe80::]/64"
WRONG = b"mynetworks = 0.0.0.0/0"

# Records as the daemon makes them, for cycles that need no restart of Postfix each.
EMIT = """
import sys
from pf_agent import names
from pf_agent.reporting.journal import Journal
from pf_agent.model import Event, Record
for cycle in sys.argv[1:]:
    journal = Journal()
    fields = {names.FIELD_PARAMETER: "relayhost"}
    journal.emit(Record(Event.DRIFT_DETECTED, f"relayhost of cycle {cycle}", int(cycle), fields))
    journal.emit(Record(Event.ACTIVATED, f"the end of cycle {cycle}", int(cycle), fields))
"""


def mails(site: Site) -> list[Message]:
    """What lies in root's mailbox, oldest first."""
    script = f"for mail in $(ls -tr {MAILBOX}); do cat {MAILBOX}/$mail; printf '{BETWEEN}'; done"
    parts = site.machine.sh(script, check=False).split(BETWEEN)
    return [email.message_from_string(part) for part in parts[:-1]]


def body(mail: Message) -> str:
    found = mail.get_payload()
    assert isinstance(found, str)
    return found


def tell(site: Site, *instances: str) -> None:
    """Start the unit as the agent does, for all of them at once, and wait until each has ended."""
    units = [f"pf-agent-notify@{instance}.service" for instance in instances]
    done = site.machine.run(["systemctl", "start", *units], timeout=120, check=False)
    log = site.machine.sh("journalctl -q --no-pager -n 20 -u 'pf-agent-notify@*'")
    assert done.returncode == 0, log


def wait_for_mails(site: Site, count: int) -> list[Message]:
    eventually(lambda: len(mails(site)) >= count, f"{count} mails to root")
    return mails(site)


def age_the_last_mail(site: Site, seconds: int) -> None:
    site.machine.run(["touch", "-d", f"{seconds} seconds ago", MAILED])


def test_what_happened_in_a_cycle_is_mailed_to_root(site: Site) -> None:
    assert mails(site) == []
    site.run_python(EMIT, "41")
    site.machine.run(["touch", f"{names.CONFIG_DIRECTORY}/{names.AGENT_TOML}"])  # switched on
    since = site.cursor()
    site.put(site.good.replace(RIGHT, WRONG))
    eventually(lambda: bool(site.drift_of(since)), "the drift on record")
    cycle = site.drift_of(since)[0][names.FIELD_CYCLE]
    # At this moment Postfix is being restarted at most: the mail waits for the end.
    tell(site, cycle)
    (mail,) = wait_for_mails(site, 1)
    site.wait_right()
    assert "of cycle 41" not in body(mail), "the first mail begins where it was asked for"
    assert mail["Subject"].startswith("pf-agent on mail: ")
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["To"].startswith("root")
    text = body(mail)
    for record in (*site.drift_of(since), *site.records("activated", since)):
        assert str(record["MESSAGE"]) in text
    assert f"\ncycle {cycle}, " in text
    assert f"\n    pf-agent adopt --cycle {cycle} mynetworks\n" in text
    assert "\n-mynetworks = 0.0.0.0/0\n+mynetworks = 127.0.0.0/8 " in text
    assert f"PF_AGENT_CYCLE={cycle}\n" in text


def test_three_in_a_row_make_one_digest(site: Site) -> None:
    assert len(mails(site)) == 1
    site.run_python(EMIT, "101", "102", "103")
    age_the_last_mail(site, 890)
    tell(site, "101", "102", "103")
    _, digest = wait_for_mails(site, 2)
    assert digest["Subject"] == "pf-agent on mail: 3 cycles"
    for cycle in (101, 102, 103):
        assert f"relayhost of cycle {cycle}" in body(digest)
    assert "mynetworks" not in body(digest), "that was mailed before"
    # Nothing is left to tell, so the timer is gone and nobody is mailed twice.
    tell(site, "digest")
    assert len(mails(site)) == 2
    site.machine.wait_until(f"! systemctl is-active {TIMER}")


def test_what_waits_has_a_timer(site: Site) -> None:
    site.run_python(EMIT, "201")
    age_the_last_mail(site, 60)
    tell(site, "201")
    due = site.machine.sh(f"systemctl show -P NextElapseUSecMonotonic {TIMER}").strip()
    assert due
    assert len(mails(site)) == 2
    site.machine.run(["systemctl", "stop", TIMER])


def test_a_mail_that_could_not_be_sent_goes_with_the_next(site: Site) -> None:
    # As on a machine that went down meanwhile: no timer, and cycle 201 was never mailed.
    age_the_last_mail(site, 1000)
    site.run_python(EMIT, "202")
    sendmail = "/usr/sbin/sendmail"
    site.machine.sh(f"mv {sendmail} {sendmail}.kept")
    unit = "pf-agent-notify@202.service"
    site.machine.run(["systemctl", "start", unit], check=False)
    site.machine.run(["systemctl", "stop", unit])
    site.machine.sh(f"mv {sendmail}.kept {sendmail}")
    tell(site, "202")
    mail = wait_for_mails(site, 3)[-1]
    assert "relayhost of cycle 201" in body(mail)
    assert "relayhost of cycle 202" in body(mail)


def test_a_fault_without_a_cycle(site: Site) -> None:
    age_the_last_mail(site, 1000)
    dropin = f"{names.CONFIG_DIRECTORY}/{names.DESIRED_DROPINS}/90.toml"
    since = site.cursor()
    site.machine.write_text(dropin, "x = [")
    eventually(lambda: bool(site.records("config-rejected", since)), "the fault on record")
    tell(site, "0")
    mail = wait_for_mails(site, 4)[-1]
    assert mail["Subject"] == "pf-agent on mail: an error"
    assert dropin in body(mail)


def test_a_cursor_that_means_nothing_keeps_no_mail_back(site: Site) -> None:
    age_the_last_mail(site, 1000)
    site.machine.write_text("/var/lib/pf-agent-notify/cursor", "s=nonsense\n")
    site.run_python(EMIT, "301")
    tell(site, "301")
    assert "relayhost of cycle 301" in body(wait_for_mails(site, 5)[-1])


def test_cycles_of_two_lives_are_told_apart(site: Site) -> None:
    age_the_last_mail(site, 1000)
    for life in ("a1b2c3", "0000e9"):
        site.run_python(EMIT.replace("{names.", f'{{names.FIELD_LIFE: "{life}", names.'), "17")
    tell(site, "17")
    mail = wait_for_mails(site, 6)[-1]
    assert mail["Subject"] == "pf-agent on mail: 2 cycles"
    for name in ("a1b2c3/17", "17"):
        assert f"\ncycle {name}, " in body(mail)
    assert body(mail).count("  relayhost of cycle 17\n") == 2, "each in full"
    assert "PF_AGENT_LIFE=0000e9 PF_AGENT_CYCLE=17\n" in body(mail)


def test_records_that_anybody_made_up_are_not_mailed(site: Site) -> None:
    age_the_last_mail(site, 1000)
    forged = "PF_AGENT_EVENT=drift-detected\nSYSLOG_IDENTIFIER=pf-agent\nMESSAGE=forged\n"
    site.machine.write_text("/tmp/forged", forged)
    site.machine.run(["setpriv", "--reuid=nobody", "logger", "--journald=/tmp/forged"])
    site.machine.run(["journalctl", "--sync"])
    site.machine.wait_until("journalctl -q -t pf-agent --grep forged")
    tell(site, "0")
    assert len(mails(site)) == 6


def test_a_table_that_postfix_warns_about(site: Site) -> None:
    """The last one: it leaves another main.cf behind."""
    age_the_last_mail(site, 1000)
    table = "/etc/postfix/transport-tried"
    site.machine.write_text(table, "void.example discard:one\n")
    since = site.cursor()
    site.machine.write_text(
        f"{names.CONFIG_DIRECTORY}/{names.DESIRED_DROPINS}/90.toml",
        f'[settings]\ntransport_maps = "hash:{table}"\n',
    )
    site.wait_for("table-rebuilt", since)
    site.wait_settled()
    site.machine.write_text(table, "void.example\n")
    site.wait_for("table-stale", since)
    (record,) = site.records("table-stale", since)
    tell(site, "0")
    text = body(wait_for_mails(site, 7)[-1])
    assert str(record["MESSAGE"]) in text
    assert f"{table}:1: no value after the key" in text
