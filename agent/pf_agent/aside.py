"""Slow work beside the loop: a thread does it, and a trigger says when it has ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

Spawn = Callable[[str, Callable[[], None]], None]


def in_a_thread(name: str, run: Callable[[], None]) -> None:
    """Run `run` in a thread called `name`, which does not hold up the end of the process."""
    threading.Thread(target=run, name=name, daemon=True).start()


class Aside:
    """One piece of work that answers in a word or fails; the loop asks for the answer."""

    def __init__(
        self,
        name: str,
        work: Callable[[], str],
        ended: Callable[[], None],
        spawn: Spawn = in_a_thread,
    ) -> None:
        """Start `work`. `ended` is called in the work's thread, once the answer is there."""
        self._answers: SimpleQueue[str | Exception] = SimpleQueue()

        def run() -> None:
            try:
                self._answers.put(work())
            except Exception as error:  # noqa: BLE001 - it must reach the loop, which records it
                self._answers.put(error)
            ended()

        spawn(name, run)

    def answer(self) -> str | None:
        """Return what the work said, once; None while it runs. Raises what the work raised."""
        try:
            said = self._answers.get_nowait()
        except Empty:
            return None
        if isinstance(said, Exception):
            raise said
        return said
