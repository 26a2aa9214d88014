"""What the agent puts on record: in the journal, on a terminal, in `status` and status.json."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest

from pf_agent import __version__, names
from pf_agent.model import Event
from pf_agent.reporting.journal import MESSAGE_IDS
from tests.machine.site import MAIN_CF, Site, eventually

RIGHT = "127.0.0.0/8 [::1]/128 172.16.0.0/12 [fe80::]/64"
WRONG = "0.0.0.0/0 [::]/0"
MOMENTS = (
    names.FIELD_WRITTEN_AT,
    names.FIELD_SEEN_AT,
    names.FIELD_CORRECTED_AT,
    names.FIELD_ACTIVATED_AT,
)
# The longest value that a record holds, and the words that tell of the rest.
MOST_BYTES = 4000 + 100
TOOK = r" corrected in \d[\d.]* (ms|s), Postfix up after \d[\d.]* (ms|s|min)"
STATUS = re.compile(f"in sync: 21 parameters; last drift less than a minute ago: mynetworks,{TOOK}")
PAGE = re.compile(
    f"in sync: 21 parameters\n  drift: less than a minute ago, cycle \\d+: mynetworks,{TOOK}\n"
    "  to do: `pf-agent adopt --cycle \\d+ mynetworks` keeps the change, if it was right\n"
)


@dataclass(frozen=True)
class Drifted:
    """One drift of mynetworks, from the write to Postfix's greeting: the texts, the records."""

    before: bytes
    drifted: bytes
    records: list[dict[str, Any]]

    def of(self, event: str) -> list[dict[str, Any]]:
        return [r for r in self.records if r[names.FIELD_EVENT] == event]

    def parameter(self) -> dict[str, Any]:
        """The record of the one difference."""
        found = [r for r in self.of("drift-detected") if names.FIELD_PARAMETER in r]
        assert len(found) == 1
        return found[0]

    def cycle(self) -> dict[str, Any]:
        """The record that sums the cycle up."""
        found = [r for r in self.of("drift-detected") if names.FIELD_PARAMETER not in r]
        assert len(found) == 1
        return found[0]


@pytest.fixture(scope="module")
def drift(site: Site) -> Drifted:
    text = site.good.replace(f"mynetworks = {RIGHT}".encode(), f"mynetworks = {WRONG}".encode())
    return drift_to(site, text)


def drift_to(site: Site, text: bytes) -> Drifted:
    """Put a text in main.cf's place; return what was recorded until Postfix runs with the right."""
    assert text != site.good
    # Restarts of the last minute would only make these tests wait: the budget is not theirs.
    site.forget_restarts()
    since = site.cursor()
    site.put(text)
    site.wait_right()
    site.wait_settled()
    eventually(lambda: bool(site.records("activated", since)), "the record of the activation")
    entries = site.entries(since)
    return Drifted(site.good, text, [r for r in entries if names.FIELD_EVENT in r])


def undone(after: bytes, diff: str) -> bytes:
    """What a unified diff says that `after` was made of."""
    lines, result, at = after.decode().split("\n"), [], 0
    for line in diff.removesuffix("\n").split("\n")[2:]:
        if line.startswith("@@"):
            match = re.fullmatch(r"@@ -\d+(?:,\d+)? \+(\d+)(?:,\d+)? @@", line)
            assert match is not None, line
            start = int(match[1]) - 1
            result += lines[at:start]
            at = start
        elif line.startswith("-"):
            result.append(line[1:])
        else:
            assert lines[at] == line[1:]
            at += 1
            result += [line[1:]] if line.startswith(" ") else []
    return "\n".join(result + lines[at:]).encode()


# The fields


def test_a_cycle_is_told_from_its_drift_to_its_activation(drift: Drifted) -> None:
    events = [r[names.FIELD_EVENT] for r in drift.records]
    assert events == ["drift-detected", "drift-detected", "drift-corrected", "activated"]
    for record in drift.records:
        assert record["MESSAGE_ID"] == MESSAGE_IDS[Event(record[names.FIELD_EVENT])]
        assert record["SYSLOG_IDENTIFIER"] == "pf-agent"
        assert record["_SYSTEMD_UNIT"] == "pf-agent.service"
    assert len({r[names.FIELD_CYCLE] for r in drift.records}) == 1
    assert [r["PRIORITY"] for r in drift.records] == ["4", "4", "4", "6"]


def test_a_difference_is_told_with_both_values_and_its_line(site: Site, drift: Drifted) -> None:
    record = drift.parameter()
    line = site.line_of("mynetworks")
    assert record[names.FIELD_PARAMETER] == "mynetworks"
    assert record[names.FIELD_KIND] == "changed"
    assert record[names.FIELD_EXPECTED] == RIGHT
    assert record[names.FIELD_ACTUAL] == WRONG
    assert record[names.FIELD_LINE] == str(line)
    assert record["MESSAGE"] == f'mynetworks is "{WRONG}", must be "{RIGHT}" (line {line})'


def test_the_diff_is_the_whole_truth(site: Site, drift: Drifted) -> None:
    for record in (drift.cycle(), *drift.of("drift-corrected")):
        diff = record[names.FIELD_DIFF]
        assert f"-mynetworks = {WRONG}\n+mynetworks = {RIGHT}\n" in diff
        assert undone(site.good, diff) == drift.drifted


def test_the_displaced_text_is_kept_whole(site: Site, drift: Drifted) -> None:
    (record,) = drift.of("drift-corrected")
    path = record[names.FIELD_DISPLACED]
    assert path.startswith(f"{names.STATE_DIRECTORY}/displaced/")
    assert site.machine.read_bytes(path) == drift.drifted


def test_the_exposure_is_told_moment_by_moment(drift: Drifted) -> None:
    (record,) = drift.of("activated")
    moments = [record[name] for name in MOMENTS]
    for text in moments:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    assert moments == sorted(moments)
    (corrected,) = drift.of("drift-corrected")
    assert [corrected[name] for name in MOMENTS[:3]] == moments[:3]
    assert names.FIELD_ACTIVATED_AT not in corrected
    assert [drift.cycle()[name] for name in MOMENTS[:2]] == moments[:2]


# For people


def test_the_catalog_explains_each_record(site: Site, drift: Drifted) -> None:
    cycle = drift.cycle()[names.FIELD_CYCLE]
    shown = site.machine.sh(f"journalctl -x --no-pager -u pf-agent PF_AGENT_CYCLE={cycle}")
    for text in (
        "Subject: main.cf differs from the desired state",
        "Subject: main.cf was corrected",
        "Subject: Postfix runs with the corrected main.cf",
        f"In cycle {cycle} main.cf was found to differ",
        f"expected    {RIGHT}",
        f"actual      {WRONG}",
        drift.of("drift-corrected")[0][names.FIELD_DISPLACED],
    ):
        assert text in shown


@pytest.mark.usefixtures("drift")
def test_systemctl_status_shows_one_true_sentence(site: Site) -> None:
    shown = site.machine.sh("systemctl status --no-pager --lines=0 pf-agent")
    found = re.search(r'Status: "(.*)"', shown)
    assert found is not None
    assert STATUS.fullmatch(found[1])


@pytest.mark.usefixtures("drift")
def test_any_user_may_ask(site: Site) -> None:
    done = site.machine.run(["runuser", "-u", "nobody", "--", "pf-agent", "status"])
    assert PAGE.fullmatch(done.stdout)
    shown = site.machine.run(["runuser", "-u", "nobody", "--", "pf-agent", "status", "--json"])
    assert STATUS.fullmatch(json.loads(shown.stdout)["summary"])


def test_status_json_tells_programs(site: Site, drift: Drifted) -> None:
    status = json.loads(site.machine.read_text(f"{names.RUN_DIRECTORY}/status.json"))
    assert STATUS.fullmatch(status["summary"])
    last = status["last_drift"]
    assert status["phase"] == "in-sync"
    assert status["parameters"] == 21
    assert status["problems"] == []
    assert status["version"] == __version__
    assert str(status["pid"]) == site.show("pf-agent", "MainPID")
    assert status["since"] <= status["next_look"]
    assert last["cycle"] == int(drift.cycle()[names.FIELD_CYCLE])
    assert last["parameters"] == ["mynetworks"]
    assert last["at"] > 0
    assert last["corrected_seconds"] >= 0
    assert last["up_seconds"] > 0


# What an intruder writes into main.cf

FORGED = (
    b"10.0.0.0/8 \x1b[2J\x1b[31m\x07\r MESSAGE=forged \x85\xe2\x80\xa8PF_AGENT_EVENT=activated\n"
    b"\tPF_AGENT_EVENT=forged\n MESSAGE_ID=8f1c2a6e5d0b4c07a3f19e6b7d2c4513\n"
    b"  <3>pf-agent: forged: all is well\n"
    b"\t" + b"y" * 10_000
)


def not_text(record: dict[str, Any]) -> list[str]:
    """The fields that journalctl -o json shows as a list: they came twice, or cannot be printed."""
    return sorted(name for name, value in record.items() if not isinstance(value, str))


def test_nothing_is_forged_by_a_value(site: Site) -> None:
    right = f"mynetworks = {RIGHT}".encode()
    drift = drift_to(site, site.good.replace(right, b"mynetworks = " + FORGED))
    events = [r[names.FIELD_EVENT] for r in drift.records]
    assert events == ["drift-detected", "drift-detected", "drift-corrected", "activated"]
    assert site.machine.journal("PF_AGENT_EVENT=forged") == []
    for record in drift.records:
        assert not_text(record) == []
        assert record["MESSAGE_ID"] == MESSAGE_IDS[Event(record[names.FIELD_EVENT])]
        assert record["MESSAGE"].isprintable()
        assert len(record["MESSAGE"]) < 1000
    actual = drift.parameter()[names.FIELD_ACTUAL]
    assert actual.startswith("10.0.0.0/8 ")
    assert len(actual.encode()) <= MOST_BYTES
    diff = drift.cycle()[names.FIELD_DIFF]
    assert "\x1b" not in diff
    assert f"+mynetworks = {RIGHT}\n" in diff
    (corrected,) = drift.of("drift-corrected")
    assert site.machine.read_bytes(corrected[names.FIELD_DISPLACED]) == drift.drifted
    assert STATUS.fullmatch(site.show("pf-agent", "StatusText"))


def test_nothing_is_forged_by_a_line_without_a_value(site: Site) -> None:
    """A name may hold any byte too, and such a line stops Postfix."""
    site.wait_remembered()
    line = b"\x1b]0;forged\x07 PF_AGENT_EVENT=forged" + b"z" * 5_000
    since = site.cursor()
    site.put(site.good + line.replace(b"=", b" ") + b"\n")
    eventually(lambda: bool(site.records("drift-corrected", since)), "the correction")
    for record in site.drift_of(since):
        assert record[names.FIELD_KIND] == "unreadable"
        assert not_text(record) == []
        assert record["MESSAGE"].isprintable()
        assert len(record["MESSAGE"]) < 1000
        assert len(record[names.FIELD_ACTUAL].encode()) <= MOST_BYTES
    assert site.machine.journal("PF_AGENT_EVENT=forged") == []
    assert site.read() == site.good + b"#" + line.replace(b"=", b" ") + b"\n"


# On a terminal, and without the daemon


def test_the_daemon_gone_is_told(site: Site) -> None:
    since = site.cursor()
    site.machine.run(["systemctl", "stop", "pf-agent"])
    eventually(lambda: bool(site.records("stopped", since)), "the record of the stop")
    done = site.machine.run(["pf-agent", "status"], check=False)
    assert done.returncode == 1
    assert "is not running" in done.stdout
    done = site.machine.run(["pf-agent", "status", "--json"], check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)["phase"] is None


def test_a_terminal_gets_readable_lines(site: Site) -> None:
    number = site.read().count(b"\n") + 1
    site.machine.sh(f"echo 'mynetworks = {WRONG}' >> {MAIN_CF}")
    shown = site.machine.sh("script -qec 'pf-agent apply' /dev/null", timeout=150)
    # A line that tells what is waited for is taken back before a record.
    lines = re.split("\n|\r\x1b\\[K", shown.replace("\r\n", "\n"))
    sentence = f'mynetworks is "{WRONG}", must be "{RIGHT}" (line {number})'
    assert f"pf-agent: drift-detected: {sentence}" in lines
    assert "pf-agent: drift-corrected: corrected: mynetworks" in lines
    assert any(line.startswith("pf-agent: activated: Postfix runs") for line in lines)
    assert "\x1b" not in "".join(lines)
    assert "Traceback" not in shown
    # What a program reads is not mixed with it.
    site.machine.sh(f"echo 'mynetworks = {WRONG}' >> {MAIN_CF}")
    done = site.machine.run(["pf-agent", "apply", "--no-activate", "--json"])
    assert json.loads(done.stdout)["result"] == "corrected"
    assert done.stderr == ""
