"""What master or a service refuses in a master.cf that postconf accepts."""

from __future__ import annotations

import dataclasses

import pytest

from pf_agent.maincf.master_cf import MasterCf
from pf_agent.maincf.master_faults import Surroundings, faults, ports_of
from pf_agent.model import Listener

SETTINGS = {"daemon_directory": "/d", "queue_directory": "/q"}
FILES = {"/d/smtpd", "/d/pipe", "/q/private"}
OWN = ("192.0.2.1", "127.0.0.1", "::1")
PORTS = {"smtp": 25, "submission": 587, "smtps": 465, "submissions": 465}
AROUND = Surroundings(SETTINGS, FILES.__contains__, PORTS.get, OWN.__contains__)


def found(text: str, around: Surroundings = AROUND) -> list[tuple[str, str]]:
    return [(f.parameter, f.reason) for f in faults(MasterCf.parse(text.encode()), around)]


@pytest.mark.parametrize(
    "text",
    [
        "smtp inet n - y - - smtpd\n127.0.0.1:smtp inet n - y - - smtpd\n",
        "192.0.2.1:submission inet n - y - - smtpd -o smtpd_sasl_auth_enable=yes\n",
        "[::1]:2525 inet n - y - - smtpd -o smtpd_sasl_auth_enable=${x}\n",
        "host.example:25 inet n - y - - smtpd\n",
        "a unix - n n - - pipe argv=x\n",
        "smtp inet n - y - - smtpd -o smtp_timeout=never\n",
    ],
)
def test_what_master_starts_with(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "part", "reason"),
    [
        ("smtp inet - - y - - smtpd", "smtp/inet/private", "inet service cannot be private; - m"),
        ("smtp inet y - y - - smtpd", "smtp/inet/private", "inet service cannot be private; - m"),
        ("smpt inet n - y - - smtpd", "smpt/inet", "smpt: there is no such port in services(5)"),
        ("70000 inet n - y - - smtpd", "70000/inet", "70000 is not a port; they are 1 to 65535"),
        ("0 inet n - y - - smtpd", "0/inet", "0 is not a port; they are 1 to 65535"),
        (
            "192.0.2.9:25 inet n - y - - smtpd",
            "192.0.2.9:25/inet",
            "bind 192.0.2.9 port 25: the host has no such address",
        ),
        ("25 inet n - y - - smptd", "25/inet/command", "exec /d/smptd: No such file or directory"),
        ("a/b unix - - n - - pipe", "a/b/unix", "bind: private/a/b: No such file or directory"),
        ("a/b unix n - n - - pipe", "a/b/unix", "bind: public/a/b: No such file or directory"),
        ("a unix - - n - - pipe -o {b = c", "a/unix", "missing '}' in \"{b = c\""),
        (
            "25 inet n - y - - smtpd -o smtpd_sasl_auth_enable=maybe",
            "25/inet/smtpd_sasl_auth_enable",
            "bad boolean configuration: smtpd_sasl_auth_enable = maybe",
        ),
        (
            "smtps inet n - y - - smtpd\nsubmissions inet n - y - - smtpd\n",
            "smtps/inet",
            "submissions/inet has the same port, 465, and is used",
        ),
        (
            "smtp inet n - y - - smtpd\n25 inet n - y - - smtpd\n",
            "smtp/inet",
            "25/inet has the same port, 25, and is used",
        ),
    ],
)
def test_what_it_does_not(text: str, part: str, reason: str) -> None:
    ((parameter, why),) = found(text)
    assert parameter == part
    assert why.startswith(reason)


def test_only_the_last_of_a_name_counts() -> None:
    text = "smtp inet - - y - - nothing\nsmtp inet n - y - - smtpd\n"
    assert found(text) == []


def test_what_is_not_known_is_no_fault() -> None:
    around = Surroundings(SETTINGS, lambda _: None, PORTS.get, OWN.__contains__)
    assert found("25 inet n - y - - x\na/b unix - - n - - x\n", around) == []


@pytest.mark.parametrize(
    ("name", "settings", "listener", "is_taken"),
    [
        ("587", {}, Listener("0.0.0.0", 587, False), True),
        ("submission", {}, Listener("127.0.0.1", 587, False), True),
        ("587", {}, Listener("::", 587, True), True),
        ("587", {"inet_protocols": "ipv4"}, Listener("::", 587, True), False),
        ("587", {"inet_protocols": "ipv4"}, Listener("::", 587, False), True),
        ("587", {"inet_protocols": "ipv6"}, Listener("0.0.0.0", 587, False), False),
        ("587", {}, Listener("0.0.0.0", 588, False), False),
        ("587", {"inet_interfaces": "loopback-only"}, Listener("192.0.2.1", 587, False), False),
        ("587", {"inet_interfaces": "loopback-only"}, Listener("::1", 587, False), True),
        ("587", {"inet_interfaces": "$x, 192.0.2.1"}, Listener("192.0.2.1", 587, False), True),
        ("587", {"inet_interfaces": "[::1]"}, Listener("::1", 587, False), True),
        ("587", {"inet_interfaces": "a.example"}, Listener("0.0.0.0", 587, False), False),
        ("127.0.0.1:587", {}, Listener("192.0.2.1", 587, False), False),
        ("127.0.0.1:587", {}, Listener("0.0.0.0", 587, False), True),
        ("127.0.0.1:587", {}, Listener("::", 587, False), True),
        ("127.0.0.1:587", {}, Listener("::", 587, True), False),
        ("[::1]:587", {}, Listener("::", 587, True), True),
        ("[::1]:587", {}, Listener("0.0.0.0", 587, False), False),
    ],
)
def test_a_port_that_another_program_listens_on(
    name: str, settings: dict[str, str], listener: Listener, is_taken: bool
) -> None:
    around = dataclasses.replace(AROUND, settings={**SETTINGS, **settings}, taken=[listener])
    said = found(f"{name} inet n - y - - smtpd\n", around)
    expected = "another program listens on port 587; `ss -Hltnp` shows which"
    assert said == ([(f"{name}/inet", expected)] if is_taken else [])


def test_the_ports_of_a_master_cf() -> None:
    text = b"""smtp inet n - y - - smtpd
[::1]:submission inet n - y - - smtpd
2525 inet n - y - - smtpd
nosuch inet n - y - - smtpd
smtp unix - - y - - smtp
#smtps inet n - y - - smtpd
"""
    assert ports_of(MasterCf.parse(text), PORTS.get) == {25, 587, 2525}
