"""Drifts without an end: the page keeps up with them, and can be used with what they leave."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.machine.cockpit.axe import violations
from tests.machine.cockpit.storm import WATCH_ROWS, drifts
from tests.machine.site import Site, eventually

if TYPE_CHECKING:
    from tests.machine.cockpit.page import Page

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("at_rest")]

# Twice as many as the page fetches at first.
ROWS = 400


def test_it_is_refreshed_while_drifts_go_on(site: Site, page: Page) -> None:
    """A page that waits for quiet would show the first row when the last drift is over."""
    page.chromium.script(WATCH_ROWS)
    with drifts(site, 10_000, 0.1) as storm:
        try:
            page.chromium.wait("window.refreshes >= 4")
            assert storm.poll() is None
        finally:
            storm.communicate(b"enough\n", timeout=60)
    site.wait_right()


def test_with_many_rows_nobody_is_kept_out(site: Site, page: Page) -> None:
    page.chromium.open("/users")  # or it would be drawn anew all the while
    with drifts(site, ROWS, 0.0) as storm:
        storm.wait(timeout=300)
    site.wait_right()
    page.chromium.open()
    page.wait_ready()
    page.chromium.wait("document.querySelectorAll('#history tbody').length >= 200")
    for _ in range(2):  # first without the limit of 7 days, then with a higher count
        page.chromium.click("#history-more:enabled")
        page.chromium.wait("!document.querySelector('#history-more').disabled")
    eventually(lambda: len(page.cycles()) >= ROWS, f"{ROWS} rows")
    assert page.overflows() == []
    for scheme in ("dark", "light"):  # as the next test expects it
        page.chromium.prefer(scheme)
        page.chromium.wait("document.documentElement.dataset.theme === arguments[0]", scheme)
        assert violations(page.chromium) == []
