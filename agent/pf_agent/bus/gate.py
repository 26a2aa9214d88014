"""Our own connection to the system bus, behind a gate that keeps a flood of messages out.

GDBus reads as fast as a sender writes, makes values of all of it (hundreds of bytes from a byte or
two, up to the 32 MiB that the bus allows a message) and queues each call until the main context
handles it: any user of the machine could fill the agent's memory. A filter
(g_dbus_connection_add_filter) runs only after the values are made. So GDBus gets one end of a
socket pair, and a thread here reads the bus and passes on what admission.py admits.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pf_agent.bus.admission import Admission, most_bytes
from pf_agent.bus.wire import Messages
from pf_agent.errors import HostError, is_no_thread, no_thread

# A chunk is about a hundred calls, or 1 ms, during which other threads wait for the interpreter.
_CHUNK = 16384
_MOST_GREETING = 1024


@dataclass(frozen=True)
class Gated:
    """GDBus's connection, the thread that carries its messages, and what that thread knows."""

    connection: Any
    carrier: threading.Thread
    admission: Admission

    def close(self, seconds: float) -> None:
        """Hang up; what was sent before goes out within `seconds`. Raises GLib.Error."""
        if not self.connection.is_closed():
            self.connection.flush_sync(None)
            self.connection.close_sync(None)
        self.carrier.join(seconds)


def connect(seconds: float, patience: Any = None) -> Gated:
    """Connect to the system bus; `patience` is a Gio.Cancellable that ends the wait.

    Raises GLib.Error, also after `seconds`, and HostError if no thread can be started.
    """
    from gi.repository import Gio, GLib

    cancellable = Gio.Cancellable() if patience is None else patience
    alarm = threading.Timer(seconds, cancellable.cancel)
    alarm.daemon = True
    try:
        alarm.start()
        return _gated(_called(cancellable), cancellable)
    except OSError as error:
        # The daemon was just exiting: another one may be running by now.
        code = Gio.IOErrorEnum.BROKEN_PIPE
        raise GLib.Error.new_literal(Gio.io_error_quark(), str(error), code) from error
    except RuntimeError as error:
        if not is_no_thread(error):
            raise
        raise HostError(f"no system bus: {no_thread(error)}") from error
    finally:
        alarm.cancel()


def _called(cancellable: Any) -> socket.socket:
    """Return a socket connected to the system bus, wherever that is."""
    from gi.repository import Gio

    address = Gio.dbus_address_get_for_bus_sync(Gio.BusType.SYSTEM, None)
    stream, _guid = Gio.dbus_address_get_stream_sync(address, cancellable)
    try:
        bus = socket.socket(fileno=os.dup(stream.get_socket().get_fd()))
    finally:
        stream.close(None)
    bus.setblocking(True)
    return bus


def _gated(bus: socket.socket, cancellable: Any) -> Gated:
    from gi.repository import Gio

    inner, other = socket.socketpair()
    admission = Admission(time.monotonic())
    ends = (bus, inner, admission)
    carrier = threading.Thread(target=_carry, args=ends, name="gate", daemon=True)
    try:
        _greet(bus, cancellable)
        carrier.start()
    except BaseException:
        for end in (bus, inner, other):
            end.close()
        raise
    stream = Gio.Socket.new_from_fd(other.detach()).connection_factory_create_connection()
    flags = Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
    connection = Gio.DBusConnection.new_sync(stream, None, flags, None, cancellable)
    connection.set_exit_on_close(False)
    return Gated(connection, carrier, admission)


def _greet(bus: socket.socket, cancellable: Any) -> None:
    """Authenticate (D-Bus Specification, "Authentication Protocol"); raises GLib.Error, OSError.

    File descriptor passing is not requested: then none can be sent to us. Done here and not by
    GDBus, since systemd holds the bus's socket open: a caller may queue there while nothing serves
    it.
    """
    poll = select.poll()
    poll.register(bus, select.POLLIN)
    poll.register(cancellable.get_fd(), select.POLLIN)
    try:
        bus.sendall(b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\n")
        answer = b""
        while not answer.endswith(b"\r\n"):
            poll.poll()
            cancellable.set_error_if_cancelled()
            more = bus.recv(1)
            if not more or len(answer) > _MOST_GREETING:
                raise ConnectionError("the bus closed the connection during authentication")
            answer += more
        if not answer.startswith(b"OK "):
            words = answer.decode("ascii", "replace").strip()
            raise ConnectionError(f"the bus refused authentication: {words}")
        bus.sendall(b"BEGIN\r\n")
    finally:
        cancellable.release_fd()


def _carry(outer: socket.socket, inner: socket.socket, admission: Admission) -> None:
    """Carry messages between the bus and GDBus until one of them hangs up; then hang up too.

    Also if memory runs out: GDBus then reports a lost connection, and a new one is opened.
    """
    with outer, inner, suppress(OSError, ValueError, MemoryError):
        coming, going = Messages(most_bytes), Messages(lambda _kind: None)
        poll = select.poll()
        poll.register(outer, select.POLLIN)
        poll.register(inner, select.POLLIN)
        while True:
            ready = {number for number, _ in poll.poll()}
            if inner.fileno() in ready:
                data = inner.recv(_CHUNK)
                if not data:
                    return
                # Only whole messages, since our own may go in between.
                admission.outward.extend(message for _, message in going.feed(data))
            if outer.fileno() in ready:
                data = outer.recv(_CHUNK)
                if not data:
                    return
                now = time.monotonic()
                for head, message in coming.feed(data):
                    admission.take(head, message, now)
            _send(outer, admission.outward)
            _send(inner, admission.inward)


def _send(where: socket.socket, messages: list[bytes]) -> None:
    if messages:
        where.sendall(b"".join(messages))
        messages.clear()
