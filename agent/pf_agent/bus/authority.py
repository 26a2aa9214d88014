"""Who calls over D-Bus, and whether they may: root may, others if polkit says so.

polkit may have to ask a person for a password, which takes minutes, so each question gets a thread
of its own. Gio's asynchronous calls would need none, but PyGObject 3.42 leaks 140 bytes with each
of their callbacks, and with each callback of a GLib source (measured over 8,000), and any user of
the machine can cause polkit to be asked.
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
# Time for a person to notice the question and to type a password.
_PERSON_SECONDS = 600
_MOST_QUESTIONS = 16
# One user cannot block the others with passwords that are never typed.
_MOST_OF_ONE_USER = 4
# CheckAuthorizationFlags: AllowUserInteraction.
_ALLOW_INTERACTION = 1


@dataclass(frozen=True)
class Verdict:
    """`who` is "uid 1000 (anna)". If `error`, a D-Bus error name, is set, `why` explains it."""

    who: str
    error: str = ""
    why: str = ""


@dataclass(frozen=True)
class Caller:
    """The bus name that sent a call over `connection`; `uid` is None if the bus must be asked."""

    connection: Any
    name: str
    uid: int | None


class Authority:
    """Asks who a caller is and polkit, with a limited number of open questions."""

    def __init__(self) -> None:
        self._open: Counter[int] = Counter()
        self._counting = threading.Lock()

    def ask(
        self,
        caller: Caller,
        action: str,
        interactive: bool,
        tell: Callable[[Verdict], None],
    ) -> None:
        """Have `tell` called with the verdict on whether `caller` may do polkit's `action`.

        It is called at once if that is clear, else in a thread of its own. `interactive`: polkit
        may ask for a password, if only that is missing.
        """
        from gi.repository import GLib

        try:
            uid = _uid_of(caller) if caller.uid is None else caller.uid
        except GLib.Error as error:
            # The caller has left already, so there is no one to answer either.
            tell(Verdict("unknown", _ACCESS_DENIED, f"{action}: caller unknown: {_line(error)}"))
            return
        who = name_of(uid)
        if uid == 0:
            tell(Verdict(who))
        elif not self._begin(uid):
            why = f"{action}: too many polkit requests are pending; try again, or call as root"
            tell(Verdict(who, _LIMITS_EXCEEDED, why))
        else:

            def run() -> None:
                try:
                    verdict = _verdict_of_polkit(caller, who, action, interactive)
                finally:
                    self._end(uid)
                tell(verdict)

            refused = self._beside(run, uid)
            if refused:
                tell(Verdict(who, _LIMITS_EXCEEDED, f"{action}: {refused}"))

    def _begin(self, uid: int) -> bool:
        """Count a question of this user; False if too many are open."""
        with self._counting:
            if self._open[uid] >= _MOST_OF_ONE_USER or self._open.total() >= _MOST_QUESTIONS:
                return False
            self._open[uid] += 1
            return True

    def _beside(self, run: Callable[[], None], uid: int) -> str:
        """Run this user's question in a thread of its own; return why it failed, "" if it runs."""
        try:
            threading.Thread(target=run, name="polkit", daemon=True).start()
        except RuntimeError as error:
            self._end(uid)
            return no_thread(error)
        return ""

    def _end(self, uid: int) -> None:
        with self._counting:
            self._open[uid] -= 1
            # Drop the users whose count is back to zero.
            self._open += Counter()


def _uid_of(caller: Caller) -> int:
    """Return the user of a bus name. dbus-daemon itself answers, so waiting is safe."""
    from gi.repository import GLib

    answer = caller.connection.call_sync(
        _DBUS,
        "/org/freedesktop/DBus",
        _DBUS,
        "GetConnectionUnixUser",
        GLib.Variant("(s)", (caller.name,)),
        GLib.VariantType.new("(u)"),
        0,
        _CALL_SECONDS * 1000,
        None,
    )
    return int(answer.unpack()[0])


def name_of(uid: int) -> str:
    """Return `uid 1000 (anna)`, or `uid 1000` if it has no known name."""
    try:
        return f"uid {uid} ({sentences.printable(pwd.getpwuid(uid).pw_name)})"
    except KeyError:
        return f"uid {uid}"


def _verdict_of_polkit(caller: Caller, who: str, action: str, interactive: bool) -> Verdict:
    from gi.repository import GLib

    try:
        allowed, challenge = _check_authorization(caller, action, interactive)
    except GLib.Error as error:
        return Verdict(who, _ACCESS_DENIED, without_polkit(who, action, _line(error)))
    if allowed:
        return Verdict(who)
    if challenge:
        why = f"{action}: {who} must authenticate for this"
        way = (
            "no polkit agent is running to ask for it; call as root"
            if interactive
            else "allow interactive authorization, or call as root"
        )
        return Verdict(who, _MUST_INTERACT, f"{why}; {way}")
    # After asking for a password, polkit does not tell a rule's no from a wrong password.
    why = f"polkit does not authorize {who}{', or the password was wrong' if interactive else ''}"
    return Verdict(who, _ACCESS_DENIED, f"{action}: {why}; call as root")


def _check_authorization(caller: Caller, action: str, interactive: bool) -> tuple[bool, bool]:
    """Return the answer of org.freedesktop.PolicyKit1.Authority: authorized; or with a password?"""
    from gi.repository import GLib

    subject = ("system-bus-name", {"name": GLib.Variant("s", caller.name)})
    flags = _ALLOW_INTERACTION if interactive else 0
    answer = caller.connection.call_sync(
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
    """Return one line for a caller other than root if polkit gave no answer."""
    return f"{action}: {who} is not authorized, and polkit cannot be asked ({reason}); call as root"


def _line(error: Any) -> str:
    from gi.repository import Gio

    name = Gio.dbus_error_get_remote_error(error) or ""
    return " ".join(str(error.message).removeprefix(f"GDBus.Error:{name}: ").split())
