"""The verbs that act: run, apply."""

from __future__ import annotations

import argparse
import sys

from pf_agent import names, render
from pf_agent.errors import ConfigError, ExitCode
from pf_agent.model import Applied, Event, Record, Result
from pf_agent.plan import Policy
from pf_agent.reconcile import reconcile
from pf_agent.subject import Unkept, prefix, subjects
from pf_agent.verbs_look import cmd_diff, print_json


def cmd_run(_arguments: argparse.Namespace) -> ExitCode:
    """The daemon, until SIGTERM."""
    from pf_agent.daemon import Daemon, Machine
    from pf_agent.journal import Journal, console_of

    journal = Journal(console_of(sys.stderr))
    try:
        daemon = Daemon(Machine(), journal)
    except ConfigError as error:
        for problem in error.problems:
            fields = {names.FIELD_REASON: problem}
            journal.emit(Record(Event.CONFIG_REJECTED, problem, fields=fields))
        return error.exit_code
    return daemon.run()


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
        outcome = reconcile(
            subject.host, subject.desired, Policy(own=False), Unkept(), lambda _record: None
        )
        applied = [Applied(subject.name, outcome, "")]
    else:
        from pf_agent.apply import apply_to_host

        applied = apply_to_host(activate=not arguments.no_activate)
    if arguments.json:
        dicts = {
            each.instance: render.outcome_dict(each.outcome) | {"failure": each.failure or None}
            for each in applied
        }
        print_json(dicts.pop(names.DEFAULT_INSTANCE) | {"instances": dicts})
    else:
        for each in applied:
            text = each.failure or each.outcome.summary or "in sync"
            print(f"{prefix(each.instance)}{text}")
    bad = (Result.REJECTED, Result.ROLLED_BACK)
    if any(each.failure or each.outcome.result in bad for each in applied):
        return ExitCode.FAILURE
    return ExitCode.OK
