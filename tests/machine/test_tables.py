"""Indexed tables on a real Postfix: rebuilt when their source changes, and not where it is bad."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

from pf_agent import names
from pf_agent.bus.agent1 import NAME, PATH
from tests.machine.calm import wait_in_status
from tests.machine.site import EXTRA, Site, eventually

pytestmark = pytest.mark.long

TABLE = "/etc/postfix/transport-tried"
PASSWORDS = "/etc/postfix/passwords-tried"
SECRET = "hush-hush-hush"
SAID = f"hash:{TABLE}"
_DISCARDED = re.compile(r"to=<anna@void\.example>.* status=sent \((.*)\)")


@pytest.fixture(autouse=True)
def _as_before(site: Site, at_rest: None) -> Iterator[None]:
    yield
    site.agent("resume")
    paths = [f"{path}{end}" for path in (TABLE, PASSWORDS) for end in ("", ".db", ".new")]
    site.machine.run(["rm", "-f", EXTRA, *paths])
    site.machine.run(["systemctl", "reload", "pf-agent"])
    site.put(site.good)
    site.wait_right()
    site.wait_settled()


def write(site: Site, path: str, text: str) -> None:
    """As an editor does that renames over the old file."""
    site.machine.run(["sh", "-c", f"cat > {path}.new && mv {path}.new {path}"], input=text.encode())


def name(site: Site, parameter: str, path: str) -> None:
    """Have main.cf name the table, and wait until Postfix runs with that."""
    site.machine.write_text(EXTRA, f'[settings]\n{parameter} = "hash:{path}"\n')
    site.machine.wait_until(f"postconf -n {parameter} | grep -q {path}", 90)
    site.wait_settled()


def rebuilt(site: Site, since: str) -> dict[str, Any]:
    site.wait_for("table-rebuilt", since)
    return site.records("table-rebuilt", since)[-1]


def looked_up(site: Site, key: str, said: str = SAID) -> str:
    return site.machine.run(["postmap", "-q", key, said]).stdout.strip()


def sent_by(site: Site, words: str) -> None:
    """Send mails until discard(8) logs these words of its nexthop.

    trivial-rewrite looks whether its tables changed when a client connects and every ten seconds,
    so the first mail may still go the old way, as it may after postmap.
    """
    eventually(lambda: way_of_a_mail(site) == words, f"a mail discarded with {words}", 90)


def way_of_a_mail(site: Site) -> str:
    since = site.cursor()
    site.machine.run(
        ["sendmail", "-f", "root", "anna@void.example"], input=b"Subject: x\n\nx\n", check=True
    )
    found: list[str] = []

    def is_logged() -> bool:
        logged = (_DISCARDED.search(str(entry["MESSAGE"])) for entry in site.entries(since))
        found.extend(match[1] for match in logged if match)
        return bool(found)

    eventually(is_logged, "a mail to be discarded", 90)
    return found[0]


def test_a_mail_goes_the_way_that_the_source_says_without_postmap(site: Site) -> None:
    since = site.cursor()
    write(site, TABLE, "void.example discard:before\n")
    name(site, "transport_maps", TABLE)
    first = rebuilt(site, since)
    assert (first["PF_AGENT_PATH"], first["PF_AGENT_ENTRIES"]) == (TABLE, "1")
    assert first["PF_AGENT_ENTRIES_BEFORE"] == "0"
    sent_by(site, "before")
    since = site.cursor()
    write(site, TABLE, "void.example discard:after\nother.example discard:x\n")
    record = rebuilt(site, since)
    assert record["PF_AGENT_ENTRIES_BEFORE"] == "1"
    assert record["PF_AGENT_ENTRIES"] == "2"
    sent_by(site, "after")
    restarting = [str(e["MESSAGE"]) for e in site.entries(since) if "has changed" in e["MESSAGE"]]
    assert any(TABLE in line for line in restarting), "no process of Postfix saw that it changed"
    assert len(site.records("table-rebuilt", since)) == 1
    assert "up to date" in site.agent("explain", "transport_maps", check=True).stdout


def test_a_bad_line_keeps_the_old_index_until_it_is_mended(site: Site) -> None:
    write(site, TABLE, "void.example discard:good\n")
    name(site, "transport_maps", TABLE)
    eventually(lambda: looked_up(site, "void.example") == "discard:good", "an index")
    kept = site.machine.read_bytes(f"{TABLE}.db")
    since = site.cursor()
    write(site, TABLE, "# a comment\nvoid.example\nother.example discard:x\n")
    site.wait_for("table-stale", since)
    (record,) = site.records("table-stale", since)
    assert f"{TABLE}:2: no value after the key; the old index stays" in record["MESSAGE"]
    assert site.machine.read_bytes(f"{TABLE}.db") == kept
    wait_in_status(site, f"{TABLE}:2: no value after the key")
    assert site.told()["stale_tables"] == {TABLE: record["PF_AGENT_REASON"]}
    assert f"{TABLE}:2: " in site.agent("explain", "transport_maps", check=True).stdout
    told_everywhere(site, record["PF_AGENT_REASON"])
    sent_by(site, "good")
    write(site, TABLE, "void.example discard:mended\n")
    rebuilt(site, since)
    eventually(lambda: site.status().get("stale_tables") == {}, "no stale table")
    sent_by(site, "mended")


def told_everywhere(site: Site, why: str) -> None:
    """In the history, on D-Bus and at the next login, beside the status."""
    last = json.loads(site.agent("history", "--json", check=True).stdout)[-1]
    assert (last["outcome"], last["records"], last["table"]["path"]) == ("stale", [why], TABLE)
    assert last["table"]["warnings"] == [f"{TABLE}:2: no value after the key"]
    assert why in site.agent("history", check=True).stdout.splitlines()[-1]
    said = site.machine.sh(f"busctl get-property {NAME} {PATH} {NAME} StaleTables")
    assert said.strip() == f'a{{ss}} 1 "{TABLE}" "{why}"'
    line = "pf-agent: 1 table is out of date; see `pf-agent status`"
    assert site.machine.sh("/etc/update-motd.d/90-pf-agent").strip() == line


def test_a_password_stays_where_it_is(site: Site) -> None:
    since = site.cursor()
    write(site, PASSWORDS, f"[relay.example] anna:{SECRET}\n")
    site.machine.run(["chmod", "600", PASSWORDS])
    name(site, "smtp_sasl_password_maps", PASSWORDS)
    rebuilt(site, since)
    assert stat_of(site, f"{PASSWORDS}.db") == "600 root root"
    write(site, PASSWORDS, f"{SECRET}\n[relay.example] anna:{SECRET}\n{SECRET} a\n{SECRET} b\n")
    site.wait_for("table-stale", since)
    write(site, PASSWORDS, f"[relay.example] anna:{SECRET}\n[more.example] anna:{SECRET}\n")
    eventually(lambda: len(site.records("table-rebuilt", since)) == 2, "a second rebuild")
    assert looked_up(site, "[more.example]", f"hash:{PASSWORDS}") == f"anna:{SECRET}"
    assert stat_of(site, f"{PASSWORDS}.db") == "600 root root"
    ours = [str(e) for e in site.entries(since) if e.get("SYSLOG_IDENTIFIER") == names.PROGRAM]
    assert ours
    assert not [entry for entry in ours if SECRET in entry]


def stat_of(site: Site, path: str) -> str:
    return site.machine.run(["stat", "-c", "%a %U %G", path]).stdout.strip()


def test_owner_and_mode_of_the_index_are_kept(site: Site) -> None:
    write(site, TABLE, "void.example discard:one\n")
    name(site, "transport_maps", TABLE)
    eventually(lambda: looked_up(site, "void.example") == "discard:one", "an index")
    site.machine.run(["chown", "root:postfix", f"{TABLE}.db"])
    site.machine.run(["chmod", "640", f"{TABLE}.db"])
    write(site, TABLE, "void.example discard:two\n")
    eventually(lambda: looked_up(site, "void.example") == "discard:two", "a new index")
    assert stat_of(site, f"{TABLE}.db") == "640 root postfix"


def test_while_suspended_it_is_told_and_left(site: Site) -> None:
    write(site, TABLE, "void.example discard:one\n")
    name(site, "transport_maps", TABLE)
    eventually(lambda: looked_up(site, "void.example") == "discard:one", "an index")
    site.agent("suspend", check=True)
    site.wait_phase("suspended")
    since = site.cursor()
    write(site, TABLE, "void.example discard:two\n")
    site.wait_for("table-stale", since)
    assert looked_up(site, "void.example") == "discard:one"
    site.agent("resume", check=True)
    eventually(lambda: looked_up(site, "void.example") == "discard:two", "a new index", 60)


def test_what_belongs_to_somebody_else_is_not_built_as_root(site: Site) -> None:
    write(site, TABLE, "void.example discard:one\n")
    name(site, "transport_maps", TABLE)
    eventually(lambda: looked_up(site, "void.example") == "discard:one", "an index")
    since = site.cursor()
    site.machine.sh(
        f"echo 'void.example discard:two' > {TABLE}.new; chown nobody {TABLE}.new;"
        f" mv {TABLE}.new {TABLE}"
    )
    site.wait_for("table-stale", since)
    told = f"{TABLE}.db: it belongs to uid 0, but the table is built as uid 65534; chown it"
    assert told in site.records("table-stale", since)[0]["MESSAGE"]
    assert looked_up(site, "void.example") == "discard:one"


def test_who_names_no_table_has_nothing_of_it_loaded_or_watched(site: Site) -> None:
    site.machine.run(["touch", TABLE])
    assert site.status()["stale_tables"] == {}
    since = site.cursor()
    write(site, TABLE, "void.example discard:one\n")
    site.drift_once()
    assert site.records("table-rebuilt", since) == []
    assert not os.path.exists(site.machine.at(f"{TABLE}.db"))


def test_apply_builds_without_the_service_and_says_what_it_did(site: Site) -> None:
    write(site, TABLE, "void.example discard:one\n")
    name(site, "transport_maps", TABLE)
    eventually(lambda: looked_up(site, "void.example") == "discard:one", "an index")
    site.machine.run(["systemctl", "stop", "pf-agent"])
    try:
        since = site.cursor()
        write(site, TABLE, "void.example discard:two\nother.example discard:x\n")
        would = site.agent("apply", "--dry-run")
        assert would.returncode == 0
        assert f"{TABLE}: its index is out of date and would be rebuilt" in would.stderr
        assert looked_up(site, "void.example") == "discard:one"
        assert site.agent("apply", "--no-activate").returncode == 0
        assert looked_up(site, "void.example") == "discard:one"
        done = site.agent("apply")
        assert (done.returncode, looked_up(site, "void.example")) == (0, "discard:two")
        (record,) = site.records("table-rebuilt", since)
        assert done.stdout == f"in sync\n{record['MESSAGE']}\n"
        assert (record["PF_AGENT_ENTRIES_BEFORE"], record["PF_AGENT_ENTRIES"]) == ("1", "2")
        assert site.agent("apply").stdout == "in sync\n"
        write(site, TABLE, "void.example discard:three\nother.example\n")
        done = site.agent("apply", "--json")
        found = json.loads(done.stdout)
        assert (done.returncode, found["result"], found["failure"]) == (1, "in-sync", None)
        assert found["rebuilt_tables"] == []
        why = f"{TABLE}:2: no value after the key; the old index stays; fix the file"
        assert found["stale_tables"] == {TABLE: why}
        assert site.records("table-stale", since)[-1]["MESSAGE"] == why
        assert looked_up(site, "void.example") == "discard:two"
        assert why in site.agent("apply").stdout
    finally:
        site.machine.run(["systemctl", "start", "pf-agent"])


def test_apply_builds_a_new_table_before_postfix_is_restarted_with_it(site: Site) -> None:
    site.machine.run(["systemctl", "stop", "pf-agent"])
    try:
        since = site.cursor()
        write(site, TABLE, "void.example discard:first\n")
        site.machine.write_text(EXTRA, f'[settings]\ntransport_maps = "{SAID}"\n')
        done = site.agent("apply", check=True)
        assert TABLE in done.stdout
        sent_by(site, "first")
        kinds = [entry.get("PF_AGENT_EVENT") for entry in site.entries(since)]
        assert kinds.index("table-rebuilt") < kinds.index("activated")
    finally:
        site.machine.run(["systemctl", "start", "pf-agent"])
