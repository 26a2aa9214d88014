"""What sort of file a document is: whose it must be, what else edits it, what is secret in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pf_agent.maincf.document import ATTRIBUTES
from pf_agent.model import ActualState, Attributes, FileKind
from pf_agent.words.outgoing import PROCESS

_GROUP, _OTHERS = 0o070, 0o007
_NEW_SECRET = 0o600


@dataclass(frozen=True)
class Nature:
    """A sort of file.

    `is_own`: one of this host's own, not an image or a checkout, for which the caller answers.
    `attributes` returns the owner and mode that it must have, given what it is now. `is_locked`:
    Postfix's programs edit it, under a lock (edit_file(3)). `note` is told each text that is read.
    """

    is_own: bool
    attributes: Callable[[ActualState], Attributes]
    is_locked: bool
    note: Callable[[bytes], None]


def _main_cfs(_actual: ActualState) -> Attributes:
    return ATTRIBUTES


def _as_it_is(actual: ActualState, before: Attributes = ATTRIBUTES) -> Attributes:
    if actual.text is None:
        return before
    return Attributes(actual.owner, actual.group, actual.mode)


def _closed(actual: ActualState, before: Attributes | None) -> Attributes:
    """Keep out all but the owner and the group (SASL_README wants 0600)."""
    if before is None and actual.kind is FileKind.ABSENT:
        return ATTRIBUTES._replace(mode=_NEW_SECRET)
    found = _as_it_is(actual, before or ATTRIBUTES)
    # Somebody chose a group of its own, and for root's own there is no need.
    kept_out = _OTHERS if found.group else _OTHERS | _GROUP
    return found._replace(mode=found.mode & ~kept_out)


def nature_of(
    is_secret: bool, note: Callable[[bytes], None], before: Attributes | None = None
) -> Nature:
    """Return that of a table's source; of one that `is_secret`, only owner and group may read it.

    Where it is made anew it gets the owner and mode that it had `before`. No program of Postfix's
    takes a lock on a source.
    """
    if is_secret:
        return Nature(True, partial(_closed, before=before), False, note)
    return Nature(True, partial(_as_it_is, before=before or ATTRIBUTES), False, note)


OWN_MAIN_CF = Nature(True, _main_cfs, True, PROCESS.read_main_cf)
OWN_MASTER_CF = Nature(True, _main_cfs, True, PROCESS.read_master_cf)
OTHER_MAIN_CF = Nature(False, _as_it_is, True, PROCESS.read_main_cf)
