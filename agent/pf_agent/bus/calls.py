"""Calls to systemd: made one after the other in a thread of their own.

The acting thread waits for an answer only while nothing waits for the acting thread, so that
main.cf is corrected while systemd or dbus-daemon hangs. A call that is no longer waited for goes
on: if the same is asked again before its answer arrives, that answer is waited for.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from pf_agent.errors import GaveWay, HostError, no_thread

_Answer = TypeVar("_Answer")

_WORDS = "did not wait for systemd, since main.cf was written meanwhile"
# A healthy systemd answers within this time, which does not delay main.cf noticeably.
_GRACE_SECONDS = 0.02
_CLOSE_SECONDS = 1.0


class Calls:
    """The thread that makes the calls, and the threads that wait for them.

    There is never more than one that calls: the next one starts after it has ended. `is_awaited`
    tells whether work for the acting thread is waiting already.
    """

    def __init__(self, is_awaited: Callable[[], bool]) -> None:
        self._is_awaited = is_awaited
        self._turn = threading.Condition()
        self._has_come = False  # work for the acting thread
        self._due: deque[_Call] = deque()
        self._asked: dict[Hashable, _Call] = {}
        self._caller: threading.Thread | None = None

    def ask(self, question: Hashable, work: Callable[[], _Answer]) -> _Answer:
        """Return what `work` returns, or raise what it raises; for the acting thread.

        `work` must change nothing: the answer to the same `question`, asked earlier, may be used.
        That answer comes after every signal that systemd has sent so far, since they arrive in
        order. Raises GaveWay as soon as something else waits for the acting thread, and HostError
        if no thread can be started.
        """
        with self._turn:
            call = self._asked.get(question)
            if call is None:
                call = self._begin(_Call(work, question))
                self._asked[question] = call
            self._has_come = self._is_awaited()
            until = time.monotonic() + _GRACE_SECONDS
            while not call.is_over:
                left = until - time.monotonic() if self._has_come else None
                if left is not None and left <= 0:
                    raise GaveWay(_WORDS)
                self._turn.wait(left)
        return call.answer()  # type: ignore[no-any-return]

    def tell(self, work: Callable[[], _Answer]) -> _Answer:
        """Return what `work` returns, or raise what it raises; for a thread that nothing waits for.

        Raises HostError if no thread can be started.
        """
        with self._turn:
            call = self._begin(_Call(work))
            self._turn.wait_for(lambda: call.is_over)
        return call.answer()  # type: ignore[no-any-return]

    def give_way(self) -> None:
        """Have the acting thread stop waiting for an answer. May be called from any thread."""
        with self._turn:
            self._has_come = True
            self._turn.notify_all()

    def close(self, last: Callable[[], None]) -> None:
        """Make `last` the last call, and wait at most a second for its end.

        If a call hangs, its thread ends later; what is called meanwhile is called there, after it.
        """
        with self._turn:
            caller = self._caller
            if caller is None:
                return
            call = self._begin(_Call(last, is_last=True))
        caller.join(_CLOSE_SECONDS)
        if call.is_over:
            call.answer()

    def _begin(self, call: _Call) -> _Call:
        """Queue it after the calls before it. To be called with the lock held."""
        if self._caller is None:
            caller = threading.Thread(target=self._make_calls, name="calls", daemon=True)
            try:
                caller.start()
            except RuntimeError as error:
                raise HostError(f"cannot call systemd: {no_thread(error)}") from error
            self._caller = caller
        self._due.append(call)
        self._turn.notify_all()
        return call

    def _make_calls(self) -> None:
        while True:
            with self._turn:
                self._turn.wait_for(lambda: bool(self._due))
                call = self._due.popleft()
            call.make()
            with self._turn:
                call.is_over = True
                self._asked.pop(call.question, None)
                self._turn.notify_all()
                if call.is_last and not self._due:
                    self._caller = None
                    return


class _Call:
    """A call, and its result."""

    def __init__(
        self, work: Callable[[], Any], question: Hashable = None, is_last: bool = False
    ) -> None:
        self.question = question
        self.is_last = is_last
        self.is_over = False
        self._work = work
        self._answer: Any = None
        self._error: Exception | None = None

    def make(self) -> None:
        try:
            self._answer = self._work()
        except Exception as error:  # noqa: BLE001 - raised where the answer is waited for
            self._error = error

    def answer(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._answer
