"""The words on the command line: the verbs, what each may be told, and its help."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from typing import Any

from pf_agent import __version__, names

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


def parser() -> argparse.ArgumentParser:
    """Return what parses them; the verb's function is then `verb` of the result."""
    whole = argparse.ArgumentParser(
        names.PROGRAM,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"{names.PROGRAM} {__version__}")
    verbs = whole.add_subparsers(metavar="VERB", required=True)

    def add(name: str, module: str, text: str) -> Any:
        added = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        added.set_defaults(verb=_late(module, f"cmd_{name}"))
        return added

    add("run", "verbs_run", "watch main.cf and keep it right (what pf-agent.service runs)")
    status = add("status", "verbs_status", "tell what the daemon is about; any user may ask")
    diff = add("diff", "verbs_look", "show what main.cf says against what it must say")
    apply = add("apply", "verbs_act", "look once, correct main.cf and restart Postfix")
    check = add("check", "verbs_look", "check the configuration files and name every fault")
    check.add_argument(
        "--references",
        action="store_true",
        help="also list what the values name, and where that is",
    )
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
    return whole


def _add_pause(add: Callable[[str, str, str], Any]) -> None:
    suspend = add("suspend", "verbs_act", "leave main.cf alone for a while")
    add("resume", "verbs_act", "look after main.cf again")
    suspend.add_argument(
        "--for",
        dest="seconds",
        type=_late("verbs_act", "seconds_of"),
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


def _add_past(add: Callable[[str, str, str], Any]) -> list[Any]:
    """The verbs about what was; returns those that can print JSON."""
    past = add("history", "verbs_past", "list the cycles that the journal tells of")
    past.add_argument("cycle", nargs="?", type=_late("verbs_past", "cycle_number"), metavar="CYCLE")
    past.add_argument(
        "--since",
        type=_late("verbs_past", "moment_of"),
        metavar="TIME",
        help='only later ones: 2h or 7d ago, 2026-01-31, or "2026-01-31 14:30"',
    )
    explain = add("explain", "verbs_past", "tell all that is known of a parameter")
    explain.add_argument("parameter", metavar="PARAMETER")
    restore = add("restore", "verbs_past", "bring back the text that a cycle replaced")
    restore.add_argument("cycle", type=_late("verbs_past", "cycle_number"), metavar="CYCLE")
    for added in (explain, restore):
        _add_instance(added)
    return [past, explain]


def _add_wishes(add: Callable[[str, str, str], Any]) -> list[Any]:
    """The verbs that change what is desired; returns those that can print JSON: all."""
    wish = add("set", "verbs_wish", "make a value the desired one, once Postfix takes it")
    wish.add_argument("settings", nargs="+", metavar="NAME=VALUE")
    adopt = add("adopt", "verbs_wish", "make what main.cf says now the desired state")
    adopt.add_argument(
        "parameters",
        nargs="*",
        metavar="PARAMETER",
        help="without any, be asked of each difference",
    )
    init = add("init", "verbs_wish", "begin with a ready-made desired state")
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


def _late(module: str, name: str) -> Callable[[Any], Any]:
    """A verb, or what reads an argument of it, imported when it is used.

    `status` then starts in half the time, and the verbs that need no D-Bus, inotify or journal
    work where those libraries are not installed.
    """

    def call(argument: Any) -> Any:
        return getattr(import_module(f"pf_agent.cli.{module}"), name)(argument)

    return call


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
    apply.add_argument(
        "--force", action="store_true", help="also while the agent observes or is suspended"
    )
