"""The documents of an instance beside its main.cf, as subjects of the verbs."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from pf_agent import names
from pf_agent.cli.subject import Subject
from pf_agent.config.entries import TYPES, is_table
from pf_agent.config.table import shown_key
from pf_agent.daemon.document import may_run, tries_of
from pf_agent.errors import ConfigError, HostError
from pf_agent.files.other_documents import OtherDocument, document_on_disk
from pf_agent.files.store import FileStore
from pf_agent.files.whole import host_error
from pf_agent.maincf.grammar import grammar_of
from pf_agent.model import DesiredState, DocumentKind, Judgement
from pf_agent.postfix.at_hand import AtHand
from pf_agent.reconcile.plan import Plan, plan
from pf_agent.reconcile.refusal import refusal, warnings

T = TypeVar("T")
# No parameter's name has a colon before a slash, and no service's in master.cf.
_PART: Final = re.compile(rf"[^/=\s]+/(?:{'|'.join(names.SERVICE_TYPES)})(?:[/=]|$)")
MASTER_CF: Final = DocumentKind.MASTER_CF.value
_OTHER_TABLE: Final = re.compile(r"[a-z]+:/[^=]*")


def taken_apart(verb: str, words: Sequence[str]) -> tuple[str, list[str]]:
    """Return the document that is named first, "" for none, and the rest.

    A part of master.cf, as `submission/inet/chroot`, names master.cf by itself. Raises ConfigError
    if it is a table whose entries cannot be desired.
    """
    if words and is_table(words[0]):
        return words[0], list(words[1:])
    if words and _PART.match(words[0]):
        return MASTER_CF, list(words)
    if words and _OTHER_TABLE.fullmatch(words[0]):
        fault = "not a table whose entries can be desired"
        way_out = f"name one of the types {', '.join(TYPES)}"
        raise ConfigError(f"{verb} {shown_key(words[0])}: {fault}; {way_out}")
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
    kind = DocumentKind.MASTER_CF if name == MASTER_CF else DocumentKind.TABLE
    nothing = DesiredState({}, frozenset(), kind=kind)
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
        served = _readable(subject, found, may_run) or ()
        return tries_of(found, postfix, lambda: served)(planned(subject, found).candidate)


def problems_of(subject: Subject) -> tuple[list[str], list[str]]:
    """Return what is refused of all documents of an instance, and what is only reported."""
    problems: list[str] = []
    doubts: list[str] = []
    for found in of_subject(subject):
        why, warned = verdict(subject, found)
        problems += [why] if why else []
        doubts += warned
    return problems, doubts


def verdict(subject: Subject, found: OtherDocument) -> tuple[str, tuple[str, ...]]:
    """Return why the corrected document is refused, "" if it is not, and what is only reported."""
    desired, judgement = found.desired, judged(subject, found)
    refused = refusal(desired, judgement, desired.parameters())
    said = warnings(desired, judgement, desired.parameters())
    why = "" if refused is None else refused.said
    place = None if refused is None else desired.provenance.get(refused.parameter)
    told = ": ".join(filter(None, (str(place or ""), why)))
    return told, (*said, *found.doubts)


def key_of(found: OtherDocument, key: str) -> str:
    """Return a key as Postfix has it."""
    return stored_key(found.desired.document, key)


def stored_key(document: str, key: str) -> str:
    """Return a key of a document as Postfix has it; the parts of master.cf are not folded."""
    kind = DocumentKind.MASTER_CF if document == MASTER_CF else DocumentKind.TABLE
    return grammar_of(kind).name(key)


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
