"""Runs checks inside a machine, each in a fork of one process that has loaded what they need.

Reads the name of a check from each line of its input. After what that check has printed comes a
line `ok   CHECK` or `FAIL CHECK`, and then END. Most of a check's cost was starting Python for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping

END = "the check has ended"


def checks_of(module: Mapping[str, object]) -> dict[str, Callable[..., None]]:
    """Return the checks in a module's globals(), by name."""
    return {n: found for n, found in module.items() if n.startswith("check_") and callable(found)}


def serve(checks: Mapping[str, Callable[[], None]]) -> None:
    """Run the checks that are asked for, to the end of the input."""
    for line in sys.stdin:
        name = line.strip()
        child = os.fork()
        if not child:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            _run(name, checks[name])
            sys.stdout.flush()
            os._exit(0)  # for the same reason as in pf_agent.cli.main.entry
        os.waitpid(child, 0)
        print(END, flush=True)


def _run(name: str, check: Callable[[], None]) -> None:
    try:
        check()
    except Exception as error:  # noqa: BLE001 - a failed check must not keep the next from running
        print(f"FAIL {name}")
        traceback.print_exc(file=sys.stdout)
        if isinstance(error, subprocess.CalledProcessError):
            print(error.stderr)
    else:
        print(f"ok   {name}")
