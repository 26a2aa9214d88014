"""Which messages of the bus reach the agent: root's first, of others few and small. Pure.

A message names the bus name that sent it, and the bus knows the user of that name: it is asked once
for each name, and messages are held until it answers. All that is remembered is bounded.

- Answers to our own calls pass. dbus-daemon forwards no others (dbus-daemon(1),
  send_requested_reply), no matter who sends them.
- root's messages pass. A process of root's can stop the agent anyway.
- From other users, calls pass that may be meant for our methods, within their allowance. A few more
  are refused with an error, and after that there is no answer: a refusal is work too.
- All else from other users is dropped: none of their signals concerns us.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pf_agent.bus.allowance import Allowance
from pf_agent.bus.wire import (
    BUS,
    ERROR,
    METHOD_CALL,
    METHOD_RETURN,
    Head,
    refusal,
    user_asked,
    user_told,
)

_LIMITS_EXCEEDED = f"{BUS}.Error.LimitsExceeded"
_INVALID_ARGUMENTS = f"{BUS}.Error.InvalidArgs"

# The longest valid call is Suspend: 1000 characters of up to four bytes. systemd reports the
# changes of a unit in a few KiB.
_MOST_CALL = 8192
_MOST_OTHER = 65536
# Those of our three methods, of Introspect, and of Get and GetAll. GLib needs hundreds of bytes for
# each empty variant in a body.
_SIGNATURES = frozenset(["", "s", "ss", "ts"])

_MOST_NAMES = 1024
_MOST_ASKED = 512
_MOST_HELD_OF_ONE = 65536
_MOST_HELD = 4 << 20
# The memory that a message takes beyond its own bytes.
_HEAD_BYTES = 256
# GLib counts its own serials from 1.
_FIRST_SERIAL = 1 << 31
_LAST_SERIAL = (1 << 32) - 1


def most_bytes(kind: int) -> int | None:
    """Return how many bytes a message of this kind may have; None: no limit, we asked for it."""
    if kind in (METHOD_RETURN, ERROR):
        return None
    return _MOST_CALL if kind == METHOD_CALL else _MOST_OTHER


@dataclass
class _Held:
    """What a bus name has sent while the bus is asked for its user."""

    messages: list[tuple[Head, bytes]] = field(default_factory=list)
    size: int = 0


class Admission:
    """Sorts the messages of one connection into `inward` and `outward`, to be sent on."""

    def __init__(self, now: float) -> None:
        self.inward: list[bytes] = []
        self.outward: list[bytes] = []
        self._allowance = Allowance(now)
        self._users: dict[str, int] = {}
        self._asked: dict[int, str] = {}
        self._held: dict[str, _Held] = {}
        self._held_size = 0
        self._serial = _FIRST_SERIAL

    def user_of(self, sender: str) -> int | None:
        """Return the user of a bus name, None if not remembered. May be called from any thread."""
        return self._users.get(sender)

    def take(self, head: Head, message: bytes, now: float) -> None:
        """Sort a message that came from the bus; b"" for one that was too long."""
        uid = self._users.get(head.sender)
        if uid is not None:
            self._sort(uid, head, message, now)
        elif head.sender == BUS:
            asked = self._asked.pop(head.reply_serial, None) if _is_answer(head) else None
            if asked is None:
                self.inward.append(message)
            else:
                self._learn(asked, user_told(head, message), now)
        elif head.sender in self._held:
            self._hold(head, message)
        elif _is_answer(head):
            self.inward.append(message)
        elif head.sender and len(self._held) < _MOST_ASKED:
            self._held[head.sender] = _Held()
            self._hold(head, message)
            serial = self._next_serial()
            self._asked[serial] = head.sender
            self.outward.append(user_asked(serial, head.sender))

    def _hold(self, head: Head, message: bytes) -> None:
        """Keep it until its sender's user is known, after what the same name sent before."""
        held = self._held[head.sender]
        size = _HEAD_BYTES + len(message)
        fits = held.size < _MOST_HELD_OF_ONE and self._held_size < _MOST_HELD
        if fits or _is_answer(head):
            held.messages.append((head, message))
            held.size += size
            self._held_size += size

    def _learn(self, sender: str, uid: int | None, now: float) -> None:
        held = self._held.pop(sender)
        self._held_size -= held.size
        if uid is None:
            # The sender is gone, and its requests with it; its answers to us may have come before.
            self.inward += [message for head, message in held.messages if _is_answer(head)]
            return
        if len(self._users) >= _MOST_NAMES:
            del self._users[next(iter(self._users))]
        self._users[sender] = uid
        for head, message in held.messages:
            self._sort(uid, head, message, now)

    def _sort(self, uid: int, head: Head, message: bytes, now: float) -> None:
        if _is_answer(head):
            self.inward.append(message)
        elif head.kind == METHOD_CALL:
            name, why = self._fault(uid, head, message, now)
            if not name:
                self.inward.append(message)
            elif head.wants_answer() and (uid == 0 or self._allowance.takes_refusal(uid, now)):
                self.outward.append(refusal(self._next_serial(), head, name, why))
        elif uid == 0 and message:
            self.inward.append(message)

    def _fault(self, uid: int, head: Head, message: bytes, now: float) -> tuple[str, str]:
        """Return why the call must not pass, as a D-Bus error name and text; "" if it passes."""
        if not message:
            return _LIMITS_EXCEEDED, f"a call may have {_MOST_CALL} bytes"
        if uid == 0:
            return "", ""
        if head.signature not in _SIGNATURES:
            return _INVALID_ARGUMENTS, f"no method here takes arguments of type ({head.signature})"
        if not self._allowance.takes_call(uid, now):
            return _LIMITS_EXCEEDED, "too many calls; wait a few seconds, or call as root"
        return "", ""

    def _next_serial(self) -> int:
        serial = self._serial
        self._serial = _FIRST_SERIAL if serial == _LAST_SERIAL else serial + 1
        return serial


def _is_answer(head: Head) -> bool:
    return head.kind in (METHOD_RETURN, ERROR)
