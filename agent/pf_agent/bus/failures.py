"""What a failed call to systemd means: its D-Bus error in words, with a remedy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pf_agent.errors import HostError

SYSTEMD = "org.freedesktop.systemd1"
# The limit of each call. systemd answers in milliseconds unless it is loading units.
CALL_SECONDS = 10.0

NO_SUCH_UNIT = f"{SYSTEMD}.NoSuchUnit"
NO_SUCH_JOB = f"{SYSTEMD}.NoSuchJob"
NO_REPLY = "org.freedesktop.DBus.Error.NoReply"

# D-Bus error name -> its meaning and a remedy; {unit} is filled in.
_WORDS: Mapping[str, str] = {
    NO_SUCH_UNIT: "systemd has no such unit; is Postfix installed? See `systemctl cat {unit}`",
    f"{SYSTEMD}.UnitMasked": "the unit is masked; run `systemctl unmask {unit}`",
    f"{SYSTEMD}.BadUnitSetting": "its unit file has an error; run `systemd-analyze verify {unit}`",
    f"{SYSTEMD}.TransactionIsDestructive": (
        "a conflicting job is queued, as when the machine shuts down; see `systemctl list-jobs`"
    ),
    "org.freedesktop.DBus.Error.AccessDenied": "not allowed; run as root",
    f"{SYSTEMD}.InteractiveAuthorizationRequired": "not allowed; run as root",
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired": "not allowed; run as root",
}


def no_library(error: ImportError) -> str:
    """Say that the D-Bus library cannot be loaded, and why: it is missing, or memory is short."""
    is_short = "map segment" in str(error) or "allocate memory" in str(error)  # ld.so(8)
    way_out = "raise its limit (MemoryMax=)" if is_short else "install python3-pydbus"
    return f"no D-Bus library ({error}); {way_out}"


class BusError(HostError):
    """A call that failed; `name` is the D-Bus error name, "" for a failure on our own side."""

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


def explain(action: str, subject: str, name: str, text: str) -> str:
    """Return one line about a failed call; `name` is as in BusError."""
    line = " ".join(text.split())
    if name in _WORDS:
        return f"{action} of {subject}: {_WORDS[name].format(unit=subject)} ({name})"
    if name:
        return f"{action} of {subject}: {name}: {line}; see `systemctl status {subject}`"
    return (
        f"{action} of {subject}: cannot reach systemd over the system bus ({line}); "
        "see `systemctl status dbus.service`"
    )


def words_of(error: Any) -> tuple[str, str]:
    """Return a GLib.Error's D-Bus name, "" if it is not from the other side, and its text."""
    from gi.repository import Gio

    if any(
        error.matches(Gio.io_error_quark(), code)
        for code in (Gio.IOErrorEnum.TIMED_OUT, Gio.IOErrorEnum.CANCELLED)
    ):
        return "", f"no answer within {CALL_SECONDS:g} s"
    name = Gio.dbus_error_get_remote_error(error) or ""
    # Called from Python, dbus_error_strip_remote_error() strips a copy.
    return name, str(error.message).removeprefix(f"GDBus.Error:{name}: ")


def is_refusal(error: Exception) -> bool:
    """Tell whether a GLib.Error is the answer of systemd or of dbus-daemon: nothing was done.

    Without an answer, systemd may have done what was asked. NoReply is what dbus-daemon says if
    systemd went away before it answered.
    """
    return words_of(error)[0] not in ("", NO_REPLY)
