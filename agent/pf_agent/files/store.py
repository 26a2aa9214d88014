"""What outlives a look: the pending marker, displaced and last good texts, status.json, the locks.

Everything is written whole to a temporary file and renamed. What must survive a power cut is
synced first; what is only for readers of the moment is not. A link is never followed: what another
put in the place of a file of ours is moved away, and that is told.
"""

from __future__ import annotations

import json
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from typing import Any

from pf_agent import names
from pf_agent.config import saved
from pf_agent.config.desired import instance_fault
from pf_agent.errors import ConfigError, HostError
from pf_agent.files import kept_wishes, sandbox
from pf_agent.files.linux import close, fill, try_flock
from pf_agent.files.whole import (
    MOST_BYTES,
    half_written,
    host_error,
    read_whole,
    remove,
    write_whole,
)
from pf_agent.model import DesiredState, Exposure, Heard, PendingActivation, Suspension, Wishes
from pf_agent.words.status import count_of, moment_of, suspension_of

DISPLACED_COUNT = 200
DISPLACED_BYTES = 50 * 1024 * 1024

_LOCK_SECONDS = 30.0
_WISHES = "wishes.json"
# Of the version before, which kept no wishes: what Postfix took last.
_APPROVED = "desired.json"
# What reading a damaged file may raise.
_DAMAGED = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
_SUSPENSION = "suspension.json"
# What is written without a lock may be half written by a process that lives, as these may.
_HALF_WRITTEN = re.compile(r"\.(?!status|suspension).*\.new")
_OURS = frozenset(
    [
        "cycle",
        "pending.json",
        "last-good.main.cf",
        "ran-with.main.cf",
        _APPROVED,
        _WISHES,
        _SUSPENSION,
        "lock",
        "activation.lock",
        "status.json",
        names.RESTARTS,
        names.WISHED_RESTARTS,
        "drifts.json",
    ]
)
_DISPLACED_NAME = re.compile(r"(\d{8,12})(?:\.(\d+))?\.main\.cf")


class FileStore:
    """The agent's files below `directory` (kept) and `run_directory` (gone with a reboot)."""

    def __init__(self, directory: str, run_directory: str) -> None:
        self.directory = directory
        self.run_directory = run_directory
        self.displaced_directory = os.path.join(directory, "displaced")
        # main.cf may hold secrets that its owner later took out; old texts are for root.
        self._folders = {directory: 0o700, self.displaced_directory: 0o700, run_directory: 0o755}
        # Where these lie is the administrator's choice; below them nothing is a link.
        self._may_be_links = {directory, run_directory}
        self._activation_lock: int | None = None
        self._last_cycle: int | None = None
        self._instance = names.DEFAULT_INSTANCE
        self._approved = os.path.join(directory, _APPROVED)
        self._wishes: tuple[_Stamp | None, Wishes] | None = None

    @classmethod
    def of_instance(cls, name: str, directory: str, run_directory: str) -> FileStore:
        """Return the state of a Postfix instance; the default one's lies in the folders as such."""
        if name == names.DEFAULT_INSTANCE:
            return cls(directory, run_directory)
        outer = {os.path.join(directory, "instances"): 0o700}
        outer[os.path.join(run_directory, "instances")] = 0o755
        state = cls(*(os.path.join(folder, name) for folder in outer))
        state._folders = {**outer, **state._folders}
        state._may_be_links = set()
        state._instance, state._approved = name, os.path.join(directory, _APPROVED)
        return state

    def prepare(self, quickly: bool = False) -> tuple[str, ...]:
        """Make the folders, for root alone to write to, and make room for our files in them.

        `quickly`, by the types alone that the folders tell. Returns a sentence for each thing that
        was moved away since it is no file or folder of ours. Raises HostError.
        """
        moved: list[str] = []
        uid = os.geteuid()
        try:
            for folder, mode in self._folders.items():
                may_be_link = folder in self._may_be_links
                if not _is_ours(folder, mode, uid, may_be_link):
                    if not (may_be_link and os.path.isdir(folder)):
                        moved += _cleared_for_folder(folder)
                    _make(folder, mode)
            for folder in (self.directory, self.run_directory):
                moved += _cleared(folder, quickly)
        except OSError as error:
            place = str(error.filename)
            cure = sandbox.way_out(place, error, "run as root")
            raise HostError(f"{place}: {error.strerror}; {cure}") from error
        return tuple(moved)

    def tidy(self) -> None:
        """Remove what a crash left half written, unless another process is at work. HostError."""
        with self.lock():
            if not self.hold_activation():
                return
            for folder in (self.directory, self.displaced_directory, self.run_directory):
                for entry in os.scandir(folder):
                    is_folder = entry.is_dir(follow_symlinks=False)
                    if _HALF_WRITTEN.fullmatch(entry.name) and not is_folder:
                        remove(entry.path)
            self.release_activation()

    # --- locks --------------------------------------------------------------------------------

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the right to reconcile: the daemon and `apply` exclude each other. Milliseconds."""
        handle = self._open_lock("lock")
        try:
            deadline = time.monotonic() + _LOCK_SECONDS
            while not try_flock(handle):
                if time.monotonic() > deadline:
                    raise HostError(
                        f"{self.run_directory}/lock: another pf-agent has held it for"
                        f" {_LOCK_SECONDS:.0f} s; see `fuser {self.run_directory}/lock`"
                    )
                time.sleep(0.01)
            yield
        finally:
            close(handle)

    def hold_activation(self) -> bool:
        """Try to become the one that activates; False while another process is.

        Held until `release_activation` or the end of the process, however it ends.
        """
        if self._activation_lock is None:
            handle = self._open_lock("activation.lock")
            if not try_flock(handle):
                close(handle)
                return False
            self._activation_lock = handle
        return True

    def release_activation(self) -> None:
        """Let another process activate."""
        if self._activation_lock is not None:
            close(self._activation_lock)
            self._activation_lock = None

    def _open_lock(self, name: str) -> int:
        path = os.path.join(self.run_directory, name)
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise HostError(f"{path}: {error.strerror}; run as root") from error

    # --- cycles and their marker --------------------------------------------------------------

    def next_cycle(self) -> int:
        """Return the number of a new cycle, higher than any that left a trace."""
        # The counter may be lost or old: it is not synced, and a backup may bring another back.
        last = self._last_cycle
        if last is None:  # the folder is listed once: its 200 names take a tenth of a correction
            last = max(self._displaced_cycles(), default=0)
        pending = self.pending()
        if pending is not None:
            last = max(last, pending.cycle)
        with suppress(ValueError):
            last = max(last, count_of(int(self._read("cycle") or b"0")))
        self._last_cycle = last + 1
        self._overwrite("cycle", b"%012d\n" % self._last_cycle)
        return self._last_cycle

    def pending(self) -> PendingActivation | None:
        """Return what Postfix was not yet seen to run with.

        A damaged marker counts as one: activating once too often is harmless, once too seldom
        leaves Postfix with old settings.
        """
        data = self._read("pending.json")
        if data is None:
            return None
        try:
            found = json.loads(data)
            return PendingActivation(
                count_of(found["cycle"]),
                tuple(str(name) for name in found["parameters"]),
                _exposure(found["exposure"]),
                bool(found.get("rolled_back", False)),
                bool(found.get("failed", False)),
                tuple(str(name) for name in found.get("wished", ())),
                _heard(found.get("before")),
                bool(found.get("live", True)),
            )
        except _DAMAGED:
            return PendingActivation(0, (), Exposure(time.time(), time.time()))

    def mark_pending(self, pending: PendingActivation, durable: bool = True) -> None:
        """Write the marker; once it is durable, a crash is taken up at the next look."""
        self._write("pending.json", json.dumps(asdict(pending)).encode(), durable)

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
                remove(os.path.join(self.directory, "pending.json"))
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
        name = os.path.join("displaced", f"{cycle:08d}.main.cf")
        again = 0
        while _type(path := os.path.join(self.directory, name)) or _is_blocked(path):
            if _type(path) == stat.S_IFREG and self._read(name) == text:
                return path  # a crash came between keeping it and removing where it stood
            again += 1
            name = os.path.join("displaced", f"{cycle:08d}.{again}.main.cf")
        self._write(name, text)
        self._prune_displaced(os.path.basename(name))
        return path

    def displaced(self, cycle: int) -> bytes | None:
        """Return the text that the cycle replaced, the first of several; None: none is kept."""
        return self._read(os.path.join("displaced", f"{cycle:08d}.main.cf"))

    def last_good(self) -> bytes | None:
        """Return the newest main.cf that was in sync and that Postfix was seen to serve with."""
        return self._read("last-good.main.cf")

    def keep_last_good(self, text: bytes) -> None:
        """Remember `text` for the day when main.cf is destroyed."""
        self._write("last-good.main.cf", text)

    def ran_with(self) -> bytes | None:
        """Return the newest main.cf that Postfix was started with and seen to serve with."""
        return self._read("ran-with.main.cf")

    def keep_ran_with(self, text: bytes) -> None:
        """Remember `text` for the day when Postfix does not come up with another. HostError."""
        if text != self.ran_with():
            self._write("ran-with.main.cf", text)

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
        stamp = _stamp_of(os.path.join(self.directory, _WISHES))
        if stamp is None or self._wishes is None or stamp != self._wishes[0]:
            try:
                self._wishes = (stamp, self._read_wishes())
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
        with suppress(ConfigError, OSError, *_DAMAGED):
            found = saved.from_json(json.loads(read_whole(self._approved)))
            approved = found.get(self._instance)
            ran_with = self.ran_with()
            # It was written before Postfix was started with it: what that one did not run with is
            # as good as newly asked for, and goes back where Postfix does not serve with it.
            if approved is not None and ran_with is not None:
                approved = kept_wishes.agreed(approved, ran_with)
            return Wishes(approved, approved)
        return Wishes()

    def _displaced_cycles(self) -> Iterator[int]:
        for name in os.listdir(self.displaced_directory):
            match = _DISPLACED_NAME.fullmatch(name)
            if match is not None:
                yield int(match[1])

    def _prune_displaced(self, newest: str) -> None:
        """Keep the newest `DISPLACED_COUNT` texts, and of these at most `DISPLACED_BYTES`.

        By their cycles, `newest` before all: where the clock was set back, a date would make the
        text that was written just now the oldest.
        """
        # What else lies there is not ours: a folder, or a link that leads elsewhere.
        files = [
            e for e in os.scandir(self.displaced_directory) if e.is_file(follow_symlinks=False)
        ]
        entries = [entry for entry in files if entry.name.endswith(".main.cf")]
        entries.sort(key=lambda entry: (entry.name == newest, _rank(entry.name)), reverse=True)
        total = 0
        for stray in files:
            if stray.name.endswith(".new"):  # the crash of another cycle; ours is renamed by now
                os.unlink(stray.path)
        for rank, entry in enumerate(entries):
            total += entry.stat().st_size
            if rank >= DISPLACED_COUNT or (rank > 0 and total > DISPLACED_BYTES):
                os.unlink(entry.path)

    # --- for readers of the moment ------------------------------------------------------------

    def write_status(self, status: Mapping[str, Any]) -> None:
        """Publish status.json, readable by everybody. Raises HostError."""
        data = json.dumps(status, indent=1).encode() + b"\n"
        write_whole(os.path.join(self.run_directory, "status.json"), data, 0o644, durable=False)

    def remove_status(self) -> None:
        """Withdraw status.json: nobody keeps it true any more. Raises HostError."""
        remove(os.path.join(self.run_directory, "status.json"))

    def restarts(self, name: str = names.RESTARTS) -> tuple[float, ...]:
        """Return when Postfix was lately restarted by us (seconds since the epoch)."""
        try:
            found = json.loads(read_whole(os.path.join(self.run_directory, name)))
            return tuple(map(moment_of, found))
        except (OSError, *_DAMAGED):
            return ()  # unknown is as good as none: systemd's own limit still stands

    def note_restarts(self, moments: Sequence[float], name: str = names.RESTARTS) -> None:
        """Remember these restarts, for the next process too. Raises HostError."""
        path = os.path.join(self.run_directory, name)
        write_whole(path, json.dumps(list(moments)).encode(), 0o600, durable=False)

    def drifts(self) -> dict[str, tuple[float, ...]]:
        """Return when each parameter lately drifted (seconds since the epoch)."""
        try:
            found = json.loads(read_whole(os.path.join(self.run_directory, "drifts.json")))
            return {str(name): tuple(map(moment_of, moments)) for name, moments in found.items()}
        except (OSError, *_DAMAGED):
            return {}  # unknown is as good as none: a contest is noticed a little later

    def note_drifts(self, drifts: Mapping[str, Sequence[float]]) -> None:
        """Remember these, for the next process too. Raises HostError."""
        path = os.path.join(self.run_directory, "drifts.json")
        write_whole(path, json.dumps(drifts).encode(), 0o600, durable=False)

    # --- files --------------------------------------------------------------------------------

    def _read(self, name: str) -> bytes | None:
        path = os.path.join(self.directory, name)
        try:
            return read_whole(path)
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise HostError(f"{path}: {error.strerror}; run as root") from error
        except OSError as error:
            raise HostError(f"{path}: {error.strerror}; move away what is there") from error

    def _write(self, name: str, data: bytes, durable: bool = True) -> None:
        write_whole(os.path.join(self.directory, name), data, 0o600, durable)

    def _overwrite(self, name: str, data: bytes) -> None:
        """Write over it, always at the same length: damaged, it is as good as lost."""
        path = os.path.join(self.directory, name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            handle = os.open(path, flags, 0o600)
            try:
                fill(handle, data)
                os.ftruncate(handle, len(data))
            finally:
                close(handle)
        except OSError as error:
            raise host_error(path, error) from error


def served_of_all(directory: str, run_directory: str) -> dict[str, DesiredState]:
    """Return what Postfix was last seen to serve with, for each instance that has such a state."""
    found = [names.DEFAULT_INSTANCE]
    with suppress(OSError):
        found += sorted(os.listdir(os.path.join(directory, "instances")))
    states = {name: FileStore.of_instance(name, directory, run_directory) for name in found}
    served = {name: _served(state) for name, state in states.items()}
    return {
        name: desired
        for name, desired in served.items()
        if desired is not None and _is_of(name, desired)
    }


def _served(state: FileStore) -> DesiredState | None:
    with suppress(HostError):  # the first look tells of it
        return state.wishes().served
    return None


def _is_of(name: str, desired: DesiredState) -> bool:
    """Whether a kept state can be this instance's: two must never have the same main.cf."""
    is_default = name == names.DEFAULT_INSTANCE
    is_name = is_default or instance_fault(name) is None
    return is_name and (desired.config_directory is None) is is_default


def _cleared_for_folder(folder: str) -> Iterator[str]:
    """Move away what is no folder."""
    if _type(folder) not in (0, stat.S_IFDIR):
        yield _moved_away(folder, "it was no folder")


def _is_ours(folder: str, mode: int, uid: int, may_be_link: bool) -> bool:
    """Whether a folder is there, ours, and open to no more than `mode` says."""
    try:
        found = os.stat(folder, follow_symlinks=may_be_link)
    except OSError:
        return False
    is_folder = stat.S_ISDIR(found.st_mode)
    return is_folder and found.st_uid == uid and not stat.S_IMODE(found.st_mode) & ~mode


def _make(folder: str, mode: int) -> None:
    """Make a folder; one that is another's, or open to more than `mode` says, becomes ours."""
    if not os.path.isdir(folder):
        os.makedirs(folder, mode, exist_ok=True)
    if _is_ours(folder, mode, os.geteuid(), may_be_link=True):
        return
    found = os.stat(folder)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fchown(handle, os.geteuid(), os.getegid())
        os.fchmod(handle, stat.S_IMODE(found.st_mode) & mode)
    finally:
        os.close(handle)


def _cleared(folder: str, quickly: bool) -> Iterator[str]:
    """Move away what has the name of a file of ours, or of a half written one, and is none."""
    for entry in list(os.scandir(folder)):
        name = entry.name.removeprefix(".").removesuffix(".new")
        if name not in _OURS or entry.name not in (name, f".{name}.new"):
            continue
        # What cannot be moved is told of where it is in the way, and stops nothing else.
        with suppress(OSError):
            if not entry.is_file(follow_symlinks=False):
                yield _moved_away(entry.path, "it was no regular file")
            elif not quickly and entry.stat(follow_symlinks=False).st_size > MOST_BYTES:
                yield _moved_away(entry.path, f"it was larger than {MOST_BYTES} bytes")


def _moved_away(path: str, why: str) -> str:
    away = f"{path}.not-ours-{time.time_ns()}"
    os.rename(path, away)
    return f"{path}: {why}, so it is not the agent's; it is {away} now"


def _type(path: str) -> int:
    """What stands under a name, a link for itself: a file type of inode(7), 0 for nothing."""
    try:
        return stat.S_IFMT(os.lstat(path).st_mode)
    except FileNotFoundError:
        return 0


def _is_blocked(path: str) -> bool:
    """Whether a folder stands where the file is to be half written, so that it cannot be."""
    return _type(half_written(path)) == stat.S_IFDIR


_Stamp = tuple[int, int, int]


def _stamp_of(path: str) -> _Stamp | None:
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _heard(found: Any) -> Heard | None:
    if found is None:
        return None
    words = [str(found[name]) for name in ("trouble", "words")]
    return Heard(words[0], bool(found["greeted"]), int(found["code"]), words[1])


def _exposure(found: Mapping[str, Any]) -> Exposure:
    moments = [found["corrected_at"], found["activated_at"]]
    corrected_at, activated_at = [None if value is None else moment_of(value) for value in moments]
    written_at, seen_at = moment_of(found["written_at"]), moment_of(found["seen_at"])
    return Exposure(written_at, seen_at, corrected_at, activated_at)


def _rank(displaced: str) -> tuple[int, int]:
    """The cycle of a displaced text and which of that cycle's it is; what is none comes first."""
    match = _DISPLACED_NAME.fullmatch(displaced)
    return (-1, 0) if match is None else (int(match[1]), int(match[2] or 0))
