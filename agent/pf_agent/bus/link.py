"""An object and a name on the system bus, kept there while dbus-daemon comes and goes.

The connection is private, for the same reason as manager.py's: it may close, and another is opened.

All of it happens in one thread, in a main context of its own: the one that systemd.py serves runs
only while the agent follows a job.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from pf_agent.bus.failures import no_library
from pf_agent.bus.gate import Gated, connect
from pf_agent.errors import HostError

_DBUS = "org.freedesktop.DBus"
_DBUS_PATH = "/org/freedesktop/DBus"
_IN_QUEUE = 2
_LEAKING = (3, 42)

_CONNECT_SECONDS = 10
_CLOSE_SECONDS = 1.0
_RETRY_SECONDS = (1, 2, 5, 10, 30)
# GLib keeps what dbus-daemon does not read, without limit. (Its own flush() takes a thread for each
# call, and was seen not to return.)
_MANY_UNREAD = 100
_MOST_UNREAD = 200


def accept(invocation: Any) -> None:
    """Answer a call of a method that returns nothing."""
    _release(invocation, partial(invocation.return_value, None))


def refuse(invocation: Any, name: str, words: str) -> None:
    """Answer a call with the D-Bus error `name`."""
    _release(invocation, partial(invocation.return_dbus_error, name, words))


def _release(invocation: Any, answer: Callable[[], None]) -> None:
    """Answer a call and free it.

    An answer takes over the reference that came with the call
    (g_dbus_method_invocation_return_value(3), "transfer full"). PyGObject 3.42 (Debian 12, Ubuntu
    22.04) passes a reference of its own instead, and the first one is never dropped: 1.6 KiB for
    each call, by which any user of the machine could fill the agent's memory. Later versions are
    left alone, since one reference too few ends the process: 3.50 does not leak, those in between
    were not measured.
    """
    import gi

    answer()
    if gi.version_info[:2] == _LEAKING:
        invocation._unref()


class BusLink:
    """One interface of one object, under a bus name equal to the interface's.

    `xml` is its introspection data. `call` gets the method, its arguments and the invocation to
    answer; `show` the name of a property; `heard` gets "" when the name is ours, or, once, why it
    is not. All of them run in the thread that is in `serve`.
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
        self._gated: Gated | None = None
        self._patience: Any = None
        self._connection: Any = None
        self._interface: Any = None
        self._loop: Any = None
        self._context: Any = None
        self._failures = 0
        self._is_told = False
        self._is_over = threading.Event()
        self._sent = 0
        self._read = 0  # at least
        self._is_asked = False  # how far dbus-daemon has read

    def user_of(self, sender: str) -> int | None:
        """Return the user of a bus name, None if not remembered. May be called from any thread."""
        return None if self._gated is None else self._gated.admission.user_of(sender)

    def emit(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Send a signal. From any thread, but one at a time; it does not wait.

        Without a connection, or with hundreds unread by dbus-daemon, the signal is dropped.
        """
        if self._connection is not None:
            signal = self._interface.lookup_signal(name)
            signature = "".join(argument.signature for argument in signal.args)
            self._emit(self._interface.name, name, f"({signature})", arguments)

    def emit_changed(self, changed: Mapping[str, Any]) -> bool:
        """Send PropertiesChanged (org.freedesktop.DBus.Properties). Threads as for `emit`.

        Return False if there was a connection and the signal was dropped.
        """
        if self._connection is not None:
            variants = {name: self._variant(name, value) for name, value in changed.items()}
            arguments: tuple[Any, ...] = (self._interface.name, variants, [])
            return self._emit(f"{_DBUS}.Properties", "PropertiesChanged", "(sa{sv}as)", arguments)
        return True

    def _emit(self, interface: str, name: str, signature: str, arguments: tuple[Any, ...]) -> bool:
        from gi.repository import GLib

        connection = self._connection
        if connection is None or self._sent - self._read >= _MOST_UNREAD:
            return connection is None
        try:
            body = GLib.Variant(signature, arguments)
            connection.emit_signal(None, self._path, interface, name, body)
        except GLib.Error:
            return True  # it has just closed; `_lost` is told
        self._sent += 1
        if self._sent - self._read >= _MANY_UNREAD and not self._is_asked:
            self._is_asked = True
            self._after(0, partial(self._ask, connection, self._sent))
        return True

    def _ask(self, connection: Any, sent: int) -> None:
        """Learn when the messages so far are read: dbus-daemon answers what came after them."""
        from gi.repository import GLib

        connection.call(
            _DBUS,
            _DBUS_PATH,
            _DBUS,
            "GetId",
            None,
            None,
            0,
            GLib.MAXINT,  # no timeout: it may stand still for hours
            None,
            partial(self._answered, sent),
        )

    def _answered(self, sent: int, connection: Any, result: Any) -> None:
        from gi.repository import GLib

        with suppress(GLib.Error):  # the connection is lost, with all that was on it
            connection.call_finish(result)
        self._read = sent
        self._is_asked = False

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
        # What is started in this thread from here on is answered in this context.
        self._context.push_thread_default()
        self._loop = GLib.MainLoop.new(self._context, False)
        self._connect()
        if not self._is_over.is_set():
            self._loop.run()
        self._connection = None
        if self._gated is not None:
            self._gated.close(_CLOSE_SECONDS)

    def quit(self) -> None:
        """Make `serve` return. May be called from any thread."""
        self._is_over.set()
        if self._patience is not None:
            self._patience.cancel()
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

        self._patience = patience = Gio.Cancellable()
        if self._is_over.is_set():
            return
        try:
            self._gated = connect(_CONNECT_SECONDS, patience)
        except GLib.Error as error:
            silent = error.matches(Gio.io_error_quark(), Gio.IOErrorEnum.CANCELLED)
            why = f"no answer within {_CONNECT_SECONDS} s" if silent else str(error.message)
            self._fail(f"no system bus ({why}); see `systemctl status dbus.service`")
            return
        except HostError as error:
            self._fail(str(error))
            return
        connection = self._gated.connection
        connection.connect("closed", self._lost)
        connection.register_object(self._path, self._interface, self._called, self._shown, None)
        self._connection = connection
        connection.call(
            _DBUS,
            _DBUS_PATH,
            _DBUS,
            "RequestName",
            # No flag: it cannot be taken from us, and if another process has it, we get it later.
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
                return  # `_lost` was told
            self._heard(
                f"not allowed to own {name} ({error.message}); is"
                f" /usr/share/dbus-1/system.d/{name}.conf there? Then run `systemctl reload dbus`"
            )
            return
        self._failures = 0
        self._is_told = False
        self._heard(
            f"another process owns {name}; see `busctl status {name}`"
            if answer == _IN_QUEUE
            else ""
        )

    def _fail(self, why: str) -> None:
        if not self._is_told:
            self._is_told = True
            self._heard(why)
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
