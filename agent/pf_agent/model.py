"""The values that the agent thinks in: frozen dataclasses and enums, no effect and no decision.

Besides them only what several rooms share and no room owns: two types of what is handed about, and
a constant or two that belong to a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import NamedTuple


@dataclass(frozen=True)
class Place:
    """Where in a configuration file something stands; `line` counts from 1, None when unknown."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


# The six characters that Postfix takes for white space (isspace(3) in the C locale).
BLANKS = " \t\n\v\f\r"


@dataclass(frozen=True)
class Parameter:
    """A parameter as Postfix reads it; bytes that are not UTF-8 are kept by surrogateescape."""

    name: str
    value: str
    line: int


class Unmanaged(str, Enum):
    """What becomes of a parameter in main.cf that the desired state does not name."""

    KEEP = "keep"
    REPORT = "report"
    COMMENT_OUT = "comment_out"


@dataclass(frozen=True)
class DesiredState:
    """What main.cf must say.

    `ignore` holds the patterns (fnmatch(3)) of parameters that `unmanaged` does not touch.
    `instances` are the other Postfix instances by name, each with a `config_directory` and a
    `place` in the configuration (None for the default instance), and without instances.
    """

    settings: Mapping[str, str]
    use_default: frozenset[str]
    template: str | None = None
    provenance: Mapping[str, Place] = field(default_factory=dict)
    unmanaged: Unmanaged = Unmanaged.KEEP
    ignore: tuple[str, ...] = ()
    config_directory: str | None = None
    instances: Mapping[str, DesiredState] = field(default_factory=dict)
    place: Place | None = None

    def parameters(self) -> frozenset[str]:
        """Every name that the desired state speaks of."""
        return self.use_default.union(self.settings)

    def says_the_same(self, other: DesiredState | None) -> bool:
        """Whether both ask for the same, wherever in the files that stands."""
        return other is not None and self._said() == other._said()

    def _said(self) -> DesiredState:
        return replace(self, provenance={}, place=None, instances={})


class Mode(str, Enum):
    """What the agent may do about drift."""

    ENFORCE = "enforce"
    OBSERVE = "observe"


class ActivationWay(str, Enum):
    """How Postfix is made to obey a corrected main.cf."""

    RESTART = "restart"
    AUTO = "auto"


@dataclass(frozen=True)
class Window:
    """When Postfix may be restarted, each day: seconds since midnight, local time.

    Where it opens after it closes, midnight lies inside.
    """

    opens: float
    closes: float


@dataclass(frozen=True)
class AgentOptions:
    """agent.toml: how the agent behaves on this host. Times in seconds.

    `window` None: at any time. `textfile` and `listen` are where metrics go, `unit` is what is
    started to tell somebody; empty: nowhere, nothing.
    """

    mode: Mode = Mode.ENFORCE
    way: ActivationWay = ActivationWay.RESTART
    window: Window | None = None
    settle_seconds: float = 0.2
    look_every_seconds: float = 300.0
    textfile: str = ""
    listen: str = ""
    unit: str = ""


# Whoever means longer than this means for ever, and can say so.
MOST_SUSPENDED_SECONDS = 366 * 86400


@dataclass(frozen=True)
class Suspension:
    """Somebody told the agent to leave main.cf alone; `until` None: until he says otherwise.

    Moments in seconds since the epoch.
    """

    since: float
    until: float | None
    who: str
    reason: str
    resumed_by: str = ""


class FileKind(str, Enum):
    """What stands under main.cf's name."""

    REGULAR = "regular file"
    SYMLINK = "symbolic link"
    ABSENT = "absent"


@dataclass(frozen=True)
class ActualState:
    """main.cf as one look found it: the text and what stands around it.

    `text` is None where there is nothing to read. `written_at` is when it came to be so,
    `modified_at` the date that Postfix looks at, in seconds since the epoch. `is_open`: somebody
    has it open for writing, so it may be half written.
    `refused` says why what stands there is not taken for main.cf's text.
    """

    text: bytes | None
    kind: FileKind
    owner: int = 0
    group: int = 0
    mode: int = 0o644
    written_at: float = 0.0
    is_open: bool = False
    refused: str = ""
    modified_at: float = 0.0


@dataclass(frozen=True)
class Displaced:
    """What stood under main.cf's name when the new text took its place, and the way it was done.

    `way` is empty for an atomic exchange, else it says what had to be done instead. `is_open`:
    somebody still writes to it.
    """

    text: bytes | None
    way: str = ""
    is_open: bool = False


@dataclass(frozen=True)
class Late:
    """What somebody wrote who had main.cf open when it was exchanged, now that he has closed it.

    `is_newest`: nobody has changed main.cf since that exchange. `path` is where it lies.
    """

    text: bytes
    is_newest: bool
    path: str = field(default="", compare=False)


@dataclass(frozen=True)
class Fault:
    """A value that a program of Postfix refuses when it reads it, in Postfix's words."""

    parameter: str
    reason: str


class Presence(str, Enum):
    """Whether what a value names is there. Only proven absence is one."""

    EXISTS = "exists"
    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Reference:
    """Something that the value of a parameter names: a table, a transport, a restriction.

    `place` is where it is, or where it was looked for; `why` says what an absence is, and the way
    out. `service` is that of master.cf whose option it is, "" for main.cf's own.
    """

    parameter: str
    kind: str
    name: str
    presence: Presence
    place: str = ""
    why: str = ""
    service: str = ""


@dataclass(frozen=True)
class Judgement:
    """What is to be said of a candidate. `fatal` is empty where Postfix's own programs would run.

    `faults` are values that no command of Postfix reads before the daemon that owns them starts,
    `absent` what values name and is proven not to be there.
    """

    fatal: str = ""
    warnings: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    absent: tuple[Reference, ...] = ()


@dataclass(frozen=True)
class Greeting:
    """Where Postfix must greet, and the text after `220 `, white space squeezed, "" for any.

        `proxy`: it waits for the PROXY protocol first. `tls`: it takes mail inside TLS alone, and
    `wrapped`: TLS comes before the greeting. `stranger` is an address of this host that mynetworks
    does not hold, "" where there is none, or where `address` is none of mynetworks itself.
    """

    address: str
    port: int
    banner: str
    proxy: bool = False
    tls: bool = False
    stranger: str = ""
    wrapped: bool = False


@dataclass(frozen=True)
class MailLog:
    """Where an instance of Postfix logs: the file, "" for syslog, and what its programs' names
    begin with; and who they run as, but root (postconf(5) maillog_file, syslog_name, mail_owner).
    """

    path: str = ""
    name: str = "postfix"
    owner: str = "postfix"


@dataclass(frozen=True)
class Heard:
    """What Postfix answered at its port. `trouble` says why it does not serve, "" where it does.

    `code` and `words` are the reply that shows it, 0 and "" where no reply came. `greeted` tells
    whether any reply came in place of a greeting, a 421 or a 554 too: somebody speaks SMTP there.
    """

    trouble: str = ""
    greeted: bool = True
    code: int = 0
    words: str = ""


class DriftKind(str, Enum):
    """In which way main.cf departs from the desired state."""

    CHANGED = "changed"
    MISSING = "missing"
    UNWANTED = "unwanted"
    UNMANAGED = "unmanaged"
    DUPLICATED = "duplicated"
    UNREADABLE = "unreadable"
    MODE = "mode"
    ABSENT_FILE = "absent-file"


@dataclass(frozen=True)
class Drift:
    """One difference. `parameter` is empty where the file itself is what differs.

    `is_wished`: nobody wrote main.cf, the desired state changed.
    """

    parameter: str
    kind: DriftKind
    expected: str | None
    actual: str | None
    line: int | None = None
    is_wished: bool = False


class Reason(str, Enum):
    """Why to look again. None of them says what will be found."""

    START = "start"
    TIMER = "timer"
    RELOAD = "reload"
    MAIN_CF = "main.cf"
    MAIN_CF_OPEN = "main.cf is being written"
    CONFIGURATION = "configuration"
    ALIASES = "aliases"
    JOB = "job"
    NEWALIASES = "newaliases"
    PROBE = "probe"
    BUS = "bus"
    STOP = "stop"
    NAMED = "what a value names"


@dataclass(frozen=True)
class Trigger:
    """A reason to look again; `detail` is for the reader of a log.

    `instance` is the Postfix instance that it concerns, None where it concerns all of them.
    """

    reason: Reason
    detail: str = ""
    instance: str | None = None


@dataclass(frozen=True)
class Exposure:
    """How long a drift was live, as points in time (seconds since the epoch)."""

    written_at: float
    seen_at: float
    corrected_at: float | None = None
    activated_at: float | None = None


@dataclass(frozen=True)
class PendingActivation:
    """main.cf was changed in `cycle`, and Postfix was not yet seen to serve with it.

    `wished` are those of `parameters` that the desired state asks for in another way than the one
    that Postfix was last seen to serve with; `before` is what the port answered before main.cf was
    changed for them, None where it could not be asked. `live`: an idle process of Postfix may have
    drifted values. `rolled_back`: the change took back what Postfix did not come up with. `failed`:
    Postfix was seen not to come up with that one either, so no text is to blame. It is on disk: the
    next process neither hurries to restart a Postfix that does not come up, nor lays what was there
    before to a wish.
    """

    cycle: int
    parameters: tuple[str, ...]
    exposure: Exposure
    rolled_back: bool = False
    failed: bool = False
    wished: tuple[str, ...] = ()
    before: Heard | None = None
    live: bool = False

    def is_drift(self) -> bool:
        """Whether there is more to it than a wish, which is held up by no contest.

        Where no parameter is named, Postfix was down, or the marker was damaged.
        """
        return not self.parameters or not set(self.parameters) <= set(self.wished)


class Standing(str, Enum):
    """How Postfix stands after a start: it serves; it does not, for a cause outside main.cf as far
    as is known; it does not, and what was newly asked for is to blame; nobody is there."""

    SERVED = "served"
    FAILING = "failing"
    REJECTED = "rejected"
    DOWN = "down"


@dataclass(frozen=True)
class Activated:
    """Postfix was seen to serve with main.cf as `pending` left it; None: nothing was to be done."""

    pending: PendingActivation | None
    at: float


@dataclass(frozen=True)
class NotUp:
    """Postfix was seen not to serve with main.cf as `pending` left it; None: nothing was corrected.

    `tried` is the text of main.cf that this is said of, `log` the end of what Postfix logged,
    `fatal` the lines that say why a program of it ended.
    """

    pending: PendingActivation | None
    standing: Standing
    reason: str
    tried: bytes | None
    log: tuple[str, ...] = ()
    fatal: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rejected:
    """A desired state that is not in force: Postfix refuses it, or did not come up with it.

    It is known by what it says. `parameters` are those that it asks for in another way than the one
    in force. `missing` are the files and addresses that were not there for it. `is_judged`: its
    text was refused before Postfix was started with it.
    """

    says: DesiredState
    reason: str
    parameters: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    is_judged: bool = False


@dataclass(frozen=True)
class Wishes:
    """What was asked for of one main.cf, and what became of it.

    Postfix was last seen to serve with `served`; main.cf was last made to say `applied`. `before`
    has, for each parameter in which the two differ, its lines before the first wish for it, None
    where it had none. `rejected` is what the files ask for and is not in force.
    """

    served: DesiredState | None = None
    applied: DesiredState | None = None
    before: Mapping[str, str | None] = field(default_factory=dict)
    rejected: Rejected | None = None

    def rejects(self, asked: DesiredState | None) -> bool:
        """Whether `asked` is what was rejected."""
        return self.rejected is not None and self.rejected.says.says_the_same(asked)

    def tried_again(self) -> Wishes:
        """The same without what was rejected."""
        return replace(self, rejected=None)

    def once_served(self) -> Wishes:
        """What they are once Postfix was seen to serve with what was applied."""
        rejected = None if self.rejects(self.applied) else self.rejected
        return Wishes(self.applied, self.applied, {}, rejected)


class Result(str, Enum):
    """How a cycle ended."""

    IN_SYNC = "in-sync"
    CORRECTED = "corrected"
    OBSERVED = "observed"
    FAILED = "failed"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Outcome:
    """One reconcile cycle; `cycle` is None for a look that found nothing to record.

    `reported` is what stands in main.cf besides, is told of, and left alone.
    """

    result: Result
    summary: str
    cycle: int | None = None
    drift: tuple[Drift, ...] = ()
    diff: str = ""
    exposure: Exposure | None = None
    reported: tuple[Drift, ...] = ()


@dataclass(frozen=True)
class Applied:
    """What `apply` did for one instance; `failure` says why its activation failed, if it did."""

    instance: str
    outcome: Outcome
    failure: str


class Event(str, Enum):
    """What a journal record says happened.

    DESIGN's names, and one more: without CORRECTION_FAILED a main.cf that could not be corrected
    (immutable, disk full) would have no event to be found by.
    """

    STARTED = "started"
    DRIFT_DETECTED = "drift-detected"
    DRIFT_CORRECTED = "drift-corrected"
    CORRECTION_FAILED = "correction-failed"
    ACTIVATED = "activated"
    ACTIVATION_FAILED = "activation-failed"
    ROLLED_BACK = "rolled-back"
    CONFIG_REJECTED = "config-rejected"
    REFERENCE_ABSENT = "reference-absent"
    CONTESTED = "contested"
    SUSPENDED = "suspended"
    RESUMED = "resumed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Record:
    """One journal record: the event, the sentence for people, the fields for programs."""

    event: Event
    message: str
    cycle: int | None = None
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Contest:
    """What is contested, the most contested first; that one drifted `count` times `since` then.

    `since` in seconds since the epoch. Restarts shall be `apart` seconds from each other at least.
    """

    parameters: tuple[str, ...]
    count: int
    since: float
    apart: float


# Puts a record in the journal, and tells whoever else is to be told.
Emit = Callable[[Record], None]
# The time in seconds: of day since the epoch, or ticks since any moment.
Clock = Callable[[], float]


class Stamp(NamedTuple):
    """Which file stands at a path, and when it was written and changed last (nanoseconds)."""

    modified: int
    changed: int
    inode: int
    size: int


class UnitPhase(str, Enum):
    """A unit's ActiveState (org.freedesktop.systemd1(5)) as far as verifying needs to tell."""

    UP = "up"
    CHANGING = "changing"
    DOWN = "down"
    FAILED = "failed"


@dataclass(frozen=True)
class UnitState:
    """One systemd unit as D-Bus shows it. `invocation` changes with every start.

    `changed_at` is when it last started, stopped or was reloaded, `began_at` when its last start
    began, in seconds since the epoch. `has_job`: systemd is about to do so. `may_start`: nobody
    disabled or masked it. `is_met`: what its last start asked for with Condition...= was there.
    """

    name: str
    phase: UnitPhase
    result: str
    invocation: str
    changed_at: float = 0.0
    began_at: float = 0.0
    has_job: bool = False
    may_start: bool = True
    is_met: bool = True


@dataclass(frozen=True)
class Package:
    """The package postfix as dpkg has it, and whether apt or dpkg is at work.

    `state` is dpkg-query(1)'s db:Status-Status, "" where there is no such package.
    """

    is_locked: bool = False
    state: str = "installed"

    def is_whole(self) -> bool:
        """Whether it is installed to the end: triggers that are left do not keep it from running.

        Where there is none, Postfix came by another way, and dpkg has no say.
        """
        return self.state in ("installed", "triggers-pending", "triggers-awaited", "")


class Phase(str, Enum):
    """What the daemon is about."""

    STARTING = "starting"
    IN_SYNC = "in-sync"
    ACTIVATING = "activating"
    OBSERVING = "observing"
    SUSPENDED = "suspended"
    STALLED = "stalled"
    CONTESTED = "contested"
    FAILING = "failing"
    STOPPED = "stopped"


# The detail of an agent that observes and finds no drift.
IN_SYNC_DETAIL = "in sync"


@dataclass(frozen=True)
class LastDrift:
    """The newest drift, as `status` tells of it. Durations in seconds."""

    cycle: int
    at: float
    parameters: tuple[str, ...]
    corrected_seconds: float | None = None
    up_seconds: float | None = None


@dataclass(frozen=True)
class Status:
    """What `status`, STATUS= and status.json say; replaced whole, never changed.

    It is the default instance's, with the agent's own; `instances` are the others by name.
    `absent` says of each thing that main.cf's values name and that is not there what that is.
    """

    phase: Phase
    since: float
    parameters: int = 0
    detail: str = ""
    problems: tuple[str, ...] = ()
    last: LastDrift | None = None
    next_look: float | None = None
    version: str = ""
    pid: int = 0
    instances: Mapping[str, Status] = field(default_factory=dict)
    suspension: Suspension | None = None
    absent: tuple[str, ...] = ()

    def is_in_sync(self) -> bool:
        """Whether main.cf is as desired and Postfix was seen to run with it, as far as is known.

        An agent that only observes says so where it finds nothing.
        """
        finds_nothing = self.phase is Phase.OBSERVING and self.detail == IN_SYNC_DETAIL
        return self.phase is Phase.IN_SYNC or finds_nothing
