"""The verb status: what the daemon says of itself, to whoever asks.

Scripts ask often, so what the other verbs need is not imported here.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from pf_agent import __version__, names
from pf_agent.errors import ExitCode, HostError
from pf_agent.files.status_file import read_status
from pf_agent.model import Phase
from pf_agent.words import sentences
from pf_agent.words.status import status_dict, status_from_dict

_WATCH_SECONDS = 1.0
# Phases in which somebody has to do something: main.cf is wrong, or mail stands still.
BAD = frozenset({Phase.STALLED, Phase.FAILING, Phase.STOPPED})


def cmd_status(arguments: argparse.Namespace) -> ExitCode:
    """What status.json says, as of now; with --watch again each time that it says another thing."""
    code, told = _tell_status(arguments.json, "")
    while arguments.watch:
        sys.stdout.flush()
        time.sleep(_WATCH_SECONDS)
        code, told = _tell_status(arguments.json, told)
    return code


def _tell_status(as_json: bool, before: str) -> tuple[ExitCode, str]:
    """Print the status unless it is as `before`; return the exit code and what it is."""
    found = read_status(names.RUN_DIRECTORY)
    if found is None:
        text = "the daemon does not run; start it with `systemctl start pf-agent`"
        if text != before:
            print(json.dumps({"phase": None, "summary": text}, indent=2) if as_json else text)
        return ExitCode.FAILURE, text
    now = time.time()
    try:
        status = status_from_dict(found)
    except ValueError as error:
        place = f"{names.RUN_DIRECTORY}/status.json"
        raise HostError(f"{place}: not as written by pf-agent {__version__}: {error}") from error
    text = "\n".join((sentences.summary(status, now), *status.problems))
    if text != before:
        print(json.dumps(status_dict(status, now), indent=2) if as_json else text)
    phases = {status.phase, *(inner.phase for inner in status.instances.values())}
    return ExitCode.OK if phases.isdisjoint(BAD) else ExitCode.FAILURE, text
