"""wishes.json: what was asked for and what became of it, and what was kept before there was one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from pf_agent.config import saved
from pf_agent.errors import HostError
from pf_agent.files import kept_wishes
from pf_agent.files.linux import stamp
from pf_agent.files.whole import read_ours, read_whole, write_whole
from pf_agent.maincf.document import encoded
from pf_agent.model import Stamp, Wishes
from pf_agent.words.outgoing import PROCESS

WISHES: Final = "wishes.json"
# Of the previous version, which kept no wishes: what Postfix last accepted.
APPROVED: Final = "desired.json"
# What reading a damaged file may raise.
_DAMAGED = (ValueError, RecursionError)


class WishesFile:
    """The file of `instance` in its `directory`.

    The previous version kept one for all instances, in `outer`.
    """

    def __init__(
        self,
        directory: str,
        outer: str,
        instance: str,
        note: Callable[[bytes | None], None] = PROCESS.read_main_cf,
    ) -> None:
        """Tell `note` of the lines of the document that are read."""
        self._note = note
        self._path = os.path.join(directory, WISHES)
        self._approved = os.path.join(outer, APPROVED)
        self._instance = instance
        self._read: tuple[Stamp | None, Wishes] | None = None

    def wishes(self, ran_with: Callable[[], bytes | None]) -> Wishes:
        """Return what was asked for and its outcome; for a damaged file, nothing.

        If the previous version left what Postfix last accepted, it served with that, as far as the
        text that it `ran_with` says so. If the file cannot be read, what was read before counts.
        Raises HostError if there is nothing: the served state would be forgotten for good.
        """
        seen = stamp(self._path)
        if seen is None or self._read is None or seen != self._read[0]:
            try:
                self._read = (seen, self._load(ran_with))
                self._note_secrets(self._read[1])
            except HostError:
                if self._read is None:
                    raise
        return self._read[1]

    def keep(self, wishes: Wishes) -> None:
        """Write them. Raises HostError."""
        data = json.dumps(kept_wishes.to_json(wishes), indent=1).encode()
        write_whole(self._path, data, 0o600, durable=True)

    def _load(self, ran_with: Callable[[], bytes | None]) -> Wishes:
        # If it is damaged, it counts as if nothing had ever been asked for.
        with suppress(*_DAMAGED):
            data = read_ours(self._path)
            if data is None:
                return self._load_approved(ran_with)
            return kept_wishes.from_json(json.loads(data))
        return Wishes()

    def _load_approved(self, ran_with: Callable[[], bytes | None]) -> Wishes:
        with suppress(OSError, *_DAMAGED):
            found = saved.from_json(json.loads(read_whole(self._approved)))
            approved, text = found.get(self._instance), ran_with()
            # It was written before Postfix was started with it: what Postfix did not run with
            # counts as newly asked for, and is reverted if Postfix does not serve with it.
            if approved is not None and text is not None:
                approved = kept_wishes.agreed(approved, text)
            return Wishes(approved, approved)
        return Wishes()

    def _note_secrets(self, wishes: Wishes) -> None:
        rejected = None if wishes.rejected is None else wishes.rejected.says
        for desired in (wishes.served, wishes.applied, rejected):
            PROCESS.read_desired(desired)
        for lines in wishes.before.values():
            self._note(None if lines is None else encoded(lines))
