"""The verbs that compare and change nothing: diff, check."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence

from pf_agent import names
from pf_agent.cli.subject import (
    all_drift,
    judged,
    own_subjects,
    prefix,
    references_of,
    subjects,
)
from pf_agent.cli.tables import draw
from pf_agent.errors import ConfigError, ExitCode, HostError
from pf_agent.files import configuration
from pf_agent.model import Drift
from pf_agent.words import sentences
from pf_agent.words.diffs import coloured
from pf_agent.words.fields import diff_dict, reference_dict


def cmd_diff(arguments: argparse.Namespace) -> ExitCode:
    """The unified diff that `apply` would make."""
    found = {subject.name: subject.plan() for subject in subjects(arguments)}
    if arguments.json:
        dicts = {name: diff_dict(all_drift(each), each.diff) for name, each in found.items()}
        print_json(dicts.pop(names.DEFAULT_INSTANCE) | {"instances": dicts})
    else:
        for name, each in found.items():
            _print_diff(each.diff, arguments.color)
            _tell_drift(prefix(name), all_drift(each))
    return ExitCode.DRIFT if any(map(all_drift, found.values())) else ExitCode.OK


def _tell_drift(start: str, found: Sequence[Drift]) -> None:
    rows = [(f"{start}{name}", *rest) for name, *rest in map(sentences.drift_row, found)]
    if not found or draw([sentences.DRIFT_HEADINGS, *rows], sys.stderr):
        return
    for drift in found:
        print(f"{start}{sentences.drift_sentence(drift)}", file=sys.stderr)


def _print_diff(diff: str, color: str) -> None:
    # https://no-color.org/: where it is set to anything, nobody wants any.
    is_wanted = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    is_coloured = {"auto": is_wanted, "always": True, "never": False}[color]
    sys.stdout.write(coloured(diff) if is_coloured else diff)


def cmd_check(arguments: argparse.Namespace) -> ExitCode:
    """Every fault of the configuration files."""
    problems: list[str] = []
    doubts: list[str] = []
    named: list[dict[str, str]] = []
    count = 0
    try:
        desired = configuration.load_desired(names.CONFIG_DIRECTORY)
        own = own_subjects(desired)
        count = sum(len(subject.desired.parameters()) for subject in own)
        for subject in own:
            problem, warned = judged(subject)
            problems += [problem] if problem else []
            doubts += warned
            if arguments.references:
                named += [reference_dict(subject.name, each) for each in references_of(subject)]
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
        print_json(found | ({"references": named} if arguments.references else {}))
    else:
        _tell_references(named)
        print(*problems, *(f"warning: {doubt}" for doubt in doubts), sep="\n", end="")
        print("\n" if problems or doubts else "", end="")
        if not problems:
            print(f"{names.CONFIG_DIRECTORY}: right, {sentences.counted(count, 'parameter')}")
    return ExitCode.USAGE if problems else ExitCode.OK


def _tell_references(named: Sequence[Mapping[str, str]]) -> None:
    """A line each, in the order of main.cf: whose value, what it names, whether and where it is."""
    for each in named:
        whose = " ".join(filter(None, (prefix(each["instance"]), each["service"])))
        found = each["presence"] + (f": {each['place']}" if each["place"] else "")
        told = f"{whose}{' ' if whose else ''}{each['parameter']}: {each['kind']} {each['name']}"
        print(f"{sentences.printable(told)}: {sentences.printable(found)}")


def print_json(found: object) -> None:
    """Print JSON for programs."""
    json.dump(found, sys.stdout, indent=2)
    print()
