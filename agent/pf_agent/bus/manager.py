"""systemd's manager on a connection of our own to the system bus: the single calls.

The connection is private. GLib ends a process when the shared one is closed under it, and hands
out that same dead connection ever after; ours may close, and another is opened.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Set
from dataclasses import dataclass
from functools import partial
from typing import Any

from pf_agent.bus.failures import CALL_SECONDS, SYSTEMD
from pf_agent.bus.units import path_of

_MANAGER = f"{SYSTEMD}.Manager"
_MANAGER_PATH = "/org/freedesktop/systemd1"
_PROPERTIES = "org.freedesktop.DBus.Properties"
# What is called here of org.freedesktop.systemd1(5). Were it asked for by `Bus.get`, pydbus would
# make 200 methods of systemd's answer and keep the text that says them: 0.7 MiB.
_XML = f"""
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
_ALREADY_SUBSCRIBED = f"{SYSTEMD}.AlreadySubscribed"


@dataclass(frozen=True)
class Manager:
    """systemd's manager, the connection it is called on, and the signals that we hear on it.

    Each method is one call, within a limit of its own, and raises GLib.Error.
    """

    bus: Any
    proxy: Any
    subscription: Any
    followed: dict[str, Any]

    def subscribe(self) -> None:
        """Ask for JobRemoved; systemd forgets who asked when the bus starts anew."""
        from gi.repository import Gio, GLib

        try:
            self.proxy.Subscribe(timeout=CALL_SECONDS)
        except GLib.Error as error:
            if Gio.dbus_error_get_remote_error(error) != _ALREADY_SUBSCRIBED:
                raise

    def is_closed(self) -> bool:
        """Tell whether the connection is gone."""
        return bool(self.bus.con.is_closed())

    def close(self) -> None:
        """Hang up."""
        if not self.is_closed():
            for subscription in (self.subscription, *self.followed.values()):
                subscription.unsubscribe()
            self.bus.con.close(None, None)

    def heed(self, units: Set[str], changed: Callable[..., None]) -> None:
        """Hear of the changes of these units and no others: `changed` is given the unit first."""
        for unit in self.followed.keys() - units:
            self.followed.pop(unit).unsubscribe()
        for unit in units - self.followed.keys():
            self.followed[unit] = self.bus.subscribe(
                sender=SYSTEMD,
                iface=_PROPERTIES,
                signal="PropertiesChanged",
                object=path_of(unit),
                arg0=f"{SYSTEMD}.Unit",
                signal_fired=partial(changed, unit),
            )

    def start(self, unit: str) -> None:
        """Queue a start."""
        self.proxy.StartUnit(unit, "replace", timeout=CALL_SECONDS)

    def restart(self, unit: str) -> str:
        """Queue a restart and return the job's path."""
        return str(self.proxy.RestartUnit(unit, "replace", timeout=CALL_SECONDS))

    def reload(self, unit: str) -> str:
        """Queue a reload and return the job's path."""
        return str(self.proxy.ReloadUnit(unit, "replace", timeout=CALL_SECONDS))

    def find_job(self, number: int) -> None:
        """Ask for a job: where it is no more, that is the error."""
        self.proxy.GetJob(number, timeout=CALL_SECONDS)

    def reset_failed(self, unit: str) -> None:
        """Have systemd forget that the unit failed, and how often it was started."""
        self.proxy.ResetFailedUnit(unit, timeout=CALL_SECONDS)

    def properties(self, unit: str) -> dict[str, Any]:
        """Return all properties of all interfaces of a unit at one moment, as `systemctl show`."""
        from gi.repository import GLib

        # Not by pydbus: it would build classes for each unit anew, and its properties have no
        # time-out.
        answer = self.bus.con.call_sync(
            SYSTEMD,
            self.proxy.LoadUnit(unit, timeout=CALL_SECONDS),
            _PROPERTIES,
            "GetAll",
            GLib.Variant("(s)", ("",)),
            GLib.VariantType.new("(a{sv})"),
            0,
            int(CALL_SECONDS * 1000),
            None,
        )
        properties: dict[str, Any] = answer.unpack()[0]
        return properties


def connected(lost: Callable[..., None], job_removed: Callable[..., None]) -> Manager:
    """Connect, listen for JobRemoved, then ask systemd to send it; raises GLib.Error.

    `lost` is called when the connection ends, `job_removed` with the signal. Both, and what `heed`
    is given, are called in the thread that serves GLib's default main context.
    """
    bus = _connect()
    bus.con.set_exit_on_close(False)
    bus.con.connect("closed", lost)
    subscription = bus.subscribe(
        sender=SYSTEMD,
        iface=_MANAGER,
        signal="JobRemoved",
        object=_MANAGER_PATH,
        signal_fired=job_removed,
    )
    manager = Manager(bus, _proxy_of(bus), subscription, {})
    try:
        # dbus-daemon holds this call until systemd is on the bus, so a bus or a systemd that has
        # just started anew is waited for.
        manager.subscribe()
    except BaseException:
        manager.close()
        raise
    return manager


def _connect() -> Any:
    """Return a connection of our own to the system bus, as pydbus's Bus; raises GLib.Error."""
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
    alarm = threading.Timer(CALL_SECONDS, patience.cancel)
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


def _proxy_of(bus: Any) -> Any:
    """Return systemd's manager as pydbus's proxy."""
    from xml.etree import ElementTree

    from pydbus.proxy import Interface

    return Interface(ElementTree.fromstring(_XML))(bus, SYSTEMD, _MANAGER_PATH)
