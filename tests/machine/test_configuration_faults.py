"""A faulty configuration never reaches Postfix and is told line by line; a good one applies."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import pytest

from pf_agent import names
from pf_agent.files.kept_options import NAME as LAST_GOOD_OPTIONS
from tests.machine.site import AGENT_TOML, DESIRED_TOML, INTRUDE, MAIN_CF, Site, eventually

pytestmark = pytest.mark.long

FAULTY = f"{names.CONFIG_DIRECTORY}/{names.DESIRED_DROPINS}/90-faulty.toml"
EXTRA = f"{names.CONFIG_DIRECTORY}/{names.DESIRED_DROPINS}/95-extra.toml"
STATUS_JSON = f"{names.RUN_DIRECTORY}/status.json"

THREE_FAULTS = """\
[settings]
relayhost = 1.5
biff = "yes\\nno"
no_such_key = { a = 1 }
"""


@dataclass(frozen=True)
class Fault:
    """What stands in a drop-in, and how the one line about it begins, after the file's name."""

    text: str
    told: str


FAULTS = {
    "syntax": Fault("[settings]\nbiff = no\n", r":2: not valid TOML: .+; .+"),
    "an open string": Fault('[settings]\nbiff = "no\n', r":2: not valid TOML: .+; .+"),
    "given twice": Fault("[settings]\nbiff = true\nbiff = true\n", r":3: not valid TOML: .+; .+"),
    "an unknown key": Fault("setings = 1\n", r":1: setings: unknown key; did you mean settings\?"),
    "a parameter outside": Fault("biff = true\n", r":1: biff: unknown key; .+"),
    "a wrong type": Fault(
        "[settings]\nrelayhost = 1.5\n", r":2: \[settings\] relayhost: expected .+; write .+"
    ),
    "a list of numbers": Fault(
        "[settings]\nmynetworks = [1, 2]\n", r":2: \[settings\] mynetworks.*: expected .+; .+"
    ),
    "a line break": Fault(
        '[settings]\nmydestination = "a\\nb"\n',
        r":2: \[settings\] mydestination: a value may not contain a line break; .+",
    ),
    "a bad name": Fault(
        '[settings]\n"my networks" = "::1"\n', r':2: \[settings\] "my networks": .+'
    ),
    "in both": Fault('use_default = ["biff"]\n[settings]\nbiff = true\n', r":\d: .*biff.+"),
    "no text": Fault("[settings]\nbiff = '\xff'\n", r":2: byte 0xff is not UTF-8; .+"),
}


@pytest.fixture(autouse=True)
def _mended(site: Site) -> Iterator[None]:
    """Each test leaves a good configuration and a good main.cf."""
    yield
    site.machine.run(["rm", "-rf", FAULTY, EXTRA])
    site.machine.wait_until("pf-agent check && pf-agent diff && pf-agent status")
    if site.read() != site.good:
        site.put(site.good)
    site.forget_restarts()


def rejections(site: Site, since: str) -> list[str]:
    """The faults on record, in their order."""
    records = site.records("config-rejected", since)
    assert all(record["MESSAGE"] == record[names.FIELD_REASON] for record in records)
    return [record["MESSAGE"] for record in records]


def wait_for_rejection(site: Site, since: str) -> list[str]:
    eventually(lambda: bool(rejections(site, since)), "a record of the fault")
    return rejections(site, since)


# While the daemon runs


@pytest.mark.parametrize("reload", [False, True], ids=["saved", "reloaded"])
def test_a_faulty_file_is_told_and_the_last_good_state_holds(site: Site, reload: bool) -> None:
    since = site.cursor()
    site.machine.write_text(FAULTY, THREE_FAULTS)
    if reload:
        site.machine.run(["systemctl", "reload", "pf-agent"])
    eventually(lambda: len(rejections(site, since)) >= 3, "a record for each fault")
    told = rejections(site, since)
    wanted = [(2, "relayhost"), (3, "biff"), (4, "no_such_key")]
    for message, (line, key) in zip(told, wanted, strict=False):
        assert message.startswith(f"{FAULTY}:{line}: [settings] {key}: ")
        assert "; " in message
    site.machine.sh(INTRUDE)
    site.wait_right()
    eventually(
        lambda: "3 configuration errors" in site.agent("status").stdout,
        "the faults in the status",
    )
    shown = site.agent("status").stdout.splitlines()
    assert [line for line in shown if "error: " in line] == [f"  error: {t}" for t in told[:3]]

    def is_told_alike() -> bool:
        return bool(site.show("pf-agent", "StatusText") == site.status()["summary"])

    eventually(is_told_alike, "the same sentence in systemd's status")
    assert site.show("pf-agent", "ActiveState") == "active"
    site.machine.run(["rm", FAULTY])
    eventually(lambda: "error" not in site.agent("status").stdout, "a status without errors")
    # A reload tells them once more, since a person asks for it; saving alone tells them once.
    assert len(rejections(site, since)) in ((3, 6) if reload else (3,))


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_one_clear_line(site: Site, kind: str) -> None:
    since = site.cursor()
    site.machine.write_bytes(FAULTY, FAULTS[kind].text.encode("latin-1"))
    (told,) = wait_for_rejection(site, since)
    assert re.fullmatch(re.escape(FAULTY) + FAULTS[kind].told, told)
    assert site.read() == site.good
    # `check` says the same.
    done = site.machine.run(["pf-agent", "check"], check=False)
    assert (done.returncode, done.stdout) == (2, f"{told}\n")


def test_a_folder_in_a_files_place_is_told(site: Site) -> None:
    since = site.cursor()
    site.machine.run(["mkdir", FAULTY])
    (told,) = wait_for_rejection(site, since)
    assert told.startswith(f"{FAULTY}: it is not a regular file; ")


def test_bad_options_leave_the_old_ones_in_force(site: Site) -> None:
    kept, since = site.machine.read_bytes(AGENT_TOML), site.cursor()
    site.machine.write_text(AGENT_TOML, 'mode = "enforced"\n')
    (told,) = wait_for_rejection(site, since)
    assert told.startswith(f"{AGENT_TOML}:1: mode: ")
    site.machine.sh(INTRUDE)
    site.wait_right()
    site.machine.write_bytes(AGENT_TOML, kept)


# Links into a checkout


@pytest.fixture
def checkout(site: Site) -> Iterator[str]:
    """A folder that a drop-in leads to, by a link that is switched from release to release."""
    site.machine.sh("mkdir -p /srv/git/one /srv/git/two && ln -sfn one /srv/git/current")
    site.machine.write_text("/srv/git/one/extra.toml", "[settings]\nbiff = true\n")
    site.machine.write_text("/srv/git/two/extra.toml", '[settings]\nbiff = "no"\n')
    site.machine.run(["ln", "-s", "/srv/git/current/extra.toml", EXTRA])
    site.machine.wait_until(f"grep -qx 'biff = yes' {MAIN_CF}")
    yield "/srv/git"
    site.machine.run(["rm", "-rf", "/srv/git"])


def test_what_a_link_leads_to_is_watched(site: Site, checkout: str) -> None:
    site.machine.sh(f"cd {checkout} && ln -s two new && mv -T new current")
    site.machine.wait_until(f"grep -qx 'biff = no' {MAIN_CF}", 60)
    # As git does it: the new file takes the old one's place.
    site.machine.sh(
        f"cd {checkout}/two && sed 's/no/yes/' extra.toml > new"
        " && rm extra.toml && mv new extra.toml"
    )
    site.machine.wait_until(f"grep -qx 'biff = yes' {MAIN_CF}", 60)
    site.machine.sh(f"cd {checkout} && cp -r one three && mv two old && mv three two")
    site.machine.sh(f"sed -i 's/true/false/' {checkout}/two/extra.toml")
    site.machine.wait_until(f"grep -qx 'biff = no' {MAIN_CF}", 60)


# Drop-ins


def test_a_drop_in_adds_changes_and_gives_back(site: Site) -> None:
    """Applied as soon as it is saved: no command is given."""
    before = site.explicit()
    site.machine.write_text(EXTRA, "[settings]\nbiff = false\nmessage_size_limit = 20971520\n")
    site.machine.wait_until(f"grep -qx 'message_size_limit = 20971520' {MAIN_CF}")
    assert site.explicit() == {**before, "biff": "no", "message_size_limit": "20971520"}
    site.wait_settled()  # else it would go back: Postfix has not served with it yet
    site.machine.write_text(EXTRA, 'use_default = ["message_size_limit"]\n')
    site.machine.wait_until(f"grep -qx '#message_size_limit = 20971520' {MAIN_CF}")
    # What no file names any more is left alone, as it stands.
    without = {name: value for name, value in before.items() if name != "message_size_limit"}
    assert site.explicit() == {**without, "biff": "no"}
    site.machine.run(["rm", EXTRA])
    site.machine.wait_until(f"grep -qx 'message_size_limit = 10485760' {MAIN_CF}")
    assert site.explicit() == {**before, "biff": "no"}


def test_the_later_drop_in_wins(site: Site) -> None:
    site.machine.write_text(FAULTY, '[settings]\nsmtpd_banner = "$myhostname first"\n')
    site.machine.write_text(EXTRA, '[settings]\nsmtpd_banner = "$myhostname second"\n')
    site.machine.wait_until(f"grep -qx 'smtpd_banner = $myhostname second' {MAIN_CF}")
    site.machine.run(["rm", EXTRA])
    site.machine.wait_until(f"grep -qx 'smtpd_banner = $myhostname first' {MAIN_CF}")


def test_a_new_wish_is_no_drift_of_long_ago(site: Site) -> None:
    """main.cf did as it was told until now, so nobody was exposed before the drop-in was saved."""
    site.wait_remembered()
    since = site.cursor()
    site.machine.write_text(EXTRA, "[settings]\nmessage_size_limit = 20971520\n")
    saved = float(site.machine.run(["stat", "-c", "%.6Z", EXTRA]).stdout)
    eventually(lambda: bool(site.records("drift-corrected", since)), "the correction")
    (record,) = site.records("drift-corrected", since)
    written_at = record[names.FIELD_WRITTEN_AT].replace("Z", "+00:00")
    # The record holds whole milliseconds.
    assert datetime.fromisoformat(written_at).timestamp() >= saved - 0.001


# When the daemon starts


@pytest.fixture
def stopped(site: Site) -> Iterator[None]:
    """The daemon is stopped; at the end it runs with good files."""
    desired, options = site.machine.read_bytes(DESIRED_TOML), site.machine.read_bytes(AGENT_TOML)
    site.machine.run(["systemctl", "stop", "pf-agent"])
    yield
    site.machine.write_bytes(DESIRED_TOML, desired)
    site.machine.write_bytes(AGENT_TOML, options)
    site.machine.run(["systemctl", "start", "pf-agent"])


def test_an_address_that_comes_up_later_is_taken_then(site: Site) -> None:
    site.wait_settled()  # a wish that nobody was served with yet would go back with this one
    options = site.machine.read_text(AGENT_TOML)
    site.machine.write_text(AGENT_TOML, f"{options}\n[watch]\nlook_every_seconds = 1\n")
    since = site.cursor()
    site.machine.write_text(EXTRA, '[settings]\ninet_interfaces = "127.0.0.1, 192.0.2.9"\n')
    eventually(lambda: bool(site.records("config-rejected", since)), "a record of the refusal")
    eventually(
        lambda: "configuration error" in site.agent("status").stdout,
        "the fault in the status",
    )
    looked = json.loads(site.machine.read_text(STATUS_JSON))["next_look"]
    site.machine.wait_until(f"test $(date +%s) -gt {int(looked) + 2}")
    (told,) = site.records("config-rejected", since)  # judged again, and told once
    assert "192.0.2.9" in told["MESSAGE"]
    assert site.read() == site.good
    site.machine.run(["ip", "address", "add", "192.0.2.9/32", "dev", "lo"])
    eventually(lambda: b"192.0.2.9" in site.read(), "the address in main.cf")
    eventually(lambda: "error" not in site.agent("status").stdout, "a status without errors")
    site.machine.run(["rm", EXTRA])
    site.machine.write_text(AGENT_TOML, options)
    site.machine.run(["systemctl", "reload", "pf-agent"])
    site.put(site.good)
    site.wait_right()
    site.wait_settled()
    site.machine.run(["ip", "address", "del", "192.0.2.9/32", "dev", "lo"])


@pytest.mark.usefixtures("stopped")
def test_a_start_with_a_bad_desired_state_takes_the_last_good_one(site: Site) -> None:
    site.machine.sh(f"{INTRUDE}; echo 'oops' >> {DESIRED_TOML}")
    since = site.cursor()
    site.machine.run(["systemctl", "start", "pf-agent"])
    site.wait_right()
    (told,) = wait_for_rejection(site, since)
    assert re.match(re.escape(DESIRED_TOML) + r":\d+: not valid TOML: ", told)
    shown = site.agent("status").stdout
    assert "1 configuration error" in shown
    assert told in shown


@pytest.mark.usefixtures("stopped")
def test_a_start_that_never_had_a_good_one_only_looks(site: Site) -> None:
    site.machine.sh(f"rm -rf {names.STATE_DIRECTORY}/*; {INTRUDE}; echo 'oops' >> {DESIRED_TOML}")
    drifted = site.read()
    since = site.cursor()
    site.machine.run(["systemctl", "start", "pf-agent"])
    eventually(lambda: site.stands()[0] == "observing", "a status of observing")
    assert site.read() == drifted
    assert site.agent("status").stdout.startswith(
        "observe mode, there has never been a valid desired state; 1 configuration error"
    )
    assert len(rejections(site, since)) == 1
    assert site.records("drift-corrected", since) == []
    assert site.show("pf-agent", "ActiveState") == "active"
    # It mends itself once the file is right.
    site.machine.sh(f"sed -i '/^oops$/d' {DESIRED_TOML}")
    site.wait_right()
    eventually(lambda: "error" not in site.agent("status").stdout, "a status without errors")


BAD_OPTIONS = '# what I like\nmode = "enforced"\n'


@pytest.mark.usefixtures("stopped")
def test_a_start_with_bad_options_takes_the_last_good_ones(site: Site) -> None:
    site.machine.write_text(AGENT_TOML, BAD_OPTIONS)
    site.machine.sh(INTRUDE)
    since = site.cursor()
    site.machine.run(["systemctl", "start", "pf-agent"])
    site.wait_right()
    (told,) = wait_for_rejection(site, since)
    assert told.startswith(f"{AGENT_TOML}:2: mode: ")
    shown = site.agent("status").stdout
    assert "1 configuration error" in shown
    assert told in shown


@pytest.mark.usefixtures("stopped")
def test_a_start_that_never_had_good_options_only_looks(site: Site) -> None:
    kept = site.machine.read_bytes(AGENT_TOML)
    site.machine.write_text(AGENT_TOML, BAD_OPTIONS)
    site.machine.sh(f"rm {names.STATE_DIRECTORY}/{LAST_GOOD_OPTIONS}; {INTRUDE}")
    drifted, since = site.read(), site.cursor()
    site.machine.run(["systemctl", "start", "pf-agent"])
    eventually(lambda: site.stands()[0] == "observing", "a status of observing")
    assert site.read() == drifted
    eventually(lambda: len(rejections(site, since)) == 2, "a record of what it does")
    told = f"{AGENT_TOML}: no valid version is known, so main.cf is only observed; fix the error"
    assert rejections(site, since)[1] == told
    assert told in site.agent("status").stdout
    assert told in site.agent("check").stdout
    site.machine.write_bytes(AGENT_TOML, kept)
    site.wait_right()
    assert told not in site.agent("check").stdout


@pytest.mark.usefixtures("stopped")
def test_no_main_cf_and_no_template_is_told(site: Site) -> None:
    # Debian 13's Postfix makes a main.cf of its own where it starts without one.
    site.machine.run(["systemctl", "stop", "postfix", "postfix@-"])
    site.machine.sh(
        f"rm -rf {names.STATE_DIRECTORY}/* {MAIN_CF};"
        f" sed -i 's|^template = .*|template = \"/etc/postfix/gone\"|' {DESIRED_TOML}"
    )
    since = site.cursor()
    site.machine.run(["systemctl", "start", "pf-agent"])
    eventually(lambda: bool(site.records("correction-failed", since)), "the record")
    (record,) = site.records("correction-failed", since)
    told = "/etc/postfix/gone: No such file or directory; name another file as `template`"
    assert record["MESSAGE"].startswith(told)
    done = site.machine.run(["pf-agent", "status"], check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("stalled: ")
    assert f"  wrong: {told}" in done.stdout
    done = site.machine.run(["pf-agent", "diff"], check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"pf-agent: {told}")
    site.machine.sh(f"sed -i 's|^template = .*|template = \"{MAIN_CF}.proto\"|' {DESIRED_TOML}")
    site.machine.wait_until("pf-agent diff", 60)
    # What a person stopped is left so.
    site.machine.run(["systemctl", "start", "postfix"])
    site.machine.wait_until("pf-agent status", 60)
