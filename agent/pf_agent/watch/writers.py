"""Who wrote main.cf, as far as the kernel tells: fanotify(7) names the process of each event.

It needs CAP_SYS_ADMIN, which the unit has only where the administrator gave it (writer.conf among
the examples); elsewhere the answer is "unknown", at no cost. A process may have ended before we
can read its name. Then the answer is "unknown" too, never a guess.

The audit subsystem would name short-lived writers as well, but nothing in it is for a package to
count on: Debian loads no rule and has auditing off. A rule would turn it on for every system call
of the host, and without auditd its records also go into the kernel's log. A container can neither
set a rule nor hear of a record: they are for the first pid and network namespaces (Linux,
kernel/audit.c). And whom it names as the login is the same that /proc has, pam_loginuid(8)'s.
"""

from __future__ import annotations

import contextlib
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
# The event reaches us as soon as inotify's does; the thread that reads it may be a little behind.
_PATIENCE_SECONDS = 0.02
# A file is dated by the tick before it was written, so its event is never older; and the one of
# the writer before him must not pass for his. What is left is the rounding of a float.
_SLACK_SECONDS = 0.001
UNKNOWN: Mapping[str, str] = {names.FIELD_WRITER: names.UNKNOWN}


@dataclass(frozen=True)
class _Process:
    """Who had this pid when we looked. `login` is the name of the session's user, if it has one."""

    name: str
    login: str
    seen_at: float


class Writers:
    """Hears who changes the main.cf of the folders that it follows."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.fanotify_init(_INIT, os.O_RDONLY | os.O_CLOEXEC)
        self._folders: dict[bytes, str] = {}
        self._processes: OrderedDict[int, _Process] = OrderedDict()
        self._last: dict[str, tuple[float, int]] = {}
        self._news = threading.Condition()
        if self.is_permitted:
            threading.Thread(target=self._listen, name="writers", daemon=True).start()

    @property
    def is_permitted(self) -> bool:
        """Whether the kernel tells us at all."""
        return bool(self._fd >= 0)

    def follow(self, folder: str) -> None:
        """Hear of the main.cf in `folder`; call it at each look, since folders are replaced."""
        if not self.is_permitted:
            return
        path = os.fsencode(folder)
        handle = self._handle_of(path)
        mask = ctypes.c_uint64(_CHANGES | _ON_CHILD)
        if handle and self._libc.fanotify_mark(self._fd, _ADD, mask, _AT_FDCWD, path) == 0:
            # One handle a folder: it may be replaced each day for years.
            others = {h: f for h, f in self._folders.items() if f != folder}
            self._folders = {**others, handle: folder}

    def fields(self, folder: str, written_at: float) -> Mapping[str, str]:
        """Return who wrote the main.cf in `folder` at `written_at`, as fields of a record."""
        if not self.is_permitted:
            return UNKNOWN
        with self._news:
            self._news.wait_for(lambda: self._is_known(folder, written_at), _PATIENCE_SECONDS)
            if not self._is_known(folder, written_at):
                return UNKNOWN
            pid = self._last[folder][1]
            process = self._processes.get(pid)
        # An old entry may be of another process that had this number.
        if process is None or time.monotonic() > process.seen_at + _SAME_SECONDS:
            return {**UNKNOWN, names.FIELD_WRITER_PID: str(pid)}
        return {
            names.FIELD_WRITER: process.name,
            names.FIELD_WRITER_PID: str(pid),
            names.FIELD_LOGIN: process.login,
        }

    def _is_known(self, folder: str, written_at: float) -> bool:
        at, _ = self._last.get(folder, (-1.0, 0))
        return at >= written_at - _SLACK_SECONDS

    def _listen(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        while True:
            poll.poll()
            with contextlib.suppress(BlockingIOError):
                self._hear(os.read(self._fd, 65536))

    def _hear(self, data: bytes) -> None:
        for pid, handle, name in events(data):
            if pid in (0, os.getpid()):
                continue
            self._remember(pid)
            folder = self._folders.get(handle)
            if folder is not None and name == b"main.cf":
                with self._news:
                    self._last[folder] = (time.time(), pid)
                    self._news.notify_all()

    def _remember(self, pid: int) -> None:
        """Read the name at the first sign of a process: at the last one it may have ended."""
        process = _process(pid)
        if process is None:
            return
        self._processes[pid] = process
        self._processes.move_to_end(pid)
        while len(self._processes) > _MOST_PROCESSES:
            self._processes.popitem(last=False)

    def _handle_of(self, path: bytes) -> bytes:
        """The folder's file handle, as the events carry it (name_to_handle_at(2)); b"" for none.

        AT_HANDLE_FID asks for a handle that need only be compared: all that overlayfs has. Older
        kernels (before 6.5) do not know it.
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
    """Yield (pid, the folder's handle, the file's name) of each event that fanotify(7) wrote."""
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
    """Who has this pid now; None where nobody has any more."""
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
