"""The unit tests on each release: its own Python, its own libraries, its own Postfix."""

from __future__ import annotations

import pytest

from tests.machine.nspawn import Machine

pytestmark = pytest.mark.long

# Some tests set sysctls of a user namespace of their own; in a machine /proc/sys cannot be written.
UNIT_TESTS = """
cd /root/pf-agent
mount -o remount,bind,rw /proc/sys
exec python3 -m pytest -q -p no:cacheprovider --hypothesis-profile=few --ignore=tests/machine tests
"""


@pytest.fixture(scope="module")
def checkout(machine: Machine) -> Machine:
    machine.copy_checkout("/root/pf-agent")
    return machine


def unit_tests(machine: Machine, marker: str) -> str:
    """Run those that a marker chooses; what pytest printed."""
    script = f"{UNIT_TESTS.rstrip()} -m '{marker}'"
    return machine.run(["unshare", "--mount", "sh", "-ec", script], timeout=900).stdout


def test_the_unit_tests_pass(checkout: Machine) -> None:
    assert " passed" in unit_tests(checkout, "not postfix")


def test_those_that_need_postfix_pass_and_none_lacks_it(checkout: Machine) -> None:
    printed = unit_tests(checkout, "postfix")
    assert " passed" in printed
    assert "skipped" not in printed
