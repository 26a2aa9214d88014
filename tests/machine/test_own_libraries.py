"""The unit tests on each release: its own Python, its own libraries, its own Postfix."""

from __future__ import annotations

import pytest

from tests.machine.nspawn import Machine

pytestmark = pytest.mark.long

# Some tests set sysctls of a user namespace of their own; in a machine /proc/sys cannot be written.
UNIT_TESTS = r"""
cd /root/pf-agent
mount -o remount,bind,rw /proc/sys
exec python3 -m pytest -q -p no:cacheprovider -p tests.machine.inside_own_libraries \
    --hypothesis-profile=few --ignore=tests/machine -m 'not once' tests
"""


def test_the_unit_tests_pass_and_those_that_need_postfix_are_not_skipped(machine: Machine) -> None:
    """In one run: collecting the tests takes a tenth of it."""
    machine.copy_checkout("/root/pf-agent")
    command = ["unshare", "--mount", "sh", "-ec", UNIT_TESTS]
    assert " passed" in machine.run(command, timeout=1200).stdout
