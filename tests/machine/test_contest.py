"""A tool that believes main.cf to be its own: corrected each time, restarted ever more seldom."""

from __future__ import annotations

import itertools
import json
import time

import pytest

from pf_agent import names
from pf_agent.activation import pacing
from tests.machine.site import MAIN_CF, PENDING, SETTLE_SECONDS, Site, eventually

pytestmark = pytest.mark.long

# Longer than what counts as one burst, and often enough that restarts are more than a minute apart.
_EVERY_SECONDS = 6.0
_TIMES = 7
_WRITE = f"sed -i 's|^mynetworks *=.*|mynetworks = 0.0.0.0/0|' {MAIN_CF}"

# One storm of writes, each of another value, over long before what counts as one burst is.
_BURST = """
import re, sys
path = sys.argv[1]
text = open(path).read()
for number in range(200):
    with open(path, "w") as file:
        file.write(re.sub("(?m)^mynetworks *=.*", f"mynetworks = 10.0.{number}.0/24", text))
"""


@pytest.fixture(scope="module")
def since(site: Site) -> str:
    """The place in the journal before a tool wrote another value again and again."""
    site.forget_restarts()
    since = site.cursor()
    for _ in range(_TIMES):
        site.machine.sh(_WRITE)
        site.wait_right()
        time.sleep(_EVERY_SECONDS)
    return since


def drifts(site: Site) -> dict[str, list[float]]:
    """When each parameter drifted, by the agent's own notes."""
    found: dict[str, list[float]] = json.loads(
        site.machine.read_text(f"{names.RUN_DIRECTORY}/drifts.json")
    )
    return found


def wait_activated(site: Site) -> None:
    """Wait until nothing is left to be activated."""
    eventually(
        lambda: not site.machine.at(PENDING).exists(),
        "a restart for the last change",
        SETTLE_SECONDS,
    )


def test_each_change_is_corrected_and_on_record(site: Site, since: str) -> None:
    assert [r[names.FIELD_PARAMETER] for r in site.drift_of(since)] == ["mynetworks"] * _TIMES
    assert len(site.records("drift-corrected", since)) == _TIMES
    assert len(drifts(site)["mynetworks"]) == _TIMES


def test_one_loud_record_says_what_and_how_often(site: Site, since: str) -> None:
    (record,) = site.records("contested", since)
    assert record["PRIORITY"] == "3"
    assert record[names.FIELD_PARAMETER] == "mynetworks"
    assert f"mynetworks: {pacing.CONTESTED_DRIFTS} times since" in record["MESSAGE"]


def test_status_says_so_and_keeps_count(site: Site, since: str) -> None:
    told = site.told()
    assert told["phase"] == "contested"
    assert f"mynetworks: {_TIMES} times since" in told["summary"]


def test_restarts_are_spaced_out(site: Site, since: str) -> None:
    """The last one waits for longer than the budget alone would have it wait."""
    changes = drifts(site)["mynetworks"]
    wait_activated(site)
    moments = site.restart_moments()
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    contest = pacing.contest({"mynetworks": changes}, moments[-1])
    assert contest is not None
    assert contest.apart > 60
    assert gaps[-1] == max(gaps)
    assert gaps[-1] >= contest.apart
    assert len(site.starts(since)) < _TIMES
    assert site.serves()


def test_the_next_process_knows_of_it(site: Site, since: str) -> None:
    before = site.cursor()
    site.machine.run(["systemctl", "restart", "pf-agent"])
    assert site.stands()[0] == "contested"
    assert site.records("contested", before) == []


def test_after_the_contest_all_is_as_it_should_be(site: Site, since: str) -> None:
    site.forget_restarts()
    site.end_contest()
    site.wait_settled()
    before = site.cursor()
    site.machine.sh(_WRITE)
    site.wait_right()
    wait_activated(site)
    site.wait_settled()
    assert len(site.records("activated", before)) == 1
    assert site.is_obeyed()
    assert site.serves()


def test_a_burst_of_writes_is_no_contest(site: Site) -> None:
    site.forget_restarts()
    before = site.cursor()
    site.run_python(_BURST, MAIN_CF)
    site.wait_right()
    wait_activated(site)
    site.wait_settled()
    assert site.drift_of(before) != []
    assert site.records("contested", before) == []
    assert len(drifts(site)["mynetworks"]) < pacing.CONTESTED_DRIFTS
