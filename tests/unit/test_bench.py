"""The bench: its statistics, every row and peer in the table, and peers that ask for the same."""

from __future__ import annotations

import pytest
from tomli import loads

from tests.bench import figures, peers
from tests.bench.figures import GROUPS, PEERS, PF_AGENT, RESTART, ROWS, SCRIPT, Results, Samples
from tests.bench.measure import Measure, concerns
from tests.bench.plot import script
from tests.checkout import CHECKOUT

# Every figure that is promised, by its sample.
PROMISED = [
    *("right", "greets", "during", "storm", "storm-restarts", "look", "idle-wakeups", "idle-cpu"),
    *("opened-wakeups", "opened-cpu", "pss", "start", "status", "look-1000", "look-100000"),
    *("instances-pss", "instances-processes"),
]
BOUNDED = {*PROMISED} - {"look-100000"}
RESULTS: Results = {
    "right": {PF_AGENT: [0.006, 0.004, 0.005], SCRIPT: [0.009, 0.01, 0.011], "monit": [0.5, None]},
    "greets": {PF_AGENT: [0.7], SCRIPT: [3.07]},
    "restart": {RESTART: [0.66]},
    "pss": {PF_AGENT: [24 * 1024 + 1]},
}


@pytest.mark.parametrize(
    ("values", "middle"), [([3.0], 3.0), ([9.0, 1.0, 2.0], 2.0), ([4.0, 1.0, 2.0, 3.0], 2.5)]
)
def test_the_median_is_the_middle_one(values: list[float], middle: float) -> None:
    assert figures.median(values) == middle


def test_a_percentile_lies_between_its_neighbours() -> None:
    hundred = [float(number) for number in range(100, -1, -1)]
    assert figures.p99(hundred) == 99.0
    assert figures.percentile(hundred, 0) == 0.0
    assert figures.percentile(hundred, 1) == 100.0
    assert figures.p99([1.0, 2.0]) == pytest.approx(1.99)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00042, "0.42 ms"),
        (0.0123, "12.3 ms"),
        (0.6401, "640 ms"),
        (3.074, "3.07 s"),
        (240, "240 s"),
    ],
)
def test_a_time_has_three_digits(value: float, text: str) -> None:
    assert figures.seconds(value) == text


def test_every_figure_that_is_promised_is_a_row() -> None:
    samples = {row.sample for row in ROWS}
    assert samples >= {*PROMISED}
    bounded = {row.sample for row in ROWS if row.most(complete()) is not None}
    assert bounded >= BOUNDED
    assert [row.of for row in ROWS if row.sample == "right"] == [figures.median, figures.p99]


def test_every_group_of_rows_is_measured() -> None:
    everybody = (peers.AGENT, peers.ALONE, *peers.ALL)
    concerned = {g: [each.name for each in everybody if concerns(g, each)] for g in GROUPS}
    assert all(callable(getattr(Measure, group)) for group in GROUPS)
    assert concerned.pop("restart") == [RESTART]
    assert all(names[0] == PF_AGENT for names in concerned.values())
    assert concerned["correct"] == [PF_AGENT, *PEERS]
    assert concerned["during"] == [peer.name for peer in everybody if peer.units]


def complete() -> Results:
    everybody = [PF_AGENT, RESTART, *PEERS]
    once: Samples = [1.0]
    return {row.sample: dict.fromkeys(everybody, once) for row in ROWS}


def test_the_table_has_a_line_for_each_row_and_a_column_for_each_peer() -> None:
    head, rule, *lines = figures.markdown(complete()).splitlines()
    assert [cell.strip() for cell in head.strip("|").split("|")][2:] == [PF_AGENT, *PEERS.values()]
    assert len(lines) == len(ROWS)
    assert {line.count("|") for line in (head, rule, *lines)} == {len(PEERS) + 4}


def test_what_pf_agent_must_reach_comes_from_the_same_run() -> None:
    right, p99, greets, pss = [
        line for line in figures.markdown(RESULTS).splitlines()[2:] if "alone ->" not in line
    ]
    assert "| 0.5 x the script: 5 ms | 5 ms | 10 ms |" in right
    assert "| 2 x the script: 20 ms | 5.98 ms | 11 ms |" in p99
    assert "| 1.05 x the restart job alone: 693 ms | **700 ms** | 3.07 s |" in greets
    assert "| 24.0 MiB | **24.0 MiB** |" in pss
    titles = ["drift written -> Postfix greets again, right, median", "memory at rest (PSS)"]
    assert figures.misses(RESULTS) == titles


def test_a_drift_that_was_never_corrected_is_no_figure() -> None:
    assert "| never, 1 of 2 times |" in figures.markdown(RESULTS)
    assert figures.misses({"storm": {PF_AGENT: [0.001, None]}}) == [
        row.title for row in ROWS if row.sample == "storm"
    ]


def test_the_plot_has_a_line_for_each_that_was_measured() -> None:
    text = script(RESULTS)
    assert text.count("<< END") == 3
    assert '$data0 using 1:2 with fsteps linewidth 4 dashtype 1 title "pf-agent"' in text
    assert "500.000 50.00" in text


def test_every_peer_has_a_folder_and_every_folder_a_peer() -> None:
    folders = {path.name for path in peers.FOLDER.iterdir()}
    assert folders == {peer.name for peer in peers.ALL} == {*PEERS}


@pytest.mark.parametrize("group", peers.OTHERS)
def test_what_is_not_about_main_cf_is_done_by_the_peers_that_can(group: str) -> None:
    found = [peer.name for peer in peers.OTHERS[group]]
    assert found[:2] == [PF_AGENT, SCRIPT]
    assert {*found} <= {PF_AGENT, *PEERS}
    assert [peers.of_group(group, peer).name for peer in peers.ALL if concerns(group, peer)] == [
        name for name in PEERS if name in found
    ]


@pytest.mark.parametrize(
    "peer",
    [*peers.ALL, *(peer for each in peers.OTHERS.values() for peer in each if peer.name in PEERS)],
    ids=lambda peer: "-".join([peer.name, *peer.units]),
)
def test_what_a_peer_starts_is_among_its_files(peer: peers.Peer) -> None:
    files = {path.name for path in (peers.FOLDER / peer.name).rglob("*")}
    assert {*peer.units} - {"monit.service"} <= files  # that one is the package's
    assert bool(peer.units) != bool(peer.command)


@pytest.mark.parametrize("name", ["postfix-desired", "postfix-desired-cool"])
def test_the_scripts_ask_for_what_the_desired_state_asks_for(name: str) -> None:
    (path,) = peers.FOLDER.rglob(name)
    text = path.read_text()
    wanted = loads((CHECKOUT / "etc/desired.toml").read_text())
    for parameter, value in wanted["settings"].items():
        shown = {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value
        shown = " ".join(shown) if isinstance(shown, list) else shown
        assert f"'{parameter} = {shown}'" in text
    for parameter in wanted["use_default"]:
        assert parameter in text.partition("postconf -#")[2]


def test_the_scripts_can_be_run() -> None:
    scripts = list(peers.FOLDER.rglob("sbin/*"))
    assert len(scripts) == 5
    assert all(path.stat().st_mode & 0o111 for path in scripts)
