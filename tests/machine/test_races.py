"""Writers that race the agent for main.cf: no text of theirs is lost, no reader sees half a one."""

from __future__ import annotations

import pytest

from tests.campaigns.races import faults, race
from tests.machine.site import Site


def test_every_way_of_saving(site: Site) -> None:
    found = race(site, 1200, "--pause=0.01")
    assert faults(found) == []
    # Else nothing was raced for.
    assert found["displaced"] > 20
    assert found["overtaken"] > 0


def test_whole_texts_are_read_whole(site: Site) -> None:
    found = race(site, 300, "--pause=0.03", "--whole")
    assert faults(found) == []
    assert found["displaced"] > 20
    assert found["readers"]["postconf -n"]["reads"] > 100


@pytest.mark.parametrize("file", ["master.cf", "table"])
def test_every_way_of_saving_another_file(site: Site, file: str) -> None:
    found = race(site, 300, "--pause=0.1", file=file)
    assert faults(found) == []
    # Each text is tried first, and after a number of corrections they are spaced.
    assert found["displaced"] > 2
