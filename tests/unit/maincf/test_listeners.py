"""Which services of master.cf are on, and which of them takes in mail."""

from __future__ import annotations

import pytest

from pf_agent.maincf.listeners import behind, enabled, on_port_25, smtp_server
from pf_agent.maincf.master_cf import MasterCf
from pf_agent.maincf.service import Service

MASTER_CF = b"""\
smtp inet n - y - - smtpd
submission inet n - y - - smtpd
pickup unix n - y 60 1 pickup
"""


def service(name: str, kind: str = "inet", program: str = "smtpd") -> Service:
    (found,) = MasterCf.parse(f"{name} {kind} n - y - - {program}\n".encode()).services
    return found


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("smtp", ""),
        ("25", ""),
        ("127.0.0.1:smtp", "127.0.0.1"),
        ("[::1]:25", "::1"),
        ("::1:smtp", "::1"),
        ("mail.example:25", "mail.example"),
    ],
)
def test_what_listens_on_port_25(name: str, address: str) -> None:
    found = on_port_25([service("submission"), service(name)])
    assert found is not None
    assert found.address == address


@pytest.mark.parametrize("name", ["submission", "2525", "127.0.0.1:smtps", "smtpd"])
def test_what_does_not(name: str) -> None:
    assert on_port_25([service(name)]) is None


def test_a_socket_of_that_name_is_not_the_port() -> None:
    assert on_port_25([service("smtp", "unix", "smtp")]) is None


def test_the_one_without_an_address_is_preferred() -> None:
    found = on_port_25([service("10.0.0.1:smtp"), service("smtp")])
    assert found is not None
    assert found.name == "smtp"


@pytest.mark.parametrize(
    ("disable", "left"),
    [
        ("", ["smtp", "submission", "pickup"]),
        ("inet", ["pickup"]),
        ("INET, unix", []),
        ("smtp/inet", ["submission", "pickup"]),
        ("!smtp/inet, inet", ["smtp", "pickup"]),
        ("inet, !smtp/inet", ["pickup"]),
        ("smtp", ["smtp", "submission", "pickup"]),
    ],
)
def test_services_that_are_switched_off(disable: str, left: list[str]) -> None:
    assert [s.name for s in enabled(MasterCf.parse(MASTER_CF).services, disable)] == left


@pytest.mark.parametrize(
    ("services", "name"),
    [
        ([service("submission"), service("smtp")], "smtp"),
        (
            [service("submission"), service("smtp", program="postscreen"), service("in", "pass")],
            "in",
        ),
        ([service("submission")], "submission"),
    ],
)
def test_the_smtpd_that_takes_in_mail(services: list[Service], name: str) -> None:
    found = smtp_server(services)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize(
    ("front", "name", "found"),
    [("postscreen", "smtpd", "smtpd"), ("postscreen", "other", "smtp"), ("smtpd", "smtpd", "smtp")],
)
def test_whom_postscreen_hands_its_clients_to(front: str, name: str, found: str) -> None:
    first = service("smtp", program=front)
    services = [first, service("smtpd", "unix"), service("smtpd", "pass")]
    assert behind(first, services, name).name == found
    assert behind(first, services, name) is (first if found == "smtp" else services[2])


def test_a_null_client_has_none() -> None:
    assert smtp_server([service("pickup", "unix", "pickup")]) is None
