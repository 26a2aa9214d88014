"""The verbs that act: apply, suspend, resume."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time

from pf_agent import names
from pf_agent.cli.moments import span_of
from pf_agent.cli.stale_tables import stale_tables
from pf_agent.cli.subject import Unkept, prefix, subjects
from pf_agent.cli.verbs_look import cmd_diff, print_json
from pf_agent.cli.who import who_asks
from pf_agent.config.desired import by_instance
from pf_agent.config.table import shown_key
from pf_agent.errors import ConfigError, ExitCode
from pf_agent.files.configuration import load_desired
from pf_agent.files.kept_suspension import KeptSuspension
from pf_agent.files.status_file import read_status
from pf_agent.files.store import FileStore
from pf_agent.model import MOST_SUSPENDED_SECONDS, Applied, Result
from pf_agent.reconcile.look import Look
from pf_agent.reconcile.ports import Policy
from pf_agent.reconcile.reconcile import reconcile
from pf_agent.reconcile.suspension import in_force, resume, suspend
from pf_agent.words import sentences
from pf_agent.words.fields import applied_dict


def cmd_apply(arguments: argparse.Namespace) -> ExitCode:
    """Run one cycle, with its activation to the end."""
    if arguments.dry_run:
        return cmd_diff(arguments, stale_tables)
    if arguments.main_cf is None and arguments.desired is not None:
        raise ConfigError(
            "--desired: the daemon would undo what another desired state changes in the host's own"
            " main.cf; name another file with --main-cf, or edit /etc/pf-agent/desired.toml"
        )
    if arguments.main_cf is not None:
        (subject,) = subjects(arguments)
        policy = Policy(own=False)
        look = Look(subject.host, subject.desired, policy, Unkept(), lambda _record: None)
        applied = [Applied(subject.name, reconcile(look), "")]
    else:
        from pf_agent.daemon.once import Wanted, apply_to_host

        wanted = Wanted(not arguments.no_activate, arguments.wait == "yes", arguments.force)
        applied = apply_to_host(wanted)
    if arguments.json:
        dicts = {each.instance: applied_dict(each) for each in applied}
        print_json(dicts.pop(names.DEFAULT_INSTANCE) | {"instances": dicts})
    else:
        for each in applied:
            text = each.failure or each.outcome.summary or "in sync"
            for line in (text, *each.rebuilt.values(), *each.stale.values()):
                print(sentences.printable(f"{prefix(each.instance)}{line}"))
            for name, outcome in each.documents.items():
                text = f"{name}: {outcome.summary or 'in sync'}"
                print(sentences.printable(f"{prefix(each.instance)}{text}"))
    if any(map(_has_failed, applied)):
        return ExitCode.FAILURE
    return ExitCode.OK


def _has_failed(applied: Applied) -> bool:
    outcomes = (applied.outcome, *applied.documents.values())
    is_refused = any(each.result in (Result.REJECTED, Result.FAILED) for each in outcomes)
    return bool(applied.failure or applied.stale or is_refused)


def cmd_suspend(arguments: argparse.Namespace) -> ExitCode:
    """Suspend the agent; the daemon notices at once, or when it starts."""
    now = time.time()
    kept = kept_suspension(arguments.instance)
    found = suspend(kept, who_asks(), now, arguments.seconds, arguments.reason or "")
    wake_daemon()
    start = prefix(arguments.instance or names.DEFAULT_INSTANCE)
    print(sentences.printable(f"{start}{sentences.suspended_sentence(found)}"))
    return ExitCode.OK


def cmd_resume(arguments: argparse.Namespace) -> ExitCode:
    """Have main.cf corrected again; without an instance, of all that are suspended."""
    now, who = time.time(), who_asks()
    state = FileStore(names.STATE_DIRECTORY, names.RUN_DIRECTORY)
    for_all = kept_suspension(None)
    if arguments.instance is None:
        ended = [resume(kept, who, now) for kept in (for_all, *state.suspensions().values())]
        was_suspended = any(ended)
    else:
        was_suspended = resume(kept_suspension(arguments.instance), who, now)
    wake_daemon()
    text = "resumed" if was_suspended else "it was not suspended"
    if arguments.instance is not None and in_force(for_all, now) is not None:
        text += "; all instances are suspended, and `pf-agent resume` ends that"
    print(f"{prefix(arguments.instance or names.DEFAULT_INSTANCE)}{text}")
    return ExitCode.OK


def kept_suspension(instance: str | None) -> KeptSuspension:
    """Return the suspension on disk of an instance; None: of all of them.

    Raises ConfigError if there is no such instance, HostError.
    """
    whole = FileStore(names.STATE_DIRECTORY, names.RUN_DIRECTORY)
    prepare(whole)
    if instance is None:
        return whole.suspended
    require_instance(instance, whole)
    store = FileStore.of_instance(instance, names.STATE_DIRECTORY, names.RUN_DIRECTORY)
    prepare(store)
    return store.suspended_alone


def require_instance(instance: str, state: FileStore) -> None:
    """Raise ConfigError if there is no such instance.

    Suspending in a hurry must not require fixing the files first: an instance with a directory
    counts.
    """
    if instance in state.suspensions():
        return
    if instance not in by_instance(load_desired(names.CONFIG_DIRECTORY)):
        raise ConfigError(
            f"instance {shown_key(instance)}: not configured; see /etc/pf-agent/desired.toml"
        )


def prepare(state: FileStore) -> None:
    """Create the agent's directories. Raises HostError."""
    for moved in state.prepare():
        print(f"{names.PROGRAM}: {moved}", file=sys.stderr)


def seconds_of(text: str) -> float:
    """Return the seconds of a span such as 90, 2h 30min or 1 day. Raises ArgumentTypeError."""
    seconds = span_of(text)
    if not seconds:
        raise argparse.ArgumentTypeError(
            f'expected a duration, got "{text}"; write 90 (seconds), "2h 30min" or "1 day"'
        )
    if seconds > MOST_SUSPENDED_SECONDS:
        raise argparse.ArgumentTypeError(f'"{text}" is more than a year; omit --for')
    return seconds


def wake_daemon() -> None:
    """Have the daemon look now, if there is one."""
    status = read_status(names.RUN_DIRECTORY)
    pid = 0 if status is None else int(status["pid"])
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            if file.read().strip() == names.PROGRAM:  # and not a process that came after it
                os.kill(pid, signal.SIGHUP)
    except OSError:
        return  # it has ended, and will read the files when it starts
