"""The verbs about what was: history, explain, restore."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pf_agent import names
from pf_agent.cli.tables import print_fields, print_table
from pf_agent.cli.verbs_act import duration_of, prepare, wake_daemon, who_asks
from pf_agent.cli.verbs_look import print_json
from pf_agent.config.desired import by_instance, main_cf_of
from pf_agent.errors import ConfigError, ExitCode, HostError
from pf_agent.files.configuration import load_desired
from pf_agent.files.exchange import MainCfFile
from pf_agent.files.store import FileStore
from pf_agent.maincf.document import MainCf
from pf_agent.maincf.secrets import masked
from pf_agent.maincf.values import description
from pf_agent.postfix.postconf import POSTCONF, Postconf
from pf_agent.reconcile.suspension import suspend
from pf_agent.reconcile.swap import Swap
from pf_agent.reporting.journal import read_back
from pf_agent.words import history, sentences
from pf_agent.words.history import PastCycle


def moment_of(text: str) -> float:
    """Return the moment that is meant by 2h (ago) or by a date and time. ArgumentTypeError."""
    seconds = duration_of(text)
    if seconds is not None:
        return time.time() - seconds
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f'expected a time, got "{text}"; write 2h, or 2026-01-31 or "2026-01-31 14:30"'
        ) from error


def cmd_history(arguments: argparse.Namespace) -> ExitCode:
    """The cycles that the journal has; or one of them with its records and its diff."""
    past = history.cycles(read_back(arguments.since or 0.0))
    if arguments.cycle is not None:
        past = [each for each in past if each.cycle == arguments.cycle]
        if not past:
            raise HostError(
                f"cycle {arguments.cycle}: the journal has no record of it that you may read;"
                " see `pf-agent history`, as root"
            )
    if arguments.json:
        print_json([history.cycle_dict(each) for each in past])
    elif arguments.cycle is not None:
        _print_cycle(past[-1])
    elif past:
        print_table(history.HEADINGS, map(history.cycle_row, past))
    else:
        print("the journal has no record of a drift that you may read")
    return ExitCode.OK


def _print_cycle(past: PastCycle) -> None:
    who = history.written_by(past)
    print(f"cycle {past.cycle}, {sentences.day(past.at)}: {past.outcome}, written by {who}")
    for message in past.messages:
        print(f"  {sentences.printable(message)}")
    for path in past.displaced:
        print(f"what was replaced: {path}")
    sys.stdout.write(past.diff)


def cmd_explain(arguments: argparse.Namespace) -> ExitCode:
    """All that is known of one parameter."""
    name, instance = arguments.parameter, arguments.instance
    state = by_instance(load_desired(names.CONFIG_DIRECTORY)).get(instance)
    if state is None:
        raise ConfigError(f"instance {instance}: no file names it; see /etc/pf-agent/desired.toml")
    main_cf = main_cf_of(instance, state)
    text = MainCfFile(main_cf).read().text
    stands = MainCf.parse(text or b"").get(name)
    place = state.provenance.get(name)
    wanted = state.settings.get(name)
    wanted = None if wanted is None else masked(name, wanted)
    actual = None if stands is None else masked(name, stands.value)
    last = _last_drift(name, instance)
    found = {
        "parameter": name,
        "wanted": wanted,
        "use_default": name in state.use_default,
        "place": None if place is None else str(place),
        "actual": None if actual is None else sentences.printable(actual),
        "line": None if stands is None else stands.line,
        "type": description(name),
        "default": _default_of(name, os.path.dirname(main_cf)),
        "last_drift": None if last is None else history.cycle_dict(last),
    }
    if arguments.json:
        print_json(found)
    else:
        _print_explained(found, main_cf, _told(last))
    return ExitCode.OK


def _print_explained(found: Mapping[str, Any], main_cf: str, last: str) -> None:
    wanted, actual, default = found["wanted"], found["actual"], found["default"]
    if wanted is not None:
        want = f"{sentences.shortened(wanted)} ({found['place']})"
    elif found["use_default"]:
        want = f"Postfix's default ({found['place']})"
    else:
        want = "nobody names it"
    have = "not set" if actual is None else f"{sentences.shortened(actual)} (line {found['line']})"
    print(sentences.printable(found["parameter"]))
    print_fields(
        [
            ("wanted", want),
            (main_cf, have),
            ("type", found["type"]),
            ("default", names.UNKNOWN if default is None else sentences.shortened(default)),
            ("last drift", last),
        ]
    )


def _last_drift(name: str, instance: str) -> PastCycle | None:
    past = [each for each in history.cycles(read_back(0.0)) if each.instance == instance]
    return history.last_drift_of(name, past)


def _told(last: PastCycle | None) -> str:
    if last is None:
        return "none that the journal tells of"
    who = history.written_by(last)
    return f"{sentences.day(last.at)}, cycle {last.cycle}, written by {who}, {last.outcome}"


def _default_of(name: str, directory: str) -> str | None:
    """Postfix's own default, None where Postfix is not installed or knows no such parameter."""
    if not os.path.exists(POSTCONF):
        return None
    return Postconf(directory).default_of(name)


def cmd_restore(arguments: argparse.Namespace) -> ExitCode:
    """Bring the text back that a cycle replaced, and leave main.cf alone from then on."""
    cycle, instance = arguments.cycle, arguments.instance
    desired = by_instance(load_desired(names.CONFIG_DIRECTORY)).get(instance)
    if desired is None:
        raise ConfigError(f"instance {instance}: no file names it; see /etc/pf-agent/desired.toml")
    state = FileStore.of_instance(instance, names.STATE_DIRECTORY, names.RUN_DIRECTORY)
    prepare(state)
    text = state.displaced(cycle)
    if text is None:
        folder = state.displaced_directory
        raise HostError(f"cycle {cycle}: {folder} keeps no text of it; see `pf-agent history`")
    keeper = FileStore(names.STATE_DIRECTORY, names.RUN_DIRECTORY)
    prepare(keeper)
    host = MainCfFile(main_cf_of(instance, desired))
    reason = f"the text that cycle {cycle} replaced was restored"
    # First: the daemon would undo it within milliseconds.
    suspend(keeper, who_asks(), time.time(), reason=reason)
    wake_daemon()
    with state.lock(), host.locked():
        swap = Swap(host, state, state.next_cycle())
        swap.put(host.read(), text)
    print(f"{host.path}: {reason}; what stood there is {', '.join(swap.kept) or 'nothing'}")
    print("pf-agent is suspended, `pf-agent resume` ends that and corrects what differs;")
    print("`systemctl restart postfix` has Postfix run with it")
    return ExitCode.OK


def cycle_number(text: str) -> int:
    """Return the number of a cycle. Raises ArgumentTypeError."""
    if re.fullmatch(r"[0-9]{1,12}", text):
        return int(text)
    raise argparse.ArgumentTypeError(f'expected the number of a cycle, got "{text}"; write 17')
