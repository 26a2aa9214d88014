"""Programs outside this unit's sandbox, and as another user: in a transient unit of systemd.

This unit cannot become another user, and may write below /etc and /var only. systemd-run(1) runs a
command as root in systemd's clean environment, with a time limit, and of root's capabilities only
those over files and to become another user. Its exit code and its output come back through
systemd-run. A packaged template unit would also do, but would have to receive what to build through
its instance name, and return the output through a file.

This is safe, since nothing in the command comes from the caller: the programs are fixed, the
directory is that of one of Postfix's own instances (errands_unit.py), and the databases are those
that main.cf and master.cf there name. The caller can only choose among them. Only root can write
these files, and root may run newaliases and postmap anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from pf_agent.errors import HostError
from pf_agent.postfix import complaints
from pf_agent.postfix.programs import Answer, Program, run
from pf_agent.postfix.ways import Owner

SECONDS: Final = 30
_SYSTEMD_RUN: Final = "/usr/bin/systemd-run"
_SETPRIV: Final = "/usr/bin/setpriv"
_GIB: Final = 1
# How systemd-run(1) begins its message if it could not start the unit.
_NOT_STARTED: Final = "Failed to "
_TRANSIENT: Final = (
    *(_SYSTEMD_RUN, "--quiet", "--wait", "--pipe", "--collect", "--no-ask-password"),
    *("--description=Make a database for pf-agent", "--service-type=exec"),
    *("--setenv=LC_ALL=C", f"--property=MemoryMax={_GIB}G", "--property=NoNewPrivileges=yes"),
    f"--property=LimitFSIZE={_GIB}G",
    "--property=CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_SETGID CAP_SETUID",
)


def becoming(owner: Owner | None) -> list[str]:
    """Return how a command begins that runs as this user from the start; None: as it is."""
    if owner is None:
        return []
    # Not Popen's own `user`: that calls setreuid(2), which the unit's sandbox refuses.
    return [_SETPRIV, f"--reuid={owner.uid}", f"--regid={owner.gid}", "--clear-groups", "--"]


def outside(
    programs: Iterable[Program], seconds: int = SECONDS, properties: Sequence[str] = ()
) -> list[Answer | None]:
    """Run these outside the sandbox, each for `seconds` at most.

    Return what each said; None for one that could not be started.
    """
    limits = [f"--property={each}" for each in (f"RuntimeMaxSec={seconds}", *properties)]
    transient = [
        each._replace(command=[*_TRANSIENT, *limits, "--", *each.command], seconds=seconds + 2.0)
        for each in programs
    ]
    try:
        return [told_of(answer, seconds) for answer in run(transient)]
    except HostError:
        return [None] * len(transient)  # systemd-run is not installed


def told_of(answer: Answer, seconds: int = SECONDS) -> Answer | None:
    """Return the result of a transient unit from systemd-run's answer; None if it did not start.

    If systemd stopped the unit at one of its limits, neither systemd-run nor the program says so.
    """
    is_setprivs = answer.complaint.startswith("setpriv: ")
    if not answer.failed or is_setprivs or complaints.FATAL.search(answer.complaint.encode()):
        return answer
    if answer.complaint.startswith(_NOT_STARTED):
        return None
    why = f"systemd: fatal: not done within {seconds} s and {_GIB} GiB of memory\n"
    return answer._replace(complaint=answer.complaint + why)
