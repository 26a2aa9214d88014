"""What a transient unit of systemd said of its program, and of itself."""

from __future__ import annotations

import pytest

from pf_agent.postfix.complaints import reason
from pf_agent.postfix.outside import becoming, told_of
from pf_agent.postfix.programs import Answer
from pf_agent.postfix.ways import Owner


def said(complaint: str) -> Answer:
    return Answer("/usr/bin/systemd-run", True, "", complaint)


def test_what_a_transient_unit_said_is_told() -> None:
    done = Answer("/usr/bin/systemd-run", False, "", "postalias: warning: a line\n")
    refused = said("postalias: fatal: open /home/a/aliases: Permission denied\n")
    barred = said("setpriv: setresuid failed: Operation not permitted\n")
    assert [told_of(each) for each in (done, refused, barred)] == [done, refused, barred]


@pytest.mark.parametrize("complaint", ["", "postalias: warning: a line\n"])
def test_what_systemd_ended_without_a_word_is_told_as_not_done(complaint: str) -> None:
    told = told_of(said(complaint))
    assert told is not None
    assert reason(told.complaint) == "not done within 30 s and 1 GiB of memory"


def test_a_transient_unit_that_did_not_start_tells_nothing() -> None:
    assert told_of(said("Failed to start transient service unit: Access denied\n")) is None


def test_root_stays_root_and_anybody_else_begins_as_himself() -> None:
    assert becoming(None) == []
    assert becoming(Owner(7, 8))[1:] == ["--reuid=7", "--regid=8", "--clear-groups", "--"]
