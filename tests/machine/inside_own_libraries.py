"""A pytest plugin for the unit tests in a machine: those that need Postfix must find it there."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    report = (yield).get_result()
    if report.skipped and item.get_closest_marker("postfix"):
        report.outcome, report.longrepr = "failed", f"skipped: {report.longrepr}"
