"""systemd over D-Bus (pydbus): restart a unit and follow its job.

A restart is a job that the loop follows, not a call that it waits in: `restart` returns the job's
path, and when the job ends a trigger goes to the mailbox. The end is heard in a thread of this
module that serves GLib's default main context; all other calls belong to the one acting thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from pf_agent.bus.failures import (
    CALL_SECONDS,
    NO_REPLY,
    NO_SUCH_JOB,
    NO_SUCH_UNIT,
    BusError,
    explain,
    no_library,
    words_of,
)
from pf_agent.bus.job_ends import JobEnds
from pf_agent.bus.manager import Manager, connected
from pf_agent.bus.units import Changes, holders_of, state_of
from pf_agent.errors import HostError, no_thread
from pf_agent.model import Reason, Trigger, UnitState

_Answer = TypeVar("_Answer")


class Systemd:
    """systemd over D-Bus: restart a unit, and follow the job without waiting in it.

    `post` is called in the listening thread: with Reason.JOB and "<job path> <result>" when a job
    of ours ends, and with "<job path> unheard" when the connection is lost meanwhile; of a unit
    that is followed with "<unit> <state>", whoever brought it there.
    """

    def __init__(self, post: Callable[[Trigger], None]) -> None:
        self._post = post
        self._ends = JobEnds()
        self._changes = Changes()
        self._followed: frozenset[str] = frozenset()
        self._manager: Manager | None = None
        self._loop: Any = None
        self._listener: threading.Thread | None = None
        self._fault: Exception | None = None

    def restart(self, unit: str) -> str:
        """Queue a restart of `unit` and return the job's object path.

        While a restart of the unit is under way, it is begun anew and its job is the answer. A
        stop of the unit that others ask for meanwhile ends the job as "canceled".
        Raises HostError when systemd cannot be reached or refuses.
        """

        return self._start_job("restart", unit)

    def reload(self, unit: str) -> str:
        """Queue a reload of `unit` and return the job's object path.

        Of an umbrella it says nothing: its own job ends before that of the unit below it.
        Raises HostError when systemd cannot be reached or refuses.
        """
        return self._start_job("reload", unit)

    def start(self, unit: str) -> None:
        """Queue a start of `unit`, and follow it no further: how it ends is its own affair.

        Nothing happens where it runs already. Raises HostError as `restart` does.
        """
        try:
            self._ask("start", unit, lambda manager: manager.start(unit))
        except BusError as error:
            if error.name != NO_SUCH_UNIT:
                raise
            # This one is named in agent.toml, and no part of Postfix.
            fact = f"start of {unit}: systemd has no such unit"
            raise HostError(f"{fact}; see `systemctl cat {unit}`") from error

    def _start_job(self, action: str, unit: str) -> str:
        def queue(manager: Manager) -> str:
            manager.subscribe()
            return manager.restart(unit) if action == "restart" else manager.reload(unit)

        with self._ends.starting():
            job = self._ask(action, unit, queue)
            result = self._ends.started(job)
        if result is not None:
            self._post(Trigger(Reason.JOB, f"{job} {result}"))
        return job

    def job_result(self, job: str) -> str | None:
        """How `job` ended; None while it is queued or running, or systemd cannot be asked just now.

        Until a job has ended its units may still show the state that they had before.

        "done", "failed", "canceled", "timeout", "dependency" or "skipped" as
        org.freedesktop.systemd1(5) has them under JobRemoved; "gone" when the job is no more and
        its end was not heard, since dbus-daemon or systemd started anew meanwhile.
        Raises HostError when a message of systemd could not be understood.
        """
        self._raise_fault()
        result = self._ends.result(job)
        if result is not None:
            return result
        number = int(job.rpartition("/")[2])
        try:
            self._ask("job", job, lambda manager: manager.find_job(number))
        except BusError as error:
            if error.name != NO_SUCH_JOB:
                return None
        else:
            return None
        self._catch_up()
        return self._ends.result(job) or "gone"

    def units_of(self, unit: str) -> tuple[UnitState, ...]:
        """The unit, and after it the one that does its work if it is a mere umbrella.

        `holders_of` says which. Raises HostError.
        """
        first = self._ask("state", unit, partial(Manager.properties, unit=unit))
        if first["LoadState"] == "not-found":
            raise HostError(explain("state", unit, NO_SUCH_UNIT, ""))
        names = holders_of(unit, first)
        rest = (self._ask("state", name, partial(Manager.properties, unit=name)) for name in names)
        return (state_of(unit, first), *map(state_of, names, rest))

    def follow(self, units: Iterable[str]) -> None:
        """Post when one of `units` comes to rest otherwise than it was, whoever had it do so.

        These and no others from now on; asked again with the same ones, it costs nothing while the
        connection stands. A start, stop or reload by others is told when its job ends, and a unit
        that goes down by itself at once. dbus-daemon sends the signals of these units alone. When
        the connection is lost, that is posted once: the next call opens another, and follows
        again. Raises HostError.
        """
        self._followed = frozenset(units)
        self._ask("following", ", ".join(sorted(self._followed)), self._heed)

    def reset_failed(self, units: Iterable[str]) -> None:
        """Let `units` start again after start-limit-hit (systemctl(1), reset-failed).

        Raises HostError.
        """
        for unit in units:
            try:
                self._ask("reset-failed", unit, partial(Manager.reset_failed, unit=unit))
            except BusError as error:
                # A unit that is not loaded has no failure and no count of starts.
                if error.name != NO_SUCH_UNIT:
                    raise

    def close(self) -> None:
        """Hang up and end the listening thread; the next call would open both again."""
        self._drop()
        if self._listener is None:
            return
        from gi.repository import GLib

        # From inside the loop: a quit that comes before run() has begun would be lost.
        GLib.idle_add(self._loop.quit)
        self._listener.join(CALL_SECONDS)
        self._listener = None

    def _ask(self, action: str, subject: str, call: Callable[[Manager], _Answer]) -> _Answer:
        """Call; once more if dbus-daemon or systemd went away under it. Raises HostError.

        Both may start anew between two calls or within one. A restart that was queued just then
        and is asked for again joins the first.
        """
        self._raise_fault()
        try:
            from gi.repository import Gio, GLib
        except ImportError as error:
            raise HostError(f"{action} of {subject}: {no_library(error)}") from error
        try:
            try:
                return call(self._connected())
            except GLib.Error as error:
                # BROKEN_PIPE: a daemon that was just dying took our connection along.
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

    def _listen(self) -> None:
        if self._listener is not None and self._listener.is_alive():
            return
        from gi.repository import GLib

        self._loop = GLib.MainLoop()
        listener = threading.Thread(target=self._loop.run, name="systemd", daemon=True)
        try:
            listener.start()
        except RuntimeError as error:
            raise HostError(f"systemd is not heard: {no_thread(error)}") from error
        self._listener = listener

    def _job_removed(self, _sender: str, _path: str, _iface: str, _signal: str, body: Any) -> None:
        # An exception would end in GLib, which prints it and goes on; so the acting thread gets it.
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
            self._post(Trigger(Reason.JOB, "the connection to the system bus is lost"))

    def _raise_fault(self) -> None:
        fault, self._fault = self._fault, None
        if fault is not None:
            raise HostError(
                f"a signal of systemd could not be handled ({fault!r}); please report this"
            ) from fault

    def _catch_up(self) -> None:
        """Wait until the listener has handled all that arrived before.

        systemd sends JobRemoved before it answers that the job is no more, but the answer reaches
        the acting thread directly and the signal by way of the loop.
        """
        from gi.repository import GLib

        handled = threading.Event()
        GLib.idle_add(handled.set, priority=GLib.PRIORITY_DEFAULT)
        handled.wait(CALL_SECONDS)
