"""Shared by the tests of Postfix's programs, port and log. They need no running Postfix."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pf_agent.postfix.installed import Postfix
from pf_agent.postfix.postconf import POSTCONF
from tests.fakes import FakeLog

# Debian's, as far as the questions here need it.
MASTER_CF = b"""\
# service type  private unpriv  chroot  wakeup  maxproc command + args
smtp      inet  n       -       y       -       -       smtpd
#submission inet n      -       y       -       -       smtpd
pickup    unix  n       -       y       60      1       pickup
smtp      unix  -       -       y       -       -       smtp
relay     unix  -       -       y       -       -       smtp
        -o syslog_name=postfix/$service_name
"""


@pytest.fixture(autouse=True)
def _needs_postfix(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("postfix") and not os.path.exists(POSTCONF):
        pytest.skip(f"no {POSTCONF}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration directory; Postfix's programs need nothing else in it."""
    (tmp_path / "run").mkdir()
    (tmp_path / "master.cf").write_bytes(MASTER_CF)
    return tmp_path


@pytest.fixture
def postfix(folder: Path) -> Postfix:
    return Postfix(str(folder), str(folder / "run"))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> FakeLog:
    """The journal that the code under test reads."""
    found = FakeLog()
    monkeypatch.setitem(sys.modules, "systemd", SimpleNamespace(journal=found))
    return found
