"""Starts a unit without following it: how it ends does not matter here."""

from __future__ import annotations

from pf_agent.bus.failures import NO_SUCH_UNIT, explain, no_library, words_of
from pf_agent.bus.manager import MANAGER, MANAGER_PATH, call, connection_of_our_own
from pf_agent.errors import HostError


def start_unit(unit: str) -> None:
    """Queue a start of `unit`; nothing happens if it is running.

    On a connection of its own, so from any thread: systemd or dbus-daemon may take the full time of
    a call, which is 10 s, once to connect and once to answer. Raises HostError.
    """
    try:
        from gi.repository import GLib
    except ImportError as error:
        raise HostError(f"start of {unit}: {no_library(error)}") from error
    try:
        _start(unit)
    except GLib.Error as error:
        name, text = words_of(error)
        if name != NO_SUCH_UNIT:
            raise HostError(explain("start", unit, name, text)) from error
        # This unit is named in agent.toml, and is not part of Postfix.
        fact = f"start of {unit}: systemd has no such unit"
        raise HostError(f"{fact}; see `systemctl cat {unit}`") from error


def _start(unit: str) -> None:
    connection = connection_of_our_own()
    try:
        call(connection, (MANAGER_PATH, MANAGER, "StartUnit"), "(ss)", (unit, "replace"))
    finally:
        if not connection.is_closed():
            connection.close_sync(None)
