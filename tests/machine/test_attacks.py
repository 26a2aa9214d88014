"""Some of the attacks on an installed agent; tests/campaigns/attacks.py tries them all."""

from __future__ import annotations

import pytest

from tests.machine.attacks.table import ATTACKS
from tests.machine.attacks.trying import prepare, try_out
from tests.machine.nspawn import Machine
from tests.machine.site import Site

# Of each kind what is quick, and what broke a promise once.
TRIED = (
    "sockets.errands_orders by mallory",
    "bus.orders by mallory",
    "bus.signals_of_others by mallory",
    "journal.forged_records by postfix",
    "files.alias_source_in_a_home by mallory",
    "files.modules_of_its_own by mallory",
    "files.writing_to_what_is_roots by mallory",
    "locks.flocks by mallory",
    "processes.signals by postfix",
)


@pytest.fixture(scope="module")
def site(agent_machine: Machine) -> Site:
    return prepare(agent_machine)


@pytest.mark.parametrize("name", TRIED)
def test_what_is_promised_holds(site: Site, name: str) -> None:
    (attack, *_) = [attack for attack in ATTACKS if str(attack) == name]
    assert try_out(site, attack).broken == {}
