"""Drift, status and other reports, as sentences for people."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone

from pf_agent.maincf.secrets import HIDDEN, masked, masked_lines
from pf_agent.model import (
    Contest,
    DesiredState,
    Drift,
    DriftKind,
    LastDrift,
    Parameter,
    Phase,
    Status,
    Suspension,
)
from pf_agent.words.outgoing import PROCESS

# Why main.cf is changed although nothing wrote it.
WISHED = "the desired state changed"

# How many drifted parameters are kept by name. main.cf can set any number of them, of any length,
# and the desired state may have all others commented out.
MOST_NAMES = 1000

_SHOWN_CHARACTERS = 160
# For text that is not a value: a program's reason (complaints.py limits that), a mode.
_WORDS_CHARACTERS = 1200
# inode(7), S_IROTH.
_READ_BY_ALL = 0o004
# And for one part of a sentence with several.
_PART_CHARACTERS = 200
_WORD = re.compile(r"[^\s,:;()]+")


def printable(text: str) -> str:
    """Return `text` with surrogates (non-UTF-8 bytes) and control characters escaped."""
    if text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable() or character == "\t":
        return character
    code = ord(character)
    # PEP 383: U+DC80 to U+DCFF represent the bytes 80 to FF.
    return f"\\x{code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code:02x}"


def shortened(text: str) -> str:
    """Return `text` on one line, quoted, and cut before it fills a screen."""
    shown = printable(text[:_SHOWN_CHARACTERS]).replace("\t", "\\t")
    return (
        f'"{shown}"' if len(text) <= _SHOWN_CHARACTERS else f'"{shown}..." ({len(text)} characters)'
    )


def _name(text: str) -> str:
    """Return a parameter's name, cut at a length that no real one has."""
    return _cut(text, _SHOWN_CHARACTERS)


def _cut(text: str, most: int) -> str:
    cut = printable(text[:most])
    return cut if len(text) <= most else f"{cut}..."


def opened(mode: int) -> str:
    """Return why a main.cf of this mode was made readable for all; "" if it was so already.

    sendmail(1), postdrop(1) and postqueue(1) open main.cf as the user who runs them.
    """
    if mode & _READ_BY_ALL:
        return ""
    return (
        "all users can read it again: sendmail, mailq and other Postfix programs read it as the"
        " user who runs them; keep secrets in files that it names"
    )


def drift_sentence(drift: Drift) -> str:
    """Return one difference in words: what is set, what must be set, where."""
    where = "" if drift.line is None else f" (line {drift.line})"
    name, file, unset = _name(drift.parameter), _file(drift), _unset(drift)
    want, have = (value or "" for value in shown_values(drift))
    expected, actual = shortened(want), shortened(have)
    have, want = _cut(have, _WORDS_CHARACTERS), _cut(want, _WORDS_CHARACTERS)
    sentence = {
        DriftKind.CHANGED: f"{name} is {actual}, must be {expected}{where}",
        DriftKind.MISSING: f"{name} is not set, must be {expected}",
        DriftKind.UNWANTED: f"{name} is {actual}, must be {unset}{where}",
        DriftKind.UNMANAGED: f"{name} is {actual}, which is not managed{where}",
        DriftKind.DUPLICATED: f"{name} is set more than once, first to {actual}{where}",
        DriftKind.UNREADABLE: f"not a valid main.cf line: {actual}{where}",
        DriftKind.MODE: f"{file} is {have}, must be {want}",
        DriftKind.ABSENT_FILE: f"{file}: {have}; it is recreated as {want}",
    }[drift.kind]
    return f"{sentence}: {WISHED}" if drift.is_wished else sentence


def _file(drift: Drift) -> str:
    return printable(drift.document) or "main.cf"


def _unset(drift: Drift) -> str:
    return "absent" if drift.document else "left at Postfix's default"


def left_sentence(parameter: Parameter, of: DesiredState) -> str:
    """Say what the file still sets for a parameter that its desired state no longer names."""
    file = of.document or "main.cf"
    value = HIDDEN if of.is_secret else masked(parameter.name, parameter.value)
    name = _name(parameter.name)
    return f"{name}: no longer managed; {printable(file)} still says {shortened(value)}"


DRIFT_HEADINGS = ("PARAMETER", "IS", "MUST BE", "LINE")


def drift_row(drift: Drift) -> tuple[str, ...]:
    """Return what `drift_sentence` says, as table columns."""
    want, have = (value or "" for value in shown_values(drift))
    expected, actual = shortened(want), shortened(have)
    have, want = _cut(have, _WORDS_CHARACTERS), _cut(want, _WORDS_CHARACTERS)
    is_now, must_be = {
        DriftKind.CHANGED: (actual, expected),
        DriftKind.MISSING: ("not set", expected),
        DriftKind.UNWANTED: (actual, _unset(drift)),
        DriftKind.UNMANAGED: (actual, "- (not managed)"),
        DriftKind.DUPLICATED: (f"{actual}, then set again", f"{expected}, once"),
        DriftKind.UNREADABLE: (actual, "a valid main.cf line"),
        DriftKind.MODE: (have, want),
        DriftKind.ABSENT_FILE: (have, want),
    }[drift.kind]
    return _name(drift.parameter) or _file(drift), is_now, must_be, str(drift.line or "")


def shown_values(drift: Drift) -> tuple[str | None, str | None]:
    """Return the expected and the actual value, fit to be shown."""
    if drift.is_secret:
        hidden = [None if value is None else HIDDEN for value in (drift.expected, drift.actual)]
        return hidden[0], hidden[1]
    if drift.kind is DriftKind.UNREADABLE:
        return drift.expected, "\n".join(masked_lines((drift.actual or "").split("\n")))
    # Masked here, since sentences are cut and half a secret would not be recognised.
    expected, actual = drift.expected, drift.actual
    return (
        None if expected is None else PROCESS.text(masked(drift.parameter, expected)),
        None if actual is None else PROCESS.text(masked(drift.parameter, actual)),
    )


def drifted_names(drift: Iterable[Drift]) -> tuple[str, ...]:
    """Return the drifted parameters, each once, with the file's name for the file itself."""
    return tuple(dict.fromkeys(_name(d.parameter) or _file(d) for d in drift))


def troubles(documents: Mapping[str, str]) -> tuple[str, ...]:
    """Return why documents are not as desired, a sentence each; "" is that of one that is."""
    return tuple(why if name in why else f"{name}: {why}" for name, why in documents.items() if why)


def listed(found: Sequence[str], most: int = 4) -> str:
    """Return names for a sentence; those beyond `most` are only counted."""
    shown = ", ".join(map(_name, found[:most]))
    return shown if len(found) <= most else f"{shown} and {len(found) - most} more"


def duration(seconds: float) -> str:
    """Return a duration in readable form: 8 ms, 0.7 s, 3 min, 5 h, 2 days."""
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
    """Say how long ago, no finer than is true of a sentence renewed twice a minute."""
    return "less than a minute ago" if seconds < 60 else f"{duration(seconds)} ago"


def summary(status: Status, now: float) -> str:
    """Return the sentence for STATUS= and status.json, true at `now`; words/page.py says it all."""
    parts = [_in_brief(status)]
    if status.problems:
        errors = counted(len(status.problems), "configuration error")
        parts.append(f"{errors}; still using the last good state")
    if status.last is not None:
        parts.append(f"last drift {last_drift(status.last, now, parts[0])}")
    parts += [f"instance {name}: {_in_brief(inner)}" for name, inner in status.instances.items()]
    return printable("; ".join(parts))


def last_drift(last: LastDrift, now: float, said: str, where: str = "") -> str:
    """Say how long ago the latest drift was, and its outcome; `where` follows the time.

    The parameters are omitted if the sentence `said` names them already.
    """
    text = ago(now - last.at) + where
    names = listed(last.parameters)
    if not set(_WORD.findall(names)) <= set(_WORD.findall(said)):
        text += f": {names}"
    if last.corrected_seconds is not None:
        text += f", corrected in {duration(last.corrected_seconds)}"
    if last.up_seconds is not None:
        text += f", Postfix up after {duration(last.up_seconds)}"
    return text


def contest_sentence(contest: Contest) -> str:
    """Say what keeps drifting, how often since when, and what is done about it."""
    what = listed(contest.parameters)
    text = f"something keeps changing {what}: {contest.count} times since {clock(contest.since)}"
    # Only parts of master.cf have such names (postconf(1)).
    files = dict.fromkeys("master.cf" if "/" in name else "main.cf" for name in contest.parameters)
    corrected = f"{' and '.join(files)} {'is' if len(files) == 1 else 'are'} corrected each time"
    return f"{text}; {corrected}, Postfix restarted every {duration(contest.apart)}"


def suspension_sentence(suspension: Suspension) -> str:
    """Say who suspended it, until when and why."""
    until = "until resumed" if suspension.until is None else f"until {day(suspension.until)}"
    why = f": {suspension.reason}" if suspension.reason else ""
    return f"by {suspension.who} {until}{why}"


def suspended_sentence(suspension: Suspension) -> str:
    """Return the answer to a suspension, also used in its record: it names the one replaced."""
    text = f"suspended {suspension_sentence(suspension)}"
    return f"{text} (replaces the one {suspension.replaces})" if suspension.replaces else text


def day(seconds: float) -> str:
    """Return a time as people write it down: local date and time of day."""
    return f"{datetime.fromtimestamp(seconds, timezone.utc).astimezone():%Y-%m-%d %H:%M:%S}"


def clock(seconds: float) -> str:
    """Return a time as people read it: local time of day."""
    return f"{datetime.fromtimestamp(seconds, timezone.utc).astimezone():%H:%M:%S}"


def counted(number: int, thing: str) -> str:
    """Return `1 parameter`, `2 parameters`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def restart_sentence(status: Status) -> str:
    """Say when a waiting restart comes, or after what; "" if none waits."""
    due = status.restart_due
    return status.awaited or ("" if due is None else f"Postfix restart due after {clock(due)}")


def _in_brief(status: Status) -> str:
    """Return the phase and its detail, cut before it fills a page."""
    text = _phase_sentence(status)
    if len(text) <= _PART_CHARACTERS:
        return text
    return f"{text[:_PART_CHARACTERS].rpartition(' ')[0] or text[:_PART_CHARACTERS]}..."


def _phase_sentence(status: Status) -> str:
    count = counted(status.parameters, "parameter")
    start = {
        Phase.STARTING: "starting",
        Phase.IN_SYNC: f"in sync: {count}",
        Phase.ACTIVATING: "main.cf is correct",
        Phase.OBSERVING: "observe mode",
        Phase.SUSPENDED: "suspended",
        Phase.STALLED: "stalled",
        Phase.CONTESTED: "contested",
        Phase.FAILING: "failing",
        Phase.STOPPED: "stopped",
    }[status.phase]
    detail = status.detail
    if status.phase is Phase.ACTIVATING:
        return f"{start}; {detail or 'Postfix is restarting'}"
    if status.phase is Phase.SUSPENDED and status.suspension is not None:
        start, between = f"{start} {suspension_sentence(status.suspension)}", "; "
    else:
        between = {Phase.SUSPENDED: " ", Phase.IN_SYNC: ", ", Phase.OBSERVING: ", "}.get(
            status.phase, ": "
        )
    due = restart_sentence(status) if status.phase is Phase.CONTESTED else status.awaited
    return (f"{start}{between}{detail}" if detail else start) + (f"; {due}" if due else "")
