"""Some of the sites that people run, and some of what happens to them.

tests/campaigns/sites.py has all sites and all events.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.machine.nspawn import Machine
from tests.machine.sites.kinds import KINDS
from tests.machine.sites.promises import take_over
from tests.machine.sites.standing import Standing
from tests.machine.sites.trying import try_events

pytestmark = pytest.mark.long

# What broke a promise at each before a wish was rejected and a correction never undone.
TRIED = {
    "milter-down": ("drift", "dependency"),
    "proxy": ("drift", "wrong-port"),
    "milter": ("two-wishes", "by-hand", "late-milter"),
}


@pytest.mark.parametrize("name", TRIED)
def test_no_promise_is_broken(base: Path, deb: Path, name: str) -> None:
    with Machine(base) as machine:
        machine.serve_apt([deb])
        site = Standing(machine, KINDS[name], take_over)
        broken = [
            f"{case}\n{case.journal}" for case in try_events(name, site, TRIED[name]) if case.broken
        ]
    assert broken == []
