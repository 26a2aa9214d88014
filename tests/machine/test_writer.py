"""A record names who wrote main.cf where the unit may be told, and says "unknown" elsewhere."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator

import pytest

from pf_agent import names
from tests.checkout import CHECKOUT
from tests.machine.site import MAIN_CF, Site, eventually

pytestmark = pytest.mark.usefixtures("at_rest")

DROPIN = (CHECKOUT / "units" / "writer.conf").read_text(encoding="utf-8")
# It stays until it is told to go, so that its name can be read.
WRITE = f"""
import sys
with open("{MAIN_CF}", "a") as main_cf:
    main_cf.write("mynetworks = 0.0.0.0/0\\n")
print("written", flush=True)
sys.stdin.read()
"""
WRITING = ["python3", "-c", WRITE]


def write(site: Site, *command: str, typed: bytes = b"") -> dict[str, str]:
    """Let somebody write; the record of the drift."""
    since = site.cursor()
    whole = [*command, shlex.join(WRITING)] if command else WRITING
    with site.machine.start(whole, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdin is not None
        writer.stdin.write(typed)
        writer.stdin.flush()
        eventually(lambda: bool(site.drift_of(since)), "a record")
        writer.communicate(b"", timeout=60)
    return site.drift_of(since)[0]


def test_without_the_right_to_know_it_is_unknown(site: Site) -> None:
    record = write(site)
    assert record[names.FIELD_WRITER] == "unknown"
    assert names.FIELD_WRITER_PID not in record
    assert names.FIELD_LOGIN not in record


@pytest.fixture(scope="module")
def knowing(site: Site) -> Iterator[Site]:
    """The unit has the right to know."""
    site.dropin("pf-agent.service", "writer", DROPIN)
    site.machine.run(["systemctl", "restart", "pf-agent"])
    site.wait_settled()
    yield site
    if site.machine.is_running:
        site.dropin("pf-agent.service", "writer", "")
        site.machine.run(["systemctl", "restart", "pf-agent"])


def test_with_the_right_to_know_the_writer_is_named(knowing: Site) -> None:
    record = write(knowing)
    assert record[names.FIELD_WRITER].startswith("python3")
    assert record[names.FIELD_WRITER_PID].isdigit()
    # Nobody has logged in to this machine.
    assert record[names.FIELD_LOGIN] == "unknown"
    found = knowing.machine.run(["pf-agent", "history", record[names.FIELD_CYCLE]]).stdout
    assert "written by python3" in found


def test_who_logged_in_and_became_root_is_named(knowing: Site) -> None:
    """The login is what PAM wrote down when it began (pam_loginuid(8)): su does not change it."""
    knowing.machine.sh("useradd --create-home anna")
    knowing.machine.run(["chpasswd"], input="root:correct horse\n")
    login = ["systemd-run", "--quiet", "--pipe", "--wait", "-p", "PAMName=login", "-p", "User=anna"]
    record = write(knowing, *login, "su", "root", "-c", typed=b"correct horse\n")
    assert record[names.FIELD_WRITER].startswith("python3")
    assert record[names.FIELD_LOGIN] == "anna"
    explained = knowing.machine.run(["pf-agent", "explain", "mynetworks"]).stdout
    assert "anna" in explained
