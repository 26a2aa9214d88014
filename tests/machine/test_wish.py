"""set, unset, adopt and init on a machine: its Postfix judges, its daemon takes them up."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from pf_agent import names
from tests.machine.site import AGENT_TOML, DESIRED_TOML, INTRUDE, MAIN_CF, Site, eventually
from tests.machine.site import DROPIN as SITE

pytestmark = pytest.mark.long

LOCAL = f"{names.CONFIG_DIRECTORY}/{names.DESIRED_DROPINS}/50-local.toml"
# Read after that one, they win.
FLEET = f"{names.CONFIG_DIRECTORY}/{names.DESIRED_DROPINS}/60-fleet.toml"
READY_MADE = "/usr/share/pf-agent/desired"


@pytest.fixture(autouse=True)
def as_before(site: Site) -> Iterator[None]:
    yield
    site.machine.run(["rm", "-f", LOCAL])
    site.machine.run(["pf-agent", "resume"], check=False)
    site.forget_restarts()
    site.machine.run(["systemctl", "reload", "pf-agent"])
    site.put(site.good)  # what is no longer desired is nobody's to take away
    site.wait_right()
    site.wait_settled()


def one_line_of(said: str) -> str:
    (line,) = said.splitlines()
    return line


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


def test_the_daemon_takes_up_what_was_set(site: Site) -> None:
    since = site.cursor()
    done = site.agent("set", "message_size_limit=20480000", "smtpd_client_restrictions=")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{LOCAL}: message_size_limit, smtpd_client_restrictions\n"
    assert site.machine.run(["stat", "-c", "%U %a", LOCAL]).stdout == "root 644\n"
    site.machine.wait_until(f"grep -qx 'message_size_limit = 20480000' {MAIN_CF}")
    eventually(lambda: bool(site.records("activated", since)), "an activation", 90.0)
    assert site.agent("diff").returncode == 0


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("inet_protocols=ipv5", 'unknown inet_protocols value "ipv5"'),
        ("message_size_limit=ten", "message_size_limit"),
        ("smtpd_relay_restrictions=", "specify at least one working instance"),
    ],
)
def test_postfix_itself_judges_what_is_set(site: Site, setting: str, words: str) -> None:
    since = site.cursor()
    done = site.agent("set", setting, "smtpd_recipient_restrictions=")
    assert done.returncode == 2
    line = one_line(done)
    assert line.startswith(f"pf-agent: {setting.partition('=')[0]}")
    assert words in line
    assert "; nothing was written, " in line
    assert site.machine.run(["test", "-e", LOCAL], check=False).returncode
    site.wait_right()
    assert site.records("config-rejected", since) == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("mynetwork", "mynetworks"),
        ("MyHostname", "myhostname"),
        ("smtp_destination_concurency_limit", "smtp_destination_concurrency_limit"),
    ],
)
def test_a_misspelt_parameter_is_refused(site: Site, name: str, meant: str) -> None:
    for verb in (("set", f"{name}=5"), ("adopt", name), ("unset", "--default", name)):
        done = site.agent(*verb)
        assert done.returncode == 2
        line = one_line(done)
        assert line.startswith(f"pf-agent: {name}: unknown Postfix parameter, ")
        assert f"; did you mean {meant}?" in line
    assert site.machine.run(["test", "-e", LOCAL], check=False).returncode
    assert f"did you mean {meant}?" in site.agent("explain", name, check=True).stdout
    site.machine.write_text(FLEET, f'use_default = ["{name}"]\n')
    checked = site.agent("check")
    site.machine.run(["rm", FLEET])
    assert checked.returncode == 0
    place = f"warning: {FLEET}:1: {name}: unknown Postfix parameter"
    assert place in checked.stdout
    done = site.agent("set", "--unknown", f"{name}=5")
    assert done.returncode == 0
    place = f"pf-agent: warning: {LOCAL}:4: {name}: unknown Postfix parameter"
    assert one_line_of(done.stderr).startswith(place)


def test_what_postfix_has_a_use_for_is_no_slip(site: Site) -> None:
    """By a value that mentions it, by master.cf, and by a table that takes its settings here."""
    for settings in (
        ("my_nets=192.0.2.0/24", "mynetworks=127.0.0.0/8 $my_nets"),
        ("relay_destination_concurrency_limit=7",),
    ):
        done = site.agent("set", *settings)
        assert (done.returncode, done.stderr) == (0, "")
    explained = site.agent("explain", "my_nets", "--json", check=True).stdout
    assert json.loads(explained)["did_you_mean"] is None
    site.wait_settled()


# --- unset ---------------------------------------------------------------------------------------


def test_what_is_unset_stays_in_main_cf_until_its_default_is_asked_for(site: Site) -> None:
    site.agent("set", "bounce_queue_lifetime=2d", "biff=yes", check=True)
    site.machine.wait_until(f"grep -qx 'bounce_queue_lifetime = 2d' {MAIN_CF}")
    site.wait_settled()
    right, since = site.read(), site.cursor()
    done = site.agent("unset", "bounce_queue_lifetime")
    assert (done.returncode, done.stdout) == (0, f"{LOCAL}: removed bounce_queue_lifetime\n")
    place = f"{MAIN_CF}:{site.line_of('bounce_queue_lifetime', right)}: bounce_queue_lifetime"
    kept = f'{place}: no longer managed; main.cf still says "2d"'
    assert one_line_of(done.stderr).startswith(f"pf-agent: warning: {kept}; ")
    assert "biff" in site.machine.read_text(LOCAL)
    eventually(lambda: bool(site.records("drift-detected", since)), "a record of it")
    (record,) = site.records("drift-detected", since)
    assert record[names.FIELD_PARAMETER] == "bounce_queue_lifetime"
    assert "no longer managed" in record["MESSAGE"]
    assert record[names.FIELD_CYCLE] in site.agent("history", check=True).stdout
    assert site.read() == right
    assert f"warning: {kept}" in site.agent("check", check=True).stdout
    told = site.agent("diff", check=True)
    assert (told.stdout, kept in told.stderr) == ("", True)
    site.machine.run(["systemctl", "restart", "pf-agent"])
    site.wait_settled()
    assert kept in site.agent("check", check=True).stdout
    assert site.agent("unset", "--default", "bounce_queue_lifetime").returncode == 0
    site.machine.wait_until(f"! grep -q '^bounce_queue_lifetime' {MAIN_CF}")
    site.wait_settled()
    assert "no longer managed" not in site.agent("check", check=True).stdout


def test_what_stands_in_a_file_of_the_administrators_is_not_taken_out(site: Site) -> None:
    site.machine.write_text(FLEET, '[settings]\nbiff = "yes"\n')
    before = site.machine.read_bytes(DESIRED_TOML)
    done = site.agent("unset", "mynetworks", "biff", "mynetwork")
    site.machine.run(["rm", FLEET])
    assert (done.returncode, done.stdout) == (2, "")
    stands, later, slip = done.stderr.splitlines()
    assert stands.startswith(f"pf-agent: {DESIRED_TOML}:")
    assert stands.endswith("pf-agent unset --default mynetworks")
    assert later == f"pf-agent: {FLEET}:2: biff: unset does not edit this file; remove it there"
    assert slip.endswith("it is not managed; did you mean mynetworks?")
    assert site.machine.read_bytes(DESIRED_TOML) == before


# --- adopt ---------------------------------------------------------------------------------------


def test_what_is_wrong_in_main_cf_already_is_adopted_and_drift_corrected(site: Site) -> None:
    """Dovecot delivers, so nobody minds virtual(8)'s limit."""
    site.agent("suspend", check=True)
    site.machine.run(["postconf", "-e", "message_size_limit=60000000", "mailbox_size_limit=0"])
    site.machine.run(["systemctl", "restart", "postfix"])
    fault = "virtual_mailbox_limit is smaller than message_size_limit"
    done = site.agent("adopt", "message_size_limit", "mailbox_size_limit")
    assert done.returncode == 0, done.stderr
    assert fault in done.stderr
    site.agent("resume", check=True)
    site.wait_settled()
    right = site.read()
    site.machine.sh(INTRUDE)
    site.wait_right(right)
    site.wait_settled()
    checked = site.agent("check")
    assert checked.returncode == 0
    assert f"warning: {LOCAL}:" in checked.stdout
    assert fault in checked.stdout
    # A fault that is new is refused as ever.
    done = site.agent("set", "mailbox_size_limit=50000000")
    assert done.returncode == 2
    assert "mailbox_size_limit is smaller than message_size_limit" in one_line(done)


def test_a_later_drop_in_has_the_last_word(site: Site) -> None:
    site.machine.write_text(FLEET, '[settings]\nmydomain = "fleet.test"\n')
    done = site.agent("set", "mydomain=other.test")
    site.machine.run(["rm", FLEET])
    assert done.returncode == 2
    assert one_line(done).startswith(f"pf-agent: {FLEET}:2: mydomain: ")


def test_the_name_of_the_host_is_changed_where_it_was_answered(site: Site) -> None:
    before = site.machine.read_text(SITE)
    done = site.agent("set", "mydomain=other.test")
    assert (done.returncode, done.stdout) == (0, f"{SITE}: mydomain\n")
    eventually(lambda: site.explicit()["mydomain"] == "other.test", "the new name in main.cf")
    site.wait_settled()
    site.machine.write_text(SITE, before)
    eventually(lambda: site.explicit()["mydomain"] != "other.test", "the old name in main.cf")
    site.wait_right()


def test_adopt_while_suspended(site: Site) -> None:
    assert site.agent("suspend", "--reason", "a test").returncode == 0
    site.machine.sh(
        "postconf -e 'mynetworks = 127.0.0.0/8' && postconf -X home_mailbox"
        f" && printf 'virtual_alias_domains =\\n\\ta.test\\n\\n\\tb.test\\n' >> {MAIN_CF}"
    )
    drifted = site.read()
    assert site.agent("diff").returncode == 3
    changed = ["mynetworks", "home_mailbox", "virtual_alias_domains"]
    done = site.agent("adopt", *changed, "debugger_command")
    assert done.returncode == 0, done.stderr
    assert site.agent("diff").returncode == 0
    since = site.cursor()
    assert site.agent("resume").returncode == 0
    eventually(lambda: bool(site.records("resumed", since)), "the end of the suspension")
    site.wait_settled()
    assert site.read() == drifted
    assert site.drift_of(since) == []
    assert site.serves()


def test_adopt_while_observing(site: Site) -> None:
    options = site.machine.read_bytes(AGENT_TOML)
    site.machine.write_text(AGENT_TOML, 'mode = "observe"\n')
    try:
        site.wait_phase("observing")
        site.machine.run(["postconf", "-e", "mynetworks=127.0.0.0/8"])
        done = site.agent("adopt", "mynetworks")
        assert (done.returncode, done.stdout) == (0, f"{LOCAL}: mynetworks\n")
        assert site.agent("diff").returncode == 0
    finally:
        site.machine.write_bytes(AGENT_TOML, options)


def test_adopt_asks_on_a_terminal_alone(site: Site) -> None:
    done = site.agent("adopt")
    assert done.returncode == 2
    assert "no terminal to ask on" in one_line(done)


def test_init_knows_the_shipped_states(site: Site) -> None:
    done = site.agent("init", "--from", "x")
    assert done.returncode == 2
    known = one_line(done).rpartition("choose ")[2].split(", ")
    assert {"guide", "null-client", "relay-docker"} <= set(known)
    told = site.agent("init", "--list", user="nobody")
    assert [line.split()[0] for line in told.stdout.splitlines()] == sorted(known)
    shipped = site.machine.read_bytes(DESIRED_TOML)
    assert site.agent("init", "--from", "guide").returncode == 0
    assert site.machine.read_bytes(DESIRED_TOML) == shipped
    site.machine.write_bytes(DESIRED_TOML, b"# mine\n" + shipped)
    done = site.agent("init", "--from", "guide")
    assert done.returncode == 1
    assert "it was edited" in one_line(done)
    site.machine.write_bytes(DESIRED_TOML, shipped)
