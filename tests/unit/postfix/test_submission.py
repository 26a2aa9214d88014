"""What a service of master.cf must show at its port, by its settings."""

from __future__ import annotations

import pytest

from pf_agent.maincf.master_cf import MasterCf
from pf_agent.model import Greeting
from pf_agent.postfix.submission import greeting, servers

MASTER_CF = b"""\
smtp inet n - y - - smtpd
submission inet n - y - - postscreen
submission inet n - y - - smtpd
127.0.0.1:2525 inet n - y - - smtpd
smtps inet n - y - - postscreen
smtp unix - - y - - smtp
"""
MAIN = {"inet_interfaces": "all", "inet_protocols": "all"}
SETTINGS = {"smtpd_banner": "mail  ESMTP", "smtpd_tls_security_level": "may"}
PORTS = {"submission": 587}
AUTH = {"smtpd_sasl_auth_enable": "yes"}


def shown(name: str = "submission/inet", **settings: str) -> Greeting | None:
    (service,) = servers(MasterCf.parse(MASTER_CF).services, {name})
    return greeting(service, {**SETTINGS, **settings}, MAIN, PORTS.get)


def test_only_a_managed_smtpd_at_a_port() -> None:
    services = MasterCf.parse(MASTER_CF).services
    names = {service.full_name for service in services}
    found = [(s.full_name, s.line) for s in servers(services, names)]
    assert found == [("smtp/inet", 1), ("submission/inet", 3), ("127.0.0.1:2525/inet", 4)]
    assert servers(services, set()) == ()


def test_where_and_with_which_words() -> None:
    assert shown() == Greeting(
        "127.0.0.1", 587, "mail ESMTP", starttls=True, auth=False, auth_in_tls=False
    )
    at_an_address = shown("127.0.0.1:2525/inet")
    assert at_an_address is not None
    assert (at_an_address.address, at_an_address.port) == ("127.0.0.1", 2525)
    assert shown("smtp/inet") is None


@pytest.mark.parametrize(
    ("settings", "starttls", "auth", "auth_in_tls"),
    [
        ({"smtpd_tls_security_level": "none"}, False, False, None),
        ({"smtpd_tls_security_level": "none", **AUTH}, False, True, None),
        ({"smtpd_tls_security_level": "", "smtpd_use_tls": "yes"}, True, False, False),
        ({"smtpd_tls_security_level": "", "smtpd_enforce_tls": "yes", **AUTH}, True, False, True),
        (AUTH, True, True, True),
        ({"smtpd_tls_auth_only": "yes", **AUTH}, True, False, True),
        ({"smtpd_tls_security_level": "encrypt", **AUTH}, True, False, True),
        ({"smtpd_tls_wrappermode": "yes", **AUTH}, None, None, True),
        ({"smtpd_tls_wrappermode": "yes"}, None, None, False),
        ({"smtpd_sasl_exceptions_networks": "10.0.0.0/8", **AUTH}, True, None, None),
        ({"smtpd_discard_ehlo_keywords": "chunking, AUTH", **AUTH}, True, None, None),
        ({"smtpd_discard_ehlo_keywords": "starttls", **AUTH}, None, True, None),
        ({"smtpd_discard_ehlo_keyword_address_maps": "cidr:/x", **AUTH}, None, None, None),
    ],
)
def test_what_its_answer_to_ehlo_offers(
    settings: dict[str, str], starttls: bool | None, auth: bool | None, auth_in_tls: bool | None
) -> None:
    found = shown(**settings)
    assert found is not None
    assert (found.starttls, found.auth, found.auth_in_tls) == (starttls, auth, auth_in_tls)
