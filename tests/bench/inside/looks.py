"""Runs in the machine, on the installed pf-agent: a look that finds nothing, and other commands.

python3 looks.py look PARAMETERS BYTES ROUNDS    seconds of each look, a JSON list
python3 looks.py run ROUNDS COMMAND...           seconds of each run of a command
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from pf_agent.files.exchange import MainCfFile
from pf_agent.files.store import FileStore
from pf_agent.model import DesiredState, Record
from pf_agent.reconcile.look import Look
from pf_agent.reconcile.ports import Policy
from pf_agent.reconcile.reconcile import reconcile

_COMMENT = "# A line of comment, of the length that they have in the template of Postfix.\n"


def texts(parameters: int, size: int) -> tuple[bytes, DesiredState]:
    """Return a main.cf of at least `size` bytes with that many parameters, all of them managed."""
    settings = {f"smtpd_parameter_{number:06d}": f"value {number}" for number in range(parameters)}
    lines = [f"{name} = {value}\n" for name, value in settings.items()]
    comments = max(0, size - sum(map(len, lines))) // len(_COMMENT)
    every = max(1, comments // parameters)
    text = "".join(_COMMENT * every + line for line in lines)
    text += _COMMENT * max(0, (size - len(text)) // len(_COMMENT))
    return text.encode(), DesiredState(settings, frozenset())


def look_seconds(parameters: int, size: int, rounds: int) -> list[float]:
    text, desired = texts(parameters, size)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        path = os.path.join(folder, "main.cf")
        with open(path, "wb") as file:
            file.write(text)
        os.chmod(path, 0o644)
        state = FileStore(os.path.join(folder, "state"), os.path.join(folder, "run"))
        state.prepare()
        host = MainCfFile(path)

        def look() -> None:
            outcome = reconcile(Look(host, desired, Policy(), state, unexpected))
            assert not outcome.drift
            assert not outcome.summary

        look()  # the first one remembers the text
        return timed(look, rounds)


def unexpected(record: Record) -> None:
    raise AssertionError(record.message)


def timed(act: Callable[[], object], rounds: int) -> list[float]:
    found = []
    for _ in range(rounds):
        begin = time.perf_counter()
        act()
        found.append(time.perf_counter() - begin)
    return found


def run_seconds(command: list[str], rounds: int) -> list[float]:
    def run() -> None:
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)

    run()
    return timed(run, rounds)


def main() -> None:
    what, *arguments = sys.argv[1:]
    if what == "look":
        print(json.dumps(look_seconds(*map(int, arguments))))
    else:
        print(json.dumps(run_seconds(arguments[1:], int(arguments[0]))))


if __name__ == "__main__":
    main()
