"""Fixtures of the tests of Postfix's programs, port and log."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from tests.fakes import FakeLog


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> FakeLog:
    """What whoever reads the journal finds in it."""
    found = FakeLog()
    monkeypatch.setitem(sys.modules, "systemd", SimpleNamespace(journal=found))
    return found
