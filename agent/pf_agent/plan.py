"""What one look found and the text that would be right; and what a look works with."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Lock
from typing import Protocol, TypeVar

from pf_agent import render
from pf_agent.drift import (
    corrected,
    damage,
    find_drift,
    is_too_long,
    taken_apart,
    unmanaged_drift,
)
from pf_agent.errors import HostError
from pf_agent.main_cf import MainCf
from pf_agent.model import (
    ActualState,
    DesiredState,
    Displaced,
    Drift,
    Heard,
    Judgement,
    Late,
    Outcome,
    PendingActivation,
    Record,
    Wishes,
)

Emit = Callable[[Record], None]
Clock = Callable[[], float]
K = TypeVar("K")
V = TypeVar("V")

_MOST_REMEMBERED = 4


class Host(Protocol):
    """The file main.cf, as `exchange.MainCfFile` and the fake of the tests have it."""

    path: str

    def read(self) -> ActualState: ...
    def read_template(self, path: str) -> bytes: ...
    def locked(self) -> AbstractContextManager[None]: ...
    def exchange(
        self,
        actual: ActualState,
        text: bytes,
        keep: Callable[[bytes], None],
    ) -> Displaced: ...
    def is_alone(self) -> bool: ...
    def is_cut_off(self) -> bool: ...
    def take_up(self, keep: Callable[[bytes], None]) -> None: ...
    def late(self) -> Late | None: ...
    def drop_late(self, late: Late) -> None: ...


class Pending(Protocol):
    """What outlives the cycle, as `state.State` keeps it."""

    def next_cycle(self) -> int: ...
    def mark_pending(self, pending: PendingActivation, durable: bool = True) -> None: ...
    def pending(self) -> PendingActivation | None: ...
    def keep_displaced(self, cycle: int, text: bytes) -> str: ...
    def last_good(self) -> bytes | None: ...
    def keep_last_good(self, text: bytes) -> None: ...
    def ran_with(self) -> bytes | None: ...
    def keep_ran_with(self, text: bytes) -> None: ...
    def wishes(self) -> Wishes: ...
    def keep_wishes(self, kept: Wishes) -> None: ...


@dataclass(frozen=True)
class Policy:
    """What one cycle may do. `writer` gives the fields of a record on who wrote at a moment.

    `before` is what Postfix's port answered before a wish, None where it was not asked.
    `in_sync_at` is when this process last found main.cf in sync, None where it never did.
    """

    observe_only: bool = False
    own: bool = True  # this host's own main.cf: owner and mode count, a good text is remembered
    judge: Callable[[bytes], Judgement] = lambda _text: Judgement()
    clock: Clock = time.time
    writer: Callable[[float], Mapping[str, str]] = lambda _written_at: {}
    before: Heard | None = None
    in_sync_at: float | None = None


class Judge:
    """Postfix's judgement, asked once for each text: what passed once need not be judged again.

    Nor need a text that differs from one in comments, blanks and folding alone, where nothing was
    said that names a line. A refusal is not remembered: a name that does not resolve now may
    resolve at the next look. Several threads may ask: the second waits for the first one's answer.
    """

    def __init__(self, ask: Callable[[bytes], Judgement]) -> None:
        self._ask = ask
        self._passed: dict[bytes, Judgement] = {}
        self._clean: dict[tuple[tuple[str, str], ...], None] = {}
        self._lock = Lock()

    def __call__(self, text: bytes) -> Judgement:
        """Return what Postfix's own programs say of `text`. Raises HostError."""
        with self._lock:
            return self._judgement(text)

    def _judgement(self, text: bytes) -> Judgement:
        known = self._passed.get(text)
        if known is not None:
            return known
        content = MainCf.parse(text).content()
        found = Judgement() if content in self._clean else self._ask(text)
        if not found.fatal:
            _remember(self._passed, text, found)
        if found == Judgement():
            _remember(self._clean, content, None)
        return found


def _remember(passed: dict[K, V], key: K, value: V) -> None:
    """The latest few alone."""
    while len(passed) >= _MOST_REMEMBERED:
        del passed[next(iter(passed))]
    passed[key] = value


class CorrectionFailed(HostError):
    """The host would not let the drift be corrected that is on record by now."""

    def __init__(self, reason: str, outcome: Outcome) -> None:
        super().__init__(reason)
        self.outcome = outcome


@dataclass(frozen=True)
class Plan:
    """What one look found, and the text that would be right.

    `reported` is what stands there besides, is told of, and left alone.
    """

    actual: ActualState
    drift: tuple[Drift, ...]
    candidate: bytes
    diff: str
    reported: tuple[Drift, ...] = ()


def plan(
    host: Host,
    desired: DesiredState,
    actual: ActualState,
    last_good: bytes | None,
    own: bool = True,
) -> Plan:
    """Compare, and work out the right text. Touches nothing; `diff` prints what `apply` writes.

    Raises HostError where there is neither a main.cf nor a template to begin with, or what stands
    there cannot be looked into, and there never was a good text.
    """
    too_long = is_too_long(actual.text)
    main_cf = taken_apart(actual.text)
    damaged = actual.refused or damage(actual.text, desired, last_good, main_cf)
    if last_good is None and (actual.refused or too_long):
        raise HostError(f"{host.path}: {damaged}; put a main.cf there that everybody may read")
    if actual.is_open and last_good is not None and not damaged:
        # Half of a text may be all that is there yet. The last good one stands in for it, and what
        # he has written counts once he has closed it.
        damaged = "somebody holds it open for writing"
        if not find_drift(desired, actual, "", False, own, main_cf):
            damaged = ""
    drift = find_drift(desired, actual, damaged, last_good is not None, own, main_cf)
    reported = () if damaged else unmanaged_drift(desired, main_cf)
    if not drift:
        return Plan(actual, (), actual.text or b"", "", reported)
    if damaged:
        base = last_good
        if base is None:
            base = host.read_template(desired.template) if desired.template else b""
        main_cf = MainCf.parse(base)
    candidate = corrected(main_cf, desired).render()
    shown = None if too_long else actual.text
    diff = render.unified_diff(shown, candidate, host.path)
    return Plan(actual, drift, candidate, diff, reported)
