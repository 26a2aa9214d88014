"""The documents of an instance beside its main.cf, as subjects of the verbs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from typing import TypeVar

from pf_agent import names
from pf_agent.cli.subject import Subject
from pf_agent.config.entries import is_table
from pf_agent.daemon.document import judge_of
from pf_agent.errors import ConfigError, HostError
from pf_agent.files.other_documents import OtherDocument, document_on_disk
from pf_agent.files.store import FileStore
from pf_agent.files.whole import host_error
from pf_agent.maincf.grammar import grammar_of
from pf_agent.model import DesiredState, DocumentKind, Judgement
from pf_agent.postfix.at_hand import AtHand
from pf_agent.reconcile.plan import Plan, plan

T = TypeVar("T")


def taken_apart(words: Sequence[str]) -> tuple[str, list[str]]:
    """Return the document that is named first, "" for none, and the rest."""
    if words and is_table(words[0]):
        return words[0], list(words[1:])
    return "", list(words)


def of_subject(subject: Subject) -> list[OtherDocument]:
    """Return the documents of an instance that are managed.

    Raises ConfigError with all that is wrong with any, and HostError.
    """
    found: list[OtherDocument] = []
    problems: list[str] = []
    for name, desired in subject.desired.documents.items():
        try:
            found.append(named(subject, name, desired))
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(*problems)
    return found


def named(subject: Subject, name: str, desired: DesiredState | None = None) -> OtherDocument:
    """Return one document of an instance, whether it is managed or not. Raises like `of_subject`.

    `desired`: what must be in it; by default what the instance's desired state says of it.
    """
    found = as_it_is(subject, name, desired)
    if found.problems:
        raise ConfigError(*found.problems)
    return found


def as_it_is(subject: Subject, name: str, desired: DesiredState | None = None) -> OtherDocument:
    """Return what `named` does, also one whose entries are faulty."""
    nothing = DesiredState({}, frozenset(), kind=DocumentKind.TABLE)
    wanted = desired or subject.desired.documents.get(name, nothing)
    try:
        return document_on_disk(name, wanted, subject.host.path, [subject.plan().candidate])
    except OSError as error:
        raise host_error(error.filename or name, error, "run as root") from error


def planned(subject: Subject, found: OtherDocument) -> Plan:
    """Compare. Raises HostError."""
    last_good = _readable(subject, found, FileStore.last_good)
    return plan(found.host, found.desired, found.host.read(), last_good)


def judged(subject: Subject, found: OtherDocument) -> Judgement:
    """Have Postfix's programs try the corrected text. Raises HostError."""
    with tempfile.TemporaryDirectory(prefix="pf-agent-check-") as folder:
        postfix = AtHand(_folder(subject), folder)
        return judge_of(found, postfix)(planned(subject, found).candidate)


def problems_of(subject: Subject) -> tuple[list[str], list[str]]:
    """Return what is refused of all documents of an instance, and what is only reported."""
    problems: list[str] = []
    doubts: list[str] = []
    for found in of_subject(subject):
        judgement = judged(subject, found)
        if judgement.fatal:
            problems.append(judgement.fatal)
        doubts += (*judgement.warnings, *found.doubts)
    return problems, doubts


def key_of(found: OtherDocument, key: str) -> str:
    """Return a key as Postfix has it."""
    return grammar_of(found.desired.kind).name(key)


def state_of(instance: str, found: OtherDocument) -> FileStore:
    """Return what the agent keeps about the document."""
    outer = FileStore.of_instance(instance, names.STATE_DIRECTORY, names.RUN_DIRECTORY)
    return outer.of_document(found.desired.document, found.note)


def of_cycle(subject: Subject, state: FileStore, cycle: int) -> OtherDocument | None:
    """Return the document whose text the cycle replaced; None: it was main.cf's, or no text."""
    for name in state.documents():
        if state.of_document(name, lambda _text: None).displaced(cycle) is not None:
            return named(subject, name)
    return None


def _folder(subject: Subject) -> str:
    return subject.host.path.rpartition("/")[0]


def _readable(
    subject: Subject, found: OtherDocument, read: Callable[[FileStore], T | None]
) -> T | None:
    if not subject.own:
        return None
    try:
        return read(state_of(subject.name, found))
    except HostError:
        return None  # not root
