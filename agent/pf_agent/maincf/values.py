"""How Postfix reads a parameter's value: whether two are equal to it, and which it refuses.

Rules and messages are those of Postfix's sources; a file named without a directory is in src/global
or src/util there. The messages are what a daemon logs as it exits, without `fatal:`, or as a
warning if it continues with a broken network list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from pf_agent.maincf import parameters
from pf_agent.maincf.lists import SEPARATORS, network_fault, words
from pf_agent.model import BLANKS

# LONG_MAX on a 64-bit machine; on a 32-bit one Postfix refuses more.
INT_MAX: Final = 2**31 - 1
LONG_MAX: Final = 2**63 - 1
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

_UNIT_WORDS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

_COMPARABLE: Final = ("boolean", "integer", "long", "time")
# strtol(3): blanks, a sign, digits. All of them are optional: "h" is 0 hours.
_STRTOL: Final = re.compile(rf"(?:[{BLANKS}]*([+-]?)0*([0-9]+))?(.*)", re.DOTALL)
# Expansions in a list that might make the text around them split differently than in Postfix.
_DOUBTFUL: Final = re.compile(r"\$(?![A-Za-z0-9_{])")
# Postfix logs `?` for these (printable.c, with util_utf8_enable); from \udc80 on they are bytes
# that are not UTF-8.
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f\udc80-\udcff]")


class _Type(NamedTuple):
    """A line of parameters.TABLE. Bounds: 0 for none. `unit`: "" if unknown."""

    kind: str
    least: int
    most: int
    unit: str
    readers: tuple[str, ...]
    flags: frozenset[str]


def same(name: str, ours: str, theirs: str) -> bool:
    """Whether Postfix takes two values of the parameter, as written in main.cf, for the same.

    If the type does not settle it, the texts are compared, and so is every value that is invalid
    for its type. Booleans in upper or lower case, numbers and times by their value (unless they
    contain a `$`), lists by their words in order.
    """
    if ours == theirs:
        return True
    kind = _type(name)
    if kind is None:
        return False
    if "list" in kind.flags:
        return _same_list(kind.flags, ours, theirs)
    if kind.kind not in _COMPARABLE or "$" in ours + theirs:
        return False
    if fault(name, ours) or fault(name, theirs):
        return False
    return _meaning(kind, ours) == _meaning(kind, theirs)


def fault(name: str, value: str) -> str:
    """Why a program that reads the parameter refuses the expanded value, in its words; "" if not.

    A raw parameter (get_mail_conf_raw()) is never expanded, so `value` is what main.cf says.
    """
    kind = _type(name)
    return "" if kind is None else _UNPRINTABLE.sub("?", _fault(name, kind, value))


def _fault(name: str, kind: _Type, value: str) -> str:
    if kind.kind == "boolean":
        return _boolean_fault(name, value)
    if kind.kind in ("integer", "long"):
        return _number_fault(name, kind, value)
    if kind.kind == "time":
        return _time_fault(name, kind, value)
    if kind.kind in ("string", "raw"):
        found = _length_fault(name, kind, value)
        return found or (network_fault(name, value) if "networks" in kind.flags else "")
    return ""


def readers(name: str) -> tuple[str, ...]:
    """The programs that read the parameter, ("global",) if all do, () if unknown."""
    kind = _type(name)
    if kind is None:
        return ()
    return ("global",) if "global" in kind.readers else kind.readers


def flags(name: str) -> frozenset[str]:
    """What is known about its value: "list", and of what; empty if nothing is."""
    kind = _type(name)
    return frozenset() if kind is None else kind.flags


def is_expanded_late(name: str) -> bool:
    """Whether a `$` in its value is for the program that uses it, and not a parameter's name.

    So it is for a raw parameter (get_mail_conf_raw()), and for one that Postfix does not know.
    """
    kind = _type(name)
    return kind is None or kind.kind == "raw"


def description(name: str) -> str:
    """Describe in words what is known of the parameter: its type, and which programs read it."""
    kind = _type(name)
    if kind is None:
        return "unknown to the Postfix versions that the agent knows"
    unit = f" (without a unit: {_UNIT_WORDS[kind.unit]})" if kind.unit else ""
    listed = "list" if "list" in kind.flags else kind.kind
    who = "every program" if "global" in kind.readers else ", ".join(kind.readers)
    return f"{listed}{unit}, read by {who}"


def reload_suffices(names: Iterable[str]) -> bool:
    """Whether a reload is enough to change all of these; False if one is unknown.

    parameters.RESTART_NEEDED lists those for which Postfix's documentation wants a stop and a
    start.
    """
    return all(map(takes_a_reload, names))


def takes_a_reload(name: str) -> bool:
    """Whether a reload is enough to change this parameter; False if it is unknown.

    For a part of master.cf, `submission/inet/chroot`, it is: master reads the file again, and ends
    the processes that do not serve a client (master(8), "SIGHUP").
    """
    if "/" in name:
        return True
    return name not in parameters.RESTART_NEEDED and _type(name) is not None


def pair_faults(values: Mapping[str, str]) -> dict[str, str]:
    """Return what makes a delivery agent exit because of two values, by the parameter it names.

    `values` are expanded and effective; missing ones are not judged. 0 or less is no limit
    (post_init() in local/local.c and virtual/virtual.c; ENFORCING_SIZE_LIMIT() in sys_defs.h).
    """
    found: dict[str, str] = {}
    message = values.get("message_size_limit")
    for name in ("mailbox_size_limit", "virtual_mailbox_limit"):
        mailbox = values.get(name)
        if message is None or mailbox is None:
            continue
        if fault(name, mailbox) or fault("message_size_limit", message):
            continue
        if _number(mailbox) > 0 and _number(message) <= 0:
            found[name] = (
                f"configuration error: {name} is limited but message_size_limit is unlimited"
            )
        elif 0 < _number(mailbox) < _number(message):
            found[name] = f"configuration error: {name} is smaller than message_size_limit"
    return found


def _type(name: str) -> _Type | None:
    # A name is one word of the table; one with a blank, or an empty one, would match elsewhere.
    if not name or name.strip(" \t\r\n") != name or " " in name or "\n" in name:
        return None
    start = parameters.TABLE.find(f"\n{name} ")
    if start < 0:
        return None
    line = parameters.TABLE[start + 1 : parameters.TABLE.index("\n", start + 1)]
    _, kind, least, most, unit, programs, *flags = line.split(" ")
    return _Type(
        kind,
        0 if least == "-" else int(least),
        0 if most == "-" else int(most),
        "" if unit == "-" else unit,
        tuple(programs.split(",")),
        frozenset(flags[0].split(",")) if flags else frozenset(),
    )


def _meaning(kind: _Type, value: str) -> object:
    """What a valid value comes to."""
    if kind.kind == "boolean":
        return value.lower()
    if kind.kind != "time":
        return _number(value)
    seconds = _seconds(value, kind.unit)
    return value if seconds is None else seconds


def _same_list(flags: frozenset[str], ours: str, theirs: str) -> bool:
    """Whether two lists have the same words in the same order.

    An empty value only equals an empty one: Postfix tests many lists for emptiness, and `,` is not
    empty (for local_recipient_maps smtpd_check.c would then refuse every recipient).
    """
    both = ours + theirs
    if "$(" in both or _DOUBTFUL.search(both):
        return False
    # own_inet_addr.c splits at spaces, tabs and commas only.
    if "narrow" in flags and ("\r" in both or "\n" in both):
        return False
    # For these Postfix also compares the whole value, or its beginning, with a word ("all").
    if "whole" in flags and any(value.strip(SEPARATORS) != value for value in (ours, theirs)):
        return False
    found = list(words(ours))
    return found != [] and found == list(words(theirs))


def _boolean_fault(name: str, value: str) -> str:
    """mail_conf_bool.c and mail_conf_nbool.c."""
    if value.lower() in ("yes", "no"):
        return ""
    return f"bad boolean configuration: {name} = {value}"


def _strtol(value: str) -> tuple[int, str]:
    """(number, what follows it) as strtol(3) reads the beginning; no digits are 0."""
    found = _STRTOL.fullmatch(value)
    assert found is not None
    sign, digits, rest = found.groups()
    if digits is None:
        return 0, value
    # Python refuses to convert thousands of digits; twenty are already too many for Postfix.
    return int((sign or "") + digits[:20]), rest


def _number(value: str) -> int:
    return _strtol(value)[0]


def _number_fault(name: str, kind: _Type, value: str) -> str:
    """mail_conf_int.c, mail_conf_nint.c and mail_conf_long.c."""
    number, rest = _strtol(value)
    most = INT_MAX if kind.kind == "integer" else LONG_MAX
    if not value or rest or not -most - 1 <= number <= most:
        return f"bad numerical configuration: {name} = {value}"
    if kind.least and number < kind.least:
        return f"invalid {name} parameter value {number} < {kind.least}"
    if kind.most and number > kind.most:
        return f"invalid {name} parameter value {number} > {kind.most}"
    return ""


def _seconds(value: str, unit: str) -> int | None:
    """A time in seconds, None if it is invalid, or has no unit and the default one is unknown.

    conv_time.c: only the first letter after the digits counts, and the digits are optional.
    """
    number, rest = _strtol(value)
    factor = UNITS.get(rest[:1] or unit)
    if not value or factor is None or not 0 <= number <= INT_MAX:
        return None
    return number * factor if factor == 1 or number < INT_MAX // factor else None


def _time_fault(name: str, kind: _Type, value: str) -> str:
    """mail_conf_time.c. If no unit is given and the default one is unknown: no fault."""
    seconds = _seconds(value, kind.unit or "s")
    if seconds is None:
        return f"parameter {name}: bad time value or unit: {value}"
    if not kind.unit and not _strtol(value)[1]:
        return ""
    if kind.least and seconds < kind.least:
        return f"invalid {name}: {seconds} (min {kind.least})"
    if kind.most and seconds > kind.most:
        return f"invalid {name}: {seconds} (max {kind.most})"
    return ""


def _length_fault(name: str, kind: _Type, value: str) -> str:
    """mail_conf_str.c and mail_conf_raw.c, which adds brackets; the length is in bytes."""
    length = len(value.encode("utf-8", "surrogateescape"))
    if kind.least and length < kind.least:
        wrong = f"{length} < {kind.least}"
    elif kind.most and length > kind.most:
        wrong = f"{length} > {kind.most}"
    else:
        return ""
    wrong = f"({wrong})" if kind.kind == "raw" else wrong
    return f"bad string length {wrong}: {name} = {value}"
