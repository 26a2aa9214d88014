"""How an instance stands, in a phase and a detail: which of several truths is told first. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pf_agent.model import (
    IN_SYNC_DETAIL,
    Contest,
    Mode,
    Outcome,
    Phase,
    Rejected,
    Result,
    Suspension,
)
from pf_agent.words import sentences


@dataclass(frozen=True)
class Facts:
    """What is known of an instance.

    `look_failure` says why main.cf could not be looked at or corrected, `failure` why Postfix does
    not serve, `left` why it is left stopped, `stale` which values a reload could not take while the
    restart waits, `due` when that is. `is_desired`: there is a desired state to enforce. `absent`
    is what values name and is not there.
    """

    outcome: Outcome
    mode: Mode = Mode.ENFORCE
    is_desired: bool = True
    look_failure: str = ""
    failure: str = ""
    left: str = ""
    is_pending: bool = False
    is_served: bool = False
    due: str = ""
    suspension: Suspension | None = None
    rejected: Rejected | None = None
    contest: Contest | None = None
    aliases_trouble: str = ""
    absent: tuple[str, ...] = ()


def phase_of(facts: Facts) -> tuple[Phase, str]:
    """Return the phase and its detail: what keeps main.cf wrong before what keeps mail down."""
    outcome = facts.outcome
    if facts.look_failure:
        return Phase.STALLED, facts.look_failure
    if not facts.is_desired:
        why = facts.rejected.reason if facts.rejected else "there never was a good desired state"
        return Phase.OBSERVING, why
    if facts.suspension is not None:
        found = f"; {outcome.summary}" if outcome.summary else ""
        return Phase.SUSPENDED, sentences.suspension_sentence(facts.suspension) + found
    if outcome.result is Result.OBSERVED:
        return Phase.OBSERVING, outcome.summary
    if outcome.result in (Result.REJECTED, Result.FAILED):
        return Phase.STALLED, outcome.summary
    if facts.left:
        return Phase.STOPPED, facts.left
    if facts.failure:
        how = "serves, which cannot be noted" if facts.is_served else "does not serve as it should"
        return Phase.FAILING, f"Postfix {how}: {facts.failure}"
    if facts.contest is not None:
        return Phase.CONTESTED, sentences.contest_sentence(facts.contest)
    return _at_peace(facts)


def _at_peace(facts: Facts) -> tuple[Phase, str]:
    if facts.is_pending:
        return Phase.ACTIVATING, facts.due
    if facts.mode is Mode.OBSERVE:
        return Phase.OBSERVING, IN_SYNC_DETAIL
    if facts.outcome.result is Result.IN_SYNC and facts.outcome.summary:
        return Phase.IN_SYNC, facts.outcome.summary
    trouble = facts.aliases_trouble
    if trouble:
        return Phase.IN_SYNC, f"but the aliases are old: {trouble}"
    more = f"; and {len(facts.absent) - 1} more" if len(facts.absent) > 1 else ""
    return Phase.IN_SYNC, f"but {facts.absent[0]}{more}" if facts.absent else ""
