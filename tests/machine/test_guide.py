"""The guide seen from outside, as a mail client sees it: GUIDE's list, point by point."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from pf_agent import names
from tests.machine.nspawn import Machine
from tests.machine.site import Site

ALIASES = "/etc/aliases"
MAILDIR = "/home/alice/Maildir/new"

# Sends one command after another; prints the answers as JSON, the greeting first.
DIALOGUE = """
import json, socket, sys
place, *commands = sys.argv[1:]
host, _, scope = place.partition("%")
family, _, _, _, address = socket.getaddrinfo(place, 25, type=socket.SOCK_STREAM)[0]
client = socket.socket(family)
client.settimeout(60)
client.connect(address)
lines = client.makefile("rb")
def answer():
    found = []
    while not found or found[-1][3:4] == "-":
        found.append(lines.readline().decode().rstrip("\\r\\n"))
    return found
answers = [answer()]
for command in commands:
    client.sendall(command.encode() + b"\\r\\n")
    answers.append(answer())
print(json.dumps(answers))
"""

# A mail without SIZE= at MAIL: the limit shows only when its bytes have come.
TOO_BIG = """
import smtplib
with smtplib.SMTP("127.0.0.1", 25, timeout=60) as client:
    client.ehlo()
    client.docmd("MAIL", "FROM:<bob@example.test>")
    client.docmd("RCPT", "TO:<alice@example.test>")
    print(*client.data(b"Subject: big\\r\\n\\r\\n" + (b"x" * 76 + b"\\r\\n") * 140_000))
"""

# Each is a network of two: the machine's own end, and the end of a client in a namespace.
NETWORKS = {
    "docker": ("172.20.0.1", "172.20.0.2"),
    "docker-end": ("172.31.255.1", "172.31.255.2"),
    "beyond": ("172.32.0.1", "172.32.0.2"),
    "private": ("192.168.7.1", "192.168.7.2"),
    "public": ("192.0.2.1", "192.0.2.2"),
    "public6": ("2001:db8::1", "2001:db8::2"),
    "link": ("fe80::1", "fe80::2"),
}
MAY_RELAY = ("docker", "docker-end", "link")


@pytest.fixture(scope="module")
def site(agent_machine: Machine) -> Site:
    agent_machine.sh("useradd --create-home alice; useradd --create-home bob")
    return Site.prepared(agent_machine)


@pytest.fixture(scope="module")
def networks(site: Site) -> Iterator[None]:
    """The namespaces of the clients, and a veth pair to each."""
    for name, (ours, theirs) in NETWORKS.items():
        bits, nodad = ("64", "nodad") if ":" in ours else ("24", "")
        site.machine.sh(
            f"ip netns add {name}"
            f" && ip link add v-{name} type veth peer name eth0 netns {name}"
            f" && ip address add {ours}/{bits} dev v-{name} {nodad}"
            f" && ip -n {name} address add {theirs}/{bits} dev eth0 {nodad}"
            f" && ip link set v-{name} up && ip -n {name} link set eth0 up"
        )
    yield
    for name in NETWORKS:
        site.machine.run(["ip", "netns", "delete", name])
    assert site.machine.sh("ip netns list; ip -o link | grep veth || true") == ""


def talk(site: Site, *commands: str, client: str = "") -> list[list[str]]:
    """The answers on port 25, from this machine or from a client's network."""
    inside, place = ["python3", "-c", DIALOGUE], "127.0.0.1"
    if client:
        inside = ["ip", "netns", "exec", client, *inside]
        place = NETWORKS[client][0] + ("%eth0" if client == "link" else "")
    found: list[list[str]] = json.loads(site.machine.run([*inside, place, *commands]).stdout)
    return found


def rcpt(site: Site, recipient: str, client: str) -> str:
    """The answer for a recipient, as a client of that network gets it."""
    sender = "MAIL FROM:<somebody@outside.example>"
    return talk(site, "EHLO client.example", sender, f"RCPT TO:<{recipient}>", client=client)[3][0]


def mail(site: Site, recipient: str, subject: str) -> str:
    """Have bob hand a mail to sendmail; return it as it arrived in alice's Maildir."""
    text = f"Subject: {subject}\n\nA line.\n"
    site.machine.run(["runuser", "-u", "bob", "--", "sendmail", recipient], input=text)
    site.machine.wait_until(f"grep -lx 'Subject: {subject}' {MAILDIR}/*", 60)
    found = site.machine.sh(f"grep -lx 'Subject: {subject}' {MAILDIR}/*").split()
    assert len(found) == 1
    return site.machine.read_text(found[0])


def postfix_invocations(site: Site) -> list[str]:
    return [site.show(unit, "InvocationID") for unit in (names.POSTFIX_UNIT, site.unit)]


def test_it_greets_without_a_word_of_its_software(site: Site) -> None:
    assert talk(site)[0] == ["220 mail.example.test ESMTP"]


def test_ehlo_offers_the_size_and_no_vrfy(site: Site) -> None:
    offered = [line[4:] for line in talk(site, "EHLO client.example")[1]]
    assert offered[0] == "mail.example.test"
    assert "SIZE 10485760" in offered
    assert "VRFY" not in offered


def test_vrfy_is_refused(site: Site) -> None:
    answers = talk(site, "EHLO client.example", "VRFY root")
    assert answers[2][0].startswith("502 ")


def test_local_mail_is_one_file_from_the_hosts_own_name(site: Site) -> None:
    arrived = mail(site, "alice", "by sendmail")
    assert "Return-Path: <bob@mail.example.test>\n" in arrived
    assert "From: bob@mail.example.test\n" in arrived
    assert arrived.endswith("\n\nA line.\n")


@pytest.mark.usefixtures("networks")
@pytest.mark.parametrize("client", NETWORKS)
def test_who_may_relay(site: Site, client: str) -> None:
    answer = rcpt(site, "somebody@elsewhere.example", client)
    if client in MAY_RELAY:
        assert answer.startswith("250 ")
    else:
        assert answer.startswith(("454 ", "554 5.7.1 "))
        assert "Relay access denied" in answer


@pytest.mark.usefixtures("networks")
@pytest.mark.parametrize(
    "domain", ["mail.example.test", "localhost.example.test", "localhost", "example.test"]
)
def test_a_stranger_may_write_to_the_hosts_own_domains(site: Site, domain: str) -> None:
    assert rcpt(site, f"alice@{domain}", "public").startswith("250 ")
    unknown = rcpt(site, f"nobody-here@{domain}", "public")
    assert unknown.startswith("550 ")
    assert "User unknown in local recipient table" in unknown


def test_a_mail_that_says_it_is_too_big_is_refused(site: Site) -> None:
    sender = "MAIL FROM:<bob@example.test>"
    answers = talk(site, "EHLO client.example", f"{sender} SIZE=10485761")
    assert answers[2][0].startswith("552 5.3.4 ")
    answers = talk(site, "EHLO client.example", f"{sender} SIZE=10485760")
    assert answers[2][0].startswith("250 ")


def test_a_mail_that_turns_out_too_big_is_refused(site: Site) -> None:
    assert site.run_python(TOO_BIG).startswith("552 b'5.3.4 ")


def test_a_new_alias_works_without_a_restart(site: Site) -> None:
    before = postfix_invocations(site)
    site.machine.sh(f"echo 'info: alice' >> {ALIASES}")
    site.machine.wait_until(f'test "$(postalias -q info hash:{ALIASES})" = alice')
    assert "X-Original-To: info@example.test\n" in mail(site, "info@example.test", "info")
    assert postfix_invocations(site) == before


def test_a_bad_line_among_the_aliases_is_told_of(site: Site) -> None:
    site.machine.sh(f"printf 'postmaster root\\ninfo: bob\\n' > {ALIASES}")
    said = f"newaliases: {ALIASES}, line 1: need name:value pair; fix the file"
    site.machine.wait_until(f"journalctl -u pf-agent -p warning -o cat | grep -Fx '{said}'")
    assert site.machine.run(["postalias", "-q", "info", f"hash:{ALIASES}"]).stdout == "bob\n"


def test_an_alias_file_from_long_ago_works_too(site: Site) -> None:
    """`mv` brings an older file than the database: by their dates alone it would look done."""
    before = postfix_invocations(site)
    # Postfix compares whole seconds: a local(8) that opened the database of this very second does
    # not see that it is another one now.
    time.sleep(1.1)
    site.machine.sh(
        f"printf 'postmaster: root\\nsales: alice\\n' > /root/new"
        f" && touch -d '2020-01-01 12:00' /root/new && mv /root/new {ALIASES}"
    )
    site.machine.wait_until(f'test "$(postalias -q sales hash:{ALIASES})" = alice')
    mail(site, "sales@example.test", "sales")
    assert postfix_invocations(site) == before
