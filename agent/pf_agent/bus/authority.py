"""Who calls over D-Bus, and whether he may: root may, others as polkit says.

polkit may have to ask somebody for a password, which takes minutes, so it is asked in a thread for
each question. Gio's own asynchronous calls would need none, but PyGObject 3.42 leaks 140 bytes with
each of their callbacks, and with each callback of a GLib source (measured over 8,000), and anybody
on the machine may have polkit asked.
"""

from __future__ import annotations

import pwd
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pf_agent.errors import no_thread
from pf_agent.words import sentences

_DBUS = "org.freedesktop.DBus"
_POLKIT = "org.freedesktop.PolicyKit1"
_ACCESS_DENIED = f"{_DBUS}.Error.AccessDenied"
_LIMITS_EXCEEDED = f"{_DBUS}.Error.LimitsExceeded"
_MUST_INTERACT = f"{_DBUS}.Error.InteractiveAuthorizationRequired"

_CALL_SECONDS = 25
# As long as a person may take to be found and to type a password.
_PERSON_SECONDS = 600
_MOST_QUESTIONS = 16
# Nobody can keep the others out with passwords that he never types.
_MOST_OF_ONE_USER = 4
# CheckAuthorizationFlags: AllowUserInteraction.
_ALLOW_INTERACTION = 1


@dataclass(frozen=True)
class Verdict:
    """`who` is "uid 1000 (anna)". Where `error` is a D-Bus error name, `why` says it in words."""

    who: str
    error: str = ""
    why: str = ""


class Authority:
    """Asks, of polkit only so much at once."""

    def __init__(self) -> None:
        self._open: Counter[int] = Counter()
        self._counting = threading.Lock()

    def ask(
        self,
        connection: Any,
        sender: str,
        action: str,
        interactive: bool,
        tell: Callable[[Verdict], None],
    ) -> None:
        """Have `tell` called with whether the bus name `sender` may do polkit's `action`.

        It is called at once where that is clear, else in a thread of its own.
        `interactive`: the caller wants polkit to ask for a password where that is what lacks.
        """
        from gi.repository import GLib

        try:
            uid = _uid_of(connection, sender)
        except GLib.Error as error:
            # Gone before he could be asked for: there is nobody to answer either.
            tell(Verdict("unknown", _ACCESS_DENIED, f"{action}: caller unknown: {_line(error)}"))
            return
        who = name_of(uid)
        if uid == 0:
            tell(Verdict(who))
        elif not self._begin(uid):
            why = f"{action}: polkit is being asked too much at once; try again, or call as root"
            tell(Verdict(who, _LIMITS_EXCEEDED, why))
        else:

            def run() -> None:
                try:
                    verdict = _verdict_of_polkit(connection, sender, who, action, interactive)
                finally:
                    self._end(uid)
                tell(verdict)

            refused = self._beside(run, uid)
            if refused:
                tell(Verdict(who, _LIMITS_EXCEEDED, f"{action}: {refused}"))

    def _begin(self, uid: int) -> bool:
        """Count a question of this user; False where there are enough open ones."""
        with self._counting:
            if self._open[uid] >= _MOST_OF_ONE_USER or self._open.total() >= _MOST_QUESTIONS:
                return False
            self._open[uid] += 1
            return True

    def _beside(self, run: Callable[[], None], uid: int) -> str:
        """Run this user's question in a thread of its own; return why not, "" where it runs."""
        try:
            threading.Thread(target=run, name="polkit", daemon=True).start()
        except RuntimeError as error:
            self._end(uid)
            return no_thread(error)
        return ""

    def _end(self, uid: int) -> None:
        with self._counting:
            self._open[uid] -= 1
            # Those who once asked are not remembered.
            self._open += Counter()


def _uid_of(connection: Any, sender: str) -> int:
    """Return the user of a bus name. dbus-daemon itself answers, so this may be waited for."""
    from gi.repository import GLib

    answer = connection.call_sync(
        _DBUS,
        "/org/freedesktop/DBus",
        _DBUS,
        "GetConnectionUnixUser",
        GLib.Variant("(s)", (sender,)),
        GLib.VariantType.new("(u)"),
        0,
        _CALL_SECONDS * 1000,
        None,
    )
    return int(answer.unpack()[0])


def name_of(uid: int) -> str:
    """`uid 1000 (anna)`, or `uid 1000` where nobody knows a name for it."""
    try:
        return f"uid {uid} ({sentences.printable(pwd.getpwuid(uid).pw_name)})"
    except KeyError:
        return f"uid {uid}"


def _verdict_of_polkit(
    connection: Any, sender: str, who: str, action: str, interactive: bool
) -> Verdict:
    from gi.repository import GLib

    try:
        allowed, challenge = _check_authorization(connection, sender, action, interactive)
    except GLib.Error as error:
        return Verdict(who, _ACCESS_DENIED, without_polkit(who, action, _line(error)))
    if allowed:
        return Verdict(who)
    if challenge:
        why = f"{action}: {who} has to give a password for this"
        way = (
            "no agent of polkit is there to ask for it; call as root"
            if interactive
            else "let the call be interactive, or call as root"
        )
        return Verdict(who, _MUST_INTERACT, f"{why}; {way}")
    # Where it asked for a password, polkit does not tell a rule's no from a wrong password.
    why = "polkit does not allow" + (", or was given no right password by," if interactive else "")
    return Verdict(who, _ACCESS_DENIED, f"{action}: {why} {who}; call as root")


def _check_authorization(
    connection: Any, sender: str, action: str, interactive: bool
) -> tuple[bool, bool]:
    """org.freedesktop.PolicyKit1.Authority's answer: may he; might he with a password?"""
    from gi.repository import GLib

    subject = ("system-bus-name", {"name": GLib.Variant("s", sender)})
    flags = _ALLOW_INTERACTION if interactive else 0
    answer = connection.call_sync(
        _POLKIT,
        "/org/freedesktop/PolicyKit1/Authority",
        f"{_POLKIT}.Authority",
        "CheckAuthorization",
        GLib.Variant("((sa{sv})sa{ss}us)", (subject, action, {}, flags, "")),
        GLib.VariantType.new("((bba{ss}))"),
        0,
        (_PERSON_SECONDS if interactive else _CALL_SECONDS) * 1000,
        None,
    )
    ((allowed, challenge, _details),) = answer.unpack()
    return bool(allowed), bool(challenge)


def without_polkit(who: str, action: str, reason: str) -> str:
    """One line for a caller other than root where polkit gave no answer."""
    return f"{action}: {who} may not, and polkit cannot be asked ({reason}); call as root"


def _line(error: Any) -> str:
    from gi.repository import Gio

    name = Gio.dbus_error_get_remote_error(error) or ""
    return " ".join(str(error.message).removeprefix(f"GDBus.Error:{name}: ").split())
