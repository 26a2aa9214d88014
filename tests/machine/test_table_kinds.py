"""Every kind of indexed table that Debian's Postfix has, and every place that may name one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.machine.nspawn import Machine
from tests.machine.site import EXTRA, Site, eventually
from tests.machine.test_table_owners import found_in
from tests.machine.test_tables import rebuilt, sent_by, write

pytestmark = pytest.mark.long

FOLDER = "/etc/postfix/kinds"
MASTER_CF = "/etc/postfix/master.cf"


@pytest.fixture(scope="module")
def site(agent_machine: Machine) -> Site:
    site = Site.prepared(agent_machine)
    agent_machine.install_kept("tables")
    agent_machine.sh(f"mkdir {FOLDER}; cp -p {MASTER_CF} /srv/master.cf")
    return site


@pytest.fixture(autouse=True)
def _as_before(site: Site, at_rest: None) -> Iterator[None]:
    yield
    site.machine.sh(f"rm -rf {EXTRA} {FOLDER}/*; cp -p /srv/master.cf {MASTER_CF}")
    site.put(site.good)
    site.machine.run(["systemctl", "reload", "pf-agent"])
    site.wait_right()
    site.wait_settled()


def name(site: Site, parameter: str, said: str) -> None:
    site.machine.write_text(EXTRA, f'[settings]\n{parameter} = "{said}"\n')
    site.machine.wait_until(f"postconf -hn {parameter} | grep -qxF '{said}'", 90)
    site.wait_settled()


@pytest.mark.parametrize("kind", ["hash", "btree", "lmdb", "cdb"])
def test_a_mail_goes_the_way_that_the_source_says(site: Site, kind: str) -> None:
    path = f"{FOLDER}/{kind}"
    since = site.cursor()
    write(site, path, "void.example discard:before\n")
    name(site, "transport_maps", f"{kind}:{path}")
    assert rebuilt(site, since)["PF_AGENT_ENTRIES"] == "1"
    sent_by(site, "before")
    since = site.cursor()
    write(site, path, "void.example discard:after\nother.example discard:x\n")
    record = rebuilt(site, since)
    assert (record["PF_AGENT_ENTRIES_BEFORE"], record["PF_AGENT_ENTRIES"]) == ("1", "2")
    sent_by(site, "after")
    assert site.status()["stale_tables"] == {}


@pytest.mark.parametrize("kind", ["dbm", "sdbm"])
def test_a_kind_that_debian_has_not_is_told_of(site: Site, kind: str) -> None:
    assert kind not in site.machine.run(["postconf", "-m"]).stdout.split()
    path = f"{FOLDER}/{kind}"
    since = site.cursor()
    write(site, path, "a@void.example b\n")
    # A wish for it would be refused.
    site.machine.run(["postconf", "-e", f"relocated_maps={kind}:{path}"])
    site.wait_for("table-stale", since)
    told = f"{path}: Postfix has no table type {kind}; use one of `postconf -m`"
    assert told in site.records("table-stale", since)[0]["MESSAGE"]
    assert site.machine.sh(f"ls {FOLDER}") == f"{kind}\n"


@pytest.mark.parametrize(
    "said",
    [
        "proxy:hash:{}",
        "pipemap:{{hash:{}, static:x}}",
        "unionmap:{{hash:{}, hash:{}}}",
        "!hash:{}",
    ],
)
def test_tables_inside_others(site: Site, said: str) -> None:
    path = f"{FOLDER}/inner"
    parameter = "debug_peer_list" if said.startswith("!") else "relocated_maps"
    said = said.format(path, path)
    since = site.cursor()
    write(site, path, "one.example x\n")
    site.machine.run(["postconf", "-e", f"{parameter}={said}"])
    assert rebuilt(site, since)["PF_AGENT_PATH"] == path
    write(site, path, "one.example x\ntwo.example y\n")
    eventually(lambda: found_in(site, path, "two.example") == "y", "both entries")
    if parameter == "relocated_maps":
        asked = ["postmap", "-q", "two.example", said.removeprefix("proxy:")]
        found = site.machine.run(asked).stdout.strip()
        assert found == {"pipemap": "x", "unionmap": "y,y"}.get(said.partition(":")[0], "y")


def test_a_mail_through_a_table_inside_another(site: Site) -> None:
    path = f"{FOLDER}/inner"
    write(site, path, "void.example discard:before\n")
    name(site, "transport_maps", f"unionmap:{{hash:{path}}}")
    eventually(lambda: found_in(site, path, "void.example") != "", "an index")
    sent_by(site, "before")
    write(site, path, "void.example discard:after\n")
    sent_by(site, "after")


def test_a_table_that_only_master_cf_names(site: Site) -> None:
    path = f"{FOLDER}/senders"
    write(site, path, "anna@example.test REJECT not from here\n")
    site.machine.run(
        ["postconf", "-P", f"smtp/inet/smtpd_sender_restrictions=check_sender_access,hash:{path}"]
    )
    since = site.cursor()
    site.machine.run(["systemctl", "reload", "pf-agent"])
    assert rebuilt(site, since)["PF_AGENT_PATH"] == path
    site.machine.run(["postfix", "reload"])
    eventually(lambda: "not from here" in answer(site), "it is refused")
    write(site, path, "anna@example.test REJECT not from there\n")
    eventually(lambda: "not from there" in answer(site), "as the source says since")


def answer(site: Site) -> str:
    """What Postfix says at its port to a mail from anna."""
    return site.run_python(
        """
import smtplib
with smtplib.SMTP("127.0.0.1", 25, timeout=60) as client:
    client.ehlo()
    client.mail("anna@example.test")
    print(client.rcpt("root@example.test"))
"""
    )


def test_ten_tables_wake_nobody(site: Site) -> None:
    """Not one wake-up more: between two looks nothing of theirs is due."""
    before = wake_ups(site)
    paths = [f"{FOLDER}/{number}" for number in range(10)]
    for path in paths:
        write(site, path, "void.example discard:x\n")
    name(site, "transport_maps", " ".join(f"hash:{path}" for path in paths))
    eventually(
        lambda: all(found_in(site, path, "void.example") for path in paths),
        "ten indexes",
    )
    site.wait_settled()
    assert wake_ups(site) <= before + 5


def wake_ups(site: Site) -> int:
    """How often the agent's threads were woken in half a minute of rest."""
    script = """
pid=$(systemctl show --value --property=MainPID pf-agent)
sum='/^voluntary_ctxt_switches/ { n += $2 } END { print n }'
count() { cat /proc/$pid/task/*/status | awk "$sum"; }
sleep 5; before=$(count); sleep 30; echo $(($(count) - before))
"""
    return int(site.machine.sh(script))
