"""history, explain, restore, suspend and resume, on a machine with a real journal."""

from __future__ import annotations

import json
import re
from functools import partial

import pytest

from pf_agent import names
from tests.machine.site import Site, eventually

pytestmark = pytest.mark.usefixtures("at_rest")

MASTER_CF = "/etc/postfix/master.cf"
RELATIVE = ("now", "2 hours ago", "-1h30min", "+3 days", "1y 2month ago", "5 10s ago", "3M ago")
TIMES = (
    *RELATIVE,
    *("today", "yesterday", "tomorrow", "14:30", "14:30:05", "@1769817600", "@1769817600.5"),
    *("2026-01-31", "26-01-31", "99-01-31", "2026-1-3", "2026-07-01", "2026-01-31 14:30"),
    *("2026-01-31 14:30:05", "2026-01-31 14:30:05.25", "2026-01-31  14:30", "2026-07-01 14:30"),
    *("Sat 2026-01-31", "saturday 26-01-31 14:30", "2026-01-31 14:30:05 UTC", "2026-01-31 UTC"),
    *("2026-03-29 03:30", "Fri 2026-01-31", "x", "", "2026", "2026-13-01", "25:00", "12:61"),
    *("2026-01-31 14", "yesterday 14:30", "@", "Sat", "-infinity", "Sat, 2026-01-31"),
)
SPANS = {"90": 90, "2h 30min": 9000, "1 day": 86400, "1h30": 3630, "5day20s": 432020, "1M": 2629800}
ZONE = ("env", "TZ=CET-1CEST,M3.5.0,M10.5.0/3")
COUNTED = """
import json, sys
from pf_agent.cli.moments import span_of
print(json.dumps({text: span_of(text) for text in sys.argv[1:]}))
"""
MOMENTS = """
import json, sys, time
from pf_agent.cli.moments import moment_of
now = time.time()
print(json.dumps({text: moment_of(text, now) for text in sys.argv[1:]}))
"""
FORGED = """
from systemd import journal
journal.send("forged",
             MESSAGE_ID="8f1c2a6e5d0b4c07a3f19e6b7d2c4511",
             PF_AGENT_EVENT="drift-detected",
             PF_AGENT_CYCLE="4711", PF_AGENT_PARAMETER="myhostname", PF_AGENT_KIND="changed")
"""


def said(site: Site, *arguments: str) -> str:
    return site.agent(*arguments, check=True).stdout


def test_history_tells_what_happened_from_the_journal(site: Site) -> None:
    cycle = site.drift_once()
    heading, *rows = said(site, "history").splitlines()
    assert heading.split()[0] == "CYCLE"
    assert rows[-1].split()[0] == str(cycle)
    assert "mynetworks" in rows[-1]
    assert rows[-1].endswith("activated")
    (found,) = json.loads(said(site, "history", str(cycle), "--json"))
    assert found["parameters"] == ["mynetworks"]
    assert found["outcome"] == "activated"
    assert "-mynetworks = 10.0.0.0/8\n" in found["diff"]
    told = said(site, "history", str(cycle))
    assert told.startswith(f"cycle {cycle}, ")
    assert "-mynetworks = 10.0.0.0/8\n" in told
    assert json.loads(said(site, "history", "--since", "2099-01-01", "--json")) == []
    for since in ("1h", "today", "-1h30min", "2 hours ago"):
        assert json.loads(said(site, "history", "--since", since, "--json"))[-1]["cycle"] == cycle
    assert max(map(len, said(site, "history").splitlines())) <= 80
    done = site.agent("history", "--since", "once")
    assert done.returncode == 2
    assert 'write yesterday, "2 hours ago"' in done.stderr


def test_a_time_is_what_systemd_takes_it_for(site: Site) -> None:
    """What systemd 252 does not take yet (2026-01-31T14:30) is no part of this."""
    run = partial(site.machine.run, check=False)
    told = json.loads(run([*ZONE, "python3", "-c", MOMENTS, *TIMES]).stdout)
    for text in TIMES:
        done = run([*ZONE, "systemd-analyze", "timestamp", "--", text])
        seen = re.search(r"UNIX seconds: @([0-9.]+)", done.stdout)
        if seen is None:
            assert told[text] is None, f"systemd refuses {text!r}: {done.stderr}"
        else:
            assert told[text] is not None, f"systemd takes {text!r}"
            # What counts from now is asked for a little later.
            slack = 60.0 if text in RELATIVE else 0.001
            assert abs(told[text] - float(seen[1])) <= slack, text
    for text, seconds in SPANS.items():
        done = run(["systemd-analyze", "timespan", "--", text])
        counted = re.search(r"s: ([0-9]+)\n", done.stdout)  # microseconds
        assert counted is not None, done.stdout
        assert int(counted[1]) == seconds * 1_000_000
    spans = json.loads(run(["python3", "-c", COUNTED, *SPANS]).stdout)
    assert spans == {text: float(seconds) for text, seconds in SPANS.items()}


def test_every_record_says_in_whose_numbers_it_is(site: Site) -> None:
    since = site.cursor()
    cycle = site.drift_once()
    life = site.machine.read_text(f"{names.STATE_DIRECTORY}/life").strip()
    (found,) = json.loads(said(site, "history", f"{life}/{cycle}", "--json"))
    assert (found["life"], found["cycle"], found["outcome"]) == (life, cycle, "activated")
    told = {entry.get(names.FIELD_LIFE) for entry in site.records("activated", since)}
    assert told == {life}


def test_a_reader_of_history_that_has_seen_enough(site: Site) -> None:
    site.drift_once()
    done = site.machine.run(["bash", "-c", "pf-agent history | head -n 1; echo ${PIPESTATUS[*]}"])
    heading, codes = done.stdout.splitlines()
    assert heading.startswith("CYCLE")
    assert codes in ("0 0", "1 0")  # it may have said all before head ended
    assert done.stderr == ""


def test_nobody_but_root_makes_history(site: Site) -> None:
    site.machine.run(["runuser", "-u", "nobody", "--", "python3", "-c", FORGED])
    site.machine.run(["journalctl", "--sync"])
    assert "4711" not in said(site, "history")


def test_explain_tells_all_of_a_parameter(site: Site) -> None:
    cycle = site.drift_once()
    found = json.loads(said(site, "explain", "mynetworks", "--json"))
    assert found["wanted"] == found["actual"]
    assert found["place"].startswith("/etc/pf-agent/desired.toml:")
    assert found["line"] == site.line_of("mynetworks")
    assert found["type"] == "list, read by every program"
    assert found["default"] is not None
    assert found["last_drift"]["cycle"] == cycle
    text = said(site, "explain", "smtpd_timeout")
    assert "not managed" in text
    assert "not set" in text
    assert "time (without a unit: seconds), read by smtpd" in text
    assert "default" in said(site, "explain", "mailq_path")


def test_explain_tells_all_of_a_service(site: Site) -> None:
    machine = site.machine
    before = machine.read_text(MASTER_CF)
    assert "commented out" in said(site, "explain", "submission/inet")
    service = "submission inet n - y - - smtpd\n  -o smtpd_tls_security_level=encrypt\n"
    machine.write_text(MASTER_CF, f"{before}{service}")
    try:
        found = json.loads(said(site, "explain", "submission/inet", "--json"))
        last = len(before.splitlines()) + 2
        assert (found["line"], found["last_line"]) == (last - 1, last)
        assert found["fields"]["chroot"] == "y"
        # Whoever may read both files may ask.
        for user in ("root", "nobody"):
            words = ["pf-agent", "explain", "submission/inet/smtpd_tls_security_level"]
            assert '"encrypt"' in machine.run(["runuser", "-u", user, "--", *words]).stdout
        assert "did you mean submission/inet?" in said(site, "explain", "submision/inet")
    finally:
        machine.write_text(MASTER_CF, before)


def test_restore_brings_a_replaced_text_back_and_suspends(site: Site) -> None:
    cycle = site.drift_once()
    told = said(site, "restore", str(cycle))
    assert "pf-agent is suspended" in told
    assert b"mynetworks = 10.0.0.0/8\n" in site.read()
    site.machine.wait_until("pf-agent status | grep 'suspended by'")
    site.machine.run(["systemctl", "reload", "pf-agent"])
    assert b"mynetworks = 10.0.0.0/8\n" in site.read()
    said(site, "resume")
    site.wait_right()
    done = site.machine.run(["pf-agent", "restore", "99999"], check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def test_suspended_it_leaves_all_as_it_is_also_over_a_restart(site: Site) -> None:
    since = site.cursor()
    said(site, "suspend", "--for", "2h", "--reason", "the queue moves")
    eventually(lambda: bool(site.records("suspended", since)), "a record")
    site.machine.run(["postconf", "-e", "mynetworks=10.0.0.0/8"])
    site.machine.wait_until("pf-agent status | grep 'found: would change: mynetworks'")
    second = said(site, "suspend", "--for", "3h", "--reason", "the queue moves on")
    assert "(replaces the one by root until " in second
    eventually(lambda: len(site.records("suspended", since)) == 2, "a record of the second one")
    assert site.records("suspended", since)[-1]["MESSAGE"] == second.rstrip("\n")
    site.machine.run(["systemctl", "restart", "pf-agent"])
    site.machine.wait_until("pf-agent status | grep 'suspended by root until .*: the queue moves'")
    assert "mynetworks = 10.0.0.0/8" in site.read().decode()
    since = site.cursor()
    assert said(site, "resume") == "resumed\n"
    site.wait_right()
    assert [r["MESSAGE"] for r in site.records("resumed", since)] == ["resumed by root"]


def test_a_suspension_ends_by_itself_and_drift_is_corrected_then(site: Site) -> None:
    since = site.cursor()
    said(site, "suspend", "--for", "3s")
    site.machine.run(["postconf", "-e", "mynetworks=10.0.0.0/8"])
    site.wait_right()
    messages = [r["MESSAGE"] for r in site.records("resumed", since)]
    assert messages == ["resumed by itself: the time is up"]
