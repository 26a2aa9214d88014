"""systemd over D-Bus (pydbus): restart a unit and follow its job.

The loop follows a restart's job and does not wait in a call: `restart` returns the job's path, and
a trigger in the mailbox reports the job's end. It is received in a thread of this module that
serves GLib's default main context; calls are made in another (calls.py), which alone uses the
connection.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from pf_agent.bus import conflict
from pf_agent.bus.calls import Calls
from pf_agent.bus.failures import (
    CALL_SECONDS,
    NO_REPLY,
    NO_SUCH_JOB,
    NO_SUCH_UNIT,
    BusError,
    explain,
    is_refusal,
    no_library,
    words_of,
)
from pf_agent.bus.job_ends import JobEnds
from pf_agent.bus.manager import Manager, connected
from pf_agent.bus.units import Changes, holders_of, state_of
from pf_agent.errors import HostError, NotBegun, no_thread
from pf_agent.model import Reason, Trigger, UnitState

_Answer = TypeVar("_Answer")


class Systemd:
    """systemd over D-Bus: restart a unit, and follow the job without waiting for it.

    `post` is called in the listening thread with Reason.JOB: with "<job path> <result>" when a job
    of ours ends, with "<job path> unheard" if the connection is lost meanwhile, and with "<unit>
    <state>" for a followed unit, whatever changed it.

    A call that systemd or dbus-daemon does not answer ends after 10 s with HostError. In the acting
    thread it ends with GaveWay as soon as something waits for that thread: `give_way` says so, or
    `is_awaited` if it waited before the call. `restart`, `reload` and `reset_failed` do not give
    way; they are for threads that nothing waits for.
    """

    def __init__(
        self, post: Callable[[Trigger], None], is_awaited: Callable[[], bool] = lambda: False
    ) -> None:
        self._post = post
        self._calls = Calls(is_awaited)
        self.give_way = self._calls.give_way
        self._ends = JobEnds()
        self._changes = Changes()
        self._followed: frozenset[str] = frozenset()
        self._manager: Manager | None = None
        self._loop: Any = None
        self._listener: threading.Thread | None = None
        self._fault: Exception | None = None

    def restart(self, unit: str) -> str:
        """Queue a restart of `unit` and return the job's object path.

        While a restart of the unit is in progress, it starts over, and its job is returned. If
        others ask for a stop of the unit meanwhile, the job ends as "canceled". Raises NotBegun if
        systemd cannot be reached or refuses, HostError if it may restart the unit anyway.
        """
        return self._start_job("restart", unit, conflict.restart)

    def reload(self, unit: str) -> str:
        """Queue a reload of `unit` and return the job's object path.

        Not useful for an umbrella unit: its own job ends before that of the unit below it. Raises
        NotBegun and HostError as `restart` does.
        """
        return self._start_job("reload", unit, Manager.reload)

    def _start_job(self, action: str, unit: str, queue: Callable[[Manager, str], str]) -> str:
        may_run = False

        def subscribed(manager: Manager) -> str:
            nonlocal may_run
            from gi.repository import GLib

            manager.subscribe()
            before, may_run = may_run, True
            try:
                return queue(manager, unit)
            except GLib.Error as error:
                # The answer to an earlier call may have been lost.
                may_run = before or not is_refusal(error)
                raise

        def start() -> tuple[str, str | None]:
            with self._ends.starting():
                job = self._call(action, unit, subscribed)
                return job, self._ends.started(job)

        try:
            job, result = self._calls.tell(start)
        except HostError as error:
            if may_run:
                raise
            raise NotBegun(str(error)) from error
        if result is not None:
            self._post(Trigger(Reason.JOB, f"{job} {result}"))
        return job

    def job_result(self, job: str) -> str | None:
        """Return how `job` ended; None while queued or running, or if systemd cannot be asked.

        Until a job has ended its units may still show their former state.

        "done", "failed", "canceled", "timeout", "dependency" or "skipped", as
        org.freedesktop.systemd1(5) describes under JobRemoved; "gone" if the job no longer exists
        and its end was missed, because dbus-daemon or systemd restarted meanwhile. Raises HostError
        if a message from systemd could not be understood.
        """
        self._raise_fault()
        result = self._ends.result(job)
        if result is not None:
            return result
        try:
            is_gone = self._ask("job", job, partial(self._is_gone, job))
        except BusError:
            return None
        return (self._ends.result(job) or "gone") if is_gone else None

    def _is_gone(self, job: str, manager: Manager) -> bool:
        """Whether systemd no longer knows the job; its end, if reported, was received by then."""
        from gi.repository import GLib

        try:
            manager.find_job(int(job.rpartition("/")[2]))
        except GLib.Error as error:
            if words_of(error)[0] != NO_SUCH_JOB:
                raise
            self._catch_up()
            return True
        return False

    def units_of(self, unit: str) -> tuple[UnitState, ...]:
        """Return the unit, followed by the one that does its work if it is a mere umbrella.

        `holders_of` tells which. Raises HostError.
        """
        first = self._ask("state", unit, partial(Manager.properties, unit=unit))
        if first["LoadState"] == "not-found":
            raise HostError(explain("state", unit, NO_SUCH_UNIT, ""))
        names = holders_of(unit, first)
        rest = (self._ask("state", name, partial(Manager.properties, unit=name)) for name in names)
        return (state_of(unit, first), *map(state_of, names, rest))

    def follow(self, units: Iterable[str]) -> None:
        """Post a trigger when one of `units` comes to rest in a new state, whatever caused it.

        From now on exactly these are followed; asking again for the same ones costs nothing while
        the connection lasts. A start, stop or reload by others is reported when its job ends, and a
        unit that goes down by itself at once. dbus-daemon only sends the signals of these units. A
        lost connection is posted once: the next call opens another, and follows again. Raises
        HostError.
        """
        self._followed = frozenset(units)
        self._ask("following", ", ".join(sorted(self._followed)), self._heed)

    def reset_failed(self, units: Iterable[str]) -> None:
        """Let `units` start again after start-limit-hit (systemctl(1), reset-failed).

        Raises HostError.
        """
        for unit in units:
            reset = partial(Manager.reset_failed, unit=unit)
            try:
                self._calls.tell(partial(self._call, "reset-failed", unit, reset))
            except BusError as error:
                # A unit that is not loaded has no failed state and no count of starts.
                if error.name != NO_SUCH_UNIT:
                    raise

    def close(self) -> None:
        """Hang up and end both threads; the next call would start them again."""
        self._calls.close(self._hang_up)

    def _ask(self, action: str, subject: str, call: Callable[[Manager], _Answer]) -> _Answer:
        """Ask in the acting thread. Raises HostError, GaveWay."""
        self._raise_fault()
        return self._calls.ask((action, subject), partial(self._call, action, subject, call))

    def _raise_fault(self) -> None:
        fault, self._fault = self._fault, None
        if fault is not None:
            raise HostError(
                f"a signal from systemd could not be handled ({fault!r}); please report this"
            ) from fault

    # --- in the thread that calls ---------------------------------------------------------------

    def _call(self, action: str, subject: str, call: Callable[[Manager], _Answer]) -> _Answer:
        """Call systemd; once more if dbus-daemon or systemd went away meanwhile. Raises HostError.

        Either may restart between two calls or within one. If a restart had just been queued and is
        requested again, the second request joins the first.
        """
        try:
            from gi.repository import Gio, GLib
        except ImportError as error:
            raise HostError(f"{action} of {subject}: {no_library(error)}") from error
        try:
            try:
                return call(self._connected())
            except GLib.Error as error:
                # BROKEN_PIPE: an exiting daemon closed our connection.
                ends = (Gio.IOErrorEnum.CLOSED, Gio.IOErrorEnum.BROKEN_PIPE)
                closed = any(error.matches(Gio.io_error_quark(), code) for code in ends)
                if not closed and words_of(error)[0] != NO_REPLY:
                    raise
                return call(self._connected(anew=closed))
        except GLib.Error as error:
            name, text = words_of(error)
            raise BusError(explain(action, subject, name, text), name) from error

    def _connected(self, anew: bool = False) -> Manager:
        if anew or self._manager is None or self._manager.is_closed():
            self._drop()
            self._listen()
            self._manager = manager = connected(self._lost, self._job_removed)
            self._changes.forget()
            self._heed(manager)
        return self._manager

    def _heed(self, manager: Manager) -> None:
        manager.heed(self._followed, self._unit_changed)

    def _drop(self) -> None:
        manager, self._manager = self._manager, None
        if manager is not None:
            manager.close()

    def _hang_up(self) -> None:
        self._drop()
        listener, self._listener = self._listener, None
        if listener is None:
            return
        from gi.repository import GLib

        # From inside the loop: a quit before run() has begun would be lost.
        GLib.idle_add(self._loop.quit)
        listener.join(CALL_SECONDS)

    def _listen(self) -> None:
        if self._listener is not None and self._listener.is_alive():
            return
        from gi.repository import GLib

        self._loop = GLib.MainLoop()
        listener = threading.Thread(target=self._loop.run, name="systemd", daemon=True)
        try:
            listener.start()
        except RuntimeError as error:
            raise HostError(f"cannot receive signals from systemd: {no_thread(error)}") from error
        self._listener = listener

    def _catch_up(self) -> None:
        """Wait until the listener has handled all that arrived before.

        systemd sends JobRemoved before it answers that the job is gone, but the answer reaches this
        thread directly, and the signal by way of the loop.
        """
        from gi.repository import GLib

        handled = threading.Event()
        GLib.idle_add(handled.set, priority=GLib.PRIORITY_DEFAULT)
        handled.wait(CALL_SECONDS)

    # --- in the thread that listens -------------------------------------------------------------

    def _job_removed(self, _sender: str, _path: str, _iface: str, _signal: str, body: Any) -> None:
        # GLib would print an exception and go on, so it is kept for the acting thread.
        try:
            _number, job, unit, result = body
            if self._ends.heard(job, result):
                self._changes.ended(unit, job, result)
                self._post(Trigger(Reason.JOB, f"{job} {result}"))
        except Exception as error:  # noqa: BLE001
            self._fault = error

    def _unit_changed(self, unit: str, *signal: Any) -> None:
        try:
            _interface, properties, _invalidated = signal[-1]
            if self._changes.is_news(unit, properties):
                self._post(Trigger(Reason.JOB, f"{unit} {properties.get('ActiveState')}"))
        except Exception as error:  # noqa: BLE001 - as in _job_removed
            self._fault = error

    def _lost(self, _connection: Any = None, by_others: bool = True, *_error: Any) -> None:
        for job in self._ends.open_jobs():
            self._post(Trigger(Reason.JOB, f"{job} unheard"))
        if by_others and self._followed:
            self._post(Trigger(Reason.JOB, "the connection to the system bus was lost"))
