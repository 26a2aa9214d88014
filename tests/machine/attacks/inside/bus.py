"""D-Bus: orders without the right, floods, and signals in the name of others."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from gi.repository import Gio, GLib

from .ground import MARK, Steps, Won

NAME = "org.pfagent.Agent1"
PATH = "/org/pfagent/Agent1"
DBUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
PROPERTIES = "org.freedesktop.DBus.Properties"
SYSTEMD = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
MANAGER = "org.freedesktop.systemd1.Manager"
_ORDERS = (
    ("Reconcile", None),
    ("Suspend", GLib.Variant("(ts)", (0, f"{MARK}\nPF_AGENT_EVENT=forged"))),
    ("Suspend", GLib.Variant("(ts)", (2**63, MARK * 1000))),
    ("Resume", None),
)
# Longer than an answer takes. What is one call too many gets none, and the next is due.
_PATIENCE_MS = 5000
# Not many more can be under way of one client (dbus-daemon(1), max_replies_per_connection).
_UNDER_WAY = 100
# Nor may a user have more (max_connections_per_user is 256).
_FEWEST_CONNECTIONS, _MOST_CONNECTIONS = 200, 300


def _bus() -> Any:
    address = Gio.dbus_address_get_for_bus_sync(Gio.BusType.SYSTEM, None)
    flags = Gio.DBusConnectionFlags
    client = flags.AUTHENTICATION_CLIENT | flags.MESSAGE_BUS_CONNECTION
    return Gio.DBusConnection.new_for_address_sync(address, client, None, None)


def _ask(bus: Any, place: tuple[str, str, str], method: str, arguments: Any = None) -> Any:
    """The answer; GLib.Error where there is none."""
    return bus.call_sync(*place, method, arguments, None, 0, _PATIENCE_MS, None)


def _owner(bus: Any, name: str) -> str:
    return str(_ask(bus, DBUS, "GetNameOwner", GLib.Variant("(s)", (name,)))[0])


def orders(won: Won) -> Steps:
    """Calls all three methods, by our name and by the unique one, and sets each property."""
    bus = _bus()
    setting = GLib.Variant("(ssv)", (NAME, "Suspended", GLib.Variant("b", True)))
    while True:
        for target in (NAME, _owner(bus, NAME)):
            for method, arguments in _ORDERS:
                with suppress(GLib.Error):
                    _ask(bus, (target, PATH, NAME), method, arguments)
                    won(f"{method} of {target} was obeyed")
            with suppress(GLib.Error):
                _ask(bus, (target, PATH, PROPERTIES), "Set", setting)
                won("a property was set")
        yield


def _flooded(calls: Any) -> Steps:
    """Make these calls in turn, as many as a client may, by one connection after the other.

    Half of them want an answer. The agent drops what is too much: who waited would flood no more.
    """
    number = 0
    while True:
        bus = _bus()
        for count in range(2 * _UNDER_WAY):
            path, interface, method, arguments = calls[number % len(calls)]
            call = Gio.DBusMessage.new_method_call(NAME, path, interface, method)
            if arguments is not None:
                call.set_body(arguments)
            if count % 2:
                call.set_flags(Gio.DBusMessageFlags.NO_REPLY_EXPECTED)
            else:
                number += 1
            bus.send_message(call, Gio.DBusSendMessageFlags.NONE)
            if count % 10 == 9:
                bus.flush_sync(None)
                yield
        bus.close_sync(None)


def flood_of_orders(won: Won) -> Steps:
    """Gives orders without the right, as fast as it goes."""
    return _flooded([(PATH, NAME, method, arguments) for method, arguments in _ORDERS])


def flood_of_questions(won: Won) -> Steps:
    """Asks for all properties, for what is not there, and for other objects, as fast as it goes."""
    return _flooded(
        [
            (PATH, PROPERTIES, "GetAll", GLib.Variant("(s)", (NAME,))),
            (PATH, PROPERTIES, "Get", GLib.Variant("(ss)", (NAME, "Summary"))),
            (PATH, PROPERTIES, "Get", GLib.Variant("(ss)", (NAME, MARK))),
            (PATH, "org.freedesktop.DBus.Introspectable", "Introspect", None),
            (f"{PATH}/{MARK}", NAME, "Reconcile", None),
            (PATH, NAME, MARK, None),
        ]
    )


def large_messages(won: Won) -> Steps:
    """Calls with arguments of a megabyte, of other types, and nested as deep as they may be."""
    nested: Any = GLib.Variant("s", MARK)
    for _ in range(30):
        nested = GLib.Variant("v", nested)
    return _flooded(
        [
            (PATH, NAME, "Suspend", GLib.Variant("(ts)", (60, "x" * 1_000_000))),
            (PATH, NAME, "Resume", GLib.Variant("(as)", (["y" * 1000] * 1000,))),
            (PATH, NAME, "Reconcile", GLib.Variant.new_tuple(nested)),
        ]
    )


def signals_of_others(won: Won) -> Steps:
    """Sends the agent the signals of systemd, of polkit and of the bus."""
    bus = _bus()
    us = _owner(bus, NAME)
    number = 0
    while True:
        number = number % 5000 + 1
        job = f"/org/freedesktop/systemd1/job/{number}"
        for unit in ("postfix.service", "postfix@-.service"):
            ended = GLib.Variant("(uoss)", (number, job, unit, "done"))
            bus.emit_signal(us, SYSTEMD[1], MANAGER, "JobRemoved", ended)
            bus.emit_signal(None, SYSTEMD[1], MANAGER, "JobRemoved", ended)
        bus.emit_signal(us, SYSTEMD[1], MANAGER, "Reloading", GLib.Variant("(b)", (True,)))
        bus.emit_signal(
            us,
            "/org/freedesktop/PolicyKit1/Authority",
            "org.freedesktop.PolicyKit1.Authority",
            "Changed",
            None,
        )
        for name in (NAME, SYSTEMD[0], "org.freedesktop.PolicyKit1"):
            lost = GLib.Variant("(sss)", (name, us, ""))
            bus.emit_signal(us, DBUS[1], DBUS[2], "NameOwnerChanged", lost)
        bus.emit_signal(us, DBUS[1], DBUS[2], "NameLost", GLib.Variant("(s)", (NAME,)))
        bus.flush_sync(None)
        yield
        if number % 50 == 0:
            time.sleep(0.01)


def names_of_others(won: Won) -> Steps:
    """Asks for our name, for polkit's and for systemd's, in the place of who has it."""
    bus = _bus()
    while True:
        for name in (NAME, "org.freedesktop.PolicyKit1", SYSTEMD[0]):
            for flags in (0, 1 | 2, 4):
                with suppress(GLib.Error):
                    _ask(bus, DBUS, "RequestName", GLib.Variant("(su)", (name, flags)))
                    won(f"the bus let it have {name}")
        yield


def listening_in(won: Won) -> Steps:
    """Asks the bus for what others say to each other."""
    bus = _bus()
    monitor = ("org.freedesktop.DBus", DBUS[1], "org.freedesktop.DBus.Monitoring")
    with suppress(GLib.Error):
        _ask(bus, monitor, "BecomeMonitor", GLib.Variant("(asu)", ([], 0)))
        won("it is a monitor")
    for rule in ("eavesdrop=true", "eavesdrop=true,type='method_call'"):
        with suppress(GLib.Error):
            _ask(bus, DBUS, "AddMatch", GLib.Variant("(s)", (rule,)))

    def heard(_: Any, message: Any, is_incoming: bool) -> Any:
        if is_incoming and message.get_member() in ("Reconcile", "Suspend", "StartUnit"):
            won(f"it heard a call of {message.get_member()}")
        return message

    bus.add_filter(heard)
    while True:
        yield
        time.sleep(0.05)


def connections(won: Won) -> Steps:
    """Holds as many connections to the bus as one user may have."""
    held: list[Any] = []
    while True:
        with suppress(GLib.Error):
            while len(held) < _MOST_CONNECTIONS:
                held.append(_bus())
        assert _FEWEST_CONNECTIONS < len(held) < _MOST_CONNECTIONS, len(held)
        yield
        time.sleep(0.05)


def orders_to_systemd(won: Won) -> Steps:
    """Tells systemd to stop, to kill and to change the agent's units."""
    bus = _bus()
    unit = "pf-agent.service"
    calls = (
        ("StopUnit", GLib.Variant("(ss)", (unit, "replace"))),
        ("RestartUnit", GLib.Variant("(ss)", (unit, "replace"))),
        ("KillUnit", GLib.Variant("(ssi)", (unit, "all", 9))),
        ("StopUnit", GLib.Variant("(ss)", ("pf-agent-errands.socket", "replace"))),
        ("ReloadUnit", GLib.Variant("(ss)", (unit, "replace"))),
        ("SetEnvironment", GLib.Variant("(as)", (["PYTHONPATH=/tmp"],))),
        ("Reload", None),
    )
    while True:
        for method, arguments in calls:
            with suppress(GLib.Error):
                _ask(bus, (*SYSTEMD, MANAGER), method, arguments)
                won(f"systemd did {method}")
        yield
