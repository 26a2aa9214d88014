"""What outlives a look: the marker, texts of main.cf, wishes, what lately was, and the locks.

Everything is written whole to a temporary file and renamed. What must survive a power cut is
synced first; what is only for readers of the moment is not.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, replace
from typing import Any, TypeVar

from pf_agent import names
from pf_agent.config import saved
from pf_agent.config.readback import array_of, count_of, moment_of, table_of
from pf_agent.errors import HostError
from pf_agent.files import kept_marker, kept_wishes, locks
from pf_agent.files.displaced_texts import DisplacedTexts
from pf_agent.files.folders import Folders, remove_half_written
from pf_agent.files.linux import overwrite, stamp
from pf_agent.files.status_file import STATUS
from pf_agent.files.whole import host_error, read_ours, read_whole, remove, write_whole
from pf_agent.model import Exposure, PendingActivation, Stamp, Suspension, Wishes
from pf_agent.words.status import suspension_of

T = TypeVar("T")

_CYCLE = "cycle"
_PENDING = "pending.json"
_LAST_GOOD = "last-good.main.cf"
_RAN_WITH = "ran-with.main.cf"
_WISHES = "wishes.json"
# Of the version before, which kept no wishes: what Postfix took last.
_APPROVED = "desired.json"
_SUSPENSION = "suspension.json"
_DRIFTS = "drifts.json"
_OURS = frozenset(
    [
        *(_CYCLE, _PENDING, _LAST_GOOD, _RAN_WITH, _WISHES, _APPROVED, _SUSPENSION),
        *(locks.RECONCILING, locks.ACTIVATING, STATUS),
        *(_DRIFTS, names.RESTARTS, names.WISHED_RESTARTS),
    ]
)
# What reading a damaged file may raise.
_DAMAGED = (ValueError, RecursionError)
# Below it each instance but the default one has its folder.
INSTANCES = "instances"


class FileStore:
    """The agent's files below `directory` (kept) and `run_directory` (gone with a reboot)."""

    def __init__(self, directory: str, run_directory: str) -> None:
        self.directory = directory
        self.run_directory = run_directory
        self.displaced_directory = os.path.join(directory, "displaced")
        # main.cf may hold secrets that its owner later took out; old texts are for root.
        modes = {directory: 0o700, self.displaced_directory: 0o700, run_directory: 0o755}
        # Where these lie is the administrator's choice; below them nothing is a link.
        both = (directory, run_directory)
        self._folders = Folders(modes, may_be_links=both, cleared=both, ours=_OURS)
        self._displaced = DisplacedTexts(self.displaced_directory)
        self._locks = locks.Locks(run_directory)
        self._last_cycle: int | None = None
        self._instance = names.DEFAULT_INSTANCE
        self._approved = os.path.join(directory, _APPROVED)
        self._wishes: tuple[Stamp | None, Wishes] | None = None

    @classmethod
    def of_instance(cls, name: str, directory: str, run_directory: str) -> FileStore:
        """Return the store of a Postfix instance; the default one's has the folders as such."""
        if name == names.DEFAULT_INSTANCE:
            return cls(directory, run_directory)
        outer = {os.path.join(directory, INSTANCES): 0o700}
        outer[os.path.join(run_directory, INSTANCES)] = 0o755
        store = cls(*(os.path.join(folder, name) for folder in outer))
        modes = {**outer, **store._folders.modes}
        store._folders = replace(store._folders, modes=modes, may_be_links=())
        store._instance, store._approved = name, os.path.join(directory, _APPROVED)
        return store

    def prepare(self, quickly: bool = False) -> tuple[str, ...]:
        """Make the folders and room in them, as `Folders.prepare` does. Raises HostError."""
        return self._folders.prepare(quickly)

    def tidy(self) -> None:
        """Remove what a crash left half written, unless another process is at work. HostError."""
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
        """Try to become the one that activates; False while another process is.

        Held until `release_activation` or the end of the process, however it ends.
        """
        return self._locks.hold_activation()

    def release_activation(self) -> None:
        """Let another process activate."""
        self._locks.release_activation()

    # --- cycles and their marker --------------------------------------------------------------

    def next_cycle(self) -> int:
        """Return the number of a new cycle, higher than any that left a trace."""
        # The counter may be lost or old: it is not synced, and a backup may bring another back.
        last = self._last_cycle
        if last is None:  # the folder is listed once: its 200 names take a tenth of a correction
            last = self._displaced.newest_cycle()
        pending = self.pending()
        if pending is not None:
            last = max(last, pending.cycle)
        with suppress(ValueError):
            last = max(last, count_of(int(self._read(_CYCLE) or b"0")))
        self._last_cycle = last + 1
        self._overwrite(_CYCLE, b"%012d\n" % self._last_cycle)
        return self._last_cycle

    def pending(self) -> PendingActivation | None:
        """Return what Postfix was not yet seen to run with.

        A damaged marker counts as one: activating once too often is harmless, once too seldom
        leaves Postfix with old settings.
        """
        data = self._read(_PENDING)
        if data is None:
            return None
        try:
            return kept_marker.from_json(json.loads(data))
        except _DAMAGED:
            return PendingActivation(0, (), Exposure(time.time(), time.time()))

    def mark_pending(self, pending: PendingActivation, durable: bool = True) -> None:
        """Write the marker; once it is durable, a crash is taken up at the next look."""
        self._write(_PENDING, json.dumps(kept_marker.to_json(pending)).encode(), durable)

    def note_served(
        self, cycle: int | None, text: bytes | None, is_started: bool, is_good: bool
    ) -> bool:
        """Postfix was seen to serve: what `cycle` asked for is done, and its marker goes.

        `is_started`: it was started with `text`. `is_good`: that says what is desired. False where
        another process has corrected main.cf since, and that marker stays. Raises HostError.
        """
        with self.lock():
            found = self.pending()
            is_clear = found is None or found.cycle == cycle
            if text is not None and is_started:
                self.keep_ran_with(text)
            if text is not None and is_good and text != self.last_good():
                self.keep_last_good(text)
            if is_clear and is_good:
                # Neither text was to blame where the one before did not help: the wish may return.
                known = self.wishes()
                has_failed = found is not None and found.failed
                self.keep_wishes((known.tried_again() if has_failed else known).once_served())
            if is_clear:
                remove(os.path.join(self.directory, _PENDING))
            return is_clear

    def note_failed(self, cycle: int) -> None:
        """Remember that the text brought back in `cycle` did not help. Raises HostError."""
        with self.lock():
            found = self.pending()
            if found is not None and found.cycle == cycle:
                self.mark_pending(replace(found, failed=True))

    def note_reloaded(self, cycle: int) -> None:
        """Remember that no idle process has values of before `cycle`. Raises HostError."""
        with self.lock():
            found = self.pending()
            if found is not None and found.cycle == cycle:
                self.mark_pending(replace(found, live=False), durable=False)

    # --- texts --------------------------------------------------------------------------------

    def keep_displaced(self, cycle: int, text: bytes) -> str:
        """Keep `text` whole under `displaced/` and return its path; the oldest go."""
        return self._displaced.keep(cycle, text)

    def displaced(self, cycle: int) -> bytes | None:
        """Return the text that the cycle replaced, the first of several; None: none is kept."""
        return self._displaced.of(cycle)

    def last_good(self) -> bytes | None:
        """Return the newest main.cf that was in sync and that Postfix was seen to serve with."""
        return self._read(_LAST_GOOD)

    def keep_last_good(self, text: bytes) -> None:
        """Remember `text` for the day when main.cf is destroyed."""
        self._write(_LAST_GOOD, text)

    def ran_with(self) -> bytes | None:
        """Return the newest main.cf that Postfix was started with and seen to serve with."""
        return self._read(_RAN_WITH)

    def keep_ran_with(self, text: bytes) -> None:
        """Remember `text` for the day when Postfix does not come up with another. HostError."""
        if text != self.ran_with():
            self._write(_RAN_WITH, text)

    def suspension(self) -> Suspension | None:
        """Return what `suspend` was told last; None where nothing is, or it cannot be read."""
        data = self._read(_SUSPENSION)
        if data is None:
            return None
        with suppress(*_DAMAGED):
            return suspension_of(json.loads(data))
        return None

    def keep_suspension(self, suspension: Suspension) -> None:
        """From now on main.cf is left alone, also by the next process. Raises HostError."""
        self._write(_SUSPENSION, json.dumps(asdict(suspension)).encode())

    def forget_suspension(self) -> None:
        """main.cf is looked after again. Raises HostError."""
        remove(os.path.join(self.directory, _SUSPENSION))

    # --- wishes -------------------------------------------------------------------------------

    def wishes(self) -> Wishes:
        """Return what was asked for and what became of it; of a damaged file, nothing.

        Where the version before has left what Postfix took last, it served with that. Where the
        file cannot be read, what was read before counts. Raises HostError where that is nothing:
        what was served with would be forgotten for good.
        """
        seen = stamp(os.path.join(self.directory, _WISHES))
        if seen is None or self._wishes is None or seen != self._wishes[0]:
            try:
                self._wishes = (seen, self._read_wishes())
            except HostError:
                if self._wishes is None:
                    raise
        return self._wishes[1]

    def keep_wishes(self, kept: Wishes) -> None:
        """Remember them, for every process. Raises HostError."""
        if kept != self.wishes():
            self._write(_WISHES, json.dumps(kept_wishes.to_json(kept), indent=1).encode())

    def _read_wishes(self) -> Wishes:
        # Damaged, it is as if nothing had ever been asked for.
        with suppress(*_DAMAGED):
            data = self._read(_WISHES)
            return (
                self._approved_wishes() if data is None else kept_wishes.from_json(json.loads(data))
            )
        return Wishes()

    def _approved_wishes(self) -> Wishes:
        with suppress(OSError, *_DAMAGED):
            found = saved.from_json(json.loads(read_whole(self._approved)))
            approved = found.get(self._instance)
            ran_with = self.ran_with()
            # It was written before Postfix was started with it: what that one did not run with is
            # as good as newly asked for, and goes back where Postfix does not serve with it.
            if approved is not None and ran_with is not None:
                approved = kept_wishes.agreed(approved, ran_with)
            return Wishes(approved, approved)
        return Wishes()

    # --- for readers of the moment ------------------------------------------------------------

    def write_status(self, status: Mapping[str, Any]) -> None:
        """Publish status.json, readable by everybody. Raises HostError."""
        data = json.dumps(status, indent=1).encode() + b"\n"
        write_whole(os.path.join(self.run_directory, STATUS), data, 0o644, durable=False)

    def remove_status(self) -> None:
        """Withdraw status.json: nobody keeps it true any more. Raises HostError."""
        remove(os.path.join(self.run_directory, STATUS))

    def restarts(self, name: str = names.RESTARTS) -> tuple[float, ...]:
        """Return when Postfix was lately restarted by us (seconds since the epoch)."""
        # Unknown is as good as none: systemd's own limit still stands.
        return self._noted(name, _moments, ())

    def note_restarts(self, moments: Sequence[float], name: str = names.RESTARTS) -> None:
        """Remember these restarts, for the next process too. Raises HostError."""
        self._note(name, list(moments))

    def drifts(self) -> dict[str, tuple[float, ...]]:
        """Return when each parameter lately drifted (seconds since the epoch)."""
        # Unknown is as good as none: a contest is noticed a little later.
        return self._noted(_DRIFTS, _moments_by_name, {})

    def note_drifts(self, drifts: Mapping[str, Sequence[float]]) -> None:
        """Remember these, for the next process too. Raises HostError."""
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

    def _read(self, name: str) -> bytes | None:
        return read_ours(os.path.join(self.directory, name))

    def _write(self, name: str, data: bytes, durable: bool = True) -> None:
        write_whole(os.path.join(self.directory, name), data, 0o600, durable)

    def _overwrite(self, name: str, data: bytes) -> None:
        """Write over it, always at the same length: damaged, it is as good as lost."""
        path = os.path.join(self.directory, name)
        try:
            overwrite(path, data)
        except OSError as error:
            raise host_error(path, error) from error


def _moments(found: object) -> tuple[float, ...]:
    return array_of(found, moment_of)


def _moments_by_name(found: object) -> dict[str, tuple[float, ...]]:
    return table_of(found, lambda _name, moments: _moments(moments))
