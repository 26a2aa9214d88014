"""systemd's manager, on our own connection to the system bus: the single calls.

The connection is private. GLib ends the process if the shared one is closed, and returns that same
dead connection ever after; ours may close, and another is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from functools import partial
from typing import Any

from pf_agent.bus.failures import CALL_SECONDS, SYSTEMD
from pf_agent.bus.gate import connect
from pf_agent.bus.units import path_of

MANAGER = f"{SYSTEMD}.Manager"
MANAGER_PATH = "/org/freedesktop/systemd1"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_ALREADY_SUBSCRIBED = f"{SYSTEMD}.AlreadySubscribed"


@dataclass(frozen=True)
class Manager:
    """systemd's manager, the connection used to call it, and the signals received on it.

    Each method is one call, with its own time limit, and raises GLib.Error.
    """

    bus: Any
    subscription: Any
    followed: dict[str, Any]

    def subscribe(self) -> None:
        """Ask for JobRemoved; systemd forgets its subscribers when the bus restarts."""
        from gi.repository import Gio, GLib

        try:
            self._call("Subscribe")
        except GLib.Error as error:
            if Gio.dbus_error_get_remote_error(error) != _ALREADY_SUBSCRIBED:
                raise

    def is_closed(self) -> bool:
        """Tell whether the connection is closed."""
        return bool(self.bus.con.is_closed())

    def close(self) -> None:
        """Hang up."""
        if not self.is_closed():
            for subscription in (self.subscription, *self.followed.values()):
                subscription.unsubscribe()
            self.bus.con.close(None, None)

    def heed(self, units: Set[str], changed: Callable[..., None]) -> None:
        """Receive the changes of exactly these units: `changed` is called with the unit first."""
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

    def restart(self, unit: str) -> str:
        """Queue a restart and return the job's path."""
        return str(self._call("RestartUnit", "(ss)", (unit, "replace"))[0])

    def stop(self, unit: str) -> None:
        """Queue a stop."""
        self._call("StopUnit", "(ss)", (unit, "replace"))

    def reload(self, unit: str) -> str:
        """Queue a reload and return the job's path."""
        return str(self._call("ReloadUnit", "(ss)", (unit, "replace"))[0])

    def find_job(self, number: int) -> None:
        """Look up a job; raises the D-Bus error if it is gone."""
        self._call("GetJob", "(u)", (number,))

    def reset_failed(self, unit: str) -> None:
        """Make systemd forget that the unit failed, and how often it was started."""
        self._call("ResetFailedUnit", "(s)", (unit,))

    def properties(self, unit: str) -> dict[str, Any]:
        """Return all properties of all interfaces of a unit at one moment, as `systemctl show`."""
        (path,) = self._call("LoadUnit", "(s)", (unit,))
        properties: dict[str, Any] = self._call("GetAll", "(s)", ("",), path, _PROPERTIES)[0]
        return properties

    def _call(
        self,
        method: str,
        signature: str = "()",
        arguments: tuple[object, ...] = (),
        path: str = MANAGER_PATH,
        interface: str = MANAGER,
    ) -> tuple[Any, ...]:
        return call(self.bus.con, (path, interface, method), signature, arguments)


def call(
    connection: Any,
    where: tuple[str, str, str],
    signature: str = "()",
    arguments: tuple[object, ...] = (),
) -> tuple[Any, ...]:
    """Call systemd; `where` is the path, the interface and the method. Raises GLib.Error."""
    # Not through pydbus: it would build classes for each unit, and create 200 methods from
    # systemd's introspection data (0.7 MiB).
    from gi.repository import GLib

    body = GLib.Variant(signature, arguments)
    limit = int(CALL_SECONDS * 1000)
    answer = connection.call_sync(SYSTEMD, *where, body, None, 0, limit, None)
    return tuple(answer.unpack())


def connected(lost: Callable[..., None], job_removed: Callable[..., None]) -> Manager:
    """Connect, listen for JobRemoved, then ask systemd to send it; raises GLib.Error.

    `lost` is called when the connection ends, `job_removed` with the signal. Both, and the callback
    given to `heed`, are called in the thread that serves GLib's default main context.
    """
    from pydbus.bus import Bus

    bus = Bus(connection_of_our_own())
    bus.con.connect("closed", lost)
    subscription = bus.subscribe(
        sender=SYSTEMD,
        iface=MANAGER,
        signal="JobRemoved",
        object=MANAGER_PATH,
        signal_fired=job_removed,
    )
    manager = Manager(bus, subscription, {})
    try:
        # dbus-daemon holds this call until systemd is on the bus, so a bus or a systemd that has
        # just restarted is waited for.
        manager.subscribe()
    except BaseException:
        manager.close()
        raise
    return manager


def connection_of_our_own() -> Any:
    """Return a connection to the system bus. Raises GLib.Error."""
    # pydbus.connect() can wait forever: systemd holds the bus's socket open and lets callers queue
    # there, even if no dbus-daemon comes to serve them. And the connection's .pydbus attribute,
    # which it uses, can deadlock: it makes PyGObject ask for the interpreter's lock
    # (g_object_add_toggle_ref) when GLib takes a reference to a connection, while GLib holds a lock
    # that is needed to free another connection, as the garbage collector does with the one before
    # (message_bus_lock in GLib's gio/gdbusconnection.c).
    return connect(CALL_SECONDS).connection
