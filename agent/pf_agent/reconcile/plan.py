"""What one look found, and the text that would be right."""

from __future__ import annotations

from dataclasses import dataclass

from pf_agent.errors import HostError
from pf_agent.maincf.grammar import grammar_of
from pf_agent.model import ActualState, DesiredState, Drift, Outcome
from pf_agent.reconcile.drift import (
    corrected,
    damage,
    find_drift,
    is_too_long,
    taken_apart,
    unmanaged_drift,
)
from pf_agent.reconcile.ports import Host
from pf_agent.words.diffs import unified_diff


class CorrectionFailed(HostError):
    """The host prevented the correction of drift that is already recorded."""

    def __init__(self, reason: str, outcome: Outcome) -> None:
        super().__init__(reason)
        self.outcome = outcome


@dataclass(frozen=True)
class Plan:
    """What one look found, and the text that would be right.

    `reported` are other settings in main.cf that are reported and left alone.
    """

    actual: ActualState
    drift: tuple[Drift, ...]
    candidate: bytes
    diff: str
    reported: tuple[Drift, ...] = ()


def plan(
    host: Host,
    desired: DesiredState,
    actual: ActualState,
    last_good: bytes | None,
) -> Plan:
    """Compare, and compute the right text. Changes nothing; `diff` prints what `apply` writes.

    Raises HostError if there is neither a main.cf nor a template to start from, or if what is there
    cannot be read and there has never been a good text.
    """
    attributes = host.attributes(actual)
    too_long = is_too_long(actual.text)
    document = taken_apart(desired.kind, actual.text)
    damaged = actual.refused or damage(actual.text, desired, last_good, document)
    if last_good is None and (actual.refused or too_long):
        cure = "put a main.cf there that every user can read"
        if desired.document:
            cure = "put a file there that can be read"
        raise HostError(f"{host.path}: {damaged}; {cure}")
    if actual.is_open and last_good is not None and not damaged:
        # Only half of the text may be written so far. The last good one stands in for it; what is
        # being written counts once its writer has closed the file.
        damaged = "another process has it open for writing"
        if not find_drift(desired, actual, "", False, attributes, document):
            damaged = ""
    drift = find_drift(desired, actual, damaged, last_good is not None, attributes, document)
    reported = () if damaged else unmanaged_drift(desired, document)
    if not drift:
        return Plan(actual, (), actual.text or b"", "", reported)
    if damaged:
        base = _begun(host, desired, actual.text) if last_good is None else last_good
        document = grammar_of(desired.kind).parse(base)
    candidate = corrected(document, desired).render()
    shown = None if too_long else actual.text
    diff = unified_diff(shown, candidate, host.path, desired.kind, desired.is_secret)
    return Plan(actual, drift, candidate, diff, reported)


def _begun(host: Host, desired: DesiredState, text: bytes | None) -> bytes:
    """Create main.cf if there is none, or if it is only comments: they stay, above the template.

    Raises HostError.
    """
    comments = text or b""
    if comments and not comments.endswith(b"\n"):
        comments += b"\n"
    return comments + (host.read_template(desired.template) if desired.template else b"")
