"""The ready-made desired states: real Postfix judges each, and obeys it as its comments say.

One machine that began as Debian's "Internet Site"; mail that leaves it ends in Postfix's smtp-sink.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.machine.nspawn import Machine
from tests.machine.site import DESIRED_TOML, DROPIN, MAIN_CF, SITE, Site, eventually

READY = "/usr/share/pf-agent/desired"
STATES = ("guide", "null-client", "relay-docker", "submission")
THEIRS = "/root/internet-site.main.cf"
TEXTS = ("/etc/postfix/main.cf.proto", THEIRS)
CONTAINER = "172.17.0.5"
STRANGER = "203.0.113.9"
SINK = "/root/sink"

JUDGE = """
import dataclasses, json, sys
from pf_agent.files.configuration import load_desired_file
from pf_agent.reconcile.drift import corrected
from pf_agent.maincf.document import MainCf
from pf_agent.postfix.installed import Postfix
state, text = sys.argv[1:]
with open(text, "rb") as file:
    candidate = corrected(MainCf.parse(file.read()), load_desired_file(state)).render()
print(json.dumps(dataclasses.asdict(Postfix("/etc/postfix", "/run/pf-agent").judge(candidate))))
"""
# Prints the codes and words of a whole mail, handed in from one of the machine's addresses.
SEND = """
import json, smtplib, sys
source, recipient = sys.argv[1:]
with smtplib.SMTP(source, 25, source_address=(source, 0), timeout=30) as client:
    client.ehlo("client.example")
    client.mail("app@container.example")
    answers = [client.rcpt(recipient)]
    if answers[0][0] == 250:
        answers.append(client.data(b"Subject: from a container\\r\\n\\r\\nA line.\\r\\n"))
print(json.dumps([f"{code} {words.decode()}" for code, words in answers]))
"""


@pytest.fixture(scope="module")
def site(internet_site: Machine, deb: Path) -> Iterator[Site]:
    machine = internet_site
    machine.run(["cp", MAIN_CF, THEIRS])
    machine.serve_apt([deb])
    machine.apt_install("pf-agent")
    machine.sh(f"ip addr add {CONTAINER}/16 dev lo; ip addr add {STRANGER}/32 dev lo; mkdir {SINK}")
    machine.run(["useradd", "--create-home", "alice"])
    # -h: Postfix takes a server that greets with its own name for itself.
    sink = ["smtp-sink", "-u", "root", "-h", "out.example", "-d", f"{SINK}/mail."]
    with machine.start([*sink, "127.0.0.1:2525", "10"]) as running:
        yield Site.prepared(machine)
        running.terminate()


@pytest.fixture(scope="module")
def null_client(site: Site) -> Site:
    return activated(site, "null-client")


@pytest.fixture(scope="module")
def relay(site: Site) -> Site:
    return activated(site, "relay-docker")


def activated(site: Site, state: str) -> Site:
    """Make it the desired state, with the sink as the way out, and wait until Postfix obeys."""
    machine = site.machine
    machine.write_text(DROPIN, f'{SITE}relayhost = "[127.0.0.1]:2525"\n')
    machine.run(["cp", f"{READY}/{state}.toml", DESIRED_TOML])
    machine.run(["systemctl", "reload", "pf-agent"])
    machine.wait_until("grep -q '^local_transport = error:' /etc/postfix/main.cf && pf-agent diff")
    site.wait_settled()
    assert site.is_obeyed()
    return site


def send(site: Site, source: str, recipient: str) -> list[str]:
    answers: list[str] = json.loads(site.run_python(SEND, source, recipient))
    return answers


def wait_sent(site: Site, words: str) -> str:
    """Wait until a mail with these words left; return it."""
    site.machine.wait_until(f"grep -l '{words}' {SINK}/*", 60)
    return site.machine.sh(f"cat $(grep -l '{words}' {SINK}/*)")


def listeners(site: Site) -> set[str]:
    """The addresses where port 25 is open."""
    lines = site.machine.run(["ss", "-Hltn", "sport = :25"]).stdout.splitlines()
    return {line.split()[3].rpartition(":")[0] for line in lines}


def test_these_are_there(site: Site) -> None:
    found = site.machine.run(["ls", READY]).stdout.split()
    assert found == [f"{state}.toml" for state in STATES]


def test_the_guides_is_the_one_in_force(site: Site) -> None:
    site.machine.run(["cmp", f"{READY}/guide.toml", DESIRED_TOML])


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("state", STATES)
def test_postfix_judges_it_good(site: Site, state: str, text: str) -> None:
    judged: dict[str, Any] = json.loads(site.run_python(JUDGE, f"{READY}/{state}.toml", text))
    assert judged == {"fatal": "", "warnings": [], "faults": [], "absent": []}


# A null client


def test_a_null_client_is_not_heard_outside(null_client: Site) -> None:
    assert listeners(null_client) <= {"127.0.0.1", "[::1]"}
    assert null_client.serves()


def test_a_null_client_sends(null_client: Site) -> None:
    mail = "Subject: report\n\nnull-client\n"
    null_client.machine.run(["runuser", "-u", "alice", "--", "sendmail", "root"], input=mail)
    sent = wait_sent(null_client, "^null-client")
    assert "alice@example.test" in sent
    assert "X-Rcpt-Args: <root@example.test>" in sent


def test_a_null_client_delivers_nothing(null_client: Site) -> None:
    since = null_client.cursor()
    null_client.machine.run(["sendmail", "-f", "alice", "alice@[127.0.0.1]"], input="here\n")
    words = "this host delivers no mail locally"
    eventually(lambda: any(words in str(e["MESSAGE"]) for e in null_client.entries(since)), words)
    assert not null_client.machine.sh("find /var/mail /home/alice -name 'alice' -type f")
    wait_sent(null_client, "Undelivered Mail Returned to Sender")


# A relay


def test_a_container_may_relay(relay: Site) -> None:
    assert [code[:3] for code in send(relay, CONTAINER, "bob@elsewhere.example")] == ["250", "250"]
    sent = wait_sent(relay, "from a container")
    assert "X-Mail-Args: <app@container.example>" in sent
    assert "X-Rcpt-Args: <bob@elsewhere.example>" in sent


@pytest.mark.parametrize(
    "recipient", ["bob@elsewhere.example", "alice@mail.example.test", "alice@example.test"]
)
def test_a_stranger_may_not(relay: Site, recipient: str) -> None:
    (answer,) = send(relay, STRANGER, recipient)
    assert answer.startswith("554 5.7.1 ")
    assert "Relay access denied" in answer


def test_a_relay_listens_everywhere(relay: Site) -> None:
    assert "0.0.0.0" in listeners(relay)
