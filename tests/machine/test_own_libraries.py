"""The unit tests on each release: its own Python, its own libraries, its own Postfix."""

from __future__ import annotations

from tests.machine.nspawn import Machine

# Some tests set sysctls of a user namespace of their own; in a machine /proc/sys cannot be written.
UNIT_TESTS = """
cd /root/pf-agent
mount -o remount,bind,rw /proc/sys
exec python3 -m pytest -q -p no:cacheprovider --ignore=tests/machine tests
"""


def test_the_unit_tests_pass(machine: Machine) -> None:
    machine.copy_checkout("/root/pf-agent")
    machine.run(["unshare", "--mount", "sh", "-ec", UNIT_TESTS], timeout=900)


def test_none_of_them_lacks_postfix(machine: Machine) -> None:
    machine.copy_checkout("/root/pf-agent")
    contract = ["unshare", "--mount", "sh", "-ec", f"{UNIT_TESTS.rstrip()} -m postfix"]
    printed = machine.run(contract, timeout=900).stdout
    assert " passed" in printed
    assert "skipped" not in printed
