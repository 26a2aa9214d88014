"""What the agent did since it started, counted from its records, as families of samples: pure.

Everything starts at 0 with the process; Prometheus handles resets. No label may have an unlimited
number of values: parameters beyond `MOST_PARAMETERS` are counted as "other", since a program that
may write main.cf can also make up names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from pf_agent import names
from pf_agent.model import Event, Phase, Record, Status
from pf_agent.reporting.exposition import Family, Histogram, Kind, Sample
from pf_agent.words.fields import moment_in

MOST_PARAMETERS = 200
OTHER = "other"
_FILE = "main.cf"

# Prometheus itself gives every series a label `instance`: the machine.
_INSTANCE = "postfix_instance"

_CORRECTED = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0)
_SERVED = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
_FAILURES = (
    *(Event.CORRECTION_FAILED, Event.ACTIVATION_FAILED),
    *(Event.ROLLED_BACK, Event.CONFIG_REJECTED, Event.TABLE_STALE),
)


@dataclass
class _Account:
    """The counts of one Postfix instance. Durations in seconds, times since the epoch."""

    drifts: dict[str, int] = field(default_factory=dict)
    events: dict[Event, int] = field(default_factory=dict)
    corrected: Histogram = field(default_factory=lambda: Histogram(*_CORRECTED))
    served: Histogram = field(default_factory=lambda: Histogram(*_SERVED))
    exposed: float = 0.0
    exposed_since: float | None = None
    exposed_most: float = 0.0

    def note(self, record: Record) -> None:
        event, fields = record.event, record.fields
        self.events[event] = self.events.get(event, 0) + 1
        written = moment_in(fields, names.FIELD_WRITTEN_AT)
        if event is Event.DRIFT_DETECTED:
            if names.FIELD_KIND in fields:
                whole = fields.get(names.FIELD_TABLE) or _FILE
                self._count_drift(fields.get(names.FIELD_PARAMETER) or whole)
            elif written is not None:
                # Only the record that sums up a cycle, and not one of drift that is only reported.
                self.exposed_since = min(written, self.exposed_since or written)
        elif event is Event.DRIFT_CORRECTED:
            _observe(self.corrected, written, moment_in(fields, names.FIELD_CORRECTED_AT))
        elif event is Event.ACTIVATED:
            activated = moment_in(fields, names.FIELD_ACTIVATED_AT)
            _observe(self.served, written, activated)
            if activated is not None:
                self.end_exposure(activated)

    def _count_drift(self, parameter: str) -> None:
        if parameter not in self.drifts and len(self.drifts) >= MOST_PARAMETERS:
            parameter = OTHER
        self.drifts[parameter] = self.drifts.get(parameter, 0) + 1

    def end_exposure(self, at: float) -> None:
        """Note that nothing differs any more, and that Postfix runs with it."""
        self.exposed = self.exposure(at)
        self.exposed_since = None

    def exposure(self, now: float) -> float:
        """Return the total so far, including the part of a present exposure that is over.

        It never decreases, even if the clock was set back: Prometheus would take that for a restart
        from 0, and count everything twice.
        """
        since = now if self.exposed_since is None else self.exposed_since
        self.exposed_most = max(self.exposed_most, self.exposed + max(0.0, now - since))
        return self.exposed_most


class Tally:
    """The counts of all instances."""

    def __init__(self) -> None:
        self._accounts = {names.DEFAULT_INSTANCE: _Account()}

    def note(self, record: Record) -> None:
        """Count a record."""
        self._account(record.fields.get(names.FIELD_INSTANCE, names.DEFAULT_INSTANCE)).note(record)

    def families(
        self, status: Status, digests: Mapping[str, str], now: float
    ) -> tuple[Family, ...]:
        """Return everything as of `now`: the agent's status, and what it did.

        `digests` has a digest of the desired state for each instance that has one.
        """
        stands = {names.DEFAULT_INSTANCE: status, **status.instances}
        for instance, stand in stands.items():
            if stand.is_in_sync():
                self._account(instance).end_exposure(now)
        return (
            *_agent(status, now),
            *self._state(stands, digests),
            *self._counters(now),
            *self._durations(),
        )

    def last_words(self, version: str) -> tuple[Family, ...]:
        """Return what stays in the file when the agent stops: that it no longer looks."""
        return (_up(0), _build(version))

    def _account(self, instance: str) -> _Account:
        return self._accounts.setdefault(instance, _Account())

    def _state(
        self, stands: Mapping[str, Status], digests: Mapping[str, str]
    ) -> tuple[Family, ...]:
        in_sync = [
            Sample(int(self._is_in_sync(name, stand)), {_INSTANCE: name})
            for name, stand in stands.items()
        ]
        phases = [
            Sample(int(stand.phase is phase), {_INSTANCE: name, "phase": phase.value})
            for name, stand in stands.items()
            for phase in Phase
        ]
        asked = [Sample(stand.parameters, {_INSTANCE: name}) for name, stand in stands.items()]
        infos = [Sample(1, {_INSTANCE: name, "digest": found}) for name, found in digests.items()]
        return (
            _gauge(
                "in_sync",
                "1 if main.cf is as desired and Postfix was seen to run with it.",
                in_sync,
            ),
            _gauge(
                "phase",
                "1 for the phase that the agent is in: in-sync, stalled, contested.",
                phases,
            ),
            _gauge("desired_parameters", "Parameters that the desired state names.", asked),
            *_missing(stands),
            Family(
                "pf_agent_desired_state_info",
                Kind.INFO,
                "Digest of the desired state in force, equal for equal desired states.",
                tuple(infos),
            ),
        )

    def _is_in_sync(self, instance: str, stand: Status) -> bool:
        if stand.phase in (Phase.SUSPENDED, Phase.CONTESTED):
            return self._account(instance).exposed_since is None
        return stand.is_in_sync()

    def _counters(self, now: float) -> tuple[Family, ...]:
        drifts = [
            Sample(count, {_INSTANCE: name, "parameter": parameter})
            for name, account in self._accounts.items()
            for parameter, count in account.drifts.items()
        ]
        failures = [
            Sample(account.events.get(event, 0), {_INSTANCE: name, "event": event.value})
            for name, account in self._accounts.items()
            for event in _FAILURES
        ]
        return (
            _counter("drifts", "Differences found, by parameter or table.", drifts),
            self._count("corrections", "Times that main.cf was corrected.", Event.DRIFT_CORRECTED),
            self._count(
                "activations",
                "Times that Postfix was seen to run with a corrected main.cf or alias file.",
                Event.ACTIVATED,
            ),
            self._count(
                "table_rebuilds", "Times that an indexed table was rebuilt.", Event.TABLE_REBUILT
            ),
            self._count(
                "contests", "Times that another program began to undo corrections.", Event.CONTESTED
            ),
            _counter("failures", "Failures, by journal event.", failures),
            _counter(
                "exposure_seconds",
                "Seconds from drift being written until Postfix ran without it.",
                self._each(lambda account: account.exposure(now)),
            ),
        )

    def _durations(self) -> tuple[Family, ...]:
        corrected = "from drift being written until main.cf was correct."
        served = "from drift being written until Postfix was seen to serve without it."
        return (
            self._histogram("correction_seconds", f"Seconds {corrected}", lambda a: a.corrected),
            self._histogram("service_seconds", f"Seconds {served}", lambda a: a.served),
            _gauge(
                "last_correction_seconds",
                f"Of the last one: seconds {corrected}",
                self._each(lambda account: account.corrected.last),
            ),
            _gauge(
                "last_service_seconds",
                f"Of the last one: seconds {served}",
                self._each(lambda account: account.served.last),
            ),
        )

    def _count(self, name: str, text: str, event: Event) -> Family:
        return _counter(name, text, self._each(lambda account: account.events.get(event, 0)))

    def _histogram(self, name: str, text: str, of: Callable[[_Account], Histogram]) -> Family:
        samples = [
            sample
            for instance, account in self._accounts.items()
            for sample in of(account).samples({_INSTANCE: instance})
        ]
        return Family(f"pf_agent_{name}", Kind.HISTOGRAM, text, tuple(samples))

    def _each(self, value: Callable[[_Account], float | None]) -> list[Sample]:
        found = ((name, value(account)) for name, account in self._accounts.items())
        return [Sample(number, {_INSTANCE: name}) for name, number in found if number is not None]


def _agent(status: Status, now: float) -> tuple[Family, ...]:
    return (
        _up(1),
        _build(status.version),
        _gauge(
            "heartbeat_timestamp_seconds",
            "When the agent's loop last ran, in seconds since the epoch.",
            [Sample(round(now, 3))],
        ),
        _gauge(
            "suspended",
            "1 while the agent is suspended.",
            [Sample(int(status.suspension is not None))],
        ),
        _gauge(
            "configuration_problems",
            "Errors in the files of /etc/pf-agent.",
            [Sample(len(status.problems))],
        ),
    )


def _missing(stands: Mapping[str, Status]) -> tuple[Family, ...]:
    return (
        _gauge(
            "absent_references",
            "Tables, files, transports and other names in main.cf's values that do not exist.",
            [Sample(len(stand.absent), {_INSTANCE: name}) for name, stand in stands.items()],
        ),
        _gauge(
            "stale_tables",
            "Indexed tables whose index is not what their source says.",
            [Sample(len(stand.stale), {_INSTANCE: name}) for name, stand in stands.items()],
        ),
        _gauge(
            "table_stale",
            "1 for each indexed table, by its source, whose index is not what that says.",
            [
                Sample(1, {_INSTANCE: name, "table": path})
                for name, stand in stands.items()
                for path in stand.stale
            ],
        ),
    )


def _up(value: int) -> Family:
    return _gauge("up", "1 while the agent runs, 0 once it has stopped.", [Sample(value)])


def _build(version: str) -> Family:
    samples = (Sample(1, {"version": version}),)
    return Family("pf_agent_build_info", Kind.INFO, "The agent's version.", samples)


def _gauge(name: str, text: str, samples: Iterable[Sample]) -> Family:
    return Family(f"pf_agent_{name}", Kind.GAUGE, text, tuple(samples))


def _counter(name: str, text: str, samples: Iterable[Sample]) -> Family:
    return Family(f"pf_agent_{name}_total", Kind.COUNTER, text, tuple(samples))


def _observe(histogram: Histogram, written: float | None, ended: float | None) -> None:
    if written is not None and ended is not None:
        histogram.observe(ended - written)
