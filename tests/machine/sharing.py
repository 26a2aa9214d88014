"""A plugin of pytest by which several share one run: each takes the next module that none has.

pytest -p tests.machine.sharing --share=FOLDER ...: all of them get the same folder, empty at first,
and the same tests. How long each test took is a line of FOLDER/times.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--share", type=Path, required=True, metavar="FOLDER")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Sharing(config.getoption("share")))


class Sharing:
    """One of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._began = time.monotonic()
        self._seconds: dict[str, float] = defaultdict(float)
        self._ends: Counter[str] = Counter()

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Interrupted(f"{session.testsfailed} errors during collection")
        for name, items in _shares(session.items).items():
            if self._is_mine(name):
                self._run(session, name, items)
        return True

    def _is_mine(self, name: str) -> bool:
        """Take it for the rest of the run, unless somebody has it."""
        try:
            os.close(os.open(self._folder / name, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def _run(self, session: pytest.Session, name: str, items: Sequence[pytest.Item]) -> None:
        began = time.monotonic()
        self._ends.clear()
        for item, following in zip(items, [*items[1:], None], strict=True):
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
        ends = ", ".join(f"{number} {end}" for end, number in self._ends.items())
        now = time.monotonic()
        terminal: Any = session.config.pluginmanager.get_plugin("terminalreporter")
        terminal.write_line(f"[{now - self._began:4.0f} s] {name}: {ends}, {now - began:.0f} s")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.nodeid] += report.duration
        if report.when == "call" or report.outcome != "passed":
            self._ends[report.outcome] += 1
        if report.when == "teardown":
            with open(self._folder / "times", "a") as file:
                file.write(f"{self._seconds.pop(report.nodeid):7.1f} s {report.nodeid}\n")

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Without a dot for each that passed: a line a module says it."""
        if report.when == "call" and report.outcome == "passed":
            return "passed", "", "PASSED"
        return None


def _shares(items: Sequence[pytest.Item]) -> dict[str, list[pytest.Item]]:
    """The tests of each module on each release, the long ones first."""
    found = defaultdict(list)
    for item in sorted(items, key=lambda item: item.get_closest_marker("long") is None):
        release = item.callspec.params.get("release", "") if hasattr(item, "callspec") else ""
        found[f"{item.path.stem} {release}".strip()].append(item)
    return found
