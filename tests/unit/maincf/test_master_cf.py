"""What master.cf runs, from its text and from what `postconf -M` prints."""

from __future__ import annotations

import pytest

from pf_agent.maincf.master_cf import Service, behind, enabled, on_port_25, parse, smtp_server

MASTER_CF = """\
# service type  private unpriv  chroot  wakeup  maxproc command + args
smtp      inet  n       -       y       -       -       smtpd
#465      inet  n       -       y       -       -       smtpd

submission inet n       -       y       -       -       smtpd
  -o syslog_name=postfix/submission
  # a comment between
    -o { smtpd_relay_restrictions = permit_sasl_authenticated, reject }
  -v -omessage_size_limit=5
pickup    unix  n       -       y       60      1       pickup
short     inet
"""


def service(name: str, kind: str = "inet", program: str = "smtpd") -> Service:
    return Service(name, kind, program, ())


def test_the_services_of_a_text() -> None:
    found = parse(MASTER_CF)
    assert [(s.name, s.kind, s.program) for s in found] == [
        ("smtp", "inet", "smtpd"),
        ("submission", "inet", "smtpd"),
        ("pickup", "unix", "pickup"),
    ]


def test_the_options_that_stand_over_main_cf() -> None:
    found = parse(MASTER_CF)
    assert found[0].overrides() == ()
    assert found[1].overrides() == (
        "syslog_name=postfix/submission",
        "smtpd_relay_restrictions = permit_sasl_authenticated, reject",
        "message_size_limit=5",
    )


def test_an_option_that_sets_nothing_is_left_out() -> None:
    (found,) = parse("smtp inet n - y - - smtpd -o oops -o\n")
    assert found.overrides() == ()


def test_an_empty_text_has_no_services() -> None:
    assert parse("") == ()
    assert parse("  lost continuation\n#smtp inet n - y - - smtpd\n") == ()


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
    assert [s.name for s in enabled(parse(MASTER_CF), disable)] == left


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
