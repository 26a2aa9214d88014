"""The agent's values: frozen dataclasses and enums, without effects or decisions.

Also the few things that several rooms share and none owns: two callable types, and some constants
that belong to a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import NamedTuple


@dataclass(frozen=True)
class Place:
    """Where in a configuration file something is; `line` counts from 1, None when unknown."""

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
    """What is done with a parameter in main.cf that the desired state does not name."""

    KEEP = "keep"
    REPORT = "report"
    COMMENT_OUT = "comment_out"


class DocumentKind(str, Enum):
    """Which of Postfix's files a document is, and so its grammar."""

    MAIN_CF = "main.cf"
    TABLE = "table"
    ALIASES = "aliases"
    MASTER_CF = "master.cf"


@dataclass(frozen=True)
class DesiredState:
    """What main.cf must say, or another document of the same host.

    `ignore` holds the patterns (fnmatch(3)) of parameters that `unmanaged` leaves alone.
    `instances` are the other Postfix instances by name, each with a `config_directory`, a `place`
    in the configuration (None for the default instance) and no instances of its own. `documents`
    are the instance's other files by name: `master.cf`, `hash:/etc/postfix/transport`. Of such a
    one, `document` is the name, and if it `is_secret`, its values are passwords.
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
    kind: DocumentKind = DocumentKind.MAIN_CF
    documents: Mapping[str, DesiredState] = field(default_factory=dict)
    document: str = ""
    is_secret: bool = False

    def parameters(self) -> frozenset[str]:
        """Every name that the desired state mentions."""
        return self.use_default.union(self.settings)

    def says_the_same(self, other: DesiredState | None) -> bool:
        """Whether both ask for the same, no matter where in the files."""
        return other is not None and self._said() == other._said()

    def as_of(self, other: DesiredState) -> DesiredState:
        """Return it as the state of the other one's document, which is not kept on disk with it."""
        return replace(self, document=other.document, is_secret=other.is_secret)

    def _said(self) -> DesiredState:
        others = replace(self, instances={}, documents={}, provenance={}, place=None)
        return replace(others, document="", is_secret=False)


class Mode(str, Enum):
    """What the agent may do about drift."""

    ENFORCE = "enforce"
    OBSERVE = "observe"


class ActivationWay(str, Enum):
    """How Postfix is made to use a corrected main.cf."""

    RESTART = "restart"
    AUTO = "auto"


@dataclass(frozen=True)
class Window:
    """When Postfix may be restarted, each day: seconds since midnight, local time.

    If it opens later than it closes, it spans midnight.
    """

    opens: float
    closes: float


class OnWarning(str, Enum):
    """What happens to a table if Postfix warns about its source."""

    KEEP = "keep"
    BUILD = "build"


@dataclass(frozen=True)
class TableRules:
    """How indexed tables are handled; `ignore` has patterns (fnmatch(3)) of sources."""

    rebuild: bool = True
    on_warning: OnWarning = OnWarning.KEEP
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True)
class AgentOptions:
    """agent.toml: how the agent behaves on this host. Times in seconds.

    `window` None: at any time. `textfile` and `listen` are where metrics are published, `unit` is
    started for notifications; empty: not at all.
    """

    mode: Mode = Mode.ENFORCE
    way: ActivationWay = ActivationWay.RESTART
    window: Window | None = None
    settle_seconds: float = 0.2
    look_every_seconds: float = 300.0
    textfile: str = ""
    listen: str = ""
    unit: str = ""
    tables: TableRules = TableRules()


# Anything longer means forever, which can be said as such.
MOST_SUSPENDED_SECONDS = 366 * 86400


@dataclass(frozen=True)
class Suspension:
    """The agent was told to leave main.cf alone; `until` None: until it is resumed.

    Moments in seconds since the epoch. `replaces` names the suspension in force before, "" for
    none.
    """

    since: float
    until: float | None
    who: str
    reason: str
    resumed_by: str = ""
    replaces: str = ""


class FileKind(str, Enum):
    """What kind of file is at main.cf's path."""

    REGULAR = "regular file"
    SYMLINK = "symbolic link"
    ABSENT = "absent"
    OTHER = "not a regular file"


class Attributes(NamedTuple):
    """Whose a file is, and its mode."""

    owner: int
    group: int
    mode: int

    def __str__(self) -> str:
        return f"owner {self.owner}:{self.group} mode {self.mode:04o}"


@dataclass(frozen=True)
class ActualState:
    """main.cf as one look found it: its text and its file.

    `text` is None if there is nothing to read. `written_at` is when the file got its present state,
    `modified_at` the modification time that Postfix looks at, both in seconds since the epoch.
    `is_open`: a process has it open for writing, so it may be half-written. `refused` says why what
    is there is not accepted as main.cf's text.
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
    """What was at main.cf's path when the new text took its place, and how it was replaced.

    `way` is empty for an atomic exchange, else it says what was done instead. `is_open`: a process
    is still writing to it.
    """

    text: bytes | None
    way: str = ""
    is_open: bool = False


@dataclass(frozen=True)
class Late:
    """What a writer that had main.cf open during the exchange wrote; it has closed it since.

    `is_newest`: main.cf has not changed since that exchange. `path` is where the text is.
    """

    text: bytes
    is_newest: bool
    path: str = field(default="", compare=False)


@dataclass(frozen=True)
class Fault:
    """A value that a program of Postfix refuses to read, in Postfix's words."""

    parameter: str
    reason: str


@dataclass(frozen=True)
class Listener:
    """A TCP port that a program listens on. `is_v6_only`: a `::` that takes no IPv4 as well."""

    address: str
    port: int
    is_v6_only: bool


class Presence(str, Enum):
    """Whether what a value names exists. Only proven absence is ABSENT."""

    EXISTS = "exists"
    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Reference:
    """Something that the value of a parameter names: a table, a transport, a restriction.

    `place` is where it is, or where it was looked for; `why` explains an absence and gives the
    remedy. `service` is the service of master.cf whose option it is, "" for main.cf itself.
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
    """The verdict on a candidate. `fatal` is empty if Postfix's own programs would run with it.

    `faults` are values that no command of Postfix reads before the daemon that uses them starts,
    `absent` what values name and is proven not to exist.
    """

    fatal: str = ""
    warnings: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    absent: tuple[Reference, ...] = ()


@dataclass(frozen=True)
class Greeting:
    """Where Postfix must greet, and the text after `220 `, white space squeezed, "" for any.

    `proxy`: it expects the PROXY protocol first. `tls`: it accepts mail inside TLS only; `wrapped`:
    TLS comes before the greeting. `stranger` is an address of this host outside mynetworks, "" if
    there is none, or if `address` itself is outside mynetworks. `starttls`, `auth` and
    `auth_in_tls`: whether EHLO's answer must offer STARTTLS, and AUTH before TLS and within it;
    None: it does not matter.
    """

    address: str
    port: int
    banner: str
    proxy: bool = False
    tls: bool = False
    stranger: str = ""
    wrapped: bool = False
    starttls: bool | None = None
    auth: bool | None = None
    auth_in_tls: bool | None = None


@dataclass(frozen=True)
class MailLog:
    """Where an instance of Postfix logs (postconf(5): maillog_file, syslog_name, mail_owner).

    The file, "" for syslog; what its programs' names begin with; and the user that they run as,
    apart from root.
    """

    path: str = ""
    name: str = "postfix"
    owner: str = "postfix"


@dataclass(frozen=True)
class Heard:
    """What Postfix answered at its port. `trouble` says why it does not serve, "" if it does.

    `code` and `words` are the reply that shows it, 0 and "" without a reply. `greeted`: some reply
    came in place of a greeting, even a 421 or 554, so an SMTP server is running there.
    """

    trouble: str = ""
    greeted: bool = True
    code: int = 0
    words: str = ""


class DriftKind(str, Enum):
    """In what way main.cf differs from the desired state."""

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
    """One difference. `parameter` is empty if the file itself differs.

    `document` is empty for main.cf. `is_secret`: its values are not to be shown. `is_wished`: the
    document was not written; the desired state changed.
    """

    parameter: str
    kind: DriftKind
    expected: str | None
    actual: str | None
    line: int | None = None
    is_wished: bool = False
    document: str = ""
    is_secret: bool = False


class Reason(str, Enum):
    """Why to look again. None of them says what the look will find."""

    START = "start"
    TIMER = "timer"
    RELOAD = "reload"
    MAIN_CF = "main.cf"
    MASTER_CF = "master.cf"
    MAIN_CF_OPEN = "main.cf is being written"
    CONFIGURATION = "configuration"
    ALIASES = "aliases"
    JOB = "job"
    NEWALIASES = "newaliases"
    POSTMAP = "postmap"
    PROBE = "probe"
    BUS = "bus"
    STOP = "stop"
    NAMED = "what a value names"
    DOCUMENT = "another document"


@dataclass(frozen=True)
class Trigger:
    """A reason to look again; `detail` is for readers of a log.

    `instance` is the Postfix instance concerned, None for all of them.
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
    """main.cf was changed in `cycle`, and Postfix has not yet been seen to serve with it.

    `wished` are those of `parameters` for which the desired state asks a value other than the one
    Postfix was last seen to serve with; `before` is what the port answered before main.cf was
    changed for them, None if it could not be asked. `live`: an idle process of Postfix may hold
    drifted values. `rolled_back`: the change reverted what Postfix did not come up with. `failed`:
    Postfix did not come up with that either, so no text is to blame. It is kept on disk: the next
    process neither hurries to restart a Postfix that does not come up, nor blames a wish for what
    was there before.
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
        """Whether it is more than a wish; a wish is not held up by a contest.

        If no parameter is named, Postfix was down, or the marker was damaged.
        """
        return not self.parameters or not set(self.parameters) <= set(self.wished)


class Standing(str, Enum):
    """How Postfix is after a start.

    SERVED: it serves. FAILING: it does not, and as far as is known main.cf is not the cause.
    REJECTED: it does not, and what was newly asked for is to blame. DOWN: nothing listens.
    """

    SERVED = "served"
    FAILING = "failing"
    REJECTED = "rejected"
    DOWN = "down"


@dataclass(frozen=True)
class Activated:
    """Postfix was seen to serve, `at` that time, with main.cf as `pending` left it.

    None: nothing had to be done.
    """

    pending: PendingActivation | None
    at: float


@dataclass(frozen=True)
class NotUp:
    """Postfix was seen not to serve with main.cf as `pending` left it; None: nothing was corrected.

    `tried` is the text of main.cf that failed, `log` the end of Postfix's log, `fatal` the lines in
    which its programs said why they exited.
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

    It is identified by its content. `parameters` are those for which it asks a value other than the
    one in force. `missing` are the files and addresses that it lacked. `is_judged`: its text was
    refused before Postfix was started with it.
    """

    says: DesiredState
    reason: str
    parameters: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    is_judged: bool = False


@dataclass(frozen=True)
class Wishes:
    """What was asked for in one main.cf, and its outcome.

    Postfix was last seen to serve with `served`; main.cf was last made to say `applied`. `before`
    maps each parameter in which the two differ to its lines before the first wish for it, None if
    it had none. `rejected` is what the files ask for and is not in force. `left` is what main.cf
    still says of parameters that are no longer asked for.
    """

    served: DesiredState | None = None
    applied: DesiredState | None = None
    before: Mapping[str, str | None] = field(default_factory=dict)
    rejected: Rejected | None = None
    left: Mapping[str, str] = field(default_factory=dict)

    def rejects(self, asked: DesiredState | None) -> bool:
        """Whether `asked` is what was rejected."""
        return self.rejected is not None and self.rejected.says.says_the_same(asked)

    def tried_again(self) -> Wishes:
        """Return these wishes without the rejected one."""
        return replace(self, rejected=None)

    def once_served(self) -> Wishes:
        """Return what they become once Postfix was seen to serve with `applied`."""
        rejected = None if self.rejects(self.applied) else self.rejected
        return Wishes(self.applied, self.applied, {}, rejected, self.left)


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

    `reported` are other settings in main.cf that are reported and left alone.
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
    """What `apply` did for one instance; `failure` says why its activation failed, if so.

    `rebuilt` has a sentence for each source of a table whose index was rebuilt, `stale` one for
    each whose index does not match it: why. `documents` tells how the cycle of each other document
    ended.
    """

    instance: str
    outcome: Outcome
    failure: str
    rebuilt: Mapping[str, str] = field(default_factory=dict)
    stale: Mapping[str, str] = field(default_factory=dict)
    documents: Mapping[str, Outcome] = field(default_factory=dict)


class Event(str, Enum):
    """What a journal record says happened.

    CORRECTION_FAILED is there so that a main.cf that could not be corrected (immutable, disk full)
    has an event to be found by. From ADOPTED on they are orders: what a person did to the desired
    state or to main.cf, each named after its verb.
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
    TABLE_REBUILT = "table-rebuilt"
    TABLE_STALE = "table-stale"
    CONTESTED = "contested"
    SUSPENDED = "suspended"
    RESUMED = "resumed"
    STOPPED = "stopped"
    ADOPTED = "adopted"
    SET = "set"
    UNSET = "unset"
    RESTORED = "restored"
    INITIALIZED = "initialized"


ORDERS = frozenset([Event.ADOPTED, Event.SET, Event.UNSET, Event.RESTORED, Event.INITIALIZED])


@dataclass(frozen=True)
class Record:
    """One journal record: the event, the sentence for people, the fields for programs."""

    event: Event
    message: str
    cycle: int | None = None
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Contest:
    """What is contested, most contested first; the first one drifted `count` times since `since`.

    `since` in seconds since the epoch. Restarts are to be at least `apart` seconds apart.
    """

    parameters: tuple[str, ...]
    count: int
    since: float
    apart: float


# Writes a record to the journal, and passes it to the other outlets.
Emit = Callable[[Record], None]
# The time in seconds: since the epoch, or monotonic.
Clock = Callable[[], float]


class Stamp(NamedTuple):
    """Which file is at a path, and when it was last modified and changed (nanoseconds)."""

    modified: int
    changed: int
    inode: int
    size: int


class UnitPhase(str, Enum):
    """A unit's ActiveState (org.freedesktop.systemd1(5)), in as much detail as verifying needs."""

    UP = "up"
    CHANGING = "changing"
    DOWN = "down"
    FAILED = "failed"


@dataclass(frozen=True)
class UnitState:
    """One systemd unit as D-Bus shows it. `invocation` changes with every start.

    `changed_at` is when it was last started, stopped or reloaded, `began_at` when its last start
    began, in seconds since the epoch. `has_job`: systemd has a job for it. `may_start`: it is
    neither disabled nor masked. `is_met`: the Condition...= settings of its last start were met.
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
    """The package postfix according to dpkg, and whether apt or dpkg is running.

    `state` is dpkg-query(1)'s db:Status-Status, "" if there is no such package.
    """

    is_locked: bool = False
    state: str = "installed"

    def is_whole(self) -> bool:
        """Whether it is fully installed: pending triggers do not keep it from running.

        Without a package, Postfix was installed in another way, and dpkg has no say.
        """
        return self.state in ("installed", "triggers-pending", "triggers-awaited", "")


class Phase(str, Enum):
    """What the daemon is doing, or what is wrong."""

    STARTING = "starting"
    IN_SYNC = "in-sync"
    ACTIVATING = "activating"
    OBSERVING = "observing"
    SUSPENDED = "suspended"
    STALLED = "stalled"
    CONTESTED = "contested"
    FAILING = "failing"
    STOPPED = "stopped"


# The detail of an agent in observe mode that finds no drift.
IN_SYNC_DETAIL = "in sync"
# And what one says that restarts nothing.
UNSERVED_DETAIL = "main.cf is correct, but Postfix runs with former values"


@dataclass(frozen=True)
class LastDrift:
    """The latest drift, as shown by `status`. Durations in seconds.

    `keep` is the command that makes desired what was undone; None if nothing can be kept, or if the
    desired state has changed in it since.
    """

    cycle: int
    at: float
    parameters: tuple[str, ...]
    corrected_seconds: float | None = None
    up_seconds: float | None = None
    keep: str | None = None


@dataclass(frozen=True)
class Status:
    """What `status`, STATUS= and status.json say; always replaced as a whole.

    It describes the default instance and the agent; `instances` are the others by name. `absent`
    explains each thing that main.cf's values name and that does not exist. `restart_due` is the
    moment before which Postfix is not restarted, None if no restart is waiting. `stale` explains
    for each source of an indexed table why the index does not match it. `awaited` is a sentence
    about what Postfix's start is waiting for, "" if only for time to pass. `documents` tells for
    each other document that is managed why it is not as desired, "" if it is.
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
    restart_due: float | None = None
    stale: Mapping[str, str] = field(default_factory=dict)
    awaited: str = ""
    documents: Mapping[str, str] = field(default_factory=dict)

    def is_in_sync(self) -> bool:
        """Whether main.cf is as desired and Postfix was seen to run with it, as far as is known.

        An agent in observe mode that finds no drift counts.
        """
        finds_nothing = self.phase is Phase.OBSERVING and self.detail == IN_SYNC_DETAIL
        is_main_cf = self.phase is Phase.IN_SYNC or finds_nothing
        return is_main_cf and not any(self.documents.values())
