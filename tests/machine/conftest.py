"""Fixtures of the machine tests: images, machines, the package; what failed shows its journal."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.checkout import CHECKOUT
from tests.machine.image import cache_dir, image, missing_programs
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
    """Without root and systemd-nspawn there is no machine: a skip, and a failure under CI."""
    lack = missing_programs() if os.geteuid() == 0 else ["root"]
    if lack:
        reason = f"no machine: this host lacks {', '.join(lack)}; run `sudo tools/test machine`"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def base(host: None, release: str) -> Path:
    """The root folder of the release; nobody writes to it."""
    return image(release)


@pytest.fixture(scope="session")
def deb(host: None) -> Path:
    """The package in dist/, built by tools/deb when there is none or the sources are newer."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    # The tests of another release may be about to build it too.
    with open(cache_dir() / "deb.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _built()


def _built() -> Path:
    built = newest((CHECKOUT / "dist").glob("pf-agent_*.deb"))
    sources = [CHECKOUT / "pyproject.toml"]
    for folder in ("agent", "debian", "docs", "etc", "units"):
        sources += (path for path in (CHECKOUT / folder).rglob("*") if path.suffix != ".pyc")
    if built is None or changed(built) < max(map(changed, filter(Path.is_file, sources))):
        quick = {**os.environ, "DEB_BUILD_OPTIONS": "nocheck", "DEB_BUILD_PROFILES": "nocheck"}
        subprocess.run([CHECKOUT / "tools" / "deb"], check=True, env=quick)
        built = newest((CHECKOUT / "dist").glob("pf-agent_*.deb"))
    assert built is not None
    return built


def changed(path: Path) -> float:
    return path.stat().st_mtime


def newest(paths: Iterable[Path]) -> Path | None:
    return max(paths, key=changed, default=None)


@pytest.fixture(scope="module")
def new_machine(base: Path) -> Iterator[Callable[[], Machine]]:
    """Boots a fresh machine at each call; all of them end with the module."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Machine(base))


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
def agent_machine(new_machine: Callable[[], Machine], deb: Path) -> Machine:
    """A booted machine, first "No configuration", where pf-agent was then installed by apt."""
    booted = new_machine()
    booted.serve_apt([deb])
    booted.apt_install("pf-agent")
    return booted


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
    """A machine with the package, settled; what a module has otherwise is a `site` of its own."""
    return Site.prepared(agent_machine)


@pytest.fixture
def at_rest(site: Site) -> Iterator[None]:
    """No restart before the test counts; after it the agent acts, and all is settled and right."""
    site.forget_restarts()
    yield
    site.agent("resume", check=True)
    site.wait_right()
    site.wait_settled()
