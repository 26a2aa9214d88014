"""Slow work outside the loop: a thread does it, and reports its end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from pf_agent.errors import HostError, no_thread

Spawn = Callable[[str, Callable[[], None]], None]


def in_a_thread(name: str, run: Callable[[], None]) -> None:
    """Run `run` in a daemon thread called `name`: it does not keep the process from exiting.

    Raises HostError if the machine cannot start a thread.
    """
    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError as error:
        raise HostError(f"{name}: {no_thread(error)}") from error


Said = TypeVar("Said")


class Aside(Generic[Said]):
    """One piece of work, which returns a value or raises."""

    def __init__(
        self,
        name: str,
        work: Callable[[], Said],
        ended: Callable[[], None],
        spawn: Spawn = in_a_thread,
    ) -> None:
        """Start `work`. `ended` is called in the work's thread, once the answer can be fetched."""
        self._has_ended = threading.Event()
        self._said: Said | None = None
        self._error: Exception | None = None

        def run() -> None:
            try:
                self._said = work()
            except Exception as error:  # noqa: BLE001 - raised where the answer is asked for
                self._error = error
            self._has_ended.set()
            ended()

        spawn(name, run)

    def answer(self) -> Said | None:
        """Return what the work returned; None while it runs. Raises what the work raised."""
        if not self._has_ended.is_set():
            return None
        if self._error is not None:
            raise self._error
        return self._said
