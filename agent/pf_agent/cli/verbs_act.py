"""The verbs that act: apply, suspend, resume."""

from __future__ import annotations

import argparse
import os
import pwd
import re
import signal
import sys
import time

from pf_agent import names
from pf_agent.cli.subject import Unkept, prefix, subjects
from pf_agent.cli.verbs_look import cmd_diff, print_json
from pf_agent.errors import ConfigError, ExitCode
from pf_agent.files.status_file import read_status
from pf_agent.files.store import FileStore
from pf_agent.model import MOST_SUSPENDED_SECONDS, Applied, Result
from pf_agent.reconcile.look import Look
from pf_agent.reconcile.ports import Policy
from pf_agent.reconcile.reconcile import reconcile
from pf_agent.reconcile.suspension import resume, suspend
from pf_agent.words import sentences
from pf_agent.words.fields import outcome_dict

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def cmd_apply(arguments: argparse.Namespace) -> ExitCode:
    """One cycle, and its activation to the end."""
    if arguments.dry_run:
        return cmd_diff(arguments)
    if arguments.main_cf is None and arguments.desired is not None:
        raise ConfigError(
            "--desired: the daemon would undo what another desired state asks of the host's own"
            " main.cf; name a file with --main-cf, or edit /etc/pf-agent/desired.toml"
        )
    if arguments.main_cf is not None:
        (subject,) = subjects(arguments)
        policy = Policy(own=False)
        look = Look(subject.host, subject.desired, policy, Unkept(), lambda _record: None)
        applied = [Applied(subject.name, reconcile(look), "")]
    else:
        from pf_agent.daemon.once import apply_to_host

        applied = apply_to_host(not arguments.no_activate, arguments.force)
    if arguments.json:
        dicts = {
            each.instance: outcome_dict(each.outcome) | {"failure": each.failure or None}
            for each in applied
        }
        print_json(dicts.pop(names.DEFAULT_INSTANCE) | {"instances": dicts})
    else:
        for each in applied:
            text = each.failure or each.outcome.summary or "in sync"
            print(f"{prefix(each.instance)}{text}")
    if any(each.failure or each.outcome.result is Result.REJECTED for each in applied):
        return ExitCode.FAILURE
    return ExitCode.OK


def cmd_suspend(arguments: argparse.Namespace) -> ExitCode:
    """Have main.cf left alone; the daemon takes note at once, or when it starts."""
    state = FileStore(names.STATE_DIRECTORY, names.RUN_DIRECTORY)
    prepare(state)
    found = suspend(state, who_asks(), time.time(), arguments.seconds, arguments.reason or "")
    wake_daemon()
    print(f"suspended {sentences.suspension_sentence(found)}")
    return ExitCode.OK


def cmd_resume(_arguments: argparse.Namespace) -> ExitCode:
    """Have main.cf looked after again."""
    state = FileStore(names.STATE_DIRECTORY, names.RUN_DIRECTORY)
    prepare(state)
    was_suspended = resume(state, who_asks(), time.time())
    wake_daemon()
    print("resumed" if was_suspended else "it was not suspended")
    return ExitCode.OK


def prepare(state: FileStore) -> None:
    """Have the agent's folders there. Raises HostError."""
    for moved in state.prepare():
        print(f"{names.PROGRAM}: {moved}", file=sys.stderr)


def seconds_of(text: str) -> float:
    """Return the seconds of a duration such as 90, 30m, 2h or 1d. Raises ArgumentTypeError."""
    seconds = duration_of(text)
    if not seconds:
        raise argparse.ArgumentTypeError(f'expected a duration, got "{text}"; write 2h or 30m')
    if seconds > MOST_SUSPENDED_SECONDS:
        raise argparse.ArgumentTypeError(f'"{text}" is more than a year; leave --for away')
    return seconds


def duration_of(text: str) -> float | None:
    """Return the seconds that 90, 30m, 2h or 1d are, None for what is no duration."""
    found = re.fullmatch(r"([0-9]{1,7})([smhd]?)", text)
    return None if found is None else float(int(found[1]) * _UNITS[found[2]])


def who_asks() -> str:
    """Return the name of who runs the command, as far as sudo(8) and the login tell."""
    name = os.environ.get("SUDO_USER")
    if not name:
        try:
            name = os.getlogin()
        except OSError:  # no terminal
            name = pwd.getpwuid(os.getuid()).pw_name
    return name


def wake_daemon() -> None:
    """Have the daemon look now, if there is one."""
    status = read_status(names.RUN_DIRECTORY)
    pid = 0 if status is None else int(status["pid"])
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            if file.read().strip() == names.PROGRAM:  # and not who came after it
                os.kill(pid, signal.SIGHUP)
    except OSError:
        return  # it has ended, and will find what is written when it starts
