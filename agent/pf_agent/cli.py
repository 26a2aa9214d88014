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
from typing import Any, NoReturn

from pf_agent import __version__, configuration, names, render
from pf_agent.correction import refusal_sentence
from pf_agent.errors import ConfigError, ExitCode, HostError, PfAgentError
from pf_agent.exchange import MainCfFile
from pf_agent.model import (
    DesiredState,
    Event,
    PendingActivation,
    Phase,
    Record,
    Result,
)
from pf_agent.plan import Policy, plan
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
    return ExitCode.FAILURE if status.phase is Phase.STALLED else ExitCode.OK


def cmd_diff(arguments: argparse.Namespace) -> ExitCode:
    """The unified diff that `apply` would make."""
    desired, host, own = _subject(arguments)
    last_good = _readable_last_good() if own else None
    found = plan(host, desired, host.read(), last_good, own)
    if arguments.json:
        _print_json(render.diff_dict(found.drift, found.diff))
    else:
        sys.stdout.write(found.diff)
        for drift in found.drift:
            print(render.drift_sentence(drift), file=sys.stderr)
    return ExitCode.DRIFT if found.drift else ExitCode.OK


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
        desired, host, _ = _subject(arguments)
        outcome = reconcile(host, desired, Policy(own=False), _Unkept(), lambda _record: None)
        failure = ""
    else:
        from pf_agent.apply import apply_to_host

        outcome, failure = apply_to_host(activate=not arguments.no_activate)
    if arguments.json:
        _print_json(render.outcome_dict(outcome) | {"failure": failure or None})
    else:
        print(failure or outcome.summary or "in sync")
    if failure or outcome.result is Result.REJECTED:
        return ExitCode.FAILURE
    return ExitCode.OK


def cmd_check(arguments: argparse.Namespace) -> ExitCode:
    """Every fault of the configuration files."""
    problems: list[str] = []
    count = 0
    try:
        desired = configuration.load_desired(names.CONFIG_DIRECTORY)
        count = len(desired.parameters())
        problems.extend(_refusal(desired))
    except ConfigError as error:
        problems.extend(error.problems)
    try:
        configuration.load_options(names.CONFIG_DIRECTORY)
    except ConfigError as error:
        problems.extend(error.problems)
    if arguments.json:
        _print_json({"ok": not problems, "parameters": count, "problems": problems})
    elif problems:
        print("\n".join(problems))
    else:
        print(f"{names.CONFIG_DIRECTORY}: right, {render.counted(count, 'parameter')}")
    return ExitCode.USAGE if problems else ExitCode.OK


# --- what the verbs share ---------------------------------------------------------------------


def _subject(arguments: argparse.Namespace) -> tuple[DesiredState, MainCfFile, bool]:
    """The desired state, the file, and whether it is this host's own. Raises ConfigError."""
    if arguments.desired is not None:
        desired = configuration.load_desired_file(arguments.desired)
    else:
        desired = configuration.load_desired(names.CONFIG_DIRECTORY)
    own = arguments.main_cf is None
    return desired, MainCfFile(names.MAIN_CF if own else arguments.main_cf, own), own


def _refusal(desired: DesiredState) -> list[str]:
    """What Postfix's own programs say against main.cf as it would become, where they are."""
    from pf_agent.postfix import POSTCONF, Postfix

    if not os.path.exists(POSTCONF):
        return []
    host = MainCfFile(names.MAIN_CF)
    try:
        candidate = plan(host, desired, host.read(), _readable_last_good()).candidate
        with tempfile.TemporaryDirectory(prefix="pf-agent-check-") as folder:
            postfix = Postfix(os.path.dirname(names.MAIN_CF), folder)
            fatal = postfix.judge(candidate).fatal
    except HostError as error:
        return [str(error)]
    return [refusal_sentence(desired, fatal)] if fatal else []


def _readable_last_good() -> bytes | None:
    """The last good text, where this user may read it."""
    try:
        return State(names.STATE_DIRECTORY, names.RUN_DIRECTORY).last_good()
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


def _print_json(found: object) -> None:
    json.dump(found, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    entry()
