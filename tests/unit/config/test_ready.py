"""The ready-made state for submission: what master.cf becomes with it, on each Debian."""

from __future__ import annotations

import pytest

from pf_agent.config.desired import load
from pf_agent.config.table import Source
from pf_agent.maincf.service_parts import ServiceParts
from pf_agent.model import ActualState, DesiredState, FileKind
from pf_agent.reconcile.drift import corrected, find_drift
from tests.checkout import CHECKOUT, CORPUS

PATH = CHECKOUT / "etc" / "ready" / "submission.toml"
STOCK = ("debian-12", "debian-13", "ubuntu-22.04", "ubuntu-24.04", "upstream-3.10")


def services() -> DesiredState:
    return load([Source(str(PATH), PATH.read_bytes())]).documents["master.cf"]


@pytest.mark.parametrize("name", STOCK)
def test_two_ports_with_tls_and_passwords_and_none_at_25(name: str) -> None:
    text = (CORPUS / "master" / f"{name}.cf").read_bytes()
    found = corrected(ServiceParts.parse(text), services())
    values = found.parameters()
    assert values["submission/inet/smtpd_tls_security_level"] == "encrypt"
    assert values["submissions/inet/smtpd_tls_wrappermode"] == "yes"
    for port in ("submission/inet", "submissions/inet"):
        assert values[port] == "enabled"
        assert values[f"{port}/smtpd_sasl_auth_enable"] == "yes"
        restrictions = values[f"{port}/smtpd_relay_restrictions"]
        assert restrictions == "permit_sasl_authenticated, reject"
    assert values["smtp/inet/smtpd_sasl_auth_enable"] == "no"
    assert "smtps/inet" not in values
    after = ActualState(found.render(), FileKind.REGULAR)
    assert find_drift(services(), after, attributes=None) == ()


def test_it_is_enabled_where_debian_has_it_as_a_comment() -> None:
    text = (CORPUS / "master" / "debian-13.cf").read_bytes()
    after = corrected(ServiceParts.parse(text), services()).render()
    for line in (b"submission inet n       -", b"submissions     inet n       -"):
        assert b"#" + line in text
        assert b"\n" + line in after
        assert b"#" + line not in after
    assert len(after.splitlines()) < len(text.splitlines()) + 10
