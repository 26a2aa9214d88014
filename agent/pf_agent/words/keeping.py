"""What of a drift can be made desired, and by which command: pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

from pf_agent import names
from pf_agent.config.values import name_fault, value_fault
from pf_agent.model import Drift, DriftKind
from pf_agent.words.fields import is_of_table

# The command names at most this many parameters; without any it means all that drifted.
_MOST_KEPT: Final = 4


def keepable(drift: Sequence[Drift]) -> tuple[str, ...]:
    """Return the parameters that drifted and whose drifted values `adopt` can make desired.

    There are none if main.cf was destroyed. If a parameter was set twice, the value that Postfix
    obeyed is the desired one. A name that looks like an option is not one of Postfix's.
    """
    if any(each.kind is DriftKind.ABSENT_FILE for each in drift):
        return ()
    kept = (d for d in drift if not d.is_wished and d.kind is not DriftKind.DUPLICATED)
    found = dict.fromkeys(each.parameter for each in kept)
    is_fit = value_fault if any(each.document for each in drift) else name_fault
    return tuple(n for n in found if n and not (is_fit(n) or n.startswith("-")))


def command(instance: str, drift: Sequence[Drift], cycle: str) -> str:
    """Return the command that makes the drifted values desired, "" if there are none.

    They are in the text that `cycle` replaced; "": main.cf still has them.
    """
    found = keepable(drift)
    if not found:
        return ""
    words = ["pf-agent", "adopt"]
    if instance != names.DEFAULT_INSTANCE:
        words += ["--instance", instance]
    if cycle:
        words += ["--cycle", cycle]
        found = found if len(found) <= _MOST_KEPT else ()
    # The document stands with its keys: argparse takes the names of one place only.
    document = [each.document for each in drift if is_of_table(each.document)][:1]
    return shlex.join([*words, *document, *found])
