"""The verbs that change what is desired: set, adopt, init."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from pf_agent import names
from pf_agent.cli.subject import Subject, all_drift
from pf_agent.cli.verbs_look import print_json
from pf_agent.cli.wish import (
    LOCAL,
    Wished,
    leftovers,
    read_configuration,
    require_root,
    subject_of,
    wish,
    write_configuration,
)
from pf_agent.config.desired import name_fault, value_fault
from pf_agent.config.dropin import Wishes
from pf_agent.config.table import shown_key
from pf_agent.errors import ConfigError, ExitCode, HostError, PfAgentError
from pf_agent.files import configuration
from pf_agent.files.status_file import read_status
from pf_agent.maincf.document import MainCf
from pf_agent.model import BLANKS, Drift, DriftKind
from pf_agent.words.sentences import drift_sentence, printable

READY_MADE: Final = "/usr/share/pf-agent/desired"
_QUESTION: Final = "adopt it? [y]es, [n]o, [q]uit: "


def cmd_set(arguments: argparse.Namespace) -> ExitCode:
    """Make each NAME=VALUE part of the desired state."""
    wishes = _given(arguments.settings)
    require_root("set")
    wished = wish(arguments.instance, wishes)
    _tell(arguments, wishes, wished, wished.warnings)
    if not arguments.json and read_status(names.RUN_DIRECTORY) is None:
        print("the daemon does not run; `pf-agent apply` changes main.cf")
    return ExitCode.OK


def cmd_adopt(arguments: argparse.Namespace) -> ExitCode:
    """Make what main.cf says part of the desired state."""
    asks = not arguments.parameters
    if asks and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigError("adopt: there is no terminal to ask on; name the parameters")
    require_root("adopt")
    subject = subject_of(arguments.instance, configuration.load_desired(names.CONFIG_DIRECTORY))
    found = subject.plan()
    for drift in found.drift:
        if drift.kind is DriftKind.ABSENT_FILE:
            raise PfAgentError(
                f"{subject.host.path}: {drift.actual}, so there is nothing to adopt;"
                " `pf-agent apply` brings it back"
            )
    main_cf = MainCf.parse(found.actual.text or b"")
    chosen = _chosen(subject, all_drift(found)) if asks else arguments.parameters
    wishes = {name: _actual(subject, main_cf, name) for name in chosen}
    wished = wish(arguments.instance, wishes)
    _tell(arguments, wishes, wished, (*wished.warnings, *leftovers(wished, chosen)))
    return ExitCode.OK


def cmd_init(arguments: argparse.Namespace) -> ExitCode:
    """Make a ready-made desired state this host's own."""
    offered = _ready_made()
    name = arguments.ready_made
    if name not in offered:
        known = ", ".join(offered)
        raise ConfigError(
            f"init --from {shown_key(name)}: there is none of that name; there are {known}"
        )
    require_root("init")
    path = os.path.join(names.CONFIG_DIRECTORY, names.DESIRED_TOML)
    if os.path.islink(path):
        raise PfAgentError(f"{path}: it is a symbolic link; take it away first")
    before = read_configuration(path)
    if before is not None and before not in offered.values():
        raise PfAgentError(
            f"{path}: it was edited and would be lost; move it away first, your own settings"
            f" to {os.path.dirname(LOCAL)}"
        )
    changed = before != offered[name]
    if changed:
        write_configuration(path, offered[name])
    if arguments.json:
        print_json({"file": path, "from": name, "changed": changed})
    else:
        print(f"{path}: {'now' if changed else 'already'} as {READY_MADE}/{name}.toml has it")
    return ExitCode.OK


def _given(settings: Iterable[str]) -> dict[str, str]:
    """Take NAME=VALUE apart. Raises ConfigError with all problems."""
    found: dict[str, str] = {}
    problems = []
    for setting in settings:
        name, equals, value = (part.strip(BLANKS) for part in setting.partition("="))
        fault = name_fault(name) or value_fault(value)
        if not equals:
            fault = "there is no value; write NAME=VALUE"
        elif name in found:
            fault = "it is given twice; keep one of the two"
        if fault:
            problems.append(f"set {shown_key(name)}: {fault}")
        found[name] = value
    if problems:
        raise ConfigError(*problems)
    return found


def _actual(subject: Subject, main_cf: MainCf, name: str) -> str | None:
    """Return what main.cf says, None for nothing. Raises ConfigError where TOML cannot hold it."""
    parameter = main_cf.get(name)
    if parameter is not None:
        if value_fault(parameter.value):
            place = f"{subject.host.path}:{parameter.line}"
            raise ConfigError(f"{place}: {name}: it is not UTF-8, so TOML cannot hold it; mend it")
        return parameter.value
    if name not in subject.desired.parameters() and not _is_known(subject, name):
        raise ConfigError(
            f"adopt {shown_key(name)}: main.cf has none, and Postfix knows none; misspelt?"
        )
    return None


def _is_known(subject: Subject, name: str) -> bool:
    """Whether the installed Postfix has a default for it. Raises HostError."""
    from pf_agent.postfix.postconf import POSTCONF, Postconf

    postconf = Postconf(os.path.dirname(subject.host.path))
    return not os.path.exists(POSTCONF) or postconf.default_of(name) is not None


def _chosen(subject: Subject, drift: Sequence[Drift]) -> list[str]:
    """Ask of each difference that can be adopted; return the parameters that got a yes.

    Where a parameter stands twice, the one that Postfix obeys is the desired one already.
    """
    chosen: list[str] = []
    for each in drift:
        if not each.parameter or each.kind is DriftKind.DUPLICATED:
            continue
        place = subject.desired.provenance.get(each.parameter)
        print(drift_sentence(each), *([f"- {place}"] if place else []), file=sys.stderr)
        answer = _answer()
        if answer == "q":
            break
        if answer == "y":
            chosen.append(each.parameter)
    return chosen


def _answer() -> str:
    """Ask until there is an answer; the end of the input is a `q`."""
    while True:
        print(_QUESTION, end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        answer = line.strip().lower()[:1]
        if not line or answer in ("y", "n", "q"):
            return answer if line else "q"


def _tell(
    arguments: argparse.Namespace, wishes: Wishes, wished: Wished, warnings: Sequence[str]
) -> None:
    if arguments.json:
        settings = {name: value for name, value in wishes.items() if value is not None}
        defaults = [name for name, value in wishes.items() if value is None]
        print_json(
            {"files": wished.written, "instance": arguments.instance}
            | {"settings": settings, "use_default": defaults, "warnings": list(warnings)}
        )
        return
    changed = [name for written in wished.written.values() for name in written]
    already = [name for name in wishes if name not in changed]
    for file, written in wished.written.items():
        print(f"{file}: {', '.join(map(printable, written))}")
    if already:
        print(f"desired already: {', '.join(map(printable, already))}")
    if not wishes:
        print("nothing was adopted")
    for warning in warnings:
        print(f"{names.PROGRAM}: warning: {warning}", file=sys.stderr)


def _ready_made() -> Mapping[str, bytes]:
    """The ready-made desired states by name. Raises HostError."""
    try:
        files = sorted(name for name in os.listdir(READY_MADE) if name.endswith(".toml"))
    except OSError as error:
        raise HostError(f"{READY_MADE}: {error.strerror}; install pf-agent again") from error
    texts = {name: read_configuration(os.path.join(READY_MADE, name)) for name in files}
    return {name.removesuffix(".toml"): text for name, text in texts.items() if text is not None}
