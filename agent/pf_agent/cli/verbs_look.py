"""The verbs that compare and change nothing: diff, check."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pf_agent import names
from pf_agent.cli.subject import (
    Subject,
    all_drift,
    judged,
    left_behind,
    own_subjects,
    placed_left,
    prefix,
    references_of,
    subjects,
)
from pf_agent.cli.tables import draw
from pf_agent.errors import ConfigError, ExitCode, HostError
from pf_agent.files import configuration
from pf_agent.files.other_documents import OtherDocument
from pf_agent.files.status_file import read_status
from pf_agent.model import DesiredState, Drift
from pf_agent.reconcile.plan import Plan
from pf_agent.words import sentences
from pf_agent.words.diffs import coloured
from pf_agent.words.fields import diff_dict, reference_dict, stale_dict
from pf_agent.words.outgoing import PROCESS, Hidden

# What tables are stale for a text of main.cf: by source, what would be done.
StaleTables = Callable[[Subject, bytes], Mapping[str, str]]


def cmd_diff(arguments: argparse.Namespace, tables: StaleTables | None = None) -> ExitCode:
    """Print the unified diff that `apply` would make; with `tables` also what it would build."""
    looked_at = subjects(arguments)
    found = {subject.name: subject.plan() for subject in looked_at}
    others = {subject.name: _others(subject) for subject in looked_at}
    stale = {
        subject.name: tables(subject, found[subject.name].candidate) if tables else {}
        for subject in looked_at
    }
    if arguments.json:
        dicts = {s.name: _differences(s.desired, found[s.name]) for s in looked_at}
        for name, documents in others.items():
            told = {d.desired.document: _differences(d.desired, p) for d, p in documents}
            dicts[name]["documents"] = told
        if tables:
            dicts = {n: each | {"stale_tables": stale_dict(stale[n])} for n, each in dicts.items()}
        print_json(dicts.pop(names.DEFAULT_INSTANCE) | {"instances": dicts})
    else:
        for name, each in found.items():
            _print_diff(each.diff, arguments.color)
            _tell_drift(prefix(name), all_drift(each))
            for _, differs in others[name]:
                _print_diff(differs.diff, arguments.color)
                _tell_drift(prefix(name), all_drift(differs))
            for sentence in stale[name].values():
                print(sentences.printable(f"{prefix(name)}{sentence}"), file=sys.stderr)
        for subject in looked_at:
            for left in left_behind(subject):
                print(sentences.printable(placed_left(subject, left)), file=sys.stderr)
    plans = (*found.values(), *(plan for each in others.values() for _, plan in each))
    if any(map(all_drift, plans)):
        return ExitCode.DRIFT
    own = [subject for subject in looked_at if subject.own]
    is_whole = all(len(others[s.name]) == len(s.desired.documents) for s in own)
    return ExitCode.OK if is_whole else ExitCode.FAILURE


def _others(subject: Subject) -> list[tuple[OtherDocument, Plan]]:
    """Return the other documents of an instance, and how each differs."""
    if not subject.own or not subject.desired.documents:
        return []
    from pf_agent.cli import documents  # `diff` of main.cf alone does without

    found = []
    for each in documents.of_subject(subject):
        try:
            found.append((each, documents.planned(subject, each)))
        except HostError as error:  # not everybody may read each; main.cf is compared all the same
            told = f"{prefix(subject.name)}{each.desired.document}: {error}"
            print(sentences.printable(told), file=sys.stderr)
    return found


def _differences(desired: DesiredState, found: Plan) -> dict[str, Any]:
    """One document for `diff --json`: beside each difference the place that desires it."""
    told = diff_dict(all_drift(found), found.diff)
    for each in told["drift"]:
        place = desired.provenance.get(each["parameter"])
        each["place"] = None if place is None else str(place)
    return told


def _tell_drift(start: str, found: Sequence[Drift]) -> None:
    starts = [f"{start}{d.document}: " if d.document and d.parameter else start for d in found]
    told = zip(starts, map(sentences.drift_row, found), strict=True)
    rows = [(f"{begin}{name}", *rest) for begin, (name, *rest) in told]
    if not found or draw([sentences.DRIFT_HEADINGS, *rows], sys.stderr):
        return
    for begin, drift in zip(starts, found, strict=True):
        print(sentences.printable(f"{begin}{sentences.drift_sentence(drift)}"), file=sys.stderr)


def _print_diff(diff: str, color: str) -> None:
    # https://no-color.org/: if it is set and not empty, no colours are wanted.
    is_wanted = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    is_coloured = {"auto": is_wanted, "always": True, "never": False}[color]
    diff = PROCESS.text(diff)  # colours would break up its lines
    sys.stdout.write(coloured(diff) if is_coloured else diff)


def _count(desired: DesiredState) -> int:
    """Return how many parameters and entries are managed."""
    return len(desired.parameters()) + sum(map(_count, desired.documents.values()))


def _judged(subject: Subject) -> tuple[list[str], list[str]]:
    """Return what is refused of an instance's documents, and what is only reported."""
    problem, doubts = judged(subject)
    refused = [problem] if problem else []
    if not subject.desired.documents:
        return refused, [*doubts]
    from pf_agent.cli import documents

    more, warnings = documents.problems_of(subject)
    return [*refused, *more], [*doubts, *warnings]


def cmd_check(arguments: argparse.Namespace) -> ExitCode:
    """Print every fault of the configuration files."""
    problems: list[str] = []
    doubts: list[str] = []
    named: list[dict[str, str]] = []
    count = 0
    try:
        desired = configuration.load_desired(names.CONFIG_DIRECTORY)
        own = own_subjects(desired)
        count = sum(_count(subject.desired) for subject in own)
        for subject in own:
            refused, warned = _judged(subject)
            problems += refused
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
        problems.extend(_in_its_place())
    problems = list(dict.fromkeys(problems))
    found = {"ok": not problems, "parameters": count, "problems": problems, "warnings": doubts}
    if arguments.json:
        print_json(found | ({"references": named} if arguments.references else {}))
    else:
        _tell_references(named)
        print(*problems, *(f"warning: {doubt}" for doubt in doubts), sep="\n", end="")
        print("\n" if problems or doubts else "", end="")
        if not problems:
            print(f"{names.CONFIG_DIRECTORY}: valid, {sentences.counted(count, 'parameter')}")
    return ExitCode.USAGE if problems else ExitCode.OK


def _in_its_place() -> list[str]:
    """Return what the daemon does while agent.toml is faulty, if that differs from before."""
    told = configuration.only_observing(names.CONFIG_DIRECTORY)
    with suppress(HostError):  # then it is unknown
        status = read_status(names.RUN_DIRECTORY) or {}
        return [told] if told in status.get("problems", ()) else []
    return []


def _tell_references(named: Sequence[Mapping[str, str]]) -> None:
    """Print one line each, in the order of main.cf: parameter, what it names, whether it exists."""
    for each in named:
        whose = " ".join(filter(None, (prefix(each["instance"]), each["service"])))
        found = each["presence"] + (f": {each['place']}" if each["place"] else "")
        told = f"{whose}{' ' if whose else ''}{each['parameter']}: {each['kind']} {each['name']}"
        print(f"{sentences.printable(told)}: {sentences.printable(found)}")


def print_json(found: object) -> None:
    """Print JSON for programs, each string in it fit to be shown."""
    sys.stdout.write(Hidden(json.dumps(PROCESS.document(found), indent=2) + "\n"))
