"""The page as a person finds it: its cards by their ids, its orders, its rows."""

from __future__ import annotations

from typing import Any

from selenium.webdriver.common.keys import Keys

from tests.machine.cockpit.chromium import Chromium
from tests.machine.site import INTRUDE, Site, eventually

# Which elements are seen, and not only in the document.
_SEEN = "[...document.querySelectorAll(arguments[0])].filter(e => e.checkVisibility())"
# As many elements as may have the focus one after the other.
_MOST_TABS = 60
_TEXTS = f"{_SEEN}.map(e => e.textContent)"


class Page:
    """The page in the frame of a browser that is logged in."""

    def __init__(self, chromium: Chromium) -> None:
        self.chromium = chromium
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until the page knows how it stands, and who asks."""
        self.chromium.wait("document.body && document.body.hasAttribute('data-ready')")

    def texts(self, selector: str) -> list[str]:
        """What is written in each element of the page that is seen."""
        found: list[str] = self.chromium.script(f"return {_TEXTS}", selector)
        return found

    def wait_text(self, selector: str, part: str) -> str:
        """Wait until an element that is seen says this; return all that it says."""
        found: str = self.chromium.wait(
            f"{_TEXTS}.find(t => t.includes(arguments[1]))", selector, part
        )
        return found

    def wait_none(self, selector: str) -> None:
        """Wait until no such element is seen."""
        self.chromium.wait(f"{_SEEN}.length === 0", selector)

    # State

    def wait_phase(self, phase: str) -> None:
        self.chromium.wait("document.querySelector('#state').dataset.phase === arguments[0]", phase)

    def fact(self, name: str) -> str:
        """What one of the state's facts says; "" where it is not told."""
        return "".join(self.texts(f'#state-facts [data-fact="{name}"]'))

    def orders(self) -> set[str]:
        """The orders that the card of the state offers."""
        return set(
            self.chromium.script(
                f"return {_SEEN}.map(e => e.dataset.order)", "#state > header [data-order]"
            )
        )

    # Orders

    def ask(self, selector: str) -> str:
        """Click on an order's button; return the command that its dialog names."""
        self.chromium.click(selector)
        command = self.wait_text("#order-command", "")
        # It is disabled from the confirmation on.
        assert self.texts("#order [data-action=confirm]:enabled"), "it waits for a confirmation"
        return command

    def fill(self, selector: str, text: str) -> None:
        """Type into a field."""
        self.chromium.click(selector)
        self.chromium.type(text)

    def confirm(self) -> None:
        """Confirm the dialog, and wait until it was done."""
        self.chromium.click("#order [data-action=confirm]")
        self.wait_none("#order")

    def refusal(self) -> str:
        """Confirm the dialog; return why it was refused, and leave the dialog."""
        self.chromium.click("#order [data-action=confirm]")
        said = self.wait_text("#order-error[role=alert]:not(:empty)", "")
        self.chromium.click("#order [data-action=cancel]")
        self.wait_none("#order")
        return said

    def has_focus(self, selector: str) -> bool:
        """Whether what is typed goes to this element."""
        return bool(
            self.chromium.script("return document.activeElement.matches(arguments[0])", selector)
        )

    def tab_to(self, selector: str) -> None:
        """Press the tabulator until this element has the focus."""
        self.chromium.script("document.hasFocus() || window.focus()")
        for _ in range(_MOST_TABS):
            if self.has_focus(selector):
                return
            self.chromium.type(Keys.TAB)
        raise AssertionError(f"no way by keyboard to {selector}")

    # What happened

    def cycles(self) -> list[int]:
        """The rows that are seen, the newest first."""
        return [
            int(cycle)
            for cycle in self.chromium.script(
                f"return {_SEEN}.map(e => e.dataset.cycle)",
                '#history tbody[data-cycle]:not([data-cycle=""])',
            )
        ]

    def wait_row(self, cycle: int, outcome: str = "") -> Row:
        """Wait for the row of a cycle, and until its outcome says this."""
        row = Row(self, cycle)
        self.wait_text(row.cell("outcome"), outcome)
        return row

    def drift(self, site: Site, *command: str, outcome: str = "Corrected") -> Row:
        """Have a command make main.cf drift; the row of it, open, once its outcome says this."""
        since = site.cursor()
        site.machine.run(command)
        row = self.wait_row(site.cycle_of(since), outcome)
        row.open()
        return row

    def some_drift(self, site: Site) -> Row:
        """The row, open, of a cycle in which mynetworks drifted: any that there is."""
        found = self.chromium.script(
            "return [...document.querySelectorAll('#history tbody[data-cycle]')].find("
            "e => e.querySelector('[data-cell=parameters]').textContent === 'mynetworks'"
            " && e.dataset.outcome === 'activated')?.dataset.cycle"
        )
        if found is None:
            return self.drift(site, "sh", "-c", INTRUDE, outcome="Postfix runs with it")
        row = Row(self, int(found))
        row.open()
        return row

    # How it looks

    def overflows(self) -> list[str]:
        """What reaches beyond the window's right edge, where the whole page could be pushed."""
        found: list[str] = self.chromium.script(
            "const e = document.documentElement; return e.scrollWidth <= e.clientWidth ? [] : "
            "[...document.querySelectorAll('body *')]"
            ".filter(x => x.getBoundingClientRect().right > e.clientWidth)"
            ".map(x => x.outerHTML.slice(0, 200))"
        )
        return found


class Row:
    """One cycle of what happened."""

    def __init__(self, page: Page, cycle: int) -> None:
        self._page = page
        self.cycle = cycle
        self.body = f'#history tbody[data-cycle="{cycle}"]'

    def cell(self, name: str) -> str:
        """The selector of one of its cells."""
        return f'{self.body} > tr > [data-cell="{name}"]'

    def says(self, name: str) -> str:
        """What is written in one of its cells."""
        return "".join(self._page.texts(self.cell(name)))

    def open(self) -> None:
        """Show all that is known of it.

        What comes above it moves it down, so that a click may go beside it.
        """
        toggle = f"{self.body} button[aria-expanded]"
        chromium = self._page.chromium

        def is_open() -> bool:
            expanded = "return document.querySelector(arguments[0]).ariaExpanded"
            if chromium.script(expanded, toggle) == "true":
                return True
            chromium.click(toggle)
            return False

        eventually(is_open, f"{toggle} is expanded", 60.0)
        self._page.wait_text(f"{self.body} .detail", "")

    def lines(self, kind: str) -> list[str]:
        """Of its diff, the lines that were "added" or "removed"."""
        return [line.rstrip("\n") for line in self._page.texts(f"{self.body} pre.diff .{kind}")]

    def drift(self) -> dict[str, tuple[Any, ...]]:
        """For each parameter what it must be, and what it was."""
        rows = self._page.chromium.script(
            "return [...document.querySelectorAll(arguments[0] + ' tr[data-parameter]')].map(row =>"
            " [row.dataset.parameter, ...['expected', 'actual'].map("
            "name => row.querySelector(`[data-cell=${name}]`).textContent)])",
            self.body,
        )
        return {name: tuple(values) for name, *values in rows}
