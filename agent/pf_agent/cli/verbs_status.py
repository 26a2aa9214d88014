"""The verb status: what the daemon says about itself.

Scripts ask often, so what only other verbs need is not imported here.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from pf_agent import __version__, names
from pf_agent.errors import ExitCode, HostError
from pf_agent.files.status_file import read_status
from pf_agent.model import Phase
from pf_agent.words.outgoing import PROCESS, Hidden
from pf_agent.words.page import page
from pf_agent.words.status import status_dict, status_from_dict

_WATCH_SECONDS = 1.0
# Phases in which a person has to act: main.cf is wrong, or mail is down.
BAD = frozenset({Phase.STALLED, Phase.FAILING, Phase.STOPPED})


def cmd_status(arguments: argparse.Namespace) -> ExitCode:
    """Print what status.json says now; with --watch again each time that it changes."""
    code, told = _tell_status(arguments.json, "")
    while arguments.watch:
        sys.stdout.flush()
        time.sleep(_WATCH_SECONDS)
        code, told = _tell_status(arguments.json, told)
    return code


def _tell_status(as_json: bool, before: str) -> tuple[ExitCode, str]:
    """Print the status unless it is the same as `before`; return the exit code and the status."""
    found = read_status(names.RUN_DIRECTORY)
    if found is None:
        text = "the daemon is not running; start it with `systemctl start pf-agent`"
        if text != before:
            _print({"phase": None, "summary": text} if as_json else text)
        return ExitCode.FAILURE, text
    now = time.time()
    try:
        status = status_from_dict(found)
    except ValueError as error:
        place = f"{names.RUN_DIRECTORY}/status.json"
        raise HostError(f"{place}: not a status file of pf-agent {__version__}: {error}") from error
    text = "\n".join(page(status, now))
    if text != before:
        _print(status_dict(status, now) if as_json else text)
    phases = {status.phase, *(inner.phase for inner in status.instances.values())}
    return ExitCode.OK if phases.isdisjoint(BAD) else ExitCode.FAILURE, text


def _print(found: str | dict[str, Any]) -> None:
    """Do the same as `print_json` in verbs_look.py, which imports too much."""
    if isinstance(found, str):
        print(found)
    else:
        sys.stdout.write(Hidden(json.dumps(PROCESS.document(found), indent=2) + "\n"))
