"""Which of several truths about an instance is told first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pf_agent.model import (
    UNSERVED_DETAIL,
    Contest,
    DesiredState,
    Mode,
    Outcome,
    Phase,
    Rejected,
    Result,
    Suspension,
)
from pf_agent.words.phase import Facts, phase_of

IN_SYNC = Outcome(Result.IN_SYNC, "")
CORRECTED = Outcome(Result.CORRECTED, "corrected: mynetworks", 1)
OBSERVED = Outcome(Result.OBSERVED, "drift: mynetworks", 1)
REFUSED = Outcome(Result.REJECTED, "Postfix refuses it: bad", 1)
REJECTED = Rejected(DesiredState({}, frozenset()), "it did not come up")
CONTEST = Contest(("mynetworks",), 4, 1_000.0, 10.0)
SUSPENDED = Suspension(1_000.0, None, "anna", "upgrade")

# All that may be wrong at once; each row takes away what is told first.
ALL = Facts(
    REFUSED,
    is_desired=False,
    look_failure="main.cf is immutable",
    failure="no greeting",
    left="postfix@-.service was stopped by an administrator",
    is_pending=True,
    due="not before 04:00:00",
    suspension=SUSPENDED,
    rejected=REJECTED,
    contest=CONTEST,
    aliases_trouble="no space left",
)
NO_LOOK = replace(ALL, look_failure="")
DESIRED = replace(NO_LOOK, is_desired=True)
RESUMED = replace(DESIRED, suspension=None)
TAKEN = replace(RESUMED, outcome=CORRECTED)
STARTED = replace(TAKEN, left="")
SERVES = replace(STARTED, failure="")
ALONE = replace(SERVES, contest=None)


@pytest.mark.parametrize(
    ("facts", "phase", "detail"),
    [
        pytest.param(ALL, Phase.STALLED, "main.cf is immutable", id="all at once"),
        pytest.param(NO_LOOK, Phase.OBSERVING, "it did not come up", id="the first was rejected"),
        pytest.param(
            replace(NO_LOOK, rejected=None),
            Phase.OBSERVING,
            "there has never been a valid desired state",
            id="nothing is desired",
        ),
        pytest.param(
            DESIRED,
            Phase.SUSPENDED,
            "Postfix refuses it: bad",
            id="suspended, and what is found",
        ),
        pytest.param(
            replace(DESIRED, outcome=IN_SYNC),
            Phase.SUSPENDED,
            "",
            id="suspended, and nothing is found",
        ),
        pytest.param(
            replace(RESUMED, outcome=OBSERVED), Phase.OBSERVING, "drift: mynetworks", id="observed"
        ),
        pytest.param(RESUMED, Phase.STALLED, "Postfix refuses it: bad", id="refused"),
        pytest.param(
            TAKEN, Phase.STOPPED, "postfix@-.service was stopped by an administrator", id="stopped"
        ),
        pytest.param(
            STARTED,
            Phase.FAILING,
            "Postfix does not serve as it should: no greeting",
            id="failing, contested too",
        ),
        pytest.param(
            replace(STARTED, is_pending=False),
            Phase.FAILING,
            "Postfix does not serve as it should: no greeting",
            id="failing, and nothing is to be done for main.cf",
        ),
        pytest.param(
            replace(STARTED, is_served=True),
            Phase.FAILING,
            "Postfix serves, but that cannot be recorded: no greeting",
            id="served, and the disk is full",
        ),
        pytest.param(replace(ALONE, due=""), Phase.ACTIVATING, "", id="being restarted"),
        pytest.param(ALONE, Phase.ACTIVATING, "not before 04:00:00", id="the restart is due"),
        pytest.param(
            replace(ALONE, mode=Mode.OBSERVE, outcome=IN_SYNC),
            Phase.OBSERVING,
            UNSERVED_DETAIL,
            id="only observing, with what Postfix does not run with",
        ),
        pytest.param(
            replace(ALONE, mode=Mode.OBSERVE, outcome=IN_SYNC, is_pending=False),
            Phase.OBSERVING,
            "in sync",
            id="observing, nothing is found",
        ),
        pytest.param(
            replace(ALONE, is_pending=False),
            Phase.IN_SYNC,
            "but the aliases are out of date: no space left",
            id="old aliases",
        ),
        pytest.param(Facts(CORRECTED), Phase.IN_SYNC, "", id="corrected and served"),
        pytest.param(Facts(IN_SYNC), Phase.IN_SYNC, "", id="in sync"),
        pytest.param(
            Facts(Outcome(Result.IN_SYNC, "but a warning"), aliases_trouble="x"),
            Phase.IN_SYNC,
            "but a warning",
            id="in sync with a remark",
        ),
        pytest.param(
            Facts(IN_SYNC, rejected=REJECTED),
            Phase.IN_SYNC,
            "",
            id="a rejected wish is a problem of the configuration, not of main.cf",
        ),
    ],
)
def test_phase(facts: Facts, phase: Phase, detail: str) -> None:
    assert phase_of(facts) == (phase, detail)


def test_a_contest_is_told_before_what_is_due() -> None:
    phase, detail = phase_of(SERVES)
    assert phase is Phase.CONTESTED
    assert detail.startswith("something keeps changing mynetworks: 4 times since ")


@pytest.mark.parametrize("result", Result)
def test_every_result_of_a_look_has_a_phase(result: Result) -> None:
    phase, _ = phase_of(Facts(Outcome(result, "words")))
    stands = (Result.OBSERVED, Result.REJECTED, Result.FAILED)
    assert (phase is Phase.IN_SYNC) == (result not in stands)
