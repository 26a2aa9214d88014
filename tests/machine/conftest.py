"""Fixtures of the machine tests: images, machines, the package; a failure shows the journal."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.checkout import CHECKOUT
from tests.machine.golden import golden
from tests.machine.image import image, missing_programs
from tests.machine.lacking import end_without
from tests.machine.nspawn import Machine, MachineError
from tests.machine.site import Site

RELEASES = os.environ.get("PF_AGENT_RELEASES", "bookworm trixie").split()
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("machine")


@pytest.fixture(scope="session", params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    """The Debian release of the machine: each test that uses a machine runs once on each."""
    return str(request.param)


@pytest.fixture(scope="session")
def host() -> None:
    """Require root and systemd-nspawn: otherwise skip, or fail under CI."""
    end_without(missing_programs() if os.geteuid() == 0 else ["root"], "machine")


@pytest.fixture(scope="session")
def base(host: None, release: str) -> Path:
    """The root directory of the release, which is never written to."""
    return image(release)


@pytest.fixture(scope="session")
def deb(host: None) -> Path:
    """The package in dist/, built by tools/deb if there is none or the sources are newer."""
    quick = {**os.environ, "DEB_BUILD_OPTIONS": "nocheck", "DEB_BUILD_PROFILES": "nocheck"}
    command = [str(CHECKOUT / "tools" / "deb"), "--unless-built"]
    built = subprocess.run(command, check=True, env=quick, stdout=subprocess.PIPE, text=True).stdout
    return Path(built.strip())


@pytest.fixture(scope="session")
def layers(release: str, base: Path, deb: Path) -> tuple[Path, ...]:
    """The disk of a machine with pf-agent installed and settled."""
    return golden(release, base, deb)


@pytest.fixture(scope="module")
def booted() -> Iterator[Callable[..., Machine]]:
    """Boots a machine from the given layers at each call; all of them end with the module."""
    with ExitStack() as stack:
        yield lambda *layers: stack.enter_context(Machine(*layers))


@pytest.fixture(scope="module")
def new_machine(base: Path, booted: Callable[..., Machine]) -> Callable[[], Machine]:
    """Boots a fresh machine at each call; all of them end with the module."""
    return partial(booted, base)


@pytest.fixture(scope="module")
def machine(new_machine: Callable[[], Machine]) -> Machine:
    """A booted machine with Postfix under "No configuration"; no main.cf, no pf-agent."""
    return new_machine()


@pytest.fixture(scope="module")
def internet_site(new_machine: Callable[[], Machine]) -> Machine:
    """A booted machine with Postfix under "Internet Site", as mail.example.test; no pf-agent."""
    booted = new_machine()
    booted.install_postfix("Internet Site")
    return booted


@pytest.fixture(scope="module")
def installed_machine(new_machine: Callable[[], Machine], deb: Path) -> Machine:
    """A booted machine, first with "No configuration"; then apt installed pf-agent."""
    booted = new_machine()
    booted.serve_apt([deb])
    booted.apt_install("pf-agent")
    return booted


@pytest.fixture(scope="module")
def agent_machine(layers: tuple[Path, ...], booted: Callable[..., Machine]) -> Machine:
    """Such a machine after being switched off and on again, with its site named: golden.py."""
    return booted(*layers)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    report = (yield).get_result()
    if not report.failed:
        return
    for name, value in getattr(item, "funcargs", {}).items():
        if isinstance(value, Machine) and value.is_running:
            report.sections.append((f"journal of {name}", _journal_tail(value)))


def _journal_tail(machine: Machine) -> str:
    command = ["journalctl", "-b", "--no-pager", "-n", "80", "-o", "short-precise"]
    command += ["-u", "pf-agent*", "-u", "postfix*"]
    try:
        return machine.run(command, check=False, timeout=20).stdout
    except (MachineError, subprocess.TimeoutExpired) as error:
        return str(error)


@pytest.fixture(scope="module")
def site(agent_machine: Machine) -> Site:
    """A machine with the package, settled; a module may define another `site` of its own."""
    return Site.prepared(agent_machine)


@pytest.fixture
def at_rest(site: Site) -> Iterator[None]:
    """No earlier restart counts in the test; after it the agent runs, and all is settled."""
    site.forget_restarts()
    yield
    site.agent("resume", check=True)
    site.wait_right()
    site.wait_settled()
