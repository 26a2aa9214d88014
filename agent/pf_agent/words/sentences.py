"""Outcome, drift and status as words for people, as a diff, and as JSON-ready dicts."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from pf_agent import names
from pf_agent.maincf.secrets import masked, masked_lines
from pf_agent.model import (
    Contest,
    Drift,
    DriftKind,
    Exposure,
    Outcome,
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
# The journal's field takes no more (journal.py); what is cut here need not be made printable first.
_FIELD_CHARACTERS = 3900
_CONTEXT = 3
_COMPARED_LINES = 4000
# What a line begins with that may belong to a setting above it; an empty line has none of it.
_BELOW_A_NAME = b" \t\v\f\r#\n"
# The first that fits: a file's name is no removed line.
_COLOURS = {"---": "1", "+++": "1", "@@": "36", "-": "31", "+": "32"}


def as_text(data: bytes | None) -> str:
    """main.cf's bytes as text that any terminal and any sink can take: not UTF-8 becomes \\xNN."""
    return "" if data is None else data.decode("utf-8", "backslashreplace")


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


def unified_diff(before: bytes | None, after: bytes, path: str) -> str:
    """What a correction changes, as diff -u shows it; "" where nothing differs.

    Only the part between the common beginning and the common end is compared line by line, and
    where that is very long it is shown as replaced whole: a huge main.cf must not hold us up.
    Secrets are compared and not shown.
    """
    above, old, new = _parts(before or b"", after)
    first = _common(old, new)
    last = _common(old[first:][::-1], new[first:][::-1])
    if first == len(old) == len(new):
        return ""
    start = max(first - _CONTEXT, 0)
    tail = max(last - _CONTEXT, 0)
    old_shown = _shown_lines(old, start, len(old) - tail)
    new_shown = _shown_lines(new, start, len(new) - tail)
    old, new = old[start : len(old) - tail], new[start : len(new) - tail]
    if len(old) + len(new) > _COMPARED_LINES:
        groups = [[("replace", 0, len(old), 0, len(new))]]
    else:
        # Its autojunk leaves out lines that recur: without it a hostile file takes half a minute.
        matcher = difflib.SequenceMatcher(None, old, new)
        groups = list(matcher.get_grouped_opcodes(_CONTEXT))
    text = [f"--- {'/dev/null' if before is None else path}", f"+++ {path} (desired)"]
    for group in groups:
        text += _hunk(group, old_shown, new_shown, above + start)
    return "\n".join(text) + "\n"


def _parts(before: bytes, after: bytes) -> tuple[int, list[str], list[str]]:
    """The lines of both where they differ, with those around that count, and how many are above.

    A drift is a line or two of many hundred, and all others need not become text.
    """
    most = min(len(before), len(after))
    common = _longest(most, lambda low, high: before.startswith(after[low:high], low))
    begin = before.rfind(b"\n", 0, common) + 1
    for _ in range(_CONTEXT):
        begin = before.rfind(b"\n", 0, max(begin - 1, 0)) + 1
    while begin > 0 and before[begin : begin + 1] in _BELOW_A_NAME:  # see `_shown_lines`
        begin = before.rfind(b"\n", 0, begin - 1) + 1
    size, other = len(before), len(after)
    same = _longest(
        most - common,
        lambda low, high: before.endswith(after[other - high : other - low], 0, size - low),
    )
    end = size - same
    for _ in range(_CONTEXT + 1):
        end = before.find(b"\n", end) + 1 or size
    old, new = _lines(before[begin:end]), _lines(after[begin : other - size + end])
    return before.count(b"\n", 0, begin), old, new


def _longest(most: int, holds: Callable[[int, int], bool]) -> int:
    """The largest number up to `most` for which all holds from 0 on; `holds` is of a stretch."""
    low = 0
    while low < most:
        middle = (low + most + 1) // 2
        if holds(low, middle):
            low = middle
        else:
            most = middle - 1
    return low


def _shown_lines(lines: Sequence[str], start: int, end: int) -> list[str]:
    """The lines without secrets; a value that began above is known from where it began."""
    begin = min(start, len(lines) - 1)
    while begin > 0 and lines[begin][:1].encode() in _BELOW_A_NAME:
        begin -= 1
    head = lines[begin : begin + 1] if 0 <= begin < start else []
    # Masked as they stand: escaped, a blank that is a control character would not be seen as one.
    shown = masked_lines([*head, *lines[start:end]])[len(head) :]
    return list(map(printable, shown))


def coloured(diff: str) -> str:
    """A unified diff with the colours that terminals have for one (ECMA-48, SGR)."""
    return "".join(map(_coloured_line, diff.splitlines(keepends=True)))


def _coloured_line(line: str) -> str:
    for start, colour in _COLOURS.items():
        if line.startswith(start):
            text = line.rstrip("\n")
            return f"\x1b[{colour}m{text}\x1b[m{line[len(text) :]}"
    return line


def _common(old: Sequence[str], new: Sequence[str]) -> int:
    """How many lines both begin with."""
    count = 0
    for ours, theirs in zip(old, new):  # noqa: B905 - the shorter one ends it
        if ours != theirs:
            break
        count += 1
    return count


def _hunk(
    group: Sequence[tuple[str, int, int, int, int]],
    old: Sequence[str],
    new: Sequence[str],
    start: int,
) -> list[str]:
    """One hunk; `start` lines stand above the part that was compared."""
    (_, a1, _, b1, _), (_, _, a2, _, b2) = group[0], group[-1]
    text = [f"@@ -{_range(start + a1, a2 - a1)} +{_range(start + b1, b2 - b1)} @@"]
    for tag, i1, i2, j1, j2 in group:
        if tag == "equal":
            text += [f" {line}" for line in old[i1:i2]]
        else:
            text += [f"-{line}" for line in old[i1:i2]] + [f"+{line}" for line in new[j1:j2]]
    return text


def _range(start: int, count: int) -> str:
    """A hunk's lines as diff(1) counts them: an empty range is named by the line above it."""
    first = start if count == 0 else start + 1
    return str(first) if count == 1 else f"{first},{count}"


def _lines(data: bytes | None) -> list[str]:
    # "\n" alone ends a line of main.cf, so str.splitlines, which knows ten ends, would lie.
    text = as_text(data)
    return text.removesuffix("\n").split("\n") if text else []


def drift_sentence(drift: Drift) -> str:
    """One difference in words: what stands, what must stand, where."""
    where = "" if drift.line is None else f" (line {drift.line})"
    name = _name(drift.parameter)
    want, have = (value or "" for value in _shown_values(drift))
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
    want, have = (value or "" for value in _shown_values(drift))
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


def _shown_values(drift: Drift) -> tuple[str | None, str | None]:
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


def moment(seconds: float) -> str:
    """A point in time as a record holds it: UTC, ISO 8601, milliseconds."""
    when = datetime.fromtimestamp(seconds, timezone.utc)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


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


def drift_dict(drift: Drift) -> dict[str, Any]:
    """One difference for `diff --json`."""
    expected, actual = _shown_values(drift)
    return {
        "parameter": drift.parameter,
        "kind": drift.kind.value,
        "expected": expected,
        "actual": None if actual is None else printable(actual),
        "line": drift.line,
    }


def diff_dict(drift: Sequence[Drift], diff: str) -> dict[str, Any]:
    """`diff --json`."""
    return {"in_sync": not drift, "drift": [drift_dict(d) for d in drift], "diff": diff}


def outcome_dict(outcome: Outcome) -> dict[str, Any]:
    """`apply --json`."""
    return {
        "result": outcome.result.value,
        "summary": outcome.summary,
        "cycle": outcome.cycle,
        **diff_dict(outcome.drift, outcome.diff),
    }


def drift_fields(drift: Drift) -> dict[str, str]:
    """One difference as journal fields; a field that does not apply is left out."""
    expected, actual = _shown_values(drift)
    fields = {
        names.FIELD_PARAMETER: drift.parameter,
        names.FIELD_KIND: drift.kind.value,
        names.FIELD_EXPECTED: expected,
        names.FIELD_ACTUAL: actual,
        names.FIELD_LINE: None if drift.line is None else str(drift.line),
    }
    # journalctl -o json shows a value with a control character as an array of numbers.
    return {name: _field(value) for name, value in fields.items() if value is not None}


def _field(value: str) -> str:
    if len(value) <= _FIELD_CHARACTERS:
        return printable(value)
    return f"{printable(value[:_FIELD_CHARACTERS])}... ({len(value)} characters)"


def exposure_fields(exposure: Exposure) -> Mapping[str, str]:
    """How long a drift was live, as journal fields."""
    moments = {
        names.FIELD_WRITTEN_AT: exposure.written_at,
        names.FIELD_SEEN_AT: exposure.seen_at,
        names.FIELD_CORRECTED_AT: exposure.corrected_at,
        names.FIELD_ACTIVATED_AT: exposure.activated_at,
    }
    return {name: moment(value) for name, value in moments.items() if value is not None}
