"""The state of an instance as a phase and a detail: which of several problems to show. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pf_agent.model import (
    IN_SYNC_DETAIL,
    UNSERVED_DETAIL,
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
    """What is known about an instance.

    `look_failure` says why main.cf could not be read or corrected, `failure` why Postfix does not
    serve, `left` why it is left stopped, `due` when a waiting restart comes and what runs with old
    values until then. `is_desired`: there is a desired state to enforce. `is_pending`: Postfix does
    not run with all of main.cf yet. `absent` are things that values name and that do not exist, and
    tables whose index is stale.
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
    """Return the phase and its detail: what keeps main.cf wrong comes before what keeps mail down.

    The detail does not say who suspended the instance: the status shows that separately.
    """
    outcome = facts.outcome
    if facts.look_failure:
        return Phase.STALLED, facts.look_failure
    if not facts.is_desired:
        why = (
            facts.rejected.reason
            if facts.rejected
            else "there has never been a valid desired state"
        )
        return Phase.OBSERVING, why
    if facts.suspension is not None:
        return Phase.SUSPENDED, outcome.summary
    if outcome.result is Result.OBSERVED:
        return Phase.OBSERVING, outcome.summary
    if outcome.result in (Result.REJECTED, Result.FAILED):
        return Phase.STALLED, outcome.summary
    if facts.left:
        return Phase.STOPPED, facts.left
    if facts.failure:
        how = (
            "serves, but that cannot be recorded"
            if facts.is_served
            else "does not serve as it should"
        )
        return Phase.FAILING, f"Postfix {how}: {facts.failure}"
    if facts.contest is not None:
        return Phase.CONTESTED, sentences.contest_sentence(facts.contest)
    return _at_peace(facts)


def _at_peace(facts: Facts) -> tuple[Phase, str]:
    if facts.mode is Mode.OBSERVE:
        return Phase.OBSERVING, UNSERVED_DETAIL if facts.is_pending else IN_SYNC_DETAIL
    if facts.is_pending:
        return Phase.ACTIVATING, facts.due
    if facts.outcome.result is Result.IN_SYNC and facts.outcome.summary:
        return Phase.IN_SYNC, facts.outcome.summary
    trouble = facts.aliases_trouble
    if trouble:
        return Phase.IN_SYNC, f"but the aliases are out of date: {trouble}"
    more = f"; and {len(facts.absent) - 1} more" if len(facts.absent) > 1 else ""
    return Phase.IN_SYNC, f"but {facts.absent[0]}{more}" if facts.absent else ""
