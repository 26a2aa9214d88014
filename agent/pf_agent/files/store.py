"""What outlives a look: the marker, texts of main.cf, wishes, recent events, and the locks.

Every file is written whole to a temporary file and renamed. What must survive a power failure is
synced first; what only matters at the moment is not.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from pf_agent import names
from pf_agent.config.readback import array_of, moment_of, table_of
from pf_agent.errors import HostError
from pf_agent.files import kept_marker, kept_options, locks
from pf_agent.files.cycles import CYCLE, DOCUMENTS, INSTANCES, LIFE, Cycles
from pf_agent.files.displaced_texts import DISPLACED, DisplacedTexts
from pf_agent.files.folders import Folders, remove_half_written
from pf_agent.files.kept_marker import PENDING
from pf_agent.files.kept_suspension import KeptSuspension
from pf_agent.files.status_file import STATUS
from pf_agent.files.whole import host_error, read_ours, read_whole, remove, write_whole
from pf_agent.files.wishes_file import APPROVED, WISHES, WishesFile
from pf_agent.model import Exposure, PendingActivation, Wishes
from pf_agent.words.outgoing import PROCESS

T = TypeVar("T")

_LAST_GOOD = "last-good.main.cf"
_RAN_WITH = "ran-with.main.cf"
# For all instances, in the default one's directory; and for the instance of the directory.
_SUSPENSION = "suspension.json"
_SUSPENDED_ALONE = "suspension-alone.json"
_DRIFTS = "drifts.json"
_OURS = frozenset(
    [
        *(CYCLE, LIFE, PENDING, _LAST_GOOD, _RAN_WITH, WISHES, APPROVED),
        *(_SUSPENSION, _SUSPENDED_ALONE, kept_options.NAME),
        *(locks.RECONCILING, locks.ACTIVATING, locks.REPLACING, STATUS),
        *(_DRIFTS, names.RESTARTS, names.WISHED_RESTARTS),
    ]
)
# What reading a damaged file may raise.
_DAMAGED = (ValueError, RecursionError)


class FileStore:
    """The agent's files below `directory` (kept) and `run_directory` (lost at a reboot).

    `suspended` is for all instances, and counts in the default one's store; `suspended_alone` is
    for this one.
    """

    def __init__(self, directory: str, run_directory: str) -> None:
        self.directory = directory
        self.run_directory = run_directory
        self.displaced_directory = os.path.join(directory, DISPLACED)
        # main.cf may hold secrets that were later removed from it; old texts are for root only.
        modes = {directory: 0o700, self.displaced_directory: 0o700, run_directory: 0o755}
        # The administrator may move these elsewhere; below them nothing is a link.
        both = (directory, run_directory)
        self._folders = Folders(modes, may_be_links=both, cleared=both, ours=_OURS)
        self._displaced = DisplacedTexts(self.displaced_directory)
        self._locks = locks.Locks(run_directory)
        self.suspended = KeptSuspension(os.path.join(directory, _SUSPENSION))
        self.suspended_alone = KeptSuspension(os.path.join(directory, _SUSPENDED_ALONE))
        self._cycles = Cycles(directory)
        self._wishes = WishesFile(directory, directory, names.DEFAULT_INSTANCE)
        self._note_text: Callable[[bytes | None], None] = PROCESS.read_main_cf

    @classmethod
    def of_instance(cls, name: str, directory: str, run_directory: str) -> FileStore:
        """Return the store of a Postfix instance; the default one's uses these directories."""
        if name == names.DEFAULT_INSTANCE:
            return cls(directory, run_directory)
        outer = {os.path.join(directory, INSTANCES): 0o700}
        outer[os.path.join(run_directory, INSTANCES)] = 0o755
        store = cls(*(os.path.join(folder, name) for folder in outer))
        modes = {**outer, **store._folders.modes}
        store._folders = replace(store._folders, modes=modes, may_be_links=())
        store._wishes = WishesFile(store.directory, directory, name)
        store._cycles = Cycles(directory)
        return store

    def of_document(self, name: str, note: Callable[[bytes | None], None]) -> FileStore:
        """Return the store of another document of this instance; `note` is told of its texts."""
        inner = quote(name, safe="")
        outer = {os.path.join(self.directory, DOCUMENTS): 0o700}
        outer[os.path.join(self.run_directory, DOCUMENTS)] = 0o755
        store = FileStore(*(os.path.join(folder, inner) for folder in outer))
        modes = {**outer, **store._folders.modes}
        store._folders = replace(store._folders, modes=modes, may_be_links=())
        store._cycles, store._note_text = self._cycles, note
        own = store.directory
        store._wishes = WishesFile(own, own, names.DEFAULT_INSTANCE, note)
        return store

    def documents(self) -> tuple[str, ...]:
        """Return the names of the documents that have a store. Raises HostError."""
        folder = os.path.join(self.directory, DOCUMENTS)
        try:
            return tuple(sorted(map(unquote, os.listdir(folder))))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise host_error(folder, error) from error

    def prepare(self, quickly: bool = False) -> tuple[str, ...]:
        """Create the directories and make room in them, see `Folders.prepare`. Raises HostError."""
        moved = self._folders.prepare(quickly)
        # On a full disk cycles are still counted, without a name for their life.
        with suppress(HostError):
            self._cycles.begin_life()
        return moved

    def tidy(self) -> None:
        """Remove half-written files, unless another process is active. Raises HostError."""
        with self.lock():
            if not self.hold_activation():
                return
            remove_half_written((self.directory, self.displaced_directory, self.run_directory))
            self.release_activation()

    # --- locks --------------------------------------------------------------------------------

    def lock(self) -> AbstractContextManager[None]:
        """Hold the right to reconcile: the daemon and `apply` exclude each other. Milliseconds."""
        return self._locks.reconciling()

    def hold_activation(self) -> bool:
        """Try to get the right to activate; False while another process has it.

        Held until `release_activation` or the end of the process, however it ends.
        """
        return self._locks.hold_activation()

    def release_activation(self) -> None:
        """Let another process activate."""
        self._locks.release_activation()

    # --- cycles and their marker --------------------------------------------------------------

    def next_cycle(self) -> int:
        """Return the number of a new cycle, of any instance. Raises HostError."""
        return self._cycles.next()

    def life(self) -> str:
        """Return the name of the life whose cycles are counted, "" for none. Raises HostError."""
        return self._cycles.life()

    def pending(self) -> PendingActivation | None:
        """Return what Postfix was not yet seen to run with.

        A damaged marker counts as one: one activation too many is harmless, one too few leaves
        Postfix with old settings.
        """
        data = self._read(PENDING)
        if data is None:
            return None
        try:
            return kept_marker.from_json(json.loads(data))
        except _DAMAGED:
            return PendingActivation(0, (), Exposure(time.time(), time.time()))

    def mark_pending(self, pending: PendingActivation, durable: bool = True) -> None:
        """Write the marker; once it is durable, the next look takes over after a crash."""
        self._write(PENDING, json.dumps(kept_marker.to_json(pending)).encode(), durable)

    def note_served(
        self, cycle: int | None, text: bytes | None, is_started: bool, is_good: bool
    ) -> bool:
        """Note that Postfix was seen to serve: what `cycle` asked for is done; remove its marker.

        `is_started`: it was started with `text`. `is_good`: that text says what is desired. False
        if another process has corrected main.cf since; its marker stays. Raises HostError.
        """
        with self.lock():
            found = self.pending()
            is_clear = found is None or found.cycle == cycle
            if text is not None and is_started:
                self.keep_ran_with(text)
            if text is not None and is_good and text != self.last_good():
                self.keep_last_good(text)
            if is_clear and is_good:
                # If the text before did not help, neither was to blame: the wish may be tried
                # again.
                known = self.wishes()
                has_failed = found is not None and found.failed
                self.keep_wishes((known.tried_again() if has_failed else known).once_served())
            if is_clear:
                remove(os.path.join(self.directory, PENDING))
            return is_clear

    def note_failed(self, cycle: int) -> None:
        """Remember that the text restored in `cycle` did not help. Raises HostError."""
        with self.lock():
            found = self.pending()
            if found is not None and found.cycle == cycle:
                self.mark_pending(replace(found, failed=True))

    def note_reloaded(self, cycle: int) -> None:
        """Remember that no idle process has values from before `cycle`. Raises HostError."""
        with self.lock():
            found = self.pending()
            if found is not None and found.cycle == cycle:
                self.mark_pending(replace(found, live=False), durable=False)

    # --- texts --------------------------------------------------------------------------------

    def keep_displaced(self, cycle: int, text: bytes) -> str:
        """Keep `text` whole under `displaced/` and return its path; the oldest are removed."""
        self._note_text(text)
        return self._displaced.keep(cycle, text)

    def displaced(self, cycle: int) -> bytes | None:
        """Return the text that the cycle replaced, the first of several; None if none is kept."""
        return self._noted_text(self._displaced.of(cycle))

    def last_good(self) -> bytes | None:
        """Return the latest main.cf that was in sync and that Postfix was seen to serve with."""
        return self._noted_text(self._read(_LAST_GOOD))

    def keep_last_good(self, text: bytes) -> None:
        """Keep `text` in case main.cf is destroyed."""
        self._write(_LAST_GOOD, text)

    def ran_with(self) -> bytes | None:
        """Return the latest main.cf that Postfix was started with and seen to serve with."""
        return self._noted_text(self._read(_RAN_WITH))

    def keep_ran_with(self, text: bytes) -> None:
        """Keep `text` in case Postfix does not come up with another. Raises HostError."""
        if text != self.ran_with():
            self._write(_RAN_WITH, text)

    def suspensions(self) -> dict[str, KeptSuspension]:
        """Return the suspension of each instance that has a directory; for the default one's store.

        Raises HostError.
        """
        folder = os.path.join(self.directory, INSTANCES)
        try:
            found = sorted(os.listdir(folder))
        except FileNotFoundError:
            found = []
        except OSError as error:
            raise host_error(folder, error) from error
        kept = {n: KeptSuspension(os.path.join(folder, n, _SUSPENDED_ALONE)) for n in found}
        return {names.DEFAULT_INSTANCE: self.suspended_alone, **kept}

    # --- wishes -------------------------------------------------------------------------------

    def wishes(self) -> Wishes:
        """Return what was asked for and its outcome, see `WishesFile.wishes`. Raises HostError."""
        return self._wishes.wishes(self.ran_with)

    def keep_wishes(self, kept: Wishes) -> None:
        """Remember the wishes, for every process. Raises HostError."""
        if kept != self.wishes():
            self._wishes.keep(kept)

    # --- short-lived --------------------------------------------------------------------------

    def write_status(self, status: Mapping[str, Any]) -> None:
        """Publish status.json, readable by every user. Raises HostError."""
        data = json.dumps(status, indent=1).encode() + b"\n"
        write_whole(os.path.join(self.run_directory, STATUS), data, 0o644, durable=False)

    def remove_status(self) -> None:
        """Remove status.json: no process keeps it up to date any more. Raises HostError."""
        remove(os.path.join(self.run_directory, STATUS))

    def restarts(self, name: str = names.RESTARTS) -> tuple[float, ...]:
        """Return our recent restarts of Postfix (seconds since the epoch)."""
        # If unknown, none are assumed: systemd's own limit still applies.
        return self._noted(name, _moments, ())

    def note_restarts(self, moments: Sequence[float], name: str = names.RESTARTS) -> None:
        """Remember these restarts, for the next process too. Raises HostError."""
        self._note(name, list(moments))

    def drifts(self) -> dict[str, tuple[float, ...]]:
        """Return each parameter's recent drifts (seconds since the epoch)."""
        # If unknown, none are assumed: a contest is noticed a little later.
        return self._noted(_DRIFTS, _moments_by_name, {})

    def note_drifts(self, drifts: Mapping[str, Sequence[float]]) -> None:
        """Remember these drifts, for the next process too. Raises HostError."""
        self._note(_DRIFTS, drifts)

    def _noted(self, name: str, read: Callable[[object], T], otherwise: T) -> T:
        try:
            return read(json.loads(read_whole(os.path.join(self.run_directory, name))))
        except (OSError, *_DAMAGED):
            return otherwise

    def _note(self, name: str, document: object) -> None:
        path = os.path.join(self.run_directory, name)
        write_whole(path, json.dumps(document).encode(), 0o600, durable=False)

    # --- files --------------------------------------------------------------------------------

    def _noted_text(self, text: bytes | None) -> bytes | None:
        self._note_text(text)
        return text

    def _read(self, name: str) -> bytes | None:
        return read_ours(os.path.join(self.directory, name))

    def _write(self, name: str, data: bytes, durable: bool = True) -> None:
        write_whole(os.path.join(self.directory, name), data, 0o600, durable)


def _moments(found: object) -> tuple[float, ...]:
    return array_of(found, moment_of)


def _moments_by_name(found: object) -> dict[str, tuple[float, ...]]:
    return table_of(found, lambda _name, moments: _moments(moments))
