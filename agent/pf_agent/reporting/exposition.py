"""Prometheus's two text formats: from families of samples to the scraped text. Pure.

Our own writer. prometheus_client was tried instead, in the versions of Debian and Ubuntu (0.9.0,
0.16, 0.19, 0.21): a collector over our families makes it write the same samples. But the library is
an HTTP client and server with TLS, and imports all of that. Since 0.10 it needs `ssl`, which the
daemon does not load (daemon/imports.py). With it, a process of 24 MiB takes 4.0 MiB more, a process
of root's that speaks no TLS has libssl and libcrypto loaded, and the import takes 0.1 s, in which
drift would wait, at the moment that agent.toml asks for metrics. It writes 1.0 and 1.80000001e+09
instead of 1 and 1800000010.0, for scripts that read the textfile; 0.9.0 calls its OpenMetrics
0.0.1. And a server that is upgraded without recommended packages would lose its metrics.

Both are published formats: text 0.0.4, read by node_exporter's textfile collector and every
Prometheus, and OpenMetrics 1.0, which differs by `# EOF`, by a type `info`, and by naming a
counter's family without its `_total`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

Labels = Mapping[str, str]


class Kind(str, Enum):
    """How Prometheus may use a family's samples."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


@dataclass(frozen=True)
class Sample:
    """One value; `suffix` is what a histogram's samples add to the family's name."""

    value: float
    labels: Labels = field(default_factory=dict)
    suffix: str = ""


@dataclass(frozen=True)
class Family:
    """All samples of one name. A counter's name ends in `_total`, an info's in `_info`."""

    name: str
    kind: Kind
    help: str
    samples: tuple[Sample, ...]


class Histogram:
    """How many observations fell below each of some bounds (seconds, ascending)."""

    def __init__(self, *bounds: float) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self.last: float | None = None

    def observe(self, seconds: float) -> None:
        """Count one observation; a negative one, after the clock was set back, counts as 0."""
        self.last = max(0.0, seconds)
        self._counts[sum(bound < self.last for bound in self._bounds)] += 1
        self._sum += self.last

    def samples(self, labels: Labels) -> Iterator[Sample]:
        """Yield the buckets, each with all observations below its bound, then sum and count."""
        below = 0
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            below += count
            yield Sample(below, {**labels, "le": _number(float(bound))}, "_bucket")
        yield Sample(self._sum, labels, "_sum")
        yield Sample(below, labels, "_count")


def text_of(families: Iterable[Family], open_metrics: bool = False) -> str:
    """Return the families as text, without those that have no samples."""
    lines = [line for family in families for line in _lines(family, open_metrics)]
    if open_metrics:
        lines.append("# EOF")
    return "".join(f"{line}\n" for line in lines)


def _lines(family: Family, open_metrics: bool) -> Iterator[str]:
    if not family.samples:
        return
    name, kind = family.name, family.kind
    if open_metrics and kind in (Kind.COUNTER, Kind.INFO):
        name = name.rpartition("_")[0]
    elif kind is Kind.INFO:
        kind = Kind.GAUGE
    yield f"# HELP {name} {_escaped(family.help)}"
    yield f"# TYPE {name} {kind.value}"
    for sample in family.samples:
        labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in sample.labels.items())
        braces = f"{{{labels}}}" if labels else ""
        yield f"{family.name}{sample.suffix}{braces} {_number(sample.value)}"


def _escaped(text: str) -> str:
    """Return a label's value, whatever bytes of main.cf it quotes."""
    readable = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return readable.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    return "+Inf" if value == float("inf") else repr(value)
