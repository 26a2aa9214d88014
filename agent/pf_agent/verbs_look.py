"""The verbs that compare and change nothing: diff, check."""

from __future__ import annotations

import argparse
import json
import sys

from pf_agent import configuration, names, render
from pf_agent.errors import ConfigError, ExitCode, HostError
from pf_agent.subject import all_drift, judged, own_subjects, prefix, subjects


def cmd_diff(arguments: argparse.Namespace) -> ExitCode:
    """The unified diff that `apply` would make."""
    found = {subject.name: subject.plan() for subject in subjects(arguments)}
    is_coloured = {"auto": sys.stdout.isatty(), "always": True, "never": False}[arguments.color]
    if arguments.json:
        dicts = {name: render.diff_dict(all_drift(each), each.diff) for name, each in found.items()}
        print_json(dicts.pop(names.DEFAULT_INSTANCE) | {"instances": dicts})
    else:
        for name, each in found.items():
            sys.stdout.write(render.coloured(each.diff) if is_coloured else each.diff)
            for drift in all_drift(each):
                print(f"{prefix(name)}{render.drift_sentence(drift)}", file=sys.stderr)
    return ExitCode.DRIFT if any(map(all_drift, found.values())) else ExitCode.OK


def cmd_check(arguments: argparse.Namespace) -> ExitCode:
    """Every fault of the configuration files."""
    problems: list[str] = []
    doubts: list[str] = []
    count = 0
    try:
        desired = configuration.load_desired(names.CONFIG_DIRECTORY)
        own = own_subjects(desired)
        count = sum(len(subject.desired.parameters()) for subject in own)
        for subject in own:
            problem, warned = judged(subject)
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
        print_json(found)
    else:
        print(*problems, *(f"warning: {doubt}" for doubt in doubts), sep="\n", end="")
        print("\n" if problems or doubts else "", end="")
        if not problems:
            print(f"{names.CONFIG_DIRECTORY}: right, {render.counted(count, 'parameter')}")
    return ExitCode.USAGE if problems else ExitCode.OK


def print_json(found: object) -> None:
    """Print JSON for programs."""
    json.dump(found, sys.stdout, indent=2)
    print()
