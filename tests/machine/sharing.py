"""A pytest plugin with which several processes share one run: each takes the next free module.

The modules of a folder below this one belong together: one process takes them all, since they use
one machine.

pytest -p tests.machine.sharing --share=FOLDER ...: all of them get the same directory, empty at
first, and the same tests. The duration of each test is a line in FOLDER/times.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

_HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--share", type=Path, required=True, metavar="FOLDER")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Sharing(config.getoption("share")))


class Sharing:
    """One of the processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._began = time.monotonic()
        self._seconds: dict[str, float] = defaultdict(float)
        self._ends: Counter[str] = Counter()
        self._terminal: Any = None

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._terminal = session.config.pluginmanager.get_plugin("terminalreporter")
        if session.testsfailed:
            raise session.Interrupted(f"{session.testsfailed} errors during collection")
        for name, items in _shares(session.items).items():
            if self._is_mine(name):
                self._run(session, name, items)
        return True

    def _is_mine(self, name: str) -> bool:
        """Take the module or folder for the rest of the run, unless another process has it."""
        try:
            os.close(os.open(self._folder / name, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def _run(self, session: pytest.Session, name: str, items: Sequence[pytest.Item]) -> None:
        began, used = time.monotonic(), _processor_seconds()
        self._ends.clear()
        for item, following in zip(items, [*items[1:], None], strict=True):
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
        ends = ", ".join(f"{number} {end}" for end, number in self._ends.items())
        now, used = time.monotonic(), _processor_seconds() - used
        self._terminal.write_line(
            f"[{now - self._began:4.0f} s] {name}: {ends}, {now - began:.0f} s,"
            f" {used:.0f} s of a processor"
        )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Report a failure at once: the end of the run may be a quarter of an hour away."""
        self._seconds[report.nodeid] += report.duration
        if report.when == "call" or report.outcome != "passed":
            self._ends[report.outcome] += 1
        if report.failed:
            told = (f"--- {name} ---\n{text}" for name, text in report.sections)
            self._terminal.write_line(
                "\n".join(["", f"FAILED {report.nodeid}", report.longreprtext, *told])
            )
        if report.when == "teardown":
            with open(self._folder / "times", "a") as file:
                file.write(f"{self._seconds.pop(report.nodeid):7.1f} s {report.nodeid}\n")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        session.config.option.tbstyle = "no"  # each failure was reported already

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Print no dot for each passed test: one line per module reports that."""
        if report.when == "call" and report.outcome == "passed":
            return "passed", "", "PASSED"
        return None


def _processor_seconds() -> float:
    """Return the CPU time of this process and of its machines that have ended."""
    taken = os.times()
    return taken.user + taken.system + taken.children_user + taken.children_system


def _shares(items: Sequence[pytest.Item]) -> dict[str, list[pytest.Item]]:
    """Return the tests of each module or folder on each release, the long ones first."""
    found = defaultdict(list)
    for item in sorted(items, key=lambda item: item.get_closest_marker("long") is None):
        release = item.callspec.params.get("release", "") if hasattr(item, "callspec") else ""
        name = item.path.stem if item.path.parent == _HERE else item.path.parent.name
        found[f"{name} {release}".strip()].append(item)
    return found
