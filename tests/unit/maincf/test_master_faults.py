"""What master or a service refuses in a master.cf that postconf accepts."""

from __future__ import annotations

import pytest

from pf_agent.maincf.master_cf import MasterCf
from pf_agent.maincf.master_faults import Surroundings, faults

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
