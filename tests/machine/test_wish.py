"""set, adopt and init on a machine: judged by its Postfix, taken up by the running daemon."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from pf_agent import names
from tests.machine.site import AGENT_TOML, DESIRED_TOML, MAIN_CF, Site, eventually
from tests.machine.site import DROPIN as SITE

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


def test_a_misspelt_parameter_is_told_of(site: Site) -> None:
    done = site.agent("set", "mynetwork=127.0.0.0/8")
    assert done.returncode == 0
    assert "mynetwork" in done.stderr
    assert done.stderr.startswith("pf-agent: warning: ")


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
    known = one_line(done).rpartition("there are ")[2].split(", ")
    assert {"guide", "null-client", "relay-docker"} <= set(known)
    shipped = site.machine.read_bytes(DESIRED_TOML)
    assert site.agent("init", "--from", "guide").returncode == 0
    assert site.machine.read_bytes(DESIRED_TOML) == shipped
    site.machine.write_bytes(DESIRED_TOML, b"# mine\n" + shipped)
    done = site.agent("init", "--from", "guide")
    assert done.returncode == 1
    assert "it was edited" in one_line(done)
    site.machine.write_bytes(DESIRED_TOML, shipped)
