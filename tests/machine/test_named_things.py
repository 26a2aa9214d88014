"""What a value names and is not there: a wish is refused for it, and no correction withheld."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from pf_agent import names
from tests.machine.calm import wait_in_status
from tests.machine.site import EXTRA, INTRUDE, MAIN_CF, Site, eventually

TABLE = "/etc/postfix/clients"
BEHIND = f"permit_mynetworks, reject_unauth_destination, check_client_access hash:{TABLE}"
RCPT = "smtpd_recipient_restrictions"
WRONG = {
    f"{RCPT}=permit_mynetworks, reject_unauth_destination, reject_unknown_client_hostnam": (
        "did you mean reject_unknown_client_hostname?"
    ),
    f"{RCPT}={BEHIND}": f"neither {TABLE}.db nor {TABLE}",
    "header_checks=pcre:/etc/postfix/clients": "install postfix-pcre",
    "local_transport=nosuch:x": 'master.cf has no service "nosuch"',
    "mynetworks=127.0.0.0/8; 10.0.0.0/8": "matches nothing",
    "smtpd_sender_login_maps=proxy:hash:/etc/postfix/clients": "neither /etc/postfix/clients.db",
}


@pytest.fixture(autouse=True)
def _as_before(site: Site, at_rest: None) -> Iterator[None]:
    yield
    site.machine.run(["rm", "-f", EXTRA, TABLE, f"{TABLE}.db"])
    site.machine.run(["systemctl", "reload", "pf-agent"])
    site.put(site.good)
    site.wait_right()


def status(site: Site) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(site.agent("status", "--json").stdout)
    return found


@pytest.mark.parametrize("wish", WRONG)
def test_set_refuses_what_names_nothing(site: Site, wish: str) -> None:
    told = site.agent("set", wish)
    assert told.returncode == 2
    assert WRONG[wish] in told.stderr
    assert "nothing was written" in told.stderr
    assert site.read() == site.good


def test_a_new_dropin_is_refused_with_its_place_and_taken_up_when_the_file_is_there(
    site: Site,
) -> None:
    since = site.cursor()
    site.machine.write_text(EXTRA, f'[settings]\n{RCPT} = "{BEHIND}"\n')
    eventually(lambda: bool(site.records("config-rejected", since)), "a refusal")
    assert f"{EXTRA}:2: {RCPT}: " in site.records("config-rejected", since)[0]["MESSAGE"]
    checked = site.agent("check")
    assert checked.returncode == 2
    assert f"{EXTRA}:2: {RCPT}: pf-agent refuses it: there is neither " in checked.stdout
    # Meanwhile what is in force is enforced.
    site.machine.sh(INTRUDE)
    site.wait_right()
    site.machine.sh(f"echo '192.0.2.66 REJECT' > {TABLE}; postmap hash:{TABLE}")
    site.machine.wait_until(f"postconf -n {RCPT} | grep -q {TABLE}", 90)
    site.wait_settled()
    assert site.serves()


def test_a_name_in_a_file_is_taken_up_when_the_file_comes(site: Site) -> None:
    """Postfix itself refuses it, and says neither whose value that is nor where it is asked for."""
    site.machine.write_text(EXTRA, '[settings]\nmyorigin = "/etc/nomailname"\n')
    since = site.cursor()
    site.machine.run(["systemctl", "reload", "pf-agent"])
    eventually(lambda: "nomailname" in str(status(site)["problems"]), "a refusal")
    told = f"{EXTRA}:2: myorigin: Postfix refuses it: there is no file /etc/nomailname; "
    assert told in str(status(site)["problems"])
    checked = site.agent("check")
    assert checked.returncode == 2
    assert told in checked.stdout
    assert site.records("drift-corrected", since) == []
    site.machine.sh("hostname > /etc/nomailname")
    site.machine.wait_until("postconf -n myorigin | grep -q nomailname", 90)
    site.wait_settled()
    site.machine.run(["rm", EXTRA, "/etc/nomailname"])


def test_what_goes_later_is_told_once_and_withholds_no_correction(site: Site) -> None:
    site.machine.sh(f"echo '192.0.2.66 REJECT' > {TABLE}; postmap hash:{TABLE}")
    site.machine.write_text(EXTRA, f'[settings]\n{RCPT} = "{BEHIND}"\n')
    site.machine.wait_until(f"postconf -n {RCPT} | grep -q {TABLE}", 90)
    site.wait_settled()
    since = site.cursor()
    site.machine.sh(f"rm {TABLE} {TABLE}.db")
    eventually(lambda: bool(site.records("reference-absent", since)), "a record of it")
    wait_in_status(site, f"{RCPT}: there is neither {TABLE}.db")
    assert status(site)["in_sync"]
    assert len(status(site)["absent"]) == 1
    right = site.read()
    site.machine.sh(INTRUDE)
    site.wait_right(right)
    assert site.agent("check").returncode == 0
    assert f"warning: {EXTRA}:2: {RCPT}: " in site.agent("check").stdout
    site.wait_settled()
    assert len(site.records("reference-absent", since)) == 1
    site.machine.sh(f"echo '192.0.2.66 REJECT' > {TABLE}; postmap hash:{TABLE}")
    eventually(lambda: status(site)["absent"] == [], "all there again")


def test_what_master_cf_gets_is_seen_at_once(site: Site) -> None:
    site.machine.write_text(EXTRA, '[settings]\nbest_mx_transport = "mine"\n')
    eventually(lambda: "mine" in str(status(site)["problems"]), "a refusal")
    assert "best_mx_transport" not in site.read().decode()
    site.machine.run(["postconf", "-M", "mine/unix=mine unix - - y - - smtp"])
    site.machine.wait_until("postconf -n best_mx_transport | grep -qx '.* = mine'")
    site.machine.run(["rm", EXTRA])
    site.machine.run(["postconf", "-MX", "mine/unix"])
    site.machine.run(["systemctl", "reload", "pf-agent"])


def test_no_password_of_a_table_is_listed(site: Site) -> None:
    site.agent("suspend", check=True)
    site.machine.sh(f"echo 'smtp_sasl_password_maps = static:anna:hush-hush' >> {MAIN_CF}")
    listed = site.agent("check", "--references", check=True).stdout
    assert "smtp_sasl_password_maps: table " in listed
    assert "hush-hush" not in listed


def test_adopt_of_what_main_cf_says_warns(site: Site) -> None:
    site.agent("suspend", check=True)
    site.machine.sh(f"echo 'header_checks = regexp:{TABLE}' >> {MAIN_CF}")
    told = site.agent("adopt", "header_checks")
    assert told.returncode == 0, told.stderr
    assert f"there is no file {TABLE}" in told.stderr
    site.machine.run(["rm", f"{names.CONFIG_DIRECTORY}/{names.DESIRED_DROPINS}/50-local.toml"])


def test_all_that_is_named_is_listed(site: Site) -> None:
    listed = site.agent("check", "--references", check=True).stdout
    assert "smtpd_banner: parameter $myhostname: exists: main.cf\n" in listed
    found = json.loads(site.agent("check", "--json", "--references", check=True).stdout)
    assert found["ok"]
    assert {each["presence"] for each in found["references"]} <= {"exists", "unknown"}
    assert all(isinstance(text, str) for each in found["references"] for text in each.values())
