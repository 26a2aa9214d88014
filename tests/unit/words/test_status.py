"""A status as JSON, and back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pf_agent.model import LastDrift, Phase, Status, Suspension
from pf_agent.words import sentences
from pf_agent.words.status import status_dict, status_from_dict
from tests.unit.words.test_sentences import LAST, NOW, STATUS


@pytest.mark.parametrize(
    "status",
    [
        Status(Phase.STARTING, NOW),
        replace(STATUS, detail="x", problems=("a", "b"), last=LAST, next_look=NOW + 3),
        replace(STATUS, last=LastDrift(1, NOW, ())),
        replace(STATUS, instances={"out": replace(STATUS, last=LAST), "in": STATUS}),
        replace(STATUS, suspension=Suspension(NOW, None, "anna", "why")),
        replace(STATUS, restart_due=NOW + 20),
        replace(STATUS, awaited="Postfix start is waiting for apt or dpkg to finish"),
    ],
)
def test_a_status_comes_back_from_its_json(status: Status) -> None:
    found = json.loads(json.dumps(status_dict(status, NOW)))
    assert found["summary"] == sentences.summary(status, NOW)
    assert status_from_dict(found) == status


@pytest.mark.parametrize(
    "wrong",
    [
        {"phase": "asleep"},
        {"since": "yesterday"},
        {"problems": 3},
        {"last_drift": {"cycle": 1}},
        {"last_drift": {"parameters": [], "unknown": 1}},
    ],
)
def test_a_status_of_another_make_is_refused(wrong: dict[str, object]) -> None:
    found = status_dict(replace(STATUS, last=LAST), NOW)
    with pytest.raises(ValueError, match=rf"^{next(iter(wrong))}: "):
        status_from_dict({**found, **wrong})
    del found["phase"]
    with pytest.raises(ValueError, match=r"^there is no phase$"):
        status_from_dict(found)


def test_what_a_daemon_of_the_version_before_wrote_is_read() -> None:
    """It runs on for a moment, while the package is upgraded."""
    status = Status(
        Phase.IN_SYNC, 1.0, absent=("relayhost: there is none",), stale={"/t": "/t: old"}
    )
    found = status_dict(status, 2.0)
    assert status_from_dict(found) == status
    del found["absent"], found["restart_due"], found["stale_tables"], found["awaited"]
    assert status_from_dict(found) == replace(status, absent=(), stale={})
