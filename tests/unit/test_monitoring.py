"""What ships for Prometheus and Grafana, judged by promtool, and held to what the agent exports."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pf_agent.model import Drift, DriftKind, Event, Exposure, Phase, Record, Status
from pf_agent.reporting.exposition import Family, text_of
from pf_agent.reporting.tally import Tally
from pf_agent.words.fields import drift_fields, exposure_fields
from tests.checkout import CHECKOUT

FOLDER = CHECKOUT / "docs" / "monitoring"
RULES = FOLDER / "pf-agent.rules.yml"
DASHBOARD = FOLDER / "pf-agent.dashboard.json"
SOURCES = [RULES, DASHBOARD]
STATUS = Status(Phase.IN_SYNC, 1_800_000_000.0, parameters=21, version="1.2.3")
SERIES = 'instance="mx1",postfix_instance="-"'


@pytest.fixture(scope="module")
def promtool() -> str:
    """Debian's package prometheus has it; without it a skip, and a failure under CI."""
    found = shutil.which("promtool")
    if found is None:
        reason = "no promtool on this host; install prometheus"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return found


def families() -> tuple[Family, ...]:
    """All that the agent can export: drift, correction, activation, a second instance."""
    tally = Tally()
    exposure = Exposure(1_800_000_000.0, 1_800_000_000.01)
    corrected = replace(exposure, corrected_at=1_800_000_000.02)
    activated = replace(corrected, activated_at=1_800_000_001.5)
    drift = Drift('my"net\\works\n', DriftKind.CHANGED, "a", "b", 3)
    for event, fields in (
        (Event.DRIFT_DETECTED, drift_fields(drift)),
        (Event.DRIFT_DETECTED, exposure_fields(exposure)),
        (Event.DRIFT_CORRECTED, exposure_fields(corrected)),
        (Event.ACTIVATED, exposure_fields(activated)),
    ):
        tally.note(Record(event, "words", 1, dict(fields)))
    status = replace(STATUS, instances={"postfix-out": replace(STATUS, phase=Phase.STALLED)})
    return tally.families(status, {"-": "0123456789abcdef"}, 1_800_000_010.0)


def run(command: list[str], text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_promtool_accepts_what_is_exported(promtool: str) -> None:
    assert run([promtool, "check", "metrics"], text_of(families())) == ""


def test_promtool_accepts_the_last_words(promtool: str) -> None:
    assert run([promtool, "check", "metrics"], text_of(Tally().last_words("1.2.3"))) == ""


def test_promtool_accepts_the_rules(promtool: str) -> None:
    alerts = len(re.findall(r"^ +- alert:", RULES.read_text(), flags=re.MULTILINE))
    assert f"{alerts} rules found" in run([promtool, "check", "rules", str(RULES)])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_only_what_is_exported_is_asked_for(path: Path) -> None:
    exported = {f"{f.name}{s.suffix}" for f in families() for s in f.samples}
    asked = set(re.findall(r"\bpf_agent_\w+", path.read_text()))
    assert len(asked) > 5
    assert asked <= exported


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_only_phases_that_there_are_are_asked_for(path: Path) -> None:
    text = path.read_text().replace("\\", "")
    asked = set(re.findall(r'phase="([^"]+)"', text))
    assert asked
    assert asked <= {phase.value for phase in Phase}


def test_every_panel_has_a_place_of_its_own_and_a_query() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    squares = [
        (column, row)
        for panel in panels
        for column in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for row in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(squares) == len(set(squares))
    assert max(column for column, _ in squares) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["description"], panel["title"]
        assert all(target["expr"] for target in panel["targets"]), panel["title"]


def test_promtool_accepts_every_query_of_the_dashboard(promtool: str, tmp_path: Path) -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    # What Grafana itself fills in.
    filled = [
        query.replace("$__rate_interval", "5m").replace("$__range", "1h").replace("$instance", ".*")
        for query in queries
    ]
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(filled)]
    path = tmp_path / "queries.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(queries)} rules found" in run([promtool, "check", "rules", str(path)])


# --- when the alerts fire -------------------------------------------------------------------------

ALERTS = re.findall(r"^ +- alert: (\w+)$", RULES.read_text(), flags=re.MULTILINE)
# A healthy machine for 10 hours, a sample a minute; each case replaces some of it.
WELL = {
    'pf_agent_up{instance="mx1"}': "1x600",
    # promtool's clock starts at 0.
    'pf_agent_heartbeat_timestamp_seconds{instance="mx1"}': "0+60x600",
    f"pf_agent_in_sync{{{SERIES}}}": "1x600",
    f'pf_agent_phase{{{SERIES},phase="stalled"}}': "0x600",
    f'pf_agent_phase{{{SERIES},phase="contested"}}': "0x600",
    f'pf_agent_phase{{{SERIES},phase="failing"}}': "0x600",
    f'pf_agent_phase{{{SERIES},phase="stopped"}}': "0x600",
    'pf_agent_suspended{instance="mx1"}': "0x600",
    'pf_agent_configuration_problems{instance="mx1"}': "0x600",
    f"pf_agent_absent_references{{{SERIES}}}": "0x600",
    f"pf_agent_stale_tables{{{SERIES}}}": "0x600",
}
UP, HEARTBEAT, IN_SYNC, STALLED, CONTESTED, FAILING, STOPPED, SUSPENDED, PROBLEMS, *_ = WELL
ABSENT, STALE = list(WELL)[-2:]
DRIFTS = f'pf_agent_drifts_total{{{SERIES},parameter="mynetworks"}}'


@pytest.mark.parametrize(
    ("changed", "minutes", "alerts"),
    [
        ({}, 599, []),
        ({UP: "1x10 0x20"}, 12, []),
        ({UP: "1x10 0x20"}, 17, ["PfAgentGone"]),
        ({HEARTBEAT: "600x60"}, 12, []),
        ({HEARTBEAT: "600x60"}, 20, ["PfAgentTextfileStale"]),
        ({IN_SYNC: "0x60"}, 3, []),
        ({IN_SYNC: "0x60"}, 6, ["PfAgentNotInSync"]),
        ({IN_SYNC: "0x600", SUSPENDED: "1x600"}, 60, []),
        ({IN_SYNC: "0x600", SUSPENDED: "1x600"}, 500, ["PfAgentSuspendedLong"]),
        ({STALLED: "1x60", IN_SYNC: "0x60"}, 6, ["PfAgentNotInSync", "PfAgentStalled"]),
        ({CONTESTED: "0x5 1x60"}, 7, ["PfAgentContested"]),
        ({FAILING: "0x5 1x60"}, 7, []),
        ({FAILING: "0x5 1x60", IN_SYNC: "1x5 0x60"}, 9, ["PfAgentFailing"]),
        ({STOPPED: "0x5 1x60"}, 7, []),
        ({STOPPED: "0x5 1x60", IN_SYNC: "1x5 0x60"}, 9, ["PfAgentPostfixStopped"]),
        ({PROBLEMS: "2x60"}, 6, ["PfAgentConfigurationProblem"]),
        ({ABSENT: "2x60"}, 3, []),
        ({ABSENT: "2x60"}, 6, ["PfAgentReferenceAbsent"]),
        ({STALE: "1x60"}, 3, []),
        ({STALE: "1x60"}, 6, ["PfAgentTableStale"]),
        # The first drift of a parameter is a series that was not there before.
        ({DRIFTS: "_x30 1x60"}, 35, ["PfAgentDrift"]),
        ({DRIFTS: "_x30 1x60"}, 80, []),
        ({DRIFTS: "1x40 2x60"}, 45, ["PfAgentDrift"]),
        # The agent was started anew, and has seen no drift since.
        ({DRIFTS: "7x40 _x60"}, 60, []),
    ],
)
def test_alerts(
    promtool: str, tmp_path: Path, changed: dict[str, str], minutes: int, alerts: list[str]
) -> None:
    series = [{"series": k, "values": v} for k, v in {**WELL, **changed}.items()]
    queries = [
        {
            "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)',
            "eval_time": f"{minutes}m",
            "exp_samples": [{"labels": "{}", "value": int(alert in alerts)}],
        }
        for alert in ALERTS
    ]
    document = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": queries}],
    }
    path = tmp_path / "test.yml"
    path.write_text(json.dumps(document))
    run([promtool, "test", "rules", str(path)])


def test_every_alert_says_what_and_what_to_do() -> None:
    text = RULES.read_text()
    assert len(ALERTS) == len(set(ALERTS)) == 12
    assert text.count("summary:") == text.count("description:") == len(ALERTS)
