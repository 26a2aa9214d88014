"""Whether somebody is about to save main.cf: a look at such an instant takes half for the whole."""

from __future__ import annotations

import time

from pf_agent.model import ActualState


class Saving:
    """Gives somebody the time to save main.cf, and no more than that.

    Many editors move the old file away or empty it first, and some write the new one in pieces.
    """

    def __init__(self) -> None:
        self._since: float | None = None

    def is_under_way(self, actual: ActualState, settle: float) -> bool:
        """Tell whether to look again a little later, for `settle` seconds at most."""
        if actual.text and not actual.is_open:
            self._since = None
            return False
        now = time.monotonic()
        if self._since is None:
            self._since = now
        return now < self._since + settle
