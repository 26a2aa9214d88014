"""The verb adopt: what main.cf says, or said before a cycle corrected it, becomes desired."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pf_agent import names
from pf_agent.cli import documents
from pf_agent.cli.replaced import Replaced
from pf_agent.cli.subject import Subject, all_drift
from pf_agent.cli.verbs_wish import record_order, require_names, tell, tell_of_apply
from pf_agent.cli.wish import leftovers, require_root, subject_of, wish
from pf_agent.cli.wish_entries import wish_entries
from pf_agent.config.values import value_fault
from pf_agent.errors import ConfigError, ExitCode, PfAgentError
from pf_agent.files import configuration
from pf_agent.files.store import FileStore
from pf_agent.maincf.document import MainCf
from pf_agent.maincf.grammar import Document, grammar_of
from pf_agent.model import Drift, DriftKind, Event
from pf_agent.reconcile.drift import damage
from pf_agent.words.history import CycleName
from pf_agent.words.sentences import drift_sentence

_QUESTION: Final = "adopt it? [y]es, [n]o, [q]uit: "


@dataclass(frozen=True)
class _Source:
    """The text that values are taken from, its path, and the parameters meant if none are named."""

    place: str
    document: Document
    parameters: Sequence[str]

    def says(self, name: str) -> str | None:
        """Return the value, None if it is not set. Raises ConfigError if TOML cannot express it."""
        parameter = self.document.get(name)
        if parameter is not None:
            if value_fault(parameter.value):
                place = f"{self.place}:{parameter.line}"
                fault = "it is not UTF-8, so TOML cannot hold it; fix it"
                raise ConfigError(f"{place}: {name}: {fault}")
            return parameter.value
        return None


def cmd_adopt(arguments: argparse.Namespace) -> ExitCode:
    """Make values of main.cf, or of the text that a cycle replaced, part of the desired state."""
    document, keys = documents.taken_apart("adopt", arguments.parameters)
    if document:
        return _adopt_entries(arguments, document, keys)
    cycle: CycleName | None = arguments.cycle
    asks = cycle is None and not arguments.parameters
    if asks and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigError("adopt: no terminal to ask on; name the parameters")
    require_names("adopt", arguments.parameters)
    require_root("adopt")
    subject = subject_of(arguments.instance, configuration.load_desired(names.CONFIG_DIRECTORY))
    if cycle is not None and (document := _document_of(subject, cycle)):
        return _adopt_entries(arguments, document, keys)
    given = arguments.parameters
    source = _standing(subject, asks) if cycle is None else _replaced(subject, cycle, not given)
    chosen = given or source.parameters
    wishes = {name: source.says(name) for name in chosen}
    known = {name for name in chosen if name in source.document.parameters()}
    wished = wish(arguments.instance, wishes, known | subject.desired.parameters())
    number = None if cycle is None else cycle.number
    record_order(Event.ADOPTED, arguments.instance, wished, number)
    # After --cycle main.cf still has the corrected values; the daemon is about to change them.
    rest = leftovers(wished, chosen) if cycle is None else ()
    tell(arguments, wishes, wished, (*wished.warnings, *rest))
    if cycle is not None:
        tell_of_apply(arguments)
    return ExitCode.OK


def _document_of(subject: Subject, cycle: CycleName) -> str:
    """Return the other document whose text the cycle replaced, "" for main.cf or none."""
    folders = (names.STATE_DIRECTORY, names.RUN_DIRECTORY)
    state = FileStore.of_instance(subject.name, *folders)
    if state.displaced(cycle.number) is not None:
        return ""
    found = documents.of_cycle(subject, state, cycle.number)
    return "" if found is None else found.desired.document


def _adopt_entries(arguments: argparse.Namespace, document: str, keys: Sequence[str]) -> ExitCode:
    """Make entries of a table, or of the text that a cycle replaced, part of the desired state."""
    cycle: CycleName | None = arguments.cycle
    if cycle is None and not keys:
        raise ConfigError(f"adopt {document}: no key given; name the entries to adopt")
    require_root("adopt")
    subject = subject_of(arguments.instance, configuration.load_desired(names.CONFIG_DIRECTORY))
    found = documents.named(subject, document)
    state = documents.state_of(subject.name, found)
    place, text = found.host.path, found.host.read().text
    if cycle is not None:
        replaced = Replaced(subject.name, cycle, state)
        place, text = replaced.path, replaced.text()
        keys = keys or replaced.drifted()
    if damaged := damage(text, found.desired, state.last_good()):
        raise PfAgentError(f"{place}: {damaged}, so there is nothing to adopt")
    source = _Source(place, grammar_of(found.desired.kind).parse(text or b""), keys)
    stored = [documents.key_of(found, key) for key in keys]
    wishes = {key: source.says(key) for key in stored}
    wished = wish_entries(arguments.instance, document, wishes)
    number = None if cycle is None else cycle.number
    record_order(Event.ADOPTED, arguments.instance, wished, number, document)
    tell(arguments, wishes, wished, wished.warnings, document)
    if cycle is not None:
        tell_of_apply(arguments)
    return ExitCode.OK


def _standing(subject: Subject, asks: bool) -> _Source:
    """Return main.cf as it is now; if `asks`, with the differences that the user says yes to.

    Raises PfAgentError if main.cf is destroyed.
    """
    found = subject.plan()
    for drift in found.drift:
        if drift.kind is DriftKind.ABSENT_FILE:
            raise PfAgentError(
                f"{subject.host.path}: {drift.actual}, so there is nothing to adopt;"
                " `pf-agent apply` restores it"
            )
    chosen = _chosen(subject, all_drift(found)) if asks else ()
    return _Source(subject.host.path, MainCf.parse(found.actual.text or b""), chosen)


def _replaced(subject: Subject, cycle: CycleName, is_all: bool) -> _Source:
    """Return the text that the cycle replaced; if `is_all`, with the parameters that drifted.

    Raises PfAgentError if there is no such text, or if it was destroyed.
    """
    replaced = Replaced(subject.name, cycle)
    text = replaced.text()
    main_cf = MainCf.parse(text)
    damaged = damage(text, subject.desired, replaced.state.last_good(), main_cf)
    if damaged:
        raise PfAgentError(f"{replaced.path}: {damaged}, so there is nothing to adopt")
    return _Source(replaced.path, main_cf, replaced.drifted() if is_all else ())


def _chosen(subject: Subject, drift: Sequence[Drift]) -> list[str]:
    """Ask about each difference that can be adopted; return the parameters answered with yes.

    If a parameter is set twice, the value that Postfix obeys is the desired one already.
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
    """Ask until there is an answer; the end of the input counts as `q`."""
    while True:
        print(_QUESTION, end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        answer = line.strip().lower()[:1]
        if not line or answer in ("y", "n", "q"):
            return answer if line else "q"
