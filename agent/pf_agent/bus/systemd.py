"""systemd over D-Bus (pydbus): restart a unit and follow its job.

A restart is a job that the loop follows, not a call that it waits in: `restart` returns the job's
path, and when the job ends a trigger goes to the mailbox. The end is heard in a thread of this
module that serves GLib's default main context; all other calls belong to the one acting thread.

The connection is private. GLib ends a process when the shared one is closed under it, and hands
out that same dead connection ever after; ours may close, and the next call opens another.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from pf_agent.bus.unit_changes import Changes, holders_of, path_of, state_of
from pf_agent.errors import HostError
from pf_agent.model import Reason, Trigger, UnitState

# Each call's own limit. systemd answers in milliseconds unless it loads units at that moment.
_CALL_SECONDS = 10.0
_MOST_JOBS = 16

_SYSTEMD = "org.freedesktop.systemd1"
_MANAGER = f"{_SYSTEMD}.Manager"
_MANAGER_PATH = "/org/freedesktop/systemd1"
_PROPERTIES = "org.freedesktop.DBus.Properties"
# What is called here of org.freedesktop.systemd1(5). Were it asked for by `Bus.get`, pydbus would
# make 200 methods of systemd's answer and keep the text that says them: 0.7 MiB.
_MANAGER_XML = f"""
<interface name="{_MANAGER}">
 <method name="GetJob"><arg type="u" direction="in"/><arg type="o" direction="out"/></method>
 <method name="LoadUnit"><arg type="s" direction="in"/><arg type="o" direction="out"/></method>
 <method name="ReloadUnit">
  <arg type="s" direction="in"/><arg type="s" direction="in"/><arg type="o" direction="out"/>
 </method>
 <method name="ResetFailedUnit"><arg type="s" direction="in"/></method>
 <method name="RestartUnit">
  <arg type="s" direction="in"/><arg type="s" direction="in"/><arg type="o" direction="out"/>
 </method>
 <method name="StartUnit">
  <arg type="s" direction="in"/><arg type="s" direction="in"/><arg type="o" direction="out"/>
 </method>
 <method name="Subscribe"/>
</interface>
"""
_NO_SUCH_UNIT = f"{_SYSTEMD}.NoSuchUnit"
_NO_SUCH_JOB = f"{_SYSTEMD}.NoSuchJob"
_NO_REPLY = "org.freedesktop.DBus.Error.NoReply"
_ALREADY_SUBSCRIBED = f"{_SYSTEMD}.AlreadySubscribed"

# D-Bus error name -> what it means and the way out; {unit} is filled in.
_WORDS: Mapping[str, str] = {
    _NO_SUCH_UNIT: "systemd has no such unit; is Postfix installed? See `systemctl cat {unit}`",
    f"{_SYSTEMD}.UnitMasked": "the unit is masked; run `systemctl unmask {unit}`",
    f"{_SYSTEMD}.BadUnitSetting": "its unit file has a fault; run `systemd-analyze verify {unit}`",
    f"{_SYSTEMD}.TransactionIsDestructive": (
        "another job stands against it, as when the machine shuts down; see `systemctl list-jobs`"
    ),
    "org.freedesktop.DBus.Error.AccessDenied": "not allowed; run as root",
    f"{_SYSTEMD}.InteractiveAuthorizationRequired": "not allowed; run as root",
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired": "not allowed; run as root",
}


class _BusError(HostError):
    """A call that failed; `name` is the D-Bus error name, "" for trouble on our own side."""

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class JobEnds:
    """How the jobs that we started ended. Heard in one thread, asked in another.

    A short job may end before the call that starts it has returned its name. So everything heard
    during `starting` is kept, and what was not ours is dropped at its end.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[str, str | None] = {}
        self._early: dict[str, str] | None = None

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Keep every end that is heard inside; `started` must be called inside as well."""
        with self._lock:
            self._early = {}
        try:
            yield
        finally:
            with self._lock:
                self._early = None

    def started(self, job: str) -> str | None:
        """Remember `job` as ours; returns its result if it has ended already."""
        with self._lock:
            self._ends[job] = (self._early or {}).get(job)
            while len(self._ends) > _MOST_JOBS:
                del self._ends[next(iter(self._ends))]
            return self._ends[job]

    def heard(self, job: str, result: str) -> bool:
        """Note an end; returns whether the job is known to be ours."""
        with self._lock:
            # Also for a job that we know: a restart asked for once more joins the one under way.
            if self._early is not None:
                self._early[job] = result
            if job not in self._ends:
                return False
            self._ends[job] = result
            return True

    def result(self, job: str) -> str | None:
        """The result, None while none was heard."""
        with self._lock:
            return self._ends.get(job)

    def open_jobs(self) -> tuple[str, ...]:
        """Jobs of ours whose end was not heard."""
        with self._lock:
            return tuple(job for job, result in self._ends.items() if result is None)


@dataclass(frozen=True)
class _Link:
    """One connection to the system bus and what hangs on it."""

    bus: Any
    manager: Any
    subscription: Any
    followed: dict[str, Any]


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
        self._link: _Link | None = None
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

        def queue(link: _Link) -> None:
            link.manager.StartUnit(unit, "replace", timeout=_CALL_SECONDS)

        try:
            self._ask("start", unit, queue)
        except _BusError as error:
            if error.name != _NO_SUCH_UNIT:
                raise
            # This one is named in agent.toml, and no part of Postfix.
            fact = f"start of {unit}: systemd has no such unit"
            raise HostError(f"{fact}; see `systemctl cat {unit}`") from error

    def _start_job(self, action: str, unit: str) -> str:
        def queue(link: _Link) -> str:
            _subscribe(link.manager)
            call = link.manager.RestartUnit if action == "restart" else link.manager.ReloadUnit
            return str(call(unit, "replace", timeout=_CALL_SECONDS))

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
            self._ask("job", job, lambda link: link.manager.GetJob(number, timeout=_CALL_SECONDS))
        except _BusError as error:
            if error.name != _NO_SUCH_JOB:
                return None
        else:
            return None
        self._catch_up()
        return self._ends.result(job) or "gone"

    def units_of(self, unit: str) -> tuple[UnitState, ...]:
        """The unit, and after it the one that does its work if it is a mere umbrella.

        `holders_of` says which. Raises HostError.
        """
        first = self._ask("state", unit, partial(_properties, unit=unit))
        if first["LoadState"] == "not-found":
            raise HostError(explain("state", unit, _NO_SUCH_UNIT, ""))
        names = holders_of(unit, first)
        rest = (self._ask("state", name, partial(_properties, unit=name)) for name in names)
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
                self._ask("reset-failed", unit, partial(_reset_failed, unit=unit))
            except _BusError as error:
                # A unit that is not loaded has no failure and no count of starts.
                if error.name != _NO_SUCH_UNIT:
                    raise

    def close(self) -> None:
        """Hang up and end the listening thread; the next call would open both again."""
        self._drop()
        if self._listener is None:
            return
        from gi.repository import GLib

        # From inside the loop: a quit that comes before run() has begun would be lost.
        GLib.idle_add(self._loop.quit)
        self._listener.join(_CALL_SECONDS)
        self._listener = None

    def _ask(self, action: str, subject: str, call: Callable[[_Link], _Answer]) -> _Answer:
        """Call; once more if dbus-daemon or systemd went away under it. Raises HostError.

        Both may start anew between two calls or within one. A restart that was queued just then
        and is asked for again joins the first.
        """
        self._raise_fault()
        try:
            from gi.repository import Gio, GLib
        except ImportError as error:
            raise HostError(
                f"{action} of {subject}: no D-Bus library ({error}); install python3-pydbus"
            ) from error
        try:
            try:
                return call(self._connected())
            except GLib.Error as error:
                # BROKEN_PIPE: a daemon that was just dying took our connection along.
                ends = (Gio.IOErrorEnum.CLOSED, Gio.IOErrorEnum.BROKEN_PIPE)
                closed = any(error.matches(Gio.io_error_quark(), code) for code in ends)
                if not closed and _words_of(error)[0] != _NO_REPLY:
                    raise
                return call(self._connected(anew=closed))
        except GLib.Error as error:
            name, text = _words_of(error)
            raise _BusError(explain(action, subject, name, text), name) from error

    def _connected(self, anew: bool = False) -> _Link:
        if anew or self._link is None or self._link.bus.con.is_closed():
            self._drop()
            self._link = self._open()
        return self._link

    def _open(self) -> _Link:
        """Connect, listen for JobRemoved, then ask systemd to send it; raises GLib.Error."""
        self._listen()
        bus = _connect()
        bus.con.set_exit_on_close(False)
        bus.con.connect("closed", self._lost)
        subscription = bus.subscribe(
            sender=_SYSTEMD,
            iface=_MANAGER,
            signal="JobRemoved",
            object=_MANAGER_PATH,
            signal_fired=self._job_removed,
        )
        manager = _manager(bus)
        try:
            # dbus-daemon holds this call until systemd is on the bus, so a bus or a systemd that
            # has just started anew is waited for.
            _subscribe(manager)
        except BaseException:
            subscription.unsubscribe()
            bus.con.close(None, None)
            raise
        link = _Link(bus, manager, subscription, {})
        self._changes.forget()
        self._heed(link)
        return link

    def _heed(self, link: _Link) -> None:
        """Subscribe to the signals of the units to follow."""
        for unit in link.followed.keys() - self._followed:
            link.followed.pop(unit).unsubscribe()
        for unit in self._followed - link.followed.keys():
            link.followed[unit] = link.bus.subscribe(
                sender=_SYSTEMD,
                iface=_PROPERTIES,
                signal="PropertiesChanged",
                object=path_of(unit),
                arg0=f"{_SYSTEMD}.Unit",
                signal_fired=partial(self._unit_changed, unit),
            )

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None and not link.bus.con.is_closed():
            for subscription in (link.subscription, *link.followed.values()):
                subscription.unsubscribe()
            link.bus.con.close(None, None)

    def _listen(self) -> None:
        if self._listener is not None and self._listener.is_alive():
            return
        from gi.repository import GLib

        self._loop = GLib.MainLoop()
        listener = threading.Thread(target=self._loop.run, name="systemd", daemon=True)
        try:
            listener.start()
        except RuntimeError as error:  # all that Python says of pthread_create(3)'s EAGAIN
            way_out = "see TasksMax= in systemd.resource-control(5)"
            raise HostError(f"no thread to hear systemd with ({error}); {way_out}") from error
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
        handled.wait(_CALL_SECONDS)


def _properties(link: _Link, unit: str) -> dict[str, Any]:
    """All properties of all interfaces of a unit at one moment, as `systemctl show` asks."""
    from gi.repository import GLib

    # Not by pydbus: it would build classes for each unit anew, and its properties have no time-out.
    answer = link.bus.con.call_sync(
        _SYSTEMD,
        link.manager.LoadUnit(unit, timeout=_CALL_SECONDS),
        _PROPERTIES,
        "GetAll",
        GLib.Variant("(s)", ("",)),
        GLib.VariantType.new("(a{sv})"),
        0,
        int(_CALL_SECONDS * 1000),
        None,
    )
    properties: dict[str, Any] = answer.unpack()[0]
    return properties


def _reset_failed(link: _Link, unit: str) -> None:
    link.manager.ResetFailedUnit(unit, timeout=_CALL_SECONDS)


def _words_of(error: Any) -> tuple[str, str]:
    """The D-Bus error name, "" if it is not from the other side, and the text, of a GLib.Error."""
    from gi.repository import Gio

    if any(
        error.matches(Gio.io_error_quark(), code)
        for code in (Gio.IOErrorEnum.TIMED_OUT, Gio.IOErrorEnum.CANCELLED)
    ):
        return "", f"no answer within {_CALL_SECONDS:g} s"
    name = Gio.dbus_error_get_remote_error(error) or ""
    # Called from Python, dbus_error_strip_remote_error() strips a copy.
    return name, str(error.message).removeprefix(f"GDBus.Error:{name}: ")


def _connect() -> Any:
    """A connection to the system bus of our own, as pydbus's Bus; raises GLib.Error."""
    # pydbus.connect() can wait for ever: systemd holds the bus's socket open and lets callers
    # queue there, also when no dbus-daemon comes to serve them. And the connection's .pydbus, which
    # it takes, ends in a deadlock: the attribute makes PyGObject ask for the interpreter's lock
    # (g_object_add_toggle_ref) where GLib takes a reference to a connection, with a lock held that
    # freeing another connection asks for, as the garbage collector does with the one before
    # (message_bus_lock in GLib's gio/gdbusconnection.c).
    from gi.repository import Gio
    from pydbus.bus import Bus

    address = Gio.dbus_address_get_for_bus_sync(Gio.BusType.SYSTEM, None)
    flags = Gio.DBusConnectionFlags
    patience = Gio.Cancellable()
    alarm = threading.Timer(_CALL_SECONDS, patience.cancel)
    alarm.daemon = True
    alarm.start()
    try:
        return Bus(
            Gio.DBusConnection.new_for_address_sync(
                address,
                flags.AUTHENTICATION_CLIENT | flags.MESSAGE_BUS_CONNECTION,
                None,
                patience,
            )
        )
    finally:
        alarm.cancel()


def _manager(bus: Any) -> Any:
    """systemd's manager as pydbus's proxy."""
    from xml.etree import ElementTree

    from pydbus.proxy import Interface

    return Interface(ElementTree.fromstring(_MANAGER_XML))(bus, _SYSTEMD, _MANAGER_PATH)


def _subscribe(manager: Any) -> None:
    """Ask for JobRemoved; systemd forgets who asked when the bus starts anew."""
    from gi.repository import Gio, GLib

    try:
        manager.Subscribe(timeout=_CALL_SECONDS)
    except GLib.Error as error:
        if Gio.dbus_error_get_remote_error(error) != _ALREADY_SUBSCRIBED:
            raise


def explain(action: str, subject: str, name: str, text: str) -> str:
    """One line on a failed call; `name` is the D-Bus error name, "" for trouble on our own side."""
    line = " ".join(text.split())
    if name in _WORDS:
        return f"{action} of {subject}: {_WORDS[name].format(unit=subject)} ({name})"
    if name:
        return f"{action} of {subject}: {name}: {line}; see `systemctl status {subject}`"
    return (
        f"{action} of {subject}: no talk with systemd over the system bus ({line}); "
        "see `systemctl status dbus.service`"
    )
