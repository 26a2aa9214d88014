"""What `status` prints: a first line with the essence, then one line for each detail. Pure.

Each Postfix instance has a block of its own, whose first line is not indented and has at most 80
columns. The other lines are indented, begin with a label of five letters and are as long as
necessary, so that each line is one fact, also in a pipe.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from pf_agent import names
from pf_agent.model import IN_SYNC_DETAIL, UNSERVED_DETAIL, Phase, Status
from pf_agent.words import sentences

MOST_COLUMNS = 80
_MORE = "..."

# The meaning of a phase whose detail is too long for the first line.
_MEANS = {
    Phase.STARTING: "starting: pf-agent takes its first look",
    Phase.STALLED: "stalled: main.cf cannot be kept as desired",
    Phase.STOPPED: "stopped: main.cf is kept correct; Postfix is not started",
}
_TO_DO = {
    Phase.STALLED: "fix that; `systemctl reload pf-agent` retries at once",
    Phase.FAILING: "fix that; `journalctl -xu pf-agent` shows what was tried",
    Phase.CONTESTED: "find who writes it (`pf-agent history`), or make it desired (`pf-agent set`)",
}
# How long somebody may come to see what became of a change.
_NEWS_SECONDS = 86400.0
_SINCE = frozenset({Phase.STALLED, Phase.FAILING, Phase.STOPPED, Phase.CONTESTED})
# What follows the short part in the details of words/phase.py.
_WHY = ": "
_BUT = "but "


def page(status: Status, now: float) -> tuple[str, ...]:
    """Return the lines that describe the status at `now` (seconds since the epoch)."""
    lines = [*_block(names.DEFAULT_INSTANCE, status, now)]
    for name, inner in status.instances.items():
        lines += _block(name, inner, now)
    return tuple(lines)


def _block(name: str, status: Status, now: float) -> Iterator[str]:
    start = "" if name == names.DEFAULT_INSTANCE else f"instance {name}: "
    head = _plain(start + _headline(status))
    first = _beside(head, _plain("".join(f"; {text}" for text in _besides(status))))
    yield first
    for label, text in _facts(name, status, now, first):
        yield f"  {label}: {_plain(text)}"


def _headline(status: Status) -> str:
    if status.phase in _MEANS:
        return _MEANS[status.phase]
    if status.phase is Phase.IN_SYNC:
        count = sentences.counted(status.parameters, "parameter")
        return f"in sync: {count}{', with a warning' if status.detail or _missing(status) else ''}"
    if status.phase is Phase.ACTIVATING:
        return f"main.cf is correct; {status.detail.partition('; ')[0] or 'Postfix is restarting'}"
    if status.phase is Phase.SUSPENDED and status.suspension is not None:
        return f"suspended {sentences.suspension_sentence(status.suspension)}"
    if status.phase is Phase.OBSERVING:
        return f"observe mode, {status.detail}"
    return f"{status.phase.value}: {status.detail.partition(_WHY)[0]}"


def _besides(status: Status) -> Iterator[str]:
    """Yield what the first line adds: faults in the files, other instances."""
    if status.problems:
        yield sentences.counted(len(status.problems), "configuration error")
    others = [(n, inner) for n, inner in status.instances.items() if not inner.is_in_sync()]
    if len(others) == 1:
        yield f"{others[0][0]}: {others[0][1].phase.value}"
    elif others:
        yield f"{len(others)} other instances are not in sync"


def _facts(name: str, status: Status, now: float, first: str) -> Iterator[tuple[str, str]]:
    """Yield the lines below, each with its label."""
    wrong = tuple(_wrong(status, first))
    yield from (("wrong", text) for text in wrong)
    if status.phase is Phase.SUSPENDED and status.suspension is not None:
        if _plain(status.suspension.reason) not in first:
            yield "cause", status.suspension.reason
        if status.detail:
            yield "found", status.detail
    yield from (("error", text) for text in dict.fromkeys(status.problems) if text not in wrong)
    if status.phase in _SINCE:
        yield "since", f"{sentences.day(status.since)}, {sentences.ago(now - status.since)}"
    waits = _waits(status)
    if waits:
        yield "waits", waits
    if status.last is not None:
        said = f"{first} {status.detail if status.phase is not Phase.ACTIVATING else ''}"
        cycle = f", cycle {status.last.cycle}"
        yield "drift", sentences.last_drift(status.last, now, said, cycle)
    to_do = _to_do(name, status, now)
    if to_do:
        yield "to do", to_do


def _wrong(status: Status, first: str) -> Iterator[str]:
    """Yield what is wrong in whole sentences, unless the first line already has them."""
    detail, phase = status.detail, status.phase
    if phase is Phase.IN_SYNC:
        detail = detail.removeprefix(_BUT)
        if detail and not any(map(detail.startswith, _missing(status)[:1])):
            yield detail
    elif phase is Phase.FAILING:
        yield detail.partition(_WHY)[2] or detail
    elif phase not in (Phase.ACTIVATING, Phase.SUSPENDED) and _plain(detail) not in first:
        yield detail
    yield from _missing(status)


def _missing(status: Status) -> tuple[str, ...]:
    """What differs in other documents, and what Postfix finds not at all or not as it is."""
    return (*sentences.troubles(status.documents), *status.stale.values(), *status.absent)


def _waits(status: Status) -> str:
    due = sentences.restart_sentence(status)
    if status.phase is Phase.ACTIVATING:
        return status.detail
    if status.phase is Phase.CONTESTED:
        return due or "for nothing: Postfix runs with the desired settings"
    if status.phase is Phase.FAILING and status.awaited:
        return status.awaited
    if status.phase is Phase.FAILING:
        when = "" if status.restart_due is None else f" after {sentences.clock(status.restart_due)}"
        return f"for the cause to end; Postfix is tried again{when or ' by itself'}"
    if status.phase is Phase.STOPPED:
        return "for Postfix to be started; the start is verified"
    if status.phase is Phase.STALLED and status.next_look is not None:
        return f"for the next try at {sentences.clock(status.next_look)}"
    return ""


def _to_do(name: str, status: Status, now: float) -> str:
    if status.phase is Phase.SUSPENDED:
        which = "" if name == names.DEFAULT_INSTANCE else f" --instance {name}"
        return f"`pf-agent resume{which}` ends it"
    if status.phase is Phase.OBSERVING and not status.parameters:
        return "`pf-agent check` names every error, `pf-agent init --list` shows what to start from"
    if status.phase is Phase.OBSERVING and status.detail == UNSERVED_DETAIL:
        return "`systemctl restart postfix` makes Postfix run with it"
    if status.phase is Phase.OBSERVING and status.detail != IN_SYNC_DETAIL:
        return "`pf-agent diff` shows it, `pf-agent apply --force` corrects it once"
    if status.phase in _TO_DO:
        return _TO_DO[status.phase]
    if status.problems:
        return "fix the file; the last good state is in force until then"
    last = status.last
    if last is not None and last.keep and now - last.at < _NEWS_SECONDS:
        return f"`{last.keep}` keeps the change, if it was right"
    return ""


def _plain(text: str) -> str:
    """Return one line that moves no cursor, whatever main.cf or a person has put in it."""
    return sentences.printable(text).replace("\t", "\\t")


def _beside(head: str, besides: str) -> str:
    """Join both in one line, the second in full if half of the line remains for the first."""
    besides = cut(besides, MOST_COLUMNS // 2)
    return cut(head, MOST_COLUMNS - columns(besides)) + besides


def columns(text: str) -> int:
    """Return how many columns of a terminal the text takes (UAX #11)."""
    return sum(map(_column, text))


def _column(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, most: int) -> str:
    """Return the text in at most that many columns, with dots where it was cut."""
    if columns(text) <= most:
        return text
    room, kept = most - len(_MORE), ""
    for character in text:
        room -= _column(character)
        if room < 0:
            break
        kept += character
    return kept + _MORE
