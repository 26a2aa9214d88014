"""What a cycle works with: main.cf, the state kept about it, and what one cycle may do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from pf_agent.model import (
    ActualState,
    Attributes,
    Clock,
    Displaced,
    Heard,
    Judgement,
    Late,
    PendingActivation,
    Wishes,
)


class Host(Protocol):
    """The file main.cf, as implemented by `exchange.MainCfFile` and by the fake of the tests."""

    path: str

    def attributes(self, actual: ActualState) -> Attributes | None: ...
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


class Store(Protocol):
    """State that outlives the cycle, as implemented by `store.FileStore`."""

    def lock(self) -> AbstractContextManager[None]: ...
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
    """What one cycle may do. `writer` returns a record's fields on what wrote at a given time.

    `before` is what Postfix's port answered before a wish, None if it was not asked. `in_sync_at`
    is when this process last found main.cf in sync, None if never.
    """

    observe_only: bool = False
    own: bool = True  # this host's own main.cf: a good text is remembered
    judge: Callable[[bytes], Judgement] = lambda _text: Judgement()
    clock: Clock = time.time
    writer: Callable[[float], Mapping[str, str]] = lambda _written_at: {}
    before: Heard | None = None
    in_sync_at: float | None = None
