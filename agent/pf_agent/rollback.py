"""Postfix did not come up with a text: bring back the one that it last ran with, and stay with it.

Only where the two differ. Where Postfix does not come up with what it ran with before, the text is
not to blame, and the activation keeps trying.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from pf_agent import names, render
from pf_agent.activation import NotUp
from pf_agent.model import (
    ActualState,
    Event,
    Exposure,
    PendingActivation,
    Record,
    RolledBack,
)
from pf_agent.plan import Emit, Host, Pending, Policy

_FATAL = ("fatal: ", "panic: ", "error: ")  # msg(3)
_SYSTEMD = "systemd: "
_STARTING = f"{_SYSTEMD}Starting "


def roll_back(
    host: Host,
    policy: Policy,
    pending: Pending,
    emit: Emit,
    not_up: NotUp,
    log: Sequence[str],
) -> bool:
    """Bring back what Postfix last ran with; False where there is nothing to go back to.

    `log` is the end of Postfix's own log. Call it under the agent's lock. Raises HostError.
    """
    with host.locked():
        restored, marker, actual = pending.ran_with(), pending.pending(), host.read()
        if restored is None or actual.text is None or actual.text == restored:
            return False
        if marker is None or marker.cycle != not_up.pending.cycle or actual.text != not_up.tried:
            return False  # changed since: the text of now has its own restart to come
        if policy.judge(restored).fatal:
            return False  # what Postfix could run with once it cannot now: a name that is gone
        number = pending.next_cycle()
        tried = RolledBack(number, not_up.reason, tuple(log), "", _digest(restored))
        # In this order a crash loses nothing: what was tried counts only once `restored` stands
        # there (see `standing`), and the marker asks for a restart with whatever does.
        pending.keep_rolled_back(tried)
        now = policy.clock()
        exposure = Exposure(marker.exposure.written_at, marker.exposure.seen_at, now)
        pending.mark_pending(PendingActivation(number, marker.parameters, exposure, True))
        kept: list[str] = []

        def keep(text: bytes) -> None:
            kept.append(pending.keep_displaced(number, text))

        if not _exchange(host, actual, restored, keep):
            pending.mark_pending(replace(marker, cycle=number))
            pending.forget_rolled_back()
            return False
        _record(emit, tried, render.unified_diff(actual.text, restored, host.path), kept)
        return True


def _exchange(
    host: Host, actual: ActualState, restored: bytes, keep: Callable[[bytes], None]
) -> bool:
    """Swap the old text in; False where somebody wrote at that moment, and his text stands."""
    displaced = host.exchange(actual, restored, keep)
    if displaced.text in (actual.text, None) or displaced.is_open:
        return True  # what is still being written comes back when it is whole
    host.exchange(replace(actual, text=restored, is_open=False), displaced.text, keep)
    return False


def standing(pending: Pending, text: bytes | None, candidate: bytes) -> RolledBack | None:
    """Return what was tried in vain, where main.cf and the desired state are as they were then.

    `candidate` is what main.cf would become. The first look after a rollback notes it: it need not
    be the text that was tried, since what others had written into that one is gone as well. Where
    anything has changed since, what was tried is forgotten, and the look goes on. Raises HostError.
    """
    tried = pending.rolled_back()
    if tried is None:
        return None
    if text is not None and _digest(text) == tried.restored:
        if not tried.tried:
            tried = replace(tried, tried=_digest(candidate))
            pending.keep_rolled_back(tried)
        if _digest(candidate) == tried.tried:
            return tried
    pending.forget_rolled_back()
    return None


def rolled_back_sentence(tried: RolledBack) -> str:
    """What happened, in Postfix's words as far as it said any, and the way out."""
    log = _of_the_start(tried.log)
    fatal = [line for line in log if any(word in line for word in _FATAL)]
    warnings = [line for line in log if "warning: " in line]
    theirs = [line for line in log if not line.startswith(_SYSTEMD)]
    # The first fatal line is the cause, those after it are what came of it.
    telling = fatal[:1] or warnings[-1:] or theirs[-1:] or log[-1:]
    said = "".join(f"; {line}" for line in telling)
    return (
        "Postfix did not come up with what is desired, so the text that it last ran with was"
        f" brought back: {tried.reason}{said};"
        " mend the desired state or main.cf, it is tried again when either changes"
    )


def _of_the_start(log: Sequence[str]) -> Sequence[str]:
    """The lines from the last start on that had something to say: the stop's are not the cause."""
    last = max((row for row, line in enumerate(log) if not line.startswith(_SYSTEMD)), default=0)
    starts = [row for row, line in enumerate(log[:last]) if line.startswith(_STARTING)]
    return log[starts[-1] :] if starts else log


def _record(emit: Emit, tried: RolledBack, diff: str, kept: Sequence[str]) -> None:
    fields = {
        names.FIELD_REASON: tried.reason,
        names.FIELD_LOG: "\n".join(tried.log),
        names.FIELD_DIFF: diff,
        names.FIELD_DISPLACED: "\n".join(kept),
    }
    emit(Record(Event.ROLLED_BACK, rolled_back_sentence(tried), tried.cycle, fields))


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()
