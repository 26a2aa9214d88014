"""A program that runs in a machine beside what a test does there."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.machine.nspawn import Machine


@contextmanager
def beside(
    machine: Machine, unit: str, user: str, command: Sequence[str], *settings: str
) -> Iterator[None]:
    """Run a command as a user, in a transient unit with these settings; end it afterwards.

    Afterwards the command must still have run: a test against a program that had ended long
    before would prove nothing. `--collect` frees the unit's name for the next test also where
    the command failed.
    """
    properties = [f"--property={setting}" for setting in (f"User={user}", *settings)]
    machine.run(["systemd-run", "--quiet", "--collect", f"--unit={unit}", *properties, *command])
    try:
        yield
        machine.run(["systemctl", "is-active", unit])
    finally:
        machine.run(["systemctl", "stop", unit], check=False)
