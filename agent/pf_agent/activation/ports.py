"""What an activation works with, the conditions of one step, and how it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from pf_agent.activation.inquiry import Askable
from pf_agent.model import (
    Activated,
    ActivationWay,
    Clock,
    NotUp,
    Package,
    PendingActivation,
    UnitState,
    Wishes,
)


class Service(Protocol):
    """systemd, as implemented by `systemd.Systemd`."""

    def restart(self, unit: str) -> str: ...
    def reload(self, unit: str) -> str: ...
    def job_result(self, job: str) -> str | None: ...
    def units_of(self, unit: str) -> tuple[UnitState, ...]: ...
    def reset_failed(self, units: Iterable[str]) -> None: ...


class Postfix(Askable, Protocol):
    """Postfix's state, as implemented by `errands.Errands` and `installed.Postfix`."""

    def was_stopped(self, unit: UnitState) -> bool | None: ...
    def package(self) -> Package: ...


class Markers(Protocol):
    """State that outlives the process, as implemented by `store.FileStore`."""

    def pending(self) -> PendingActivation | None: ...
    def note_served(
        self, cycle: int | None, text: bytes | None, is_started: bool, is_good: bool
    ) -> bool: ...
    def note_failed(self, cycle: int) -> None: ...
    def note_reloaded(self, cycle: int) -> None: ...
    def wishes(self) -> Wishes: ...
    def hold_activation(self) -> bool: ...
    def release_activation(self) -> None: ...
    def restarts(self, name: str = ...) -> tuple[float, ...]: ...
    def note_restarts(self, moments: tuple[float, ...], name: str = ...) -> None: ...


@dataclass(frozen=True)
class Others:
    """What else Postfix is started for: master.cf.

    `managed` returns its services that are looked after. `note_served` is told that Postfix,
    started at that time, was seen to serve, before the marker goes which stands for all: after a
    crash in between, nothing is started and recorded a second time. Both raise HostError.
    """

    managed: Callable[[], tuple[str, ...]] = tuple
    note_served: Callable[[float], None] = lambda _began_at: None


@dataclass(frozen=True)
class Clocks:
    """The time of day, which may be set, and the monotonic clock, for measuring waits."""

    clock: Clock = time.time
    ticks: Clock = time.monotonic


@dataclass(frozen=True)
class Turn:
    """The conditions of one step.

    With `may_act` False, starts by others are noted and nothing is started. `is_good`: main.cf says
    what is desired. Restarts are `apart` seconds apart; the window opens in `opens_in` seconds.
    """

    may_act: bool = True
    is_good: bool = True
    way: ActivationWay = ActivationWay.RESTART
    apart: float = 0.0
    opens_in: float = 0.0


End = Activated | NotUp
