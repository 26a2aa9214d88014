"""The table of the bench: its rows and columns, the statistics, and pf-agent's targets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

PF_AGENT = "pf-agent"
SCRIPT = "script"
RESTART = "restart"

# The columns after pf-agent, and their headings.
PEERS: Mapping[str, str] = {
    SCRIPT: "script, run at once",
    "script-cool": "script that knows of the hot file",
    "inotifywait": "inotifywait",
    "path": "systemd .path",
    "monit": "monit, 1 s",
    "cfengine": "CFEngine in a loop",
    "puppet": "Puppet in a loop",
    "ansible": "Ansible, run at once",
    "salt": "Salt, run at once",
    "mgmt": "mgmt",
}

# By measurement and peer: seconds, counts, KiB. None: it never came.
Samples = Sequence[float | None]
Results = Mapping[str, Mapping[str, Samples]]


def median(values: Sequence[float]) -> float:
    """Return the middle value, or the mean of the two in the middle."""
    return percentile(values, 0.5)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which that share of the others lie, interpolated linearly."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    if ordered[low] == ordered[high]:
        return ordered[low]
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def p99(values: Sequence[float]) -> float:
    return percentile(values, 0.99)


def seconds(value: float) -> str:
    """Return three digits, in ms below a second."""
    if value >= 1:
        return f"{value:.3g} s" if value < 100 else f"{value:.0f} s"
    return f"{value * 1000:.3g} ms" if value * 1000 < 100 else f"{value * 1000:.0f} ms"


def percent(value: float) -> str:
    shown = value * 100
    return f"{shown:.0f} %" if shown >= 10 else f"{shown:.2g} %"


def mebibytes(kib: float) -> str:
    return f"{kib / 1024:.1f} MiB" if kib >= 1024 else f"{kib / 1024:.2f} MiB"


def count(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    `group` is what --only takes, `sample` the name in `Results`. `most` is pf-agent's limit, and
    `demand` what that was derived from in the same run.
    """

    group: str
    sample: str
    title: str
    of: Callable[[Sequence[float]], float] = median
    show: Callable[[float], str] = seconds
    most: Callable[[Results], float | None] = lambda _results: None
    demand: str = ""


def value(row: Row, results: Results, who: str) -> float | None:
    """Return the figure, None if it was not measured or one of the samples never came."""
    samples = results.get(row.sample, {}).get(who, ())
    came = [each for each in samples if each is not None]
    return row.of(came) if came and len(came) == len(samples) else None


def _times(factor: float, sample: str, who: str) -> Callable[[Results], float | None]:
    """Return a function for that many times another's median."""
    other = Row("", sample, "")

    def most(results: Results) -> float | None:
        found = value(other, results, who)
        return None if found is None else factor * found

    return most


def _limit(most: float) -> Callable[[Results], float]:
    return lambda _results: most


def _look_row(parameters: int) -> Row:
    title = f"a look that finds nothing, main.cf of 1 MB and {parameters:,} managed parameters"
    is_asked = parameters == 1_000
    return Row(
        "curve",
        f"look-{parameters}",
        title,
        most=_limit(0.060) if is_asked else lambda _results: None,
        demand="" if is_asked else "linear",
    )


CURVE = (25, 1_000, 3_000, 10_000, 30_000, 100_000)
# A script's correction takes a few milliseconds; "half" and "twice" refer to its median.
ROWS: Sequence[Row] = (
    Row(
        "correct",
        "right",
        "drift written -> main.cf right, median",
        most=_times(0.5, "right", SCRIPT),
        demand="0.5 x the script",
    ),
    Row(
        "correct",
        "right",
        "the same, 99th percentile",
        of=p99,
        most=_times(2.0, "right", SCRIPT),
        demand="2 x the script",
    ),
    Row("correct", "first", "the same, the first drift after the start, worst", of=max),
    Row(
        "fresh",
        "fresh",
        "drift with a text that was never judged -> main.cf right, median",
        most=_times(0.5, "right", SCRIPT),
        demand="0.5 x the script",
    ),
    Row(
        "fresh",
        "fresh",
        "the same, 99th percentile",
        of=p99,
        most=_times(2.0, "right", SCRIPT),
        demand="2 x the script",
    ),
    Row("services", "services-right", "drift in master.cf -> master.cf right, median"),
    Row("services", "services-right", "the same, 99th percentile", of=p99),
    Row(
        "services",
        "services-serves",
        "drift in master.cf -> port 587 serves right again, median",
    ),
    Row("tables", "tables-used", "source of a table edited -> Postfix uses the entry, median"),
    Row("tables", "tables-used", "the same, 99th percentile", of=p99),
    Row("large", "large-used", "the same with 100,000 entries, median"),
    Row(
        "large",
        "large-memory",
        "the same with 100,000 entries: memory at its peak (RSS)",
        of=max,
        show=mebibytes,
    ),
    Row("restart", "restart", "the restart job alone -> Postfix greets again, median"),
    Row(
        "correct",
        "greets",
        "drift written -> Postfix greets again, right, median",
        most=_times(1.05, "restart", RESTART),
        demand="1.05 x the restart job alone",
    ),
    Row(
        "during",
        "during",
        "drift written during a running restart -> main.cf right, median",
        most=_times(1.0, "right", PF_AGENT),
        demand="the same as in rest",
    ),
    Row(
        "storm",
        "storm",
        "200 drifts in 2 s: the last one -> main.cf right",
        most=_limit(0.020),
    ),
    Row(
        "storm",
        "storm-restarts",
        "200 drifts in 2 s: restarts of Postfix",
        of=max,
        show=count,
        most=_limit(2),
    ),
    Row(
        "look",
        "look",
        "a look that finds nothing, 25 parameters, 27 kB (`postconf -n` beside it)",
        most=_limit(0.001),
    ),
    Row("look", "turn", "the same in the daemon, with all that it does for each look, processor"),
    Row(
        "idle",
        "idle-wakeups",
        "idle: wake-ups a minute",
        show=count,
        most=_limit(6),
    ),
    Row("idle", "idle-cpu", "idle: processor", show=percent, most=_limit(0.0001)),
    Row(
        "opened",
        "opened-wakeups",
        "idle while main.cf is opened 5,000 times a second: wake-ups a minute",
        show=count,
        most=_times(1.0, "idle-wakeups", PF_AGENT),
        demand="as in rest",
    ),
    Row(
        "opened",
        "opened-cpu",
        "idle while main.cf is opened 5,000 times a second: processor",
        show=percent,
        most=_limit(0.0001),
    ),
    Row(
        "memory",
        "pss",
        "memory at rest (PSS)",
        show=mebibytes,
        most=_limit(24 * 1024),
    ),
    Row("start", "start", "start of the unit -> READY", most=_limit(0.250)),
    Row("status", "status", "`pf-agent status`", most=_limit(0.080)),
    *map(_look_row, CURVE),
    Row(
        "instances",
        "instances-pss",
        "100 instances: memory for each of them",
        show=mebibytes,
        most=_limit(0.2 * 1024),
    ),
    Row(
        "instances",
        "instances-processes",
        "100 instances: processes",
        of=max,
        show=count,
        most=_limit(1),
    ),
)
GROUPS = tuple(dict.fromkeys(row.group for row in ROWS))


def markdown(results: Results) -> str:
    """Return the table; a figure of pf-agent's that exceeds its limit is in bold."""
    peers = [name for name in PEERS if any(name in by for by in results.values())]
    head = ["figure", "at most", PF_AGENT, *(PEERS[name] for name in peers)]
    lines = [head, ["---"] * len(head)]
    lines += [_line(row, results, peers) for row in ROWS if row.sample in results]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def misses(results: Results) -> list[str]:
    """Return the titles of the rows in which pf-agent misses its target."""
    return [row.title for row in ROWS if _is_missed(row, results)]


def _line(row: Row, results: Results, peers: Sequence[str]) -> list[str]:
    most = row.most(results)
    shown = "" if most is None else row.show(most)
    # The job alone is no peer's figure: it is the least that all of them need.
    asked = ": ".join(filter(None, [row.demand, shown or _cell(row, results, RESTART)]))
    ours = _cell(row, results, PF_AGENT)
    if _is_missed(row, results):
        ours = f"**{ours}**"
    return [row.title, asked, ours, *(_cell(row, results, name) for name in peers)]


def _is_missed(row: Row, results: Results) -> bool:
    most, ours = row.most(results), value(row, results, PF_AGENT)
    measured = PF_AGENT in results.get(row.sample, {})
    return measured and most is not None and (ours is None or ours > most)


def _cell(row: Row, results: Results, who: str) -> str:
    if who not in results.get(row.sample, {}):
        return ""
    found = value(row, results, who)
    if found is not None:
        return row.show(found)
    samples = results[row.sample][who]
    lost = sum(each is None for each in samples)
    return f"never, {lost} of {len(samples)} times"
