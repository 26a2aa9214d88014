"""What outlives a look: the pending marker, displaced and last good texts, status.json, the locks.

Everything is written whole to a temporary file and renamed. What must survive a power cut is
synced first; what is only for readers of the moment is not. A link is never followed: what another
put in the place of a file of ours is moved away, and that is told.
"""

from __future__ import annotations

import errno
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
from pf_agent.errors import HostError
from pf_agent.files import READ, close, contents, fill, sync_directory, try_flock
from pf_agent.model import Exposure, PendingActivation, RolledBack, Suspension
from pf_agent.status_json import count_of, moment_of, suspension_of

DISPLACED_COUNT = 200
DISPLACED_BYTES = 50 * 1024 * 1024

# No file of ours comes near it: the largest is a main.cf.
MOST_BYTES = 64 * 1024 * 1024

_LOCK_SECONDS = 30.0
_ROLLED_BACK = "rolled-back.json"
# What reading a damaged file may raise.
_DAMAGED = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
_SUSPENSION = "suspension.json"
# What is written without a lock may be half written by a process that lives, as these may.
_HALF_WRITTEN = re.compile(r"\.(?!status|suspension).*\.new")
_OURS = frozenset(
    ["cycle", "pending.json", "last-good.main.cf", "ran-with.main.cf", "desired.json"]
    + [_ROLLED_BACK, _SUSPENSION]
    + ["lock", "activation.lock", "status.json", "restarts.json", "drifts.json"]
)
_DISPLACED_NAME = re.compile(r"(\d{8,12})(?:\.(\d+))?\.main\.cf")


class State:
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

    @classmethod
    def of_instance(cls, name: str, directory: str, run_directory: str) -> State:
        """Return the state of a Postfix instance; the default one's lies in the folders as such."""
        if name == names.DEFAULT_INSTANCE:
            return cls(directory, run_directory)
        outer = {os.path.join(directory, "instances"): 0o700}
        outer[os.path.join(run_directory, "instances")] = 0o755
        state = cls(*(os.path.join(folder, name) for folder in outer))
        state._folders = {**outer, **state._folders}
        state._may_be_links = set()
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
            raise HostError(f"{error.filename}: {error.strerror}; run as root") from error
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
                        _remove(entry.path)
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
            )
        except _DAMAGED:
            return PendingActivation(0, (), Exposure(time.time(), time.time()))

    def mark_pending(self, pending: PendingActivation, durable: bool = True) -> None:
        """Write the marker; once it is durable, a crash is taken up at the next look."""
        self._write("pending.json", json.dumps(asdict(pending)).encode(), durable)

    def clear_pending(self, cycle: int) -> bool:
        """Remove the marker of `cycle`: Postfix was seen to run with main.cf as it left it.

        False where another process has corrected main.cf since, and that marker stays.
        """
        with self.lock():
            found = self.pending()
            if found is not None and found.cycle != cycle:
                return False
            _remove(os.path.join(self.directory, "pending.json"))
            return True

    def note_failed(self, cycle: int) -> None:
        """Remember that the text brought back in `cycle` did not help. Raises HostError."""
        with self.lock():
            found = self.pending()
            if found is not None and found.cycle == cycle:
                self.mark_pending(replace(found, failed=True))

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
        """Return the newest main.cf that was in sync and that Postfix can run with."""
        return self._read("last-good.main.cf")

    def keep_last_good(self, text: bytes) -> None:
        """Remember `text` for the day when main.cf is destroyed."""
        self._write("last-good.main.cf", text)

    def ran_with(self) -> bytes | None:
        """Return the newest main.cf that Postfix was seen to run with."""
        return self._read("ran-with.main.cf")

    def keep_ran_with(self, text: bytes) -> None:
        """Remember `text` for the day when Postfix does not come up with another. HostError."""
        if text != self.ran_with():
            self._write("ran-with.main.cf", text)

    def rolled_back(self) -> RolledBack | None:
        """Return what was tried in vain and not changed since; None for a damaged record too."""
        data = self._read(_ROLLED_BACK)
        if data is None:
            return None
        with suppress(*_DAMAGED):
            found = json.loads(data)
            log = tuple(str(line) for line in found["log"])
            texts = [str(found[name]) for name in ("reason", "tried", "restored")]
            return RolledBack(count_of(found["cycle"]), texts[0], log, texts[1], texts[2])
        return None

    def keep_rolled_back(self, rolled_back: RolledBack) -> None:
        """Remember what was tried in vain. Raises HostError."""
        self._write(_ROLLED_BACK, json.dumps(asdict(rolled_back)).encode())

    def forget_rolled_back(self) -> None:
        """It may be tried again. Raises HostError."""
        _remove(os.path.join(self.directory, _ROLLED_BACK))

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
        _remove(os.path.join(self.directory, _SUSPENSION))

    def desired(self) -> object:
        """Return the last good desired state, as `keep_desired` got it; None if there is none."""
        # Whatever stands there: without it the agent waits for a good desired.toml.
        with suppress(HostError, *_DAMAGED):
            found: object = json.loads(self._read("desired.json") or b"null")
            return found
        return None

    def keep_desired(self, desired: Mapping[str, Any]) -> None:
        """Remember the desired state for a start with a bad desired.toml."""
        self._write("desired.json", json.dumps(desired, indent=1).encode())

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
        _remove(os.path.join(self.run_directory, "status.json"))

    def restarts(self) -> tuple[float, ...]:
        """Return when Postfix was lately restarted by us (seconds since the epoch)."""
        try:
            found = json.loads(_contents(os.path.join(self.run_directory, "restarts.json")))
            return tuple(map(moment_of, found))
        except (OSError, *_DAMAGED):
            return ()  # unknown is as good as none: systemd's own limit still stands

    def note_restarts(self, moments: Sequence[float]) -> None:
        """Remember these restarts, for the next process too. Raises HostError."""
        path = os.path.join(self.run_directory, "restarts.json")
        write_whole(path, json.dumps(list(moments)).encode(), 0o600, durable=False)

    def drifts(self) -> dict[str, tuple[float, ...]]:
        """Return when each parameter lately drifted (seconds since the epoch)."""
        try:
            found = json.loads(_contents(os.path.join(self.run_directory, "drifts.json")))
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
            return _contents(path)
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
            raise _unwritten(path, error) from error


def read_status(run_directory: str) -> dict[str, Any] | None:
    """Return status.json; None where no daemon keeps one up to date. Raises HostError."""
    path = os.path.join(run_directory, "status.json")
    try:
        found = json.loads(_contents(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise HostError(f"{path}: {error}; restart pf-agent.service") from error
    if not isinstance(found, dict):
        raise HostError(f"{path}: it holds no table; restart pf-agent.service")
    # A daemon that was killed could not withdraw it.
    return found if os.path.exists(f"/proc/{found.get('pid')}") else None


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
    return _type(_half_written(path)) == stat.S_IFDIR


def _half_written(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.new")


def _contents(path: str) -> bytes:
    """Return a regular file's bytes; a FIFO would hold us up until somebody writes to it."""
    handle = os.open(path, READ | os.O_NOFOLLOW)
    try:
        opened = os.fstat(handle)
        if not stat.S_ISREG(opened.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", path)
        if opened.st_size > MOST_BYTES:
            raise OSError(errno.EFBIG, f"it is larger than {MOST_BYTES} bytes", path)
        return contents(handle, opened.st_size, MOST_BYTES)
    finally:
        close(handle)


def _exposure(found: Mapping[str, Any]) -> Exposure:
    moments = [found["corrected_at"], found["activated_at"]]
    corrected_at, activated_at = [None if value is None else moment_of(value) for value in moments]
    written_at, seen_at = moment_of(found["written_at"]), moment_of(found["seen_at"])
    return Exposure(written_at, seen_at, corrected_at, activated_at)


def _rank(displaced: str) -> tuple[int, int]:
    """The cycle of a displaced text and which of that cycle's it is; what is none comes first."""
    match = _DISPLACED_NAME.fullmatch(displaced)
    return (-1, 0) if match is None else (int(match[1]), int(match[2] or 0))


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}; mend the folder") from error


def _unwritten(path: str, error: OSError) -> HostError:
    return HostError(f"{path}: {error.strerror}; free space or mend the folder")


def write_whole(path: str, data: bytes, mode: int, durable: bool) -> None:
    """Put `data` in the file's place at once, synced first where `durable`. Raises HostError."""
    temporary = _half_written(path)
    try:
        with suppress(FileNotFoundError):
            os.unlink(temporary)  # a crash left it
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        handle = os.open(temporary, flags, mode)
        try:
            os.fchmod(handle, mode)
            fill(handle, data)
            if durable:
                os.fsync(handle)
        finally:
            os.close(handle)
        os.rename(temporary, path)
        if durable:
            sync_directory(os.path.dirname(path))
    except OSError as error:
        with suppress(OSError):
            os.unlink(temporary)
        raise _unwritten(path, error) from error
