"""`org.pfagent.Agent1` on the system bus: shows the status, signals drift, forwards three orders.

It decides nothing. The acting thread passes it each status and each record; calls are handled in a
thread of this module, which serves a GLib main context of its own. Orders go to the given
callables, which only leave a request for the acting thread.

It uses Gio's register_object instead of pydbus's publish, for three reasons. pydbus answers a call
when the method returns, so the thread would block while polkit asks for a password. It requests the
name in a way that lets any process take it over. And on Debian 12 (PyGObject 3.42, GLib 2.74) it
leaks 2.0 KiB for each property read, measured over 9,000 reads; Gio's own answers to Get and GetAll
leak nothing there. A method call leaks 1.6 KiB either way, which link.py works around.

Without a bus, or without the name, the agent carries on: `note` or `publish` says so once, and the
name is taken as soon as it is available.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from pf_agent import __version__, names
from pf_agent.bus.authority import Authority, Caller, Verdict
from pf_agent.bus.link import BusLink, accept, refuse
from pf_agent.errors import HostError, PfAgentError, no_thread
from pf_agent.model import MOST_SUSPENDED_SECONDS, Event, Phase, Record, Status
from pf_agent.words import sentences
from pf_agent.words.outgoing import PROCESS

NAME = "org.pfagent.Agent1"
PATH = "/org/pfagent/Agent1"
ACTIONS: Mapping[str, str] = {
    "Reconcile": "org.pfagent.reconcile",
    "Suspend": "org.pfagent.suspend",
    "Resume": "org.pfagent.resume",
}

_DBUS = "org.freedesktop.DBus"
_FAILED = f"{NAME}.Error.Failed"
_INVALID_ARGUMENTS = f"{_DBUS}.Error.InvalidArgs"

_CLOSE_SECONDS = 1.0

_MOST_CHARACTERS = 4096
_MOST_REASON = 1000

INTERFACE = f"""
<node>
 <interface name="{NAME}">
  <property name="Version" type="s" access="read">
   <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="const"/>
  </property>
  <property name="Phase" type="s" access="read"/>
  <property name="Summary" type="s" access="read"/>
  <property name="InSync" type="b" access="read"/>
  <property name="Suspended" type="b" access="read"/>
  <property name="SuspendedUntil" type="t" access="read"/>
  <property name="LastCycle" type="t" access="read"/>
  <property name="LastDrift" type="as" access="read"/>
  <property name="LastDriftAt" type="t" access="read"/>
  <property name="Parameters" type="u" access="read"/>
  <property name="Problems" type="as" access="read"/>
  <property name="StaleTables" type="a{{ss}}" access="read"/>
  <property name="Instances" type="a{{ss}}" access="read"/>
  <property name="NextLook" type="t" access="read">
   <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="false"/>
  </property>
  <method name="Reconcile"/>
  <method name="Suspend">
   <arg name="seconds" type="t" direction="in"/>
   <arg name="reason" type="s" direction="in"/>
  </method>
  <method name="Resume"/>
  <signal name="DriftDetected">
   <arg name="cycle" type="t"/>
   <arg name="instance" type="s"/>
   <arg name="parameter" type="s"/>
   <arg name="kind" type="s"/>
   <arg name="expected" type="s"/>
   <arg name="actual" type="s"/>
  </signal>
  <signal name="DriftCorrected">
   <arg name="cycle" type="t"/>
   <arg name="instance" type="s"/>
   <arg name="parameters" type="as"/>
   <arg name="displaced" type="as"/>
  </signal>
 </interface>
</node>
"""
_TOLD_OF_DRIFT = (
    names.FIELD_PARAMETER,
    names.FIELD_KIND,
    names.FIELD_EXPECTED,
    names.FIELD_ACTUAL,
)
# NextLook changes with every look, and would wake every client each time.
_UNTOLD = frozenset({"NextLook"})


def properties(status: Status, now: float) -> dict[str, Any]:
    """Return every property, as of `now`, by name; times in seconds since the epoch, 0: none."""
    phases = {names.DEFAULT_INSTANCE: status.phase}
    phases.update({name: inner.phase for name, inner in status.instances.items()})
    suspension, last = status.suspension, status.last
    return {
        "Version": __version__,
        "Phase": status.phase.value,
        "Summary": _text(sentences.summary(status, now)),
        "InSync": all(each.is_in_sync() for each in (status, *status.instances.values())),
        "Suspended": suspension is not None,
        "SuspendedUntil": int((suspension and suspension.until) or 0),
        "LastCycle": 0 if last is None else last.cycle,
        "LastDrift": [] if last is None else [_text(name) for name in last.parameters],
        "LastDriftAt": 0 if last is None else int(last.at),
        "Parameters": status.parameters,
        "Problems": [_text(problem) for problem in status.problems],
        "StaleTables": {_text(path): _text(why) for path, why in status.stale.items()},
        "Instances": {_text(name): phase.value for name, phase in phases.items()},
        "NextLook": int(status.next_look or 0),
    }


class DriftSignals:
    """Turns records of drift into signals; remembers what drifted in a cycle until it ends."""

    def __init__(self) -> None:
        self._drifted: dict[str, tuple[int, list[str]]] = {}

    def of(self, record: Record) -> tuple[str, tuple[Any, ...]] | None:
        """Return the signal's name and its arguments; None if the record makes no signal."""
        fields, cycle = record.fields, record.cycle or 0
        instance = fields.get(names.FIELD_INSTANCE, names.DEFAULT_INSTANCE)
        # The record that sums up a cycle has no kind.
        if record.event is Event.DRIFT_DETECTED and names.FIELD_KIND in fields:
            values = [_text(fields.get(name, "")) for name in _TOLD_OF_DRIFT]
            if table := fields.get(names.FIELD_TABLE):
                # A key alone would be taken for a parameter.
                values[0] = _text(" ".join(filter(None, (table, fields.get(names.FIELD_KEY)))))
            known, parameters = self._drifted.get(instance, (cycle, []))
            if known != cycle:
                parameters = []
            self._drifted[instance] = (cycle, [*parameters, values[0] or "main.cf"])
            return "DriftDetected", (cycle, _text(instance), *values)
        if record.event is Event.DRIFT_CORRECTED:
            known, parameters = self._drifted.pop(instance, (cycle, []))
            drifted = list(dict.fromkeys(parameters)) if known == cycle else []
            displaced = fields.get(names.FIELD_DISPLACED, "").split("\n")
            paths = [_text(path) for path in displaced if path]
            return "DriftCorrected", (cycle, _text(instance), drifted, paths)
        return None


def _text(value: str) -> str:
    """Return the text fit for D-Bus: UTF-8, no NUL, short enough for dbus-daemon not to hang up."""
    shown = sentences.printable(value[:_MOST_CHARACTERS])
    return shown if len(value) <= _MOST_CHARACTERS else f"{shown}..."


def refused_suspension(seconds: int, reason: str) -> str:
    """Return what is wrong with the arguments of Suspend; "" if nothing is."""
    if seconds > MOST_SUSPENDED_SECONDS:
        return f"Suspend: {seconds} s is more than a year; give less, or 0 for no time limit"
    if len(reason) > _MOST_REASON:
        return f"Suspend: the reason has {len(reason)} characters; give at most {_MOST_REASON}"
    return ""


class Bus:
    """The outlet on the bus. `note`, `publish` and `close` belong to the acting thread.

    `reconcile`, `suspend` (seconds, None: until resumed; reason; the caller) and `resume` (the
    caller) are called in threads of this module, one at a time. The caller is told of any
    PfAgentError that they raise.
    """

    def __init__(
        self,
        reconcile: Callable[[], None],
        suspend: Callable[[float | None, str, str], None],
        resume: Callable[[str], None],
    ) -> None:
        self._reconcile, self._suspend, self._resume = reconcile, suspend, resume
        self._status = Status(Phase.STARTING, 0.0)
        self._signals = DriftSignals()
        self._told: dict[str, Any] = {}
        self._troubles: SimpleQueue[str] = SimpleQueue()
        self._answered = threading.Event()
        self._link = BusLink(PATH, INTERFACE, self._call, self._property, self._heard)
        self._authority = Authority()
        self._orders = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="bus", daemon=True)

    def start(self) -> None:
        """Begin to connect and to serve; return at once. To be called once."""
        try:
            self._thread.start()
        except RuntimeError as error:
            self._heard(no_thread(error))

    def is_answered(self) -> bool:
        """Whether it is known if the name is ours, so that what systemd starts then can call it."""
        return self._answered.is_set()

    def note(self, record: Record) -> None:
        """Signal drift, and its correction. Raises HostError, once, if there is no bus.

        Then the signal is lost, and nothing else.
        """
        signal = self._signals.of(record)
        if signal is not None:
            name, arguments = signal
            self._link.emit(name, arguments)
        self._raise_trouble()

    def publish(self, status: Status) -> None:
        """Show this status from now on, and signal changes. Raises HostError as `note` does."""
        self._status = status
        now = properties(status, time.time())
        changed = {
            name: value
            for name, value in now.items()
            if name not in _UNTOLD and self._told.get(name) != value
        }
        self._told = now
        if changed and not self._link.emit_changed(changed):
            self._told = {}  # everything, once there is room again
        self._raise_trouble()

    def close(self) -> None:
        """Leave the bus and end the thread."""
        self._link.quit()
        if self._thread.ident is not None:
            self._thread.join(_CLOSE_SECONDS)

    def _raise_trouble(self) -> None:
        try:
            raise HostError(self._troubles.get_nowait())
        except Empty:
            return

    # --- in the thread of this module -----------------------------------------------------------

    def _serve(self) -> None:
        try:
            self._link.serve()
        except Exception as error:  # noqa: BLE001 - the acting thread reports it
            self._heard(f"the thread has ended ({error!r}); please report this")

    def _heard(self, trouble: str) -> None:
        """Note that the name is ours (""), or why it is not."""
        if trouble:
            self._troubles.put(f"D-Bus: {trouble}")
        self._answered.set()

    def _property(self, name: str) -> Any:
        return properties(self._status, time.time())[name]

    def _call(self, method: str, arguments: tuple[Any, ...], invocation: Any) -> None:
        """Answer a call once it is known whether the caller is authorized."""
        from gi.repository import Gio

        if method == "Suspend" and (wrong := refused_suspension(*arguments)):
            refuse(invocation, _INVALID_ARGUMENTS, wrong)
            return
        flags = invocation.get_message().get_flags()
        interactive = bool(flags & Gio.DBusMessageFlags.ALLOW_INTERACTIVE_AUTHORIZATION)
        answer = partial(self._obey, method, arguments, invocation)
        sender = invocation.get_sender()
        caller = Caller(invocation.get_connection(), sender, self._link.user_of(sender))
        self._authority.ask(caller, ACTIONS[method], interactive, answer)

    def _obey(
        self, method: str, arguments: tuple[Any, ...], invocation: Any, verdict: Verdict
    ) -> None:
        if verdict.error:
            refuse(invocation, verdict.error, verdict.why)
            return
        try:
            with self._orders:
                self._forward(method, arguments, verdict.who)
        except PfAgentError as error:
            refuse(invocation, _FAILED, PROCESS.text(str(error)))
        except Exception as error:  # noqa: BLE001 - GLib would only print it, without an answer
            why = PROCESS.text(f"{method}: {error!r}; please report this")
            refuse(invocation, _FAILED, why)
            self._heard(f"{method} failed ({error!r}); please report this")
        else:
            accept(invocation)

    def _forward(self, method: str, arguments: tuple[Any, ...], who: str) -> None:
        if method == "Suspend":
            seconds, reason = arguments
            self._suspend(float(seconds) or None, _text(reason), who)
        elif method == "Resume":
            self._resume(who)
        else:
            self._reconcile()
