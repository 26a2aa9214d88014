"""Which process wrote main.cf, if the kernel tells: fanotify(7) names the process of each event.

It needs CAP_SYS_ADMIN, which the unit only has if the administrator grants it (writer.conf in the
examples); otherwise the answer is "unknown", at no cost. A process may have ended before we can
read its name. Then the answer is "unknown" too, never a guess.

The audit subsystem would name short-lived writers as well, but a package cannot count on any of it:
Debian loads no rule and has auditing off. A rule would turn it on for every system call of the
host, and without auditd its records also go to the kernel's log. A container can neither set a rule
nor receive a record: they are for the first pid and network namespaces (Linux, kernel/audit.c). And
the login that it names is the same as in /proc, set by pam_loginuid(8).
"""

from __future__ import annotations

import ctypes
import os
import pwd
import select
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pf_agent import names

# <linux/fanotify.h>
_INIT = 0x1 | 0x2 | 0x400 | 0x800  # FAN_CLOEXEC, FAN_NONBLOCK, FAN_REPORT_DIR_FID and _NAME
_ADD = 0x1  # FAN_MARK_ADD
_CHANGES = 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400
_ON_CHILD = 0x8000000
_AT_FDCWD = -100
_AT_HANDLE_FID = 0x200
_EVENT = struct.Struct("=IBBHQii")
_INFO = struct.Struct("=BBH")
_FSID_BYTES = 8
_HANDLE = struct.Struct("=Ii")
_NAMED = (2, 3)  # FAN_EVENT_INFO_TYPE_DFID_NAME and _DFID
_NO_LOGIN = 2**32 - 1  # proc(5), /proc/pid/loginuid
_MOST_HANDLE_BYTES = 128

_MOST_PROCESSES = 512
_SAME_SECONDS = 10.0
# The event arrives as soon as inotify's does, or right behind it.
_PATIENCE_SECONDS = 0.02
# A file's time is that of the tick before the write, so its event is never older; and the event of
# the previous writer must not be taken for it. What is left is a float's rounding.
_SLACK_SECONDS = 0.001
UNKNOWN: Mapping[str, str] = {names.FIELD_WRITER: names.UNKNOWN}


@dataclass(frozen=True)
class _Process:
    """The process that had this pid when we looked. `login` is its session's user, if any."""

    name: str
    login: str
    seen_at: float


class Writers:
    """Receives which process changes the files that it follows."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.fanotify_init(_INIT, os.O_RDONLY | os.O_CLOEXEC)
        self._followed: set[str] = set()
        self._folders: dict[bytes, str] = {}
        self._processes: OrderedDict[int, _Process] = OrderedDict()
        self._last: dict[str, tuple[float, int]] = {}
        self._news = threading.Condition()
        if self.is_permitted:
            threading.Thread(target=self._listen, name="writers", daemon=True).start()

    @property
    def is_permitted(self) -> bool:
        """Whether the kernel reports anything to us."""
        return bool(self._fd >= 0)

    def follow(self, path: str) -> None:
        """Follow a file; to be called at each look: directories get replaced."""
        if not self.is_permitted:
            return
        self._followed.add(path)
        folder = os.path.dirname(path)
        place = os.fsencode(folder)
        handle = self._handle_of(place)
        mask = ctypes.c_uint64(_CHANGES | _ON_CHILD)
        if handle and self._libc.fanotify_mark(self._fd, _ADD, mask, _AT_FDCWD, place) == 0:
            # One handle per directory: it may be replaced each day for years.
            others = {h: f for h, f in self._folders.items() if f != folder}
            self._folders = {**others, handle: folder}

    def fields(self, path: str, written_at: float) -> Mapping[str, str]:
        """Return what wrote the file at `written_at`, as fields of a record."""
        if not self.is_permitted:
            return UNKNOWN
        with self._news:
            self._hear()  # on a busy host the thread may be given a processor too late
            self._news.wait_for(lambda: self._is_known(path, written_at), _PATIENCE_SECONDS)
            if not self._is_known(path, written_at):
                return UNKNOWN
            pid = self._last[path][1]
            process = self._processes.get(pid)
        # An old entry may be about another process that had this number.
        if process is None or time.monotonic() > process.seen_at + _SAME_SECONDS:
            return {**UNKNOWN, names.FIELD_WRITER_PID: str(pid)}
        return {
            names.FIELD_WRITER: process.name,
            names.FIELD_WRITER_PID: str(pid),
            names.FIELD_LOGIN: process.login,
        }

    def _is_known(self, path: str, written_at: float) -> bool:
        at, _ = self._last.get(path, (-1.0, 0))
        return at >= written_at - _SLACK_SECONDS

    def _listen(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        while True:
            poll.poll()
            with self._news:
                self._hear()
                self._news.notify_all()

    def _hear(self) -> None:
        """Take what the kernel has to say, if anything."""
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        for pid, handle, name in events(data):
            if pid in (0, os.getpid()):
                continue
            self._remember(pid)
            folder = self._folders.get(handle)
            path = os.path.join(folder or "", os.fsdecode(name))
            if path in self._followed:
                self._last[path] = (time.time(), pid)

    def _remember(self, pid: int) -> None:
        """Read the name at the first event of a process: by the last one it may have ended."""
        process = _process(pid)
        if process is None:
            return
        self._processes[pid] = process
        self._processes.move_to_end(pid)
        while len(self._processes) > _MOST_PROCESSES:
            self._processes.popitem(last=False)

    def _handle_of(self, path: bytes) -> bytes:
        """Return the directory's file handle, as in the events (name_to_handle_at(2)); b"" if none.

        AT_HANDLE_FID asks for a handle that is only compared: all that overlayfs offers. Kernels
        before 6.5 do not know it.
        """
        mount = ctypes.c_int()
        for flags in (_AT_HANDLE_FID, 0):
            room = ctypes.create_string_buffer(_HANDLE.size + _MOST_HANDLE_BYTES)
            _HANDLE.pack_into(room, 0, _MOST_HANDLE_BYTES, 0)
            found = self._libc.name_to_handle_at(_AT_FDCWD, path, room, ctypes.byref(mount), flags)
            if found == 0:
                return room.raw[: _HANDLE.size + _HANDLE.unpack_from(room.raw)[0]]
        return b""


def events(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield pid, directory handle and file name of each event that fanotify(7) wrote."""
    start = 0
    while start + _EVENT.size <= len(data):
        length, _, _, head, _, _, pid = _EVENT.unpack_from(data, start)
        if length < _EVENT.size:
            return
        record, end = start + head, min(start + length, len(data))
        while record + _INFO.size <= end:
            kind, _, size = _INFO.unpack_from(data, record)
            if size < _INFO.size:
                break
            if kind in _NAMED:
                body = data[record + _INFO.size + _FSID_BYTES : record + size]
                if len(body) >= _HANDLE.size:
                    cut = _HANDLE.size + _HANDLE.unpack_from(body)[0]
                    yield pid, body[:cut], body[cut:].split(b"\0")[0]
            record += size
        start += length


def _process(pid: int) -> _Process | None:
    """Return the process that has this pid now; None if there is none."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="backslashreplace") as file:
            name = file.read().rstrip("\n")
        with open(f"/proc/{pid}/loginuid", encoding="ascii") as file:
            uid = int(file.read())
    except (OSError, ValueError):
        return None
    return _Process(name, _login(uid), time.monotonic())


def _login(uid: int) -> str:
    if uid == _NO_LOGIN:
        return names.UNKNOWN
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
