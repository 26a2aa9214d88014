"""The words on the command line: the verbs, their arguments, and their help."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from pf_agent import __version__, names

_DESCRIPTION = "Keeps Postfix's main.cf, master.cf and tables at a desired state."
_EPILOG = """\
first steps:
  pf-agent check            are the configuration files valid?
  pf-agent diff             what would change in main.cf and the others?
  sudo pf-agent apply       change it now
  systemctl status pf-agent what the daemon is doing

exit codes: 0 in sync or done, 1 failure, 2 usage or bad configuration, 3 drift found

The desired state is in /etc/pf-agent/desired.toml; see pf-agent.toml(5) and pf-agent(8).
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser; in its result, `verb` is the verb's function."""
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

    add("run", "verbs_run", "watch the files, keep them correct (what pf-agent.service runs)")
    status = add("status", "verbs_status", "show what the daemon is doing; works for any user")
    diff = add("diff", "verbs_look", "show how Postfix's files differ from the desired state")
    apply = add("apply", "verbs_act", "check once, correct what differs, and restart Postfix")
    check = add("check", "verbs_look", "check the configuration files and name every error")
    check.add_argument(
        "--references",
        action="store_true",
        help="also list what the values refer to, and where it is",
    )
    _add_pause(add)
    past = _add_past(add)
    status.add_argument("--watch", action="store_true", help="keep running and report changes")
    _add_color(diff, apply)
    wishes = _add_wishes(add)
    _add_options(apply)
    for added in (diff, apply):
        _add_files(added)
    for added in (status, diff, apply, check, *past, *wishes):
        added.add_argument("--json", action="store_true", help="print JSON for programs")
    return whole


def with_signs(words: Sequence[str]) -> list[str]:
    """Return the words with `--since -1h` joined: argparse takes -1h for an option."""
    found: list[str] = []
    for word in words:
        if found and found[-1] == "--since" and word[:1] == "-" and word[1:2].isdigit():
            word = f"{found.pop()}={word}"
        found.append(word)
    return found


def _add_pause(add: Callable[[str, str, str], Any]) -> None:
    suspend = add("suspend", "verbs_act", "stop changing main.cf, master.cf and tables for a while")
    resume = add("resume", "verbs_act", "correct them again")
    suspend.add_argument(
        "--for",
        dest="seconds",
        type=_late("verbs_act", "seconds_of"),
        metavar="TIME",
        help='resume by itself after 90 (seconds), "2h 30min" or 1d; else by `pf-agent resume`',
    )
    suspend.add_argument("--reason", metavar="TEXT", help="why, for `status` and the journal")
    for added in (suspend, resume):
        added.add_argument(
            "--instance",
            metavar="NAME",
            help='only this Postfix instance ("-": the default one); without it, all of them',
        )


def _add_color(*parsers: argparse.ArgumentParser) -> None:
    for added in parsers:
        added.add_argument(
            "--color",
            nargs="?",
            choices=("auto", "always", "never"),
            const="always",
            default="auto",
            help="color the diff: on a terminal (auto), always or never",
        )


def _add_past(add: Callable[[str, str, str], Any]) -> list[Any]:
    """Add the verbs about the past; return those that can print JSON."""
    past = add("history", "verbs_past", "list the cycles and orders recorded in the journal")
    past.add_argument("cycle", nargs="?", type=_late("verbs_past", "cycle_name"), metavar="CYCLE")
    past.add_argument(
        "--since",
        type=_late("verbs_past", "since_of"),
        metavar="TIME",
        help='only since then, as in journalctl: yesterday, "2 hours ago", "2026-01-31 14:30"',
    )
    past.add_argument(
        "--limit",
        type=_late("verbs_past", "count_of"),
        metavar="N",
        help="only the newest N",
    )
    what = "show all that is known about a parameter, or a service of master.cf"
    explain = add("explain", "verbs_past", what)
    explain.add_argument("parameter", metavar="PARAMETER|SERVICE/TYPE")
    restore = add("restore", "verbs_past", "restore the text that a cycle replaced")
    restore.add_argument("cycle", type=_late("verbs_past", "cycle_name"), metavar="CYCLE")
    for added in (explain, restore):
        _add_instance(added)
    return [past, explain]


def _add_wishes(add: Callable[[str, str, str], Any]) -> list[Any]:
    """Add the verbs that change the desired state; return those that can print JSON: all."""
    wish = add("set", "verbs_wish", "set a desired value, once Postfix accepts it")
    wish.add_argument(
        "settings",
        nargs="+",
        metavar="NAME=VALUE",
        help="parameters of main.cf; after a table, such as hash:/etc/aliases, its entries;"
        " submission/inet/chroot=yes: parts of master.cf; uucp/unix=disabled: a service",
    )
    wish.add_argument(
        "--unknown", action="store_true", help="also set parameters that Postfix does not know"
    )
    unset = add(
        "unset",
        "verbs_wish",
        "remove a parameter, a part of master.cf, or an entry of a table, from the desired state",
    )
    unset.add_argument(
        "parameters",
        nargs="+",
        metavar="NAME",
        help="parameters of main.cf, or parts of master.cf; after a table, such as"
        " hash:/etc/aliases, keys of its entries",
    )
    unset.add_argument(
        "--default",
        action="store_true",
        help="and keep it at Postfix's own default, or the entry or part out of its file, from now"
        " on",
    )
    adopt = _add_adopt(add)
    for added in (wish, unset, adopt):
        _add_instance(added)
    return [wish, unset, adopt, _add_init(add)]


def _add_init(add: Callable[[str, str, str], Any]) -> Any:
    init = add("init", "verbs_wish", "start from a ready-made desired state")
    which = init.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--from",
        dest="ready_made",
        metavar="NAME",
        help="guide, null-client, relay-docker or submission",
    )
    which.add_argument("--list", action="store_true", help="list what there is, one per line")
    return init


def _add_adopt(add: Callable[[str, str, str], Any]) -> Any:
    adopt = add(
        "adopt",
        "verbs_adopt",
        "take the current values of main.cf, master.cf or a table as the desired state",
    )
    adopt.add_argument(
        "--cycle",
        type=_late("verbs_past", "cycle_name"),
        metavar="CYCLE",
        help="take the values that this cycle undid (see history) instead of the current ones",
    )
    adopt.add_argument(
        "parameters",
        nargs="*",
        metavar="NAME",
        help="parameters of main.cf, or parts of master.cf; after a table, such as"
        " hash:/etc/aliases, keys of its entries; without any, ask about each difference,"
        " or take all that drifted in the cycle",
    )
    return adopt


def _add_instance(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--instance",
        default=names.DEFAULT_INSTANCE,
        metavar="NAME",
        help="act on this Postfix instance instead of the default one",
    )


def _late(module: str, name: str) -> Callable[[Any], Any]:
    """Return a verb, or a reader of an argument, that is imported when it is used.

    `status` then starts in half the time, and verbs that need no D-Bus, inotify or journal work
    without those libraries installed.
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
        help="read the desired state from FILE only, instead of /etc/pf-agent",
    )


def _add_options(apply: argparse.ArgumentParser) -> None:
    apply.add_argument(
        "--dry-run", action="store_true", help="change nothing; exit with 3 if there is drift"
    )
    apply.add_argument(
        "--no-activate",
        action="store_true",
        help="correct only the file: no newaliases, no restart (a running daemon does them)",
    )
    apply.add_argument(
        "--wait",
        choices=("yes", "no"),
        default="yes",
        help="no: return once main.cf is correct, and leave the restart to the running daemon",
    )
    apply.add_argument(
        "--force", action="store_true", help="even in observe mode or while suspended"
    )
