"""The verbs about the past: history, explain, restore."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pf_agent import names
from pf_agent.cli import documents
from pf_agent.cli.explained_services import explain_service
from pf_agent.cli.explained_tables import table_states
from pf_agent.cli.moments import moment_of
from pf_agent.cli.on_record import put_on_record
from pf_agent.cli.replaced import Replaced
from pf_agent.cli.subject import Subject, nearest_known, prefix
from pf_agent.cli.tables import print_fields, print_table
from pf_agent.cli.verbs_act import wake_daemon
from pf_agent.cli.verbs_look import print_json
from pf_agent.cli.who import who_asks
from pf_agent.config.desired import by_instance, main_cf_of
from pf_agent.config.table import shown_key
from pf_agent.config.values import name_fault
from pf_agent.errors import ConfigError, ExitCode, HostError
from pf_agent.files.configuration import load_desired
from pf_agent.files.exchange import MainCfFile
from pf_agent.files.store import FileStore
from pf_agent.maincf.document import MainCf
from pf_agent.maincf.secrets import masked
from pf_agent.maincf.values import description
from pf_agent.model import DesiredState, DocumentKind
from pf_agent.postfix.complaints import no_such_parameter
from pf_agent.postfix.postconf import POSTCONF, Postconf
from pf_agent.reconcile.suspension import suspend
from pf_agent.reconcile.swap import Swap
from pf_agent.reporting.history import read_back
from pf_agent.words import history, orders, sentences
from pf_agent.words.history import CycleName, PastCycle
from pf_agent.words.orders import PastOrder
from pf_agent.words.rebuilds import PastRebuild, rebuild_dict, rebuild_lines, rebuilds

Past = TypeVar("Past", bound=PastCycle | PastOrder | PastRebuild)


def since_of(text: str) -> float:
    """Return the moment given as a time of systemd.time(7). Raises ArgumentTypeError."""
    moment = moment_of(text, time.time())
    if moment is None:
        raise argparse.ArgumentTypeError(
            f'expected a time, got "{text}"; write yesterday, "2 hours ago", 14:30, 2026-01-31'
            ' or "2026-01-31 14:30"'
        )
    return moment


def count_of(text: str) -> int:
    """Return how many are meant, at least 1. Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f'expected a number, got "{text}"; write 20')
    return int(text)


def cmd_history(arguments: argparse.Namespace) -> ExitCode:
    """Print the cycles and orders in the journal; or one cycle with its records and its diff."""
    entries = list(read_back(arguments.since or 0.0))
    past, given = history.cycles(entries), orders.orders(entries)
    shown: Sequence[PastCycle] = past
    if arguments.cycle is not None:
        shown = history.named(past, arguments.cycle)
        given = [each for each in given if any(orders.is_about(each, cycle) for cycle in shown)]
        if not shown:
            raise HostError(
                f"cycle {arguments.cycle}: the journal has no record of it that you may read;"
                " see `pf-agent history`, as root"
            )
    if arguments.cycle is not None and not arguments.json:
        _print_cycle(past, shown, given)
        return ExitCode.OK
    both: list[PastCycle | PastOrder] = [*shown, *given]
    newest = _newest(both, arguments.limit)
    # A cycle has nothing to do with tables.
    built = _newest(rebuilds(entries) if arguments.cycle is None else [], arguments.limit)
    if arguments.json:
        print_json([_dict_of(each, past) for each in _newest([*newest, *built], None)])
        return ExitCode.OK
    if newest:
        rows = [_row_of(each, past) for each in newest]
        print_table(history.HEADINGS, rows, history.YIELDING)
    else:
        print("the journal has no record of a drift that you may read")
    for line in rebuild_lines(built, arguments.limit):
        print(line)
    return ExitCode.OK


def _newest(found: Sequence[Past], most: int | None) -> list[Past]:
    """Return the newest ones, oldest first; all if there is no limit."""
    in_order = sorted(found, key=lambda each: each.at)
    return in_order if most is None else in_order[-most:]


def _dict_of(
    found: PastCycle | PastOrder | PastRebuild, past: Sequence[PastCycle]
) -> dict[str, Any]:
    if isinstance(found, PastRebuild):
        return rebuild_dict(found)
    if isinstance(found, PastOrder):
        return orders.order_dict(found)
    return history.cycle_dict(found, history.name_of(found, past))


def _row_of(found: PastCycle | PastOrder, past: Sequence[PastCycle]) -> tuple[str, ...]:
    if isinstance(found, PastOrder):
        return orders.order_row(found)
    return history.cycle_row(history.name_of(found, past), found)


def _print_cycle(
    past: Sequence[PastCycle], named: Sequence[PastCycle], given: Sequence[PastOrder]
) -> None:
    """Print the latest cycle with this number; the others are listed."""
    *others, cycle = named
    day = sentences.day(cycle.at)
    why = f", written by {history.written_by(cycle)}" if cycle.writer else ""
    name = history.name_of(cycle, past)
    what = sentences.listed(cycle.parameters)
    print(f"cycle {name}, {day}: {what and f'{what}: '}{cycle.outcome}{why}")
    if command := history.keep_command(cycle, name):
        file = cycle.document or "main.cf"
        print(f"{file} was put back; " if cycle.displaced else "", "to keep the change:", sep="")
        print(f"    {command}")
    about = (each.message for each in given if orders.is_about(each, cycle))
    for message in (*cycle.messages, *about):
        print(f"  {sentences.printable(message)}")
    for path in cycle.displaced:
        print(f"replaced text: {path}")
    for other in reversed(others):
        other_name, day = history.name_of(other, past), sentences.day(other.at)
        print(f"same number: {other_name}, {day}, {sentences.listed(other.parameters)}")
    sys.stdout.write(cycle.diff)


def cmd_explain(arguments: argparse.Namespace) -> ExitCode:
    """Print all that is known about one parameter, or one service of master.cf."""
    name, instance = arguments.parameter, arguments.instance
    if fault := name_fault(name):
        raise ConfigError(f"explain {shown_key(name)}: {fault}")
    state = by_instance(load_desired(names.CONFIG_DIRECTORY)).get(instance)
    if state is None:
        raise ConfigError(f"instance {instance}: not configured; see /etc/pf-agent/desired.toml")
    main_cf = main_cf_of(instance, state)
    text = MainCfFile(main_cf).read().text or b""
    defaults = _defaults(os.path.dirname(main_cf))
    if "/" in name:  # no parameter's name has one
        explain_service(name, main_cf, text, defaults, arguments.json)
        return ExitCode.OK
    past = history.cycles(read_back(0.0))
    last = history.last_drift_of(name, [each for each in past if each.instance == instance])
    meant = nearest_known(Subject(instance, state, MainCfFile(main_cf), True), name)
    found = {
        **_said(name, state, text),
        "type": description(name) if meant is None else no_such_parameter(meant),
        "did_you_mean": meant or None,
        "default": defaults.get(name),
        "tables": table_states(name, main_cf, text, instance),
        "last_drift": None if last is None else _dict_of(last, past),
    }
    if arguments.json:
        print_json(found)
    else:
        _print_explained(found, main_cf, _told(last, past))
    return ExitCode.OK


def _said(name: str, state: DesiredState, text: bytes) -> dict[str, Any]:
    """Return what is desired of a parameter, and what main.cf says."""
    stands, place = MainCf.parse(text).get(name), state.provenance.get(name)
    wanted = state.settings.get(name)
    return {
        "parameter": name,
        "wanted": None if wanted is None else masked(name, wanted),
        "use_default": name in state.use_default,
        "place": None if place is None else str(place),
        "actual": None if stands is None else sentences.printable(masked(name, stands.value)),
        "line": None if stands is None else stands.line,
    }


def _print_explained(found: Mapping[str, Any], main_cf: str, last: str) -> None:
    wanted, actual, default = found["wanted"], found["actual"], found["default"]
    if wanted is not None:
        want = f"{sentences.shortened(wanted)} ({found['place']})"
    elif found["use_default"]:
        want = f"Postfix's default ({found['place']})"
    else:
        want = "not managed"
    have = "not set" if actual is None else f"{sentences.shortened(actual)} (line {found['line']})"
    print(sentences.printable(found["parameter"]))
    print_fields(
        [
            ("wanted", want),
            (main_cf, have),
            ("type", found["type"]),
            ("default", names.UNKNOWN if default is None else sentences.shortened(default)),
            *(("table", told) for told in found["tables"]),
            ("last drift", last),
        ]
    )


def _told(last: PastCycle | None, past: Sequence[PastCycle]) -> str:
    if last is None:
        return "none in the journal"
    who = history.written_by(last)
    name = history.name_of(last, past)
    return f"{sentences.day(last.at)}, cycle {name}, written by {who}, {last.outcome}"


def _defaults(directory: str) -> Mapping[str, str]:
    """Return the parameters of Postfix with its own defaults; none if it is not installed."""
    return Postconf(directory).defaults() if os.path.exists(POSTCONF) else {}


def cmd_restore(arguments: argparse.Namespace) -> ExitCode:
    """Put the text back that a cycle replaced, and leave main.cf alone from then on."""
    cycle, instance = arguments.cycle, arguments.instance
    desired = by_instance(load_desired(names.CONFIG_DIRECTORY)).get(instance)
    if desired is None:
        raise ConfigError(f"instance {instance}: not configured; see /etc/pf-agent/desired.toml")
    host = MainCfFile(main_cf_of(instance, desired))
    whole = FileStore.of_instance(instance, names.STATE_DIRECTORY, names.RUN_DIRECTORY)
    other = documents.of_cycle(Subject(instance, desired, host, True), whole, cycle.number)
    host = host if other is None else other.host
    replaced = Replaced(instance, cycle, other and documents.state_of(instance, other))
    state, text = replaced.state, replaced.text()
    reason = f"the text that cycle {cycle} replaced was restored"
    # First of all: the daemon would undo it within milliseconds.
    who = who_asks()
    suspended = suspend(whole.suspended_alone, who, time.time(), reason=reason)
    wake_daemon()
    with state.lock(), host.locked():
        swap = Swap(host, state, state.next_cycle())
        swap.put(host.read(), text)
    document = "" if other is None else other.desired.document
    put_on_record(instance, orders.restored(who, cycle.number, swap.kept, document))
    print(f"{host.path}: {reason}; what was there is {', '.join(swap.kept) or 'nothing'}")
    is_default = instance == names.DEFAULT_INSTANCE
    which, unit = ("", "") if is_default else (f" --instance {instance}", f"@{instance}")
    print(f"{prefix(instance)}pf-agent is {sentences.suspended_sentence(suspended)};")
    print(f"`pf-agent resume{which}` ends that and corrects what differs;")
    in_use = None if other is None else _build_command(other.desired)
    print(f"`{in_use or f'systemctl restart postfix{unit}'}` makes Postfix run with it")
    return ExitCode.OK


def _build_command(desired: DesiredState) -> str | None:
    """Return the command that builds the index of a table from its source; None: it is no table."""
    if desired.kind is DocumentKind.MASTER_CF:
        return None
    program = "postalias" if desired.kind is DocumentKind.ALIASES else "postmap"
    return shlex.join([program, desired.document])


def cycle_name(text: str) -> CycleName:
    """Return which cycle is meant. Raises ArgumentTypeError."""
    try:
        return CycleName.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
