"""`activation = "auto"`: a reload where Postfix's documents say that it suffices."""

from __future__ import annotations

import pytest

from pf_agent import names
from tests.machine.nspawn import Machine
from tests.machine.site import SETTLE_SECONDS, Site, eventually

EXTRA = f"{names.CONFIG_DIRECTORY}/{names.DESIRED_DROPINS}/90-extra.toml"
AGENT_TOML = f"{names.CONFIG_DIRECTORY}/{names.AGENT_TOML}"

BANNER = """
import socket
with socket.create_connection(("127.0.0.1", 25), timeout=20) as talk:
    print(talk.makefile().readline().strip())
"""


@pytest.fixture(scope="module")
def site(agent_machine: Machine) -> Site:
    site = Site.prepared(agent_machine)
    site.machine.write_text(AGENT_TOML, 'activation = "auto"\n')
    site.machine.run(["systemctl", "reload", "pf-agent"])
    return site


def activated(site: Site, since: str) -> str:
    """What the record of the activation says."""
    eventually(lambda: bool(site.records("activated", since)), "an activation", SETTLE_SECONDS)
    (record,) = site.records("activated", since)
    return str(record["MESSAGE"])


@pytest.mark.parametrize("number", range(3))
def test_a_banner_is_reloaded(site: Site, number: int) -> None:
    site.forget_restarts()
    since, before = site.cursor(), site.show(site.unit, "InvocationID")
    banner = f"number{number}.example.test ESMTP"
    site.machine.write_text(EXTRA, f'[settings]\nsmtpd_banner = "{banner}"\n')
    assert "reloaded, serves after" in activated(site, since)
    assert site.show(site.unit, "InvocationID") == before
    assert site.run_python(BANNER).strip() == f"220 {banner}"


def test_an_interface_needs_a_restart(site: Site) -> None:
    site.forget_restarts()
    since, before = site.cursor(), site.show(site.unit, "InvocationID")
    site.machine.write_text(EXTRA, '[settings]\ninet_interfaces = "127.0.0.1"\n')
    assert "restarted, up after" in activated(site, since)
    assert site.show(site.unit, "InvocationID") != before


def test_a_postfix_that_is_down_is_started(site: Site) -> None:
    site.forget_restarts()
    site.machine.run(["systemctl", "stop", names.POSTFIX_UNIT, site.unit])
    since = site.cursor()
    site.machine.write_text(EXTRA, "[settings]\nsmtpd_helo_required = true\n")
    assert "restarted, up after" in activated(site, since)
    assert site.serves()
