"""What a verb applies to: the instances, with their desired state and file; or one named file."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pf_agent import names
from pf_agent.config.desired import by_instance, main_cf_of
from pf_agent.errors import HostError
from pf_agent.files import configuration
from pf_agent.files.exchange import MainCfFile
from pf_agent.files.nature import OTHER_MAIN_CF
from pf_agent.files.store import FileStore
from pf_agent.model import (
    DesiredState,
    Drift,
    Judgement,
    Parameter,
    PendingActivation,
    Reference,
    Wishes,
)
from pf_agent.postfix.complaints import no_such_parameter
from pf_agent.postfix.judge import Remarks
from pf_agent.reconcile.drift import corrected, taken_apart
from pf_agent.reconcile.plan import Plan, plan
from pf_agent.reconcile.refusal import (
    Stands,
    refusal,
    refusal_sentence,
    runs_already,
    told,
    warnings,
)
from pf_agent.reconcile.wishes import applied, differing, still_said, unsaid, withdrawn
from pf_agent.words import sentences

if TYPE_CHECKING:
    from pf_agent.postfix.installed import Postfix

T = TypeVar("T")


@dataclass(frozen=True)
class Subject:
    """An instance, its desired state, its file, and whether that is this host's own."""

    name: str
    desired: DesiredState
    host: MainCfFile
    own: bool

    def plan(self) -> Plan:
        """Compare. Raises HostError."""
        last_good = _readable(self, FileStore.last_good)
        return plan(self.host, self.desired, self.host.read(), last_good)


def subjects(arguments: argparse.Namespace) -> list[Subject]:
    """Return what the verb applies to: every instance, or the one file that was named.

    Raises ConfigError.
    """
    if arguments.desired is not None:
        desired = configuration.load_desired_file(arguments.desired)
    else:
        desired = configuration.load_desired(names.CONFIG_DIRECTORY)
    if arguments.main_cf is not None:
        host = MainCfFile(arguments.main_cf, OTHER_MAIN_CF)
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
    """Return the prefix of a line about another than the default instance."""
    return "" if instance == names.DEFAULT_INSTANCE else f"{instance}: "


@dataclass(frozen=True)
class Findings:
    """What Postfix's programs say about the corrected main.cf, and about the one that runs now."""

    judgement: Judgement
    runs: Judgement
    remarks: Remarks
    stands: Stands


def judged(subject: Subject) -> tuple[str, tuple[str, ...]]:
    """Return what is refused in the corrected main.cf, and what is only reported, with places."""
    desired = subject.desired
    found = findings_of(subject, _readable(subject, FileStore.ran_with), desired.parameters())
    new, runs = newly_asked(subject), runs_already(found.runs)
    refused = refusal(desired, found.judgement, new, runs)
    problem = refusal_sentence(desired, refused, found.stands) if refused else ""
    doubts = [*warnings(desired, found.judgement, new, runs), *found.remarks.doubts]
    # postconf itself reports unknown names that are set.
    unknown = {n: meant for n, meant in found.remarks.unknown.items() if n in desired.use_default}
    doubts += [f"{name}: {no_such_parameter(meant)}" for name, meant in sorted(unknown.items())]
    left = [placed_left(subject, each) for each in left_behind(subject)]
    return problem, (*(told(desired, text, found.stands) for text in doubts), *left)


def newly_asked(subject: Subject) -> frozenset[str]:
    """Return the parameters to change in main.cf that the served state did not ask for.

    What these name must exist (refusal.py). Raises HostError.
    """
    new = unsaid(subject.desired.kind, subject.desired.settings, subject.host.read().text)
    kept = kept_wishes(subject)
    served = None if kept is None else kept.served
    return new if served is None else new & differing(served, subject.desired)


def findings_of(
    subject: Subject, ran_with: bytes | None = None, asked: Collection[str] = ()
) -> Findings:
    """Have Postfix's own programs read main.cf as corrected, and as it runs.

    `ran_with` is the text that Postfix was seen to run with, None for the one that is there.
    `asked` are names to check for whether Postfix uses them. Nothing is found if Postfix is not
    installed. Raises HostError.
    """
    found = subject.plan()
    text = found.actual.text or b""
    stands = Stands.of(subject.host.path, text, found.candidate)
    with _asking(subject) as postfix:
        if postfix is None:
            return Findings(Judgement(), Judgement(), Remarks(), stands)
        judgement = postfix.judge(found.candidate)
        runs = text if ran_with is None else ran_with
        before = judgement if runs == found.candidate else postfix.judge(runs)
        return Findings(judgement, before, postfix.remarks(found.candidate, asked), stands)


def references_of(subject: Subject) -> tuple[Reference, ...]:
    """Return what main.cf, as corrected, names; nothing without Postfix. Raises HostError."""
    with _asking(subject) as postfix:
        return () if postfix is None else postfix.references(subject.plan().candidate)


@contextmanager
def _asking(subject: Subject) -> Iterator[Postfix | None]:
    """Yield the installed Postfix; None if there is none."""
    from pf_agent.postfix.installed import Postfix
    from pf_agent.postfix.postconf import POSTCONF

    if not os.path.exists(POSTCONF):
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="pf-agent-check-") as folder:
        yield Postfix(os.path.dirname(subject.host.path), folder)


def kept_wishes(subject: Subject) -> Wishes | None:
    """Return what was asked for in the host's own main.cf, and its outcome; None if unknown."""
    return _readable(subject, FileStore.wishes)


def nearest_known(subject: Subject, name: str) -> str | None:
    """Return the nearest real name if Postfix does not use this one, "" if none is close.

    None for a name that it knows, and if it is not installed. Raises HostError.
    """
    with _asking(subject) as postfix:
        if postfix is None:
            return None
        stands = taken_apart(subject.desired.kind, subject.host.read().text)
        text = corrected(stands, subject.desired).render()
        return postfix.remarks(text, [name]).unknown.get(name)


def left_behind(subject: Subject) -> tuple[Parameter, ...]:
    """Return what main.cf still says of parameters that are no longer managed. Raises HostError.

    Nothing if the agent's files cannot be read. If the agent has not looked yet, that is what the
    previous desired state asked for.
    """
    kept = kept_wishes(subject)
    if kept is None or kept.rejects(subject.desired):
        return ()
    text = subject.host.read().text
    gone = withdrawn(kept, subject.desired)
    found = applied(kept, subject.desired, text).left
    left = {name: value for name, value in found.items() if name not in gone}
    return still_said(left, subject.desired, taken_apart(subject.desired.kind, text))


def placed_left(subject: Subject, parameter: Parameter) -> str:
    """Return what main.cf still says of a parameter, where, and what can be done about it."""
    way_out = f"`pf-agent unset --default {parameter.name}` keeps it at Postfix's own default"
    said = sentences.left_sentence(parameter, subject.desired)
    return f"{subject.host.path}:{parameter.line}: {said}; {way_out}"


def _readable(subject: Subject, read: Callable[[FileStore], T | None]) -> T | None:
    """Return what the agent has kept about the host's own main.cf, if this user may read it."""
    if not subject.own:
        return None
    try:
        return read(FileStore.of_instance(subject.name, names.STATE_DIRECTORY, names.RUN_DIRECTORY))
    except HostError:
        return None  # not root: a diff then starts from the template, which is readable


class Unkept:
    """A file that is not the host's own leaves nothing behind: no cycle, no marker, no texts."""

    def lock(self) -> AbstractContextManager[None]:
        return nullcontext()

    def next_cycle(self) -> int:
        return 1

    def mark_pending(self, _pending: PendingActivation, durable: bool = True) -> None:
        """Do nothing: there is no Postfix to activate it."""

    def pending(self) -> None:
        return None

    def keep_displaced(self, _cycle: int, _text: bytes) -> str:
        return ""

    def last_good(self) -> None:
        return None

    def keep_last_good(self, _text: bytes) -> None:
        """Do nothing: only a file that Postfix runs with can be good."""

    def ran_with(self) -> None:
        return None

    def keep_ran_with(self, _text: bytes) -> None:
        """Do nothing: no Postfix was seen to run with it."""

    def wishes(self) -> Wishes:
        return Wishes()

    def keep_wishes(self, _kept: Wishes) -> None:
        """Do nothing: nothing is activated, so nothing is rejected."""
