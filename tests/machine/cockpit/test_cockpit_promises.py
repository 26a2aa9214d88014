"""What the page promises of time: it is held where no other machine is at work."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import pytest

from tests.machine.cockpit.storm import WATCH_ROWS
from tests.machine.site import Site

if TYPE_CHECKING:
    from tests.machine.cockpit.page import Page

pytestmark = [pytest.mark.quiet, pytest.mark.usefixtures("at_rest")]

# From the agent's record of a drift until its row is on the page that somebody looks at.
ROW_SECONDS = 3.0


def test_a_drift_is_a_row_within_three_seconds(site: Site, page: Page) -> None:
    page.chromium.script(WATCH_ROWS)
    late = []
    for number in range(3):
        since = site.cursor()
        site.machine.run(["postconf", "-e", f"message_size_limit = {4711 + number}"])
        cycle = site.cycle_of(since)
        shown = page.chromium.wait("window.rowTimes[arguments[0]]", str(cycle))
        (record,) = site.drift_of(since)
        late.append(shown - float(record["_SOURCE_REALTIME_TIMESTAMP"]) / 1e6)
        site.wait_right()
    # The one in the middle: a host that hangs for a moment does so once.
    assert 0 < statistics.median(late) < ROW_SECONDS, late
