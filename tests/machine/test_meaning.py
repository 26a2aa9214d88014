"""Drift is what Postfix would notice; what nobody named; and a reload where a reload is enough."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from pf_agent import names
from tests.machine.site import AGENT_TOML, EXTRA, MAIN_CF, SETTLE_SECONDS, Site, eventually

# What the guide asks for, in other words. Each stands on the line of its parameter.
OTHER_WORDS = {
    "mynetworks": "mynetworks=127.0.0.0/8,\n\t[::1]/128\n# Docker\n  172.16.0.0/12 ,[fe80::]/64",
    "disable_vrfy_command": "disable_vrfy_command = YES",
    "message_size_limit": "message_size_limit =\n    +010485760",
    "mydestination": "mydestination = $myhostname localhost.$mydomain\n localhost\t$mydomain",
    "inet_protocols": "inet_protocols\t=\tall",
}

# Without these Postfix would not start, or would refuse every recipient.
NEEDED = 'ignore = ["compatibility_level", "*_directory"]\n'


@pytest.fixture(autouse=True)
def _at_rest(site: Site) -> Iterator[None]:
    options = site.machine.read_text(AGENT_TOML)
    site.forget_restarts()
    yield
    site.machine.run(["rm", "-f", EXTRA])
    site.machine.write_text(AGENT_TOML, options)
    site.put(site.good)
    site.machine.run(["systemctl", "reload", "pf-agent"])
    site.wait_right()
    site.wait_settled()


def put_line(text: bytes, name: str, line: str) -> bytes:
    lines = text.split(b"\n")
    (row,) = [i for i, each in enumerate(lines) if each.startswith(f"{name} =".encode())]
    lines[row] = line.encode()
    return b"\n".join(lines)


def look(site: Site) -> None:
    """Have the agent look: a reload ends when it has."""
    site.machine.run(["systemctl", "reload", "pf-agent"])


def test_the_same_in_other_words_is_no_drift(site: Site) -> None:
    text = site.good
    for name, line in OTHER_WORDS.items():
        text = put_line(text, name, line)
    since = site.cursor()
    site.put(text)
    look(site)
    done = site.machine.run(["pf-agent", "diff"])
    assert (done.stdout, done.stderr) == ("", "")
    assert site.records("drift-detected", since) == []
    assert site.read() == text
    assert site.starts(since) == []
    site.wait_settled()
    # Postfix itself reads the same in both: postconf's words for its own comparison.
    explicit = site.explicit()
    assert explicit["mynetworks"].replace(",", " ").split() == [
        *("127.0.0.0/8", "[::1]/128", "172.16.0.0/12", "[fe80::]/64"),
    ]
    # Other drift is corrected, and their words are left to them.
    site.put(text.replace(b"\nhome_mailbox = Maildir/", b"\nhome_mailbox = Mailbox"))
    site.wait_right(text)
    assert [r[names.FIELD_PARAMETER] for r in site.drift_of(since)] == ["home_mailbox"]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("mynetworks", "mynetworks = [::1]/128 127.0.0.0/8 172.16.0.0/12 [fe80::]/64"),
        ("smtpd_banner", "smtpd_banner = $myhostname  ESMTP"),
        ("message_size_limit", "message_size_limit = 10485761"),
    ],
)
def test_what_postfix_would_notice_is_drift(site: Site, name: str, line: str) -> None:
    since = site.cursor()
    site.put(put_line(site.good, name, line))
    site.wait_right()
    assert [r[names.FIELD_PARAMETER] for r in site.drift_of(since)] == [name]


# --- what the desired state does not name -----------------------------------------------------


def test_what_nobody_named_is_reported_once_and_left(site: Site) -> None:
    others = sorted(site.explicit().keys() - site.desired().parameters())
    text = site.good + b"biff = no\nsoft_bounce = no\n"
    site.put(text)
    since = site.cursor()
    site.machine.write_text(
        EXTRA, f'unmanaged = "report"\nignore = {json.dumps(["b*f", *others])}\n'
    )
    eventually(lambda: bool(site.drift_of(since)), "a report")
    look(site)
    found = [(r[names.FIELD_PARAMETER], r[names.FIELD_KIND]) for r in site.drift_of(since)]
    assert found == [("soft_bounce", "unmanaged")]
    assert site.read() == text
    assert site.starts(since) == []
    status = site.machine.run(["pf-agent", "status"]).stdout
    assert status.startswith("in sync: 21 parameters, with a warning\n")
    assert "  wrong: main.cf also sets soft_bounce\n" in status
    assert site.machine.run(["pf-agent", "diff"], check=False).returncode == 3


def test_what_nobody_named_is_commented_out(site: Site) -> None:
    text = site.good + b"biff = no\n"
    site.put(text)
    since = site.cursor()
    site.machine.write_text(EXTRA, f'unmanaged = "comment_out"\n{NEEDED}')
    eventually(lambda: bool(site.records("activated", since)), "an activation", SETTLE_SECONDS)
    lines = site.read().split(b"\n")
    assert b"#biff = no" in lines
    assert not any(line.startswith(b"debugger_command") for line in lines)
    assert "compatibility_level" in site.explicit()
    assert "biff" not in site.explicit()
    assert site.serves()


# --- the least that serves --------------------------------------------------------------------


def test_auto_reloads_where_that_is_enough_and_restarts_where_it_is_not(site: Site) -> None:
    site.machine.write_text(AGENT_TOML, 'activation = "auto"\n')
    look(site)
    since = site.cursor()
    site.machine.run(["sed", "-i", "s|^smtpd_banner *=.*|smtpd_banner = x ESMTP|", MAIN_CF])
    site.wait_right()
    eventually(lambda: bool(site.records("activated", since)), "an activation", SETTLE_SECONDS)
    site.wait_settled()
    assert site.starts(since) == []
    assert "reload" in site.records("activated", since)[0]["MESSAGE"]
    assert site.serves()
    site.forget_restarts()
    since = site.cursor()
    site.machine.run(["sed", "-i", "s|^inet_protocols *=.*|inet_protocols = ipv4|", MAIN_CF])
    site.wait_right()
    eventually(lambda: bool(site.records("activated", since)), "an activation", SETTLE_SECONDS)
    site.wait_settled()
    assert len(site.starts(since)) == 1
