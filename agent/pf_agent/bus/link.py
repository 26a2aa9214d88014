"""An object and a name on the system bus, kept there while dbus-daemon comes and goes.

The connection is private, as that of manager.py is, and for its reason: it may close, and another
is opened.

All of it happens in one thread, in a main context of its own: the one that systemd.py serves runs
only while the agent follows a job.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pf_agent.bus.failures import no_library

_DBUS = "org.freedesktop.DBus"
_IN_QUEUE = 2
_LEAKING = (3, 42)

_CONNECT_SECONDS = 10
_RETRY_SECONDS = (1, 2, 5, 10, 30)


def accept(invocation: Any) -> None:
    """Answer a call of a method that returns nothing."""
    _release(invocation, partial(invocation.return_value, None))


def refuse(invocation: Any, name: str, words: str) -> None:
    """Answer a call with the D-Bus error `name`."""
    _release(invocation, partial(invocation.return_dbus_error, name, words))


def _release(invocation: Any, answer: Callable[[], None]) -> None:
    """Answer a call and let go of it.

    An answer takes over the reference that came with the call (g_dbus_method_invocation_return_
    value(3), "transfer full"). PyGObject 3.42 (Debian 12, Ubuntu 22.04) gives it one of its own
    instead, and the first is never dropped: 1.6 KiB for each call, by which anybody on the machine
    could fill its memory. Later ones are left alone, since one reference too few ends the process:
    3.50 does not leak, those between were not measured.
    """
    import gi

    answer()
    if gi.version_info[:2] == _LEAKING:
        invocation._unref()


class BusLink:
    """One interface of one object, under the bus name that the interface itself has.

    `xml` is its introspection data. `call` is given the method, its arguments and the invocation to
    answer; `show` the name of a property; `heard` is told "" when the name is ours, or once why
    there is none. All of them in the thread that is in `serve`.
    """

    def __init__(
        self,
        path: str,
        xml: str,
        call: Callable[[str, tuple[Any, ...], Any], None],
        show: Callable[[str], Any],
        heard: Callable[[str], None],
    ) -> None:
        self._path, self._xml = path, xml
        self._call, self._show, self._heard = call, show, heard
        self._connection: Any = None
        self._interface: Any = None
        self._loop: Any = None
        self._context: Any = None
        self._failures = 0
        self._is_told = False
        self._is_over = threading.Event()

    def emit(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Send a signal; where there is no connection, nobody hears it. From any thread."""
        if self._connection is not None:
            signal = self._interface.lookup_signal(name)
            signature = "".join(argument.signature for argument in signal.args)
            self._emit(self._interface.name, name, f"({signature})", arguments)

    def emit_changed(self, changed: Mapping[str, Any]) -> None:
        """PropertiesChanged of org.freedesktop.DBus.Properties. From any thread."""
        if self._connection is not None:
            variants = {name: self._variant(name, value) for name, value in changed.items()}
            arguments: tuple[Any, ...] = (self._interface.name, variants, [])
            self._emit(f"{_DBUS}.Properties", "PropertiesChanged", "(sa{sv}as)", arguments)

    def _emit(self, interface: str, name: str, signature: str, arguments: tuple[Any, ...]) -> None:
        from gi.repository import GLib

        connection = self._connection
        if connection is None:
            return
        try:
            body = GLib.Variant(signature, arguments)
            connection.emit_signal(None, self._path, interface, name, body)
        except GLib.Error:
            return  # closed just now, and `_lost` hears of it

    def _variant(self, name: str, value: Any) -> Any:
        from gi.repository import GLib

        return GLib.Variant(self._interface.lookup_property(name).signature, value)

    def serve(self) -> None:
        """Connect and answer until `quit`."""
        try:
            from gi.repository import Gio, GLib
        except ImportError as error:
            self._heard(no_library(error))
            return
        self._interface = Gio.DBusNodeInfo.new_for_xml(self._xml).interfaces[0]
        self._context = GLib.MainContext.new()
        # Whatever is begun in this thread from here on is answered by this context.
        self._context.push_thread_default()
        self._loop = GLib.MainLoop.new(self._context, False)
        self._connect()
        if not self._is_over.is_set():
            self._loop.run()
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            connection.flush_sync(None)
            connection.close_sync(None)

    def quit(self) -> None:
        """Have `serve` come to its end. From any thread."""
        self._is_over.set()
        if self._loop is not None:
            self._after(0, self._loop.quit)

    def _after(self, seconds: float, act: Callable[[], None]) -> Any:
        from gi.repository import GLib

        def once(*_data: object) -> bool:
            act()
            return False

        source = GLib.timeout_source_new(int(seconds * 1000))
        source.set_callback(once)
        source.attach(self._context)
        return source

    def _connect(self) -> None:
        from gi.repository import Gio, GLib

        patience = Gio.Cancellable()
        # systemd holds the bus's socket open: a caller may queue there with nobody to serve him.
        alarm = self._after(_CONNECT_SECONDS, patience.cancel)
        flags = Gio.DBusConnectionFlags
        try:
            address = Gio.dbus_address_get_for_bus_sync(Gio.BusType.SYSTEM, None)
        except GLib.Error as error:
            self._fail(str(error.message))
            return
        Gio.DBusConnection.new_for_address(
            address,
            flags.AUTHENTICATION_CLIENT | flags.MESSAGE_BUS_CONNECTION,
            None,
            patience,
            partial(self._connected, alarm),
        )

    def _connected(self, alarm: Any, _source: Any, result: Any) -> None:
        from gi.repository import Gio, GLib

        alarm.destroy()
        try:
            connection = Gio.DBusConnection.new_for_address_finish(result)
        except GLib.Error as error:
            silent = error.matches(Gio.io_error_quark(), Gio.IOErrorEnum.CANCELLED)
            self._fail(f"no answer within {_CONNECT_SECONDS} s" if silent else str(error.message))
            return
        connection.set_exit_on_close(False)
        connection.connect("closed", self._lost)
        connection.register_object(self._path, self._interface, self._called, self._shown, None)
        self._connection = connection
        connection.call(
            _DBUS,
            "/org/freedesktop/DBus",
            _DBUS,
            "RequestName",
            # No flag: nobody may take it from us, and where it is taken, we get it later.
            GLib.Variant("(su)", (self._interface.name, 0)),
            GLib.VariantType.new("(u)"),
            0,
            _CONNECT_SECONDS * 1000,
            None,
            self._named,
        )

    def _named(self, connection: Any, result: Any) -> None:
        from gi.repository import GLib

        name = self._interface.name
        try:
            (answer,) = connection.call_finish(result).unpack()
        except GLib.Error as error:
            if connection.is_closed():
                return  # `_lost` has heard of it
            self._heard(
                f"not allowed to be {name} ({error.message}); is"
                f" /usr/share/dbus-1/system.d/{name}.conf there? Then run `systemctl reload dbus`"
            )
            return
        self._failures = 0
        self._is_told = False
        self._heard(
            f"another process is {name}; see `busctl status {name}`" if answer == _IN_QUEUE else ""
        )

    def _fail(self, why: str) -> None:
        if not self._is_told:
            self._is_told = True
            self._heard(f"no system bus ({why}); see `systemctl status dbus.service`")
        self._again()

    def _lost(self, connection: Any, *_why: object) -> None:
        if connection is self._connection:
            self._connection = None
            self._again()

    def _again(self) -> None:
        wait = _RETRY_SECONDS[min(self._failures, len(_RETRY_SECONDS) - 1)]
        self._failures += 1
        self._after(wait, self._connect)

    def _called(self, *call: Any) -> None:
        _connection, _sender, _path, _interface, method, arguments, invocation = call
        self._call(method, arguments.unpack(), invocation)

    def _shown(self, *what: Any) -> Any:
        _connection, _sender, _path, _interface, name = what
        return self._variant(name, self._show(name))
