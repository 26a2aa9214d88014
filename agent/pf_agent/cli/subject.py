"""What a verb is about: the instances, what each must say, its file; or the one file named."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pf_agent import names
from pf_agent.config.desired import by_instance, main_cf_of
from pf_agent.errors import HostError
from pf_agent.files import configuration
from pf_agent.files.exchange import MainCfFile
from pf_agent.files.store import FileStore
from pf_agent.model import (
    DesiredState,
    Drift,
    Judgement,
    PendingActivation,
    Reference,
    Wishes,
)
from pf_agent.reconcile.plan import Plan, plan
from pf_agent.reconcile.refusal import blamed_place, refusal, refusal_sentence, warnings
from pf_agent.reconcile.wishes import differing, unsaid

if TYPE_CHECKING:
    from pf_agent.postfix.installed import Postfix


@dataclass(frozen=True)
class Subject:
    """An instance, what it must say, its file, and whether that is this host's own."""

    name: str
    desired: DesiredState
    host: MainCfFile
    own: bool

    def plan(self) -> Plan:
        """Compare. Raises HostError."""
        last_good = _readable_last_good(self.name) if self.own else None
        return plan(self.host, self.desired, self.host.read(), last_good, self.own)


def subjects(arguments: argparse.Namespace) -> list[Subject]:
    """What the verb is about: every instance, or the one file that was named.

    Raises ConfigError.
    """
    if arguments.desired is not None:
        desired = configuration.load_desired_file(arguments.desired)
    else:
        desired = configuration.load_desired(names.CONFIG_DIRECTORY)
    if arguments.main_cf is not None:
        host = MainCfFile(arguments.main_cf, False)
        return [Subject(names.DEFAULT_INSTANCE, desired, host, False)]
    return own_subjects(desired)


def own_subjects(desired: DesiredState) -> list[Subject]:
    """Return this host's own instances, the default one first."""
    return [
        Subject(name, state, MainCfFile(main_cf_of(name, state)), True)
        for name, state in by_instance(desired).items()
    ]


def all_drift(found: Plan) -> tuple[Drift, ...]:
    """Return what would be corrected, and what is only reported."""
    return (*found.drift, *found.reported)


def prefix(instance: str) -> str:
    """Return what a line about another than the default instance begins with."""
    return "" if instance == names.DEFAULT_INSTANCE else f"{instance}: "


def judged(subject: Subject) -> tuple[str, tuple[str, ...]]:
    """What Postfix's own programs refuse and warn of in main.cf as it would become."""
    judgement = judgement_of(subject)
    new = newly_asked(subject)
    refused = refusal(subject.desired, judgement, new)
    problem = refusal_sentence(subject.desired, refused) if refused else ""
    doubts = warnings(subject.desired, judgement, new)
    return problem, tuple(f"{blamed_place(subject.desired, text)}{text}" for text in doubts)


def newly_asked(subject: Subject) -> frozenset[str]:
    """Return the parameters that main.cf says otherwise, and that no state served with asked so.

    What such a one names must be there (refusal.py). Raises HostError.
    """
    new = unsaid(subject.desired.settings, subject.host.read().text)
    served = _readable_served(subject.name) if subject.own else None
    return new if served is None else new & differing(served, subject.desired)


def judgement_of(subject: Subject) -> Judgement:
    """What Postfix's own programs say of main.cf as it would become.

    Nothing, where Postfix is not installed. Raises HostError.
    """
    with _asking(subject) as postfix:
        return Judgement() if postfix is None else postfix.judge(subject.plan().candidate)


def references_of(subject: Subject) -> tuple[Reference, ...]:
    """What main.cf, as it would become, names; nothing without Postfix. Raises HostError."""
    with _asking(subject) as postfix:
        return () if postfix is None else postfix.references(subject.plan().candidate)


@contextmanager
def _asking(subject: Subject) -> Iterator[Postfix | None]:
    """Yield the installed Postfix; None where there is none."""
    from pf_agent.postfix.installed import Postfix
    from pf_agent.postfix.postconf import POSTCONF

    if not os.path.exists(POSTCONF):
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="pf-agent-check-") as folder:
        yield Postfix(os.path.dirname(subject.host.path), folder)


def _readable_served(instance: str) -> DesiredState | None:
    """The desired state that Postfix was last seen to serve with, where this user may read it."""
    try:
        state = FileStore.of_instance(instance, names.STATE_DIRECTORY, names.RUN_DIRECTORY)
        return state.wishes().served
    except HostError:
        return None


def _readable_last_good(instance: str) -> bytes | None:
    """The last good text, where this user may read it."""
    try:
        state = FileStore.of_instance(instance, names.STATE_DIRECTORY, names.RUN_DIRECTORY)
        return state.last_good()
    except HostError:
        return None  # not root: the diff then starts from the template, which it may read


class Unkept:
    """A file that is not the host's own leaves nothing behind: no cycle, no marker, no texts."""

    def lock(self) -> AbstractContextManager[None]:
        return nullcontext()

    def next_cycle(self) -> int:
        return 1

    def mark_pending(self, _pending: PendingActivation, durable: bool = True) -> None:
        """There is no Postfix to activate it."""

    def pending(self) -> None:
        return None

    def keep_displaced(self, _cycle: int, _text: bytes) -> str:
        return ""

    def last_good(self) -> None:
        return None

    def keep_last_good(self, _text: bytes) -> None:
        """Only a file that Postfix runs with can be good."""

    def ran_with(self) -> None:
        return None

    def keep_ran_with(self, _text: bytes) -> None:
        """Nor was any Postfix seen to run with it."""

    def wishes(self) -> Wishes:
        return Wishes()

    def keep_wishes(self, _kept: Wishes) -> None:
        """Nothing is activated, so nothing is rejected."""
