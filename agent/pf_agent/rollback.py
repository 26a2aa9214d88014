"""Postfix did not come up with a text: bring back the one that it last ran with, and stay with it.

Only where the two differ. Where Postfix does not come up with what it ran with before, the text is
not to blame, and the activation keeps trying.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pf_agent import names, render
from pf_agent.activation import NotUp
from pf_agent.model import Event, Exposure, PendingActivation, Record, RolledBack
from pf_agent.plan import Emit, Host, Pending, Policy

# Lines of Postfix's log in the one sentence of `status`; the record has all of them.
_LINES_SHOWN = 3


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
        if marker is None or marker.cycle != not_up.pending.cycle:
            return False  # corrected since: that text has its own restart to come
        number = pending.next_cycle()
        tried = RolledBack(
            number, not_up.reason, tuple(log), _digest(actual.text), _digest(restored)
        )
        # In this order a crash loses nothing: what was tried counts only once `restored` stands
        # there (see `standing`), and the marker asks for a restart with whatever does.
        pending.keep_rolled_back(tried)
        now = policy.clock()
        exposure = Exposure(marker.exposure.written_at, marker.exposure.seen_at, now)
        pending.mark_pending(PendingActivation(number, marker.parameters, exposure, True))
        kept: list[str] = []
        host.exchange(
            actual, restored, lambda text: kept.append(pending.keep_displaced(number, text))
        )
        _record(emit, tried, render.unified_diff(actual.text, restored, host.path), kept)
        return True


def standing(pending: Pending, text: bytes | None, candidate: bytes) -> RolledBack | None:
    """Return what was tried in vain, where main.cf and the desired state are as they were then.

    `candidate` is what main.cf would become. Where either has changed since, what was tried is
    forgotten, and the look goes on. Raises HostError.
    """
    tried = pending.rolled_back()
    if tried is None:
        return None
    is_restored = text is not None and _digest(text) == tried.restored
    if is_restored and (candidate == text or _digest(candidate) == tried.tried):
        return tried
    pending.forget_rolled_back()
    return None


def rolled_back_sentence(tried: RolledBack) -> str:
    """What happened, in Postfix's words as far as it said any, and the way out."""
    said = "".join(f"; {line}" for line in tried.log[-_LINES_SHOWN:])
    return (
        f"Postfix did not come up with what is desired, and runs with the text before:"
        f" {tried.reason}{said}; mend the desired state or main.cf, the agent waits for either"
    )


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
