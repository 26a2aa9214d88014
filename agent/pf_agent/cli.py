"""The command: a verb is a function that takes the parsed arguments and returns an exit code."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from pf_agent import __version__, names, verbs_act, verbs_look, verbs_wish
from pf_agent.errors import ExitCode, PfAgentError

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

    add("run", verbs_act.cmd_run, "watch main.cf and keep it right (what pf-agent.service runs)")
    status = add("status", verbs_look.cmd_status, "tell what the daemon is about; any user may ask")
    diff = add("diff", verbs_look.cmd_diff, "show what main.cf says against what it must say")
    apply = add("apply", verbs_act.cmd_apply, "look once, correct main.cf and restart Postfix")
    check = add("check", verbs_look.cmd_check, "check the configuration files and name every fault")
    _add_pause(add)
    past = _add_past(add)
    status.add_argument("--watch", action="store_true", help="go on, and tell what changes")
    _add_color(diff, apply)
    wishes = _add_wishes(add)
    _add_options(apply)
    for added in (diff, apply):
        _add_files(added)
    for added in (status, diff, apply, check, *past, *wishes):
        added.add_argument("--json", action="store_true", help="print JSON for programs")
    return parser


def _add_pause(add: Callable[[str, Verb, str], Any]) -> None:
    suspend = add("suspend", verbs_act.cmd_suspend, "leave main.cf alone for a while")
    add("resume", verbs_act.cmd_resume, "look after main.cf again")
    suspend.add_argument(
        "--for",
        dest="seconds",
        type=verbs_act.seconds_of,
        metavar="TIME",
        help="end by itself after 90, 30m, 2h or 1d; without it, until `pf-agent resume`",
    )
    suspend.add_argument("--reason", metavar="TEXT", help="what `status` and the record say")


def _add_color(*parsers: argparse.ArgumentParser) -> None:
    for added in parsers:
        added.add_argument(
            "--color",
            nargs="?",
            choices=("auto", "always", "never"),
            const="always",
            default="auto",
            help="colours in the diff: on a terminal (auto), always or never",
        )


def _add_past(add: Callable[[str, Verb, str], Any]) -> list[Any]:
    """The verbs about what was; returns those that can print JSON."""
    past = add("history", _late("cmd_history"), "list the cycles that the journal tells of")
    past.add_argument("cycle", nargs="?", type=_late_type("cycle_number"), metavar="CYCLE")
    past.add_argument(
        "--since",
        type=_late_type("moment_of"),
        metavar="TIME",
        help='only later ones: 2h or 7d ago, 2026-01-31, or "2026-01-31 14:30"',
    )
    explain = add("explain", _late("cmd_explain"), "tell all that is known of a parameter")
    explain.add_argument("parameter", metavar="PARAMETER")
    restore = add("restore", _late("cmd_restore"), "bring back the text that a cycle replaced")
    restore.add_argument("cycle", type=_late_type("cycle_number"), metavar="CYCLE")
    for added in (explain, restore):
        _add_instance(added)
    return [past, explain]


def _add_wishes(add: Callable[[str, Verb, str], Any]) -> list[Any]:
    """The verbs that change what is desired; returns those that can print JSON: all."""
    wish = add("set", verbs_wish.cmd_set, "make a value the desired one, once Postfix takes it")
    wish.add_argument("settings", nargs="+", metavar="NAME=VALUE")
    adopt = add("adopt", verbs_wish.cmd_adopt, "make what main.cf says now the desired state")
    adopt.add_argument(
        "parameters",
        nargs="*",
        metavar="PARAMETER",
        help="without any, be asked of each difference",
    )
    init = add("init", verbs_wish.cmd_init, "begin with a ready-made desired state")
    init.add_argument(
        "--from",
        dest="ready_made",
        required=True,
        metavar="NAME",
        help="guide, null-client or relay-docker; a wrong name lists all",
    )
    for added in (wish, adopt):
        _add_instance(added)
    return [wish, adopt, init]


def _add_instance(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--instance",
        default=names.DEFAULT_INSTANCE,
        metavar="NAME",
        help="of another Postfix instance than the default one",
    )


def _late(name: str) -> Verb:
    """A verb of verbs_past.py, imported when it is used: the others start faster without it."""

    def verb(arguments: argparse.Namespace) -> ExitCode:
        from pf_agent import verbs_past

        found: Verb = getattr(verbs_past, name)
        return found(arguments)

    return verb


def _late_type(name: str) -> Callable[[str], Any]:
    """The same for what reads an argument."""

    def read(text: str) -> Any:
        from pf_agent import verbs_past

        return getattr(verbs_past, name)(text)

    return read


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


if __name__ == "__main__":
    entry()
