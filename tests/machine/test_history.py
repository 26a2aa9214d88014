"""history, explain, restore, suspend and resume, on a machine with a real journal."""

from __future__ import annotations

import json

import pytest

from tests.machine.site import Site, eventually

pytestmark = pytest.mark.usefixtures("at_rest")

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
    assert json.loads(said(site, "history", "--since", "1h", "--json"))[-1]["cycle"] == cycle


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
    assert "nobody names it" in text
    assert "not set" in text
    assert "time (without a unit: seconds), read by smtpd" in text
    assert "default" in said(site, "explain", "mailq_path")


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
    site.machine.wait_until("pf-agent status | grep 'the queue moves; drift: mynetworks'")
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
    assert messages == ["resumed by itself: the time is over"]
