"""Drift, status and what else is told, as sentences for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timezone

from pf_agent.maincf.secrets import masked, masked_lines
from pf_agent.model import (
    Contest,
    Drift,
    DriftKind,
    Phase,
    Status,
    Suspension,
)

# Of the parameters that drifted, how many are kept by name. Whoever writes main.cf names as many
# as he likes, and at any length, where the desired state has others commented out.
MOST_NAMES = 1000

_SHOWN_CHARACTERS = 160
# Of what is no value: the reason that a program gave (complaints.py has its measure), a mode.
_WORDS_CHARACTERS = 1200


def printable(text: str) -> str:
    """`text` with surrogates (bytes that are not UTF-8) and control characters escaped."""
    if text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable() or character == "\t":
        return character
    code = ord(character)
    # PEP 383: U+DC80 to U+DCFF stand for the bytes 80 to FF.
    return f"\\x{code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code:02x}"


def shortened(text: str) -> str:
    """`text` on one line, quoted, and cut where it would fill a screen."""
    shown = printable(text[:_SHOWN_CHARACTERS]).replace("\t", "\\t")
    return (
        f'"{shown}"' if len(text) <= _SHOWN_CHARACTERS else f'"{shown}..." ({len(text)} characters)'
    )


def _name(text: str) -> str:
    """A parameter's name, cut where no real one is so long."""
    return _cut(text, _SHOWN_CHARACTERS)


def _cut(text: str, most: int) -> str:
    cut = printable(text[:most])
    return cut if len(text) <= most else f"{cut}..."


def drift_sentence(drift: Drift) -> str:
    """One difference in words: what stands, what must stand, where."""
    where = "" if drift.line is None else f" (line {drift.line})"
    name = _name(drift.parameter)
    want, have = (value or "" for value in shown_values(drift))
    expected, actual = shortened(want), shortened(have)
    have, want = _cut(have, _WORDS_CHARACTERS), _cut(want, _WORDS_CHARACTERS)
    sentence = {
        DriftKind.CHANGED: f"{name} is {actual}, must be {expected}{where}",
        DriftKind.MISSING: f"{name} is not set, must be {expected}",
        DriftKind.UNWANTED: f"{name} is {actual}, must be left at Postfix's default{where}",
        DriftKind.UNMANAGED: f"{name} is {actual}, the desired state does not name it{where}",
        DriftKind.DUPLICATED: f"{name} is set more than once, first to {actual}{where}",
        DriftKind.UNREADABLE: f"no Postfix program can read {actual}{where}",
        DriftKind.MODE: f"main.cf is {have}, must be {want}",
        DriftKind.ABSENT_FILE: f"main.cf: {have}; it begins again as {want}",
    }[drift.kind]
    return f"{sentence}: the desired state changed" if drift.is_wished else sentence


DRIFT_HEADINGS = ("PARAMETER", "IS", "MUST BE", "LINE")


def drift_row(drift: Drift) -> tuple[str, ...]:
    """What `drift_sentence` says, as the columns of a table."""
    want, have = (value or "" for value in shown_values(drift))
    expected, actual = shortened(want), shortened(have)
    have, want = _cut(have, _WORDS_CHARACTERS), _cut(want, _WORDS_CHARACTERS)
    is_now, must_be = {
        DriftKind.CHANGED: (actual, expected),
        DriftKind.MISSING: ("not set", expected),
        DriftKind.UNWANTED: (actual, "left at Postfix's default"),
        DriftKind.UNMANAGED: (actual, "- (nobody names it)"),
        DriftKind.DUPLICATED: (f"{actual}, then set again", f"{expected}, once"),
        DriftKind.UNREADABLE: (actual, "what a Postfix program can read"),
        DriftKind.MODE: (have, want),
        DriftKind.ABSENT_FILE: (have, want),
    }[drift.kind]
    return _name(drift.parameter) or "main.cf", is_now, must_be, str(drift.line or "")


def shown_values(drift: Drift) -> tuple[str | None, str | None]:
    """The expected and the actual value, as they may be shown."""
    if drift.kind is DriftKind.UNREADABLE:
        return drift.expected, "\n".join(masked_lines((drift.actual or "").split("\n")))
    expected, actual = drift.expected, drift.actual
    return (
        None if expected is None else masked(drift.parameter, expected),
        None if actual is None else masked(drift.parameter, actual),
    )


def drifted_names(drift: Iterable[Drift]) -> tuple[str, ...]:
    """The parameters that drifted, each once, or `main.cf` where it was the file itself."""
    return tuple(dict.fromkeys(_name(d.parameter) or "main.cf" for d in drift))


def listed(found: Sequence[str], most: int = 4) -> str:
    """Names in a sentence; the rest is counted."""
    shown = ", ".join(map(_name, found[:most]))
    return shown if len(found) <= most else f"{shown} and {len(found) - most} more"


def duration(seconds: float) -> str:
    """A duration as people read it: 8 ms, 0.7 s, 3 min, 5 h, 2 days."""
    if seconds < 0.1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds // 60:.0f} min"
    if seconds < 172800:
        return f"{seconds // 3600:.0f} h"
    return f"{seconds // 86400:.0f} days"


def ago(seconds: float) -> str:
    """How long ago, no finer than a sentence that is renewed twice a minute stays true."""
    return "less than a minute ago" if seconds < 60 else f"{duration(seconds)} ago"


def summary(status: Status, now: float) -> str:
    """The one sentence of `status`, STATUS= and status.json, true at `now`."""
    parts = [_phase_sentence(status)]
    if status.problems:
        faults = counted(len(status.problems), "fault")
        parts.append(f"{faults} in the configuration, the last good state holds")
    last = status.last
    if last is not None:
        text = f"last drift {ago(now - last.at)}: {listed(last.parameters)}"
        if last.corrected_seconds is not None:
            text += f", corrected in {duration(last.corrected_seconds)}"
        if last.up_seconds is not None:
            text += f", Postfix up after {duration(last.up_seconds)}"
        parts.append(text)
    parts += [f"instance {n}: {summary(inner, now)}" for n, inner in status.instances.items()]
    return printable("; ".join(parts))


def contest_sentence(contest: Contest) -> str:
    """What drifts again and again, how often since when, and what is done about it."""
    what = listed(contest.parameters)
    text = f"something keeps changing {what}: {contest.count} times since {clock(contest.since)}"
    return (
        f"{text}; main.cf is corrected each time, Postfix restarted every {duration(contest.apart)}"
    )


def suspension_sentence(suspension: Suspension) -> str:
    """By whom, until when and why."""
    until = "until resumed" if suspension.until is None else f"until {day(suspension.until)}"
    why = f": {suspension.reason}" if suspension.reason else ""
    return f"by {suspension.who} {until}{why}"


def day(seconds: float) -> str:
    """A point in time as people write it down: this machine's own date and time of day."""
    return f"{datetime.fromtimestamp(seconds, timezone.utc).astimezone():%Y-%m-%d %H:%M:%S}"


def clock(seconds: float) -> str:
    """A point in time as people read it: this machine's own time of day."""
    return f"{datetime.fromtimestamp(seconds, timezone.utc).astimezone():%H:%M:%S}"


def counted(number: int, thing: str) -> str:
    """`1 parameter`, `2 parameters`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _phase_sentence(status: Status) -> str:
    count = counted(status.parameters, "parameter")
    start = {
        Phase.STARTING: "starting",
        Phase.IN_SYNC: f"in sync: {count}",
        Phase.ACTIVATING: "main.cf is right, Postfix restarts",
        Phase.OBSERVING: "observing only",
        Phase.SUSPENDED: "suspended",
        Phase.STALLED: "stalled",
        Phase.CONTESTED: "contested",
        Phase.FAILING: "failing",
        Phase.STOPPED: "stopped",
    }[status.phase]
    if not status.detail:
        return start
    if status.phase is Phase.SUSPENDED:
        return f"{start} {status.detail}"
    return (
        f"{start}, {status.detail}"
        if status.phase is Phase.IN_SYNC
        else f"{start}: {status.detail}"
    )
