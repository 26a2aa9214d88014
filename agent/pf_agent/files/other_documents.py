"""The documents beside main.cf on this host: which file each is, and how it must be treated.

The agent writes them as root. So it only takes on what root alone can change: elsewhere another
user could lead it to any file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from pf_agent.errors import HostError
from pf_agent.files.exchange import MainCfFile
from pf_agent.files.nature import OWN_MASTER_CF, nature_of
from pf_agent.files.trusted import require_root_alone
from pf_agent.maincf.resolved import resolved, values_of
from pf_agent.model import Attributes, DesiredState, DocumentKind, Wishes
from pf_agent.words.outgoing import PROCESS

_UNREAD = "Postfix reads it only if master.cf, or another table, does"


class OtherDocument(NamedTuple):
    """A document as it must be, its file, and what is told of each text of it that is read.

    `problems` says what of it cannot be: then the rest is not to be enforced either. `doubts` is
    only to be reported.
    """

    desired: DesiredState
    host: MainCfFile
    note: Callable[[bytes | None], None]
    problems: tuple[str, ...]
    doubts: tuple[str, ...]
    attributes: Attributes | None


def document_on_disk(
    name: str,
    desired: DesiredState,
    main_cf: str,
    texts: Sequence[bytes],
    before: Attributes | None = None,
) -> OtherDocument:
    """Return what a document comes to by the main.cf at that path: its `texts`, see `resolved`.

    `before`: its owner and mode when it was last there; `attributes` are those now, or these.
    Raises ConfigError if others than root could change it, HostError if there is no main.cf, and
    OSError if that cannot be found out.
    """
    if desired.kind is DocumentKind.MASTER_CF:
        host = MainCfFile(path_of(name, main_cf), OWN_MASTER_CF)
        wanted = replace(desired, document=name)
        return OtherDocument(wanted, host, _note_master_cf, (), (), None)
    if not all(texts):
        raise HostError(f"{main_cf}: there is nothing in it, and it decides what is in {name}")
    found = resolved(name, desired, texts, os.path.dirname(main_cf))
    if found is None:
        raise HostError(f"{main_cf}: it does not say yet whether {name} is a file of aliases")
    # Of a link, the target is what is exchanged: replaced, it would no longer lead there.
    path = os.path.realpath(found.path)
    require_root_alone(found.path)
    # Not every user may see what not every user can read.
    attributes = _attributes(path) or before
    is_public = attributes is None or bool(attributes.mode & stat.S_IROTH)
    is_secret = found.is_secret or not is_public
    wanted = replace(found.desired, document=name, is_secret=is_secret)
    note = partial(_note_secrets, wanted) if is_secret else _note_nothing
    if is_secret:
        PROCESS.read_secrets(wanted.settings.values())
    host = MainCfFile(path, nature_of(found.is_secret, note, attributes))
    doubts = () if found.is_named else (f"{name}: {main_cf} does not name it; {_UNREAD}",)
    return OtherDocument(wanted, host, note, found.problems, doubts, attributes)


def note_settings(kept: Wishes) -> None:
    """Have what was desired of a secret document hidden wherever it is quoted."""
    rejected = None if kept.rejected is None else kept.rejected.says
    for desired in (kept.served, kept.applied, rejected):
        PROCESS.read_secrets({} if desired is None else desired.settings.values())


def path_of(name: str, main_cf: str) -> str:
    """Return the path that a document's name has, which may be a link."""
    _, sign, path = name.partition(":")
    return path if sign else os.path.join(os.path.dirname(main_cf), name)


def _attributes(path: str) -> Attributes | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return Attributes(found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode))


def _note_secrets(desired: DesiredState, text: bytes | None) -> None:
    if text is not None:
        PROCESS.read_secrets(values_of(text, desired.kind))


def _note_master_cf(text: bytes | None) -> None:
    if text is not None:
        PROCESS.read_master_cf(text)


def _note_nothing(_text: bytes | None) -> None:
    """Nothing in it is secret."""
