"""The command: a verb is a function that takes the parsed arguments and returns an exit code."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pf_agent import __version__, configuration, names, render
from pf_agent.correction import blamed_place, refusal, refusal_sentence, warnings
from pf_agent.desired import by_instance, main_cf_of
from pf_agent.errors import ConfigError, ExitCode, HostError, PfAgentError
from pf_agent.exchange import MainCfFile
from pf_agent.model import (
    Applied,
    DesiredState,
    Drift,
    Event,
    PendingActivation,
    Phase,
    Record,
    Result,
    RolledBack,
)
from pf_agent.plan import Plan, Policy, plan
from pf_agent.reconcile import reconcile
from pf_agent.state import State, read_status

# What needs D-Bus, inotify or the journal is imported where it is used: `status`, `diff` and
# `check` then start in a fifth of the time, and work where those libraries are not installed.

Verb = Callable[[argparse.Namespace], ExitCode]

_DESCRIPTION = "Keeps Postfix's main.cf at a desired state."
_EPILOG = """\
first steps:
  pf-agent check            are the configuration files right?
  pf-agent diff             what would change in main.cf?
  sudo pf-agent apply       change it, now
  systemctl status pf-agent what the daemon is about

exit codes: 0 in sync or done, 1 failure, 2 usage or bad configuration, 3 drift found

What main.cf must say stands in /etc/pf-agent/desired.toml; see pf-agent.toml(5) and pf-agent(8).
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code. A user's mistake never shows a traceback."""
    arguments = _parser().parse_args(argv)
    verb: Verb = arguments.verb
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # main.cf may hold any character, and the terminal may know few.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = int(verb(arguments))
        sys.stdout.flush()
        return code
    except PfAgentError as error:
        for line in str(error).splitlines():
            print(f"{names.PROGRAM}: {line}", file=sys.stderr)
        return int(error.exit_code)
    except BrokenPipeError:
        # The reader has seen enough (`pf-agent diff | head`); Python's own flush must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.FAILURE)
    except KeyboardInterrupt:
        return 130


def entry() -> NoReturn:
    """What /usr/bin/pf-agent calls: `main`, and then the end of the process without more ado.

    Where dbus-daemon was killed meanwhile, Python's own way to end waits for GLib's thread for
    ever: seen after one of three such kills, and `systemctl stop` would wait for its time limit.
    """
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        names.PROGRAM,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{names.PROGRAM} {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def add(name: str, verb: Verb, text: str) -> Any:
        added = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        added.set_defaults(verb=verb)
        return added

    add("run", cmd_run, "watch main.cf and keep it right (what pf-agent.service runs)")
    status = add("status", cmd_status, "tell what the daemon is about; any user may ask")
    diff = add("diff", cmd_diff, "show what main.cf says against what it must say")
    apply = add("apply", cmd_apply, "look once, correct main.cf and restart Postfix")
    check = add("check", cmd_check, "check the configuration files and name every fault")
    _add_options(apply)
    for added in (diff, apply):
        _add_files(added)
    for added in (status, diff, apply, check):
        added.add_argument("--json", action="store_true", help="print JSON for programs")
    return parser


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--main-cf",
        metavar="FILE",
        help="work on FILE instead of the host's main.cf; needs neither root nor Postfix",
    )
    parser.add_argument(
        "--desired",
        metavar="FILE",
        help="take the desired state from FILE alone instead of /etc/pf-agent",
    )


def _add_options(apply: argparse.ArgumentParser) -> None:
    apply.add_argument(
        "--dry-run", action="store_true", help="change nothing; exit with 3 where there is drift"
    )
    apply.add_argument(
        "--no-activate",
        action="store_true",
        help="correct the file alone: no newaliases, no restart (a running daemon does them)",
    )


# --- verbs ------------------------------------------------------------------------------------


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


def cmd_status(arguments: argparse.Namespace) -> ExitCode:
    """What status.json says, as of now."""
    found = read_status(names.RUN_DIRECTORY)
    if found is None:
        text = "the daemon does not run; start it with `systemctl start pf-agent`"
        if arguments.json:
            _print_json({"phase": None, "summary": text})
        else:
            print(text)
        return ExitCode.FAILURE
    now = time.time()
    try:
        status = render.status_from_dict(found)
    except (ValueError, KeyError, TypeError) as error:
        place = f"{names.RUN_DIRECTORY}/status.json"
        raise HostError(f"{place}: not as written by pf-agent {__version__}: {error!r}") from error
    if arguments.json:
        _print_json(render.status_dict(status, now))
    else:
        print("\n".join((render.summary(status, now), *status.problems)))
    phases = {status.phase, *(inner.phase for inner in status.instances.values())}
    return ExitCode.FAILURE if Phase.STALLED in phases else ExitCode.OK


def cmd_diff(arguments: argparse.Namespace) -> ExitCode:
    """The unified diff that `apply` would make."""
    subjects = _subjects(arguments)
    found = {subject.name: subject.plan() for subject in subjects}
    if arguments.json:
        dicts = {name: render.diff_dict(_all(each), each.diff) for name, each in found.items()}
        _print_json(dicts.pop(names.DEFAULT_INSTANCE) | {"instances": dicts})
    else:
        for name, each in found.items():
            sys.stdout.write(each.diff)
            for drift in _all(each):
                print(f"{_prefix(name)}{render.drift_sentence(drift)}", file=sys.stderr)
    return ExitCode.DRIFT if any(map(_all, found.values())) else ExitCode.OK


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
        (subject,) = _subjects(arguments)
        outcome = reconcile(
            subject.host, subject.desired, Policy(own=False), _Unkept(), lambda _record: None
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
        _print_json(dicts.pop(names.DEFAULT_INSTANCE) | {"instances": dicts})
    else:
        for each in applied:
            text = each.failure or each.outcome.summary or "in sync"
            print(f"{_prefix(each.instance)}{text}")
    bad = (Result.REJECTED, Result.ROLLED_BACK)
    if any(each.failure or each.outcome.result in bad for each in applied):
        return ExitCode.FAILURE
    return ExitCode.OK


def cmd_check(arguments: argparse.Namespace) -> ExitCode:
    """Every fault of the configuration files."""
    problems: list[str] = []
    doubts: list[str] = []
    count = 0
    try:
        desired = configuration.load_desired(names.CONFIG_DIRECTORY)
        subjects = _own_subjects(desired)
        count = sum(len(subject.desired.parameters()) for subject in subjects)
        for subject in subjects:
            problem, warned = _judged(subject)
            problems += [problem] if problem else []
            doubts += warned
    except ConfigError as error:
        problems.extend(error.problems)
    except HostError as error:
        problems.append(str(error))
    try:
        configuration.load_options(names.CONFIG_DIRECTORY)
    except ConfigError as error:
        problems.extend(error.problems)
    found = {"ok": not problems, "parameters": count, "problems": problems, "warnings": doubts}
    if arguments.json:
        _print_json(found)
    else:
        print(*problems, *(f"warning: {doubt}" for doubt in doubts), sep="\n", end="")
        print("\n" if problems or doubts else "", end="")
        if not problems:
            print(f"{names.CONFIG_DIRECTORY}: right, {render.counted(count, 'parameter')}")
    return ExitCode.USAGE if problems else ExitCode.OK


# --- what the verbs share ---------------------------------------------------------------------


@dataclass(frozen=True)
class _Subject:
    """An instance, what it must say, its file, and whether that is this host's own."""

    name: str
    desired: DesiredState
    host: MainCfFile
    own: bool

    def plan(self) -> Plan:
        """Compare. Raises HostError."""
        last_good = _readable_last_good(self.name) if self.own else None
        return plan(self.host, self.desired, self.host.read(), last_good, self.own)


def _subjects(arguments: argparse.Namespace) -> list[_Subject]:
    """What the verb is about: every instance, or the one file that was named.

    Raises ConfigError.
    """
    if arguments.desired is not None:
        desired = configuration.load_desired_file(arguments.desired)
    else:
        desired = configuration.load_desired(names.CONFIG_DIRECTORY)
    if arguments.main_cf is not None:
        host = MainCfFile(arguments.main_cf, False)
        return [_Subject(names.DEFAULT_INSTANCE, desired, host, False)]
    return _own_subjects(desired)


def _own_subjects(desired: DesiredState) -> list[_Subject]:
    return [
        _Subject(name, state, MainCfFile(main_cf_of(name, state)), True)
        for name, state in by_instance(desired).items()
    ]


def _all(found: Plan) -> tuple[Drift, ...]:
    return (*found.drift, *found.reported)


def _prefix(instance: str) -> str:
    return "" if instance == names.DEFAULT_INSTANCE else f"{instance}: "


def _judged(subject: _Subject) -> tuple[str, tuple[str, ...]]:
    """What Postfix's own programs refuse and warn of in main.cf as it would become.

    Nothing, where Postfix is not installed.
    """
    from pf_agent.postfix import POSTCONF, Postfix

    if not os.path.exists(POSTCONF):
        return "", ()
    with tempfile.TemporaryDirectory(prefix="pf-agent-check-") as folder:
        postfix = Postfix(os.path.dirname(subject.host.path), folder)
        judgement = postfix.judge(subject.plan().candidate)
    refused = refusal(subject.desired, judgement)
    problem = refusal_sentence(subject.desired, refused) if refused else ""
    doubts = warnings(subject.desired, judgement)
    return problem, tuple(f"{blamed_place(subject.desired, text)}{text}" for text in doubts)


def _readable_last_good(instance: str) -> bytes | None:
    """The last good text, where this user may read it."""
    try:
        state = State.of_instance(instance, names.STATE_DIRECTORY, names.RUN_DIRECTORY)
        return state.last_good()
    except HostError:
        return None  # not root: the diff then starts from the template, which it may read


class _Unkept:
    """A file that is not the host's own leaves nothing behind: no cycle, no marker, no texts."""

    def next_cycle(self) -> int:
        return 1

    def mark_pending(self, _pending: PendingActivation, durable: bool = True) -> None:
        """There is no Postfix to activate it."""

    def pending(self) -> None:
        return None

    def keep_displaced(self, _cycle: int, _text: bytes) -> str:
        return ""

    def last_good(self) -> None:
        return None

    def keep_last_good(self, _text: bytes) -> None:
        """Only a file that Postfix runs with can be good."""

    def ran_with(self) -> None:
        return None

    def keep_ran_with(self, _text: bytes) -> None:
        """Nor was any Postfix seen to run with it."""

    def rolled_back(self) -> None:
        return None

    def keep_rolled_back(self, _rolled_back: RolledBack) -> None:
        """Nothing is activated, so nothing is rolled back."""

    def forget_rolled_back(self) -> None:
        """Nothing is kept."""


def _print_json(found: object) -> None:
    json.dump(found, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    entry()
