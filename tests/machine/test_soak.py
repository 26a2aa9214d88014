"""Drift every second, for a while: the daemon holds no more at its end; the campaign goes on."""

from __future__ import annotations

import pytest

from tests.campaigns.soak import calm, faults, prepare, sample, soak
from tests.machine.nspawn import Machine
from tests.machine.site import UNUSED, mapped_by_the_agent

pytestmark = [pytest.mark.long, pytest.mark.quiet]

# In so short a time the allocator has not come to rest.
MOST_GROWTH_KIB = 8 * 1024


def test_drift_every_second_leaves_nothing_behind(agent_machine: Machine) -> None:
    site = prepare(agent_machine)
    site.drift_once()
    before = sample(site)
    site.forget_restarts()  # those that preparing took, within the last minute
    since = site.cursor()
    samples = list(soak(site, seconds=40, every=20))
    assert faults(samples[0], samples[-1], MOST_GROWTH_KIB) == []
    assert calm(site, before) == []
    assert len(site.records("drift-corrected", since)) > 20
    assert len(site.starts(since)) >= 2


def test_what_the_daemon_does_not_use_is_not_in_its_memory(agent_machine: Machine) -> None:
    """After corrections and restarts, that is."""
    mapped = mapped_by_the_agent(agent_machine)
    assert "/libgio-2.0.so" in mapped
    assert [name for name in UNUSED if name in mapped] == []
