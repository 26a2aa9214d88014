"""Fixtures of the tests in a browser: a machine with Cockpit, a browser in it, the page open."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.machine.golden import with_cockpit
from tests.machine.lacking import end_without
from tests.machine.nspawn import Machine
from tests.machine.site import AGENT_TOML, LOCAL, Site

if TYPE_CHECKING:  # selenium may not be there
    from tests.machine.cockpit.chromium import Chromium
    from tests.machine.cockpit.page import Page

RELOADING = 'activation = "auto"\n'


@pytest.fixture(scope="session")
def browser_host(host: None) -> None:
    """Without Chromium there is no browser: a skip, and a failure under CI."""
    lack = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    lack += [] if importlib.util.find_spec("selenium") else ["python3-selenium"]
    end_without(lack, "browser")


@pytest.fixture(scope="session")
def page_deb(deb: Path) -> Path:
    """The page's package, built together with the agent's."""
    return deb.with_name(f"cockpit-{deb.name}")


# One machine, one browser and one session are enough for all modules: most of a test's time would
# be theirs.


@pytest.fixture(scope="package")
def machine(
    browser_host: None, release: str, layers: tuple[Path, ...], page_deb: Path
) -> Iterator[Machine]:
    """A machine with the package, Cockpit and its page."""
    with Machine(*with_cockpit(release, layers, page_deb)) as machine:
        yield machine


@pytest.fixture(scope="package")
def site(machine: Machine) -> Site:
    """The same, settled. Postfix is only reloaded where that is enough: how it is made to run with
    a corrected text is not the subject here, and a restart takes longer."""
    machine.write_text(AGENT_TOML, RELOADING)
    return Site.prepared(machine)


@pytest.fixture(scope="package")
def chromium(site: Site) -> Iterator[Chromium]:
    """A browser; nothing is logged as an error in its console but Cockpit's own."""
    from tests.machine.cockpit.chromium import Chromium

    with Chromium(site.machine) as browser:
        yield browser
        assert browser.complaints() == []


@pytest.fixture
def page(chromium: Chromium) -> Page:
    """The page, open for anna with administrative access."""
    from tests.machine.cockpit.page import Page

    chromium.be("anna", administrative=True)
    return Page(chromium)


@pytest.fixture
def at_rest(site: Site) -> Iterator[None]:
    """No restart before the test counts, nor any drift; after it main.cf is right, and is kept so.

    Postfix may still be on its way: who needs it up waits for the phase.
    """
    site.forget_restarts()
    site.end_contest()
    yield
    site.forget_restarts()
    if site.status().get("suspension"):
        site.agent("resume", check=True)
    site.wait_right()


@pytest.fixture
def restarting(at_rest: None, site: Site) -> Iterator[None]:
    """Postfix is restarted at once, as it is where nothing else was asked for."""
    site.machine.write_text(AGENT_TOML, "")
    site.machine.run(["systemctl", "reload", "pf-agent"])
    yield
    site.machine.write_text(AGENT_TOML, RELOADING)
    site.machine.run(["systemctl", "reload", "pf-agent"])


@pytest.fixture
def observing(at_rest: None, site: Site, page: Page) -> Iterator[None]:
    """The agent only observes; what was adopted is forgotten after the test."""
    site.wait_settled()  # it would leave a restart that is still due undone
    site.machine.write_text(AGENT_TOML, f'mode = "observe"\n{RELOADING}')
    page.wait_phase("observing")
    yield
    site.machine.run(["rm", "-f", LOCAL])
    site.machine.write_text(AGENT_TOML, RELOADING)
    page.wait_phase("in-sync")
