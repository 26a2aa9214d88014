"""Whether a unit was stopped, by the newest of systemd's entries; a machine proves which match."""

from __future__ import annotations

import sys
import uuid

import pytest

from pf_agent.postfix.unit_log import was_stopped
from tests.fakes import FakeLog

STARTING = "7d4958e842da4a758f6c1cdc7b36dcc5"
STARTED = "39f53479d3a045ac8e11786248231fbf"
FAILED = "be02cf6855d2428ba40df7e9d022f03d"
STOPPED = "9d1aaa27d60140bd96365438aad20286"
UNIT = "postfix.service"
NOW, EARLIER = "a" * 32, "b" * 32


def add(log: FakeLog, message: str, job: str = "start", result: str = "", of: str = NOW) -> None:
    log.add(1, "", JOB_TYPE=job, JOB_RESULT=result, INVOCATION_ID=of)
    log.entries[-1]["MESSAGE_ID"] = uuid.UUID(message)


def test_a_stop_job(log: FakeLog) -> None:
    add(log, STARTED, result="done")
    add(log, STOPPED, "stop", "done")
    assert was_stopped(UNIT, NOW) is True


@pytest.mark.parametrize(("job", "result"), [("restart", "done"), ("stop", "failed")])
def test_what_is_no_stop_job_that_was_done(log: FakeLog, job: str, result: str) -> None:
    add(log, STOPPED, job, result)
    assert was_stopped(UNIT, NOW) is False


@pytest.mark.parametrize("message", [STARTING, STARTED, FAILED])
def test_somebody_tried_to_start_it_since(log: FakeLog, message: str) -> None:
    add(log, STOPPED, "stop", "done")
    add(log, message, of="")
    assert was_stopped(UNIT, NOW) is False


def test_the_stop_of_an_earlier_boot_says_nothing(log: FakeLog) -> None:
    add(log, STOPPED, "stop", "done", of=EARLIER)
    assert was_stopped(UNIT, NOW) is None
    assert was_stopped(UNIT, "") is None


def test_a_journal_that_does_not_say(log: FakeLog, monkeypatch: pytest.MonkeyPatch) -> None:
    assert was_stopped(UNIT, NOW) is None
    add(log, STOPPED, "stop", "done")
    log.fault = OSError(13, "Permission denied")
    assert was_stopped(UNIT, NOW) is None
    monkeypatch.setitem(sys.modules, "systemd", None)
    assert was_stopped(UNIT, NOW) is None
