"""Makes the N-th system call that may fail with an error fail with it, or write less than asked.

    python3 -m tests.machine.injector PID[,PID] ERROR N [SECONDS [CALL]]

It traces processes, their threads and children as tracer.py does, and counts, in a single sequence,
the calls that may fail with ERROR according to their manual page, or only CALL if it is given. The
N-th one is not made and fails; with SECONDS, so does each one after it until they are over. With
SHORT as ERROR it writes half of what it was asked to. Of the programs that the agent starts, only
calls that change something count. It prints `ready`, and one line of JSON once the fault is over.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from tests.machine.tracer import CALLS, CallInfo, Enough, Tracer, changing, ptrace, trace

SHORT = "SHORT"

# More of Linux's numbers on x86-64: calls that change nothing outside, but may fail all the same.
_READING = {
    **{0: "read", 17: "pread64", 19: "readv", 3: "close", 4: "stat", 6: "lstat"},
    **{262: "newfstatat", 332: "statx", 21: "access", 269: "faccessat", 439: "faccessat2"},
    **{89: "readlink", 267: "readlinkat", 217: "getdents64", 137: "statfs"},
    **{41: "socket", 53: "socketpair", 22: "pipe", 293: "pipe2", 32: "dup", 290: "eventfd2"},
    **{291: "epoll_create1", 253: "inotify_init", 294: "inotify_init1", 254: "inotify_add_watch"},
    **{319: "memfd_create", 288: "accept4", 45: "recvfrom", 47: "recvmsg", 7: "poll"},
    **{271: "ppoll", 232: "epoll_wait", 61: "wait4", 191: "getxattr", 192: "lgetxattr"},
    **{194: "listxattr", 195: "llistxattr", 302: "prlimit64"},
}

_MADE = "mkdir mkdirat rename renameat renameat2 link linkat symlink symlinkat"
_NAMED = f"{_MADE} unlink unlinkat rmdir truncate utimensat chmod fchmodat chown fchownat"
_DRESSED = "chmod fchmod fchmodat chown fchown fchownat lchown"
_XATTR = "setxattr lsetxattr fsetxattr"
# Which calls may fail with what: section ERRORS of their pages in section 2; EIO from rename and
# getdents64, which those do not mention, comes from every file system on a failing disk.
_BY_ERROR: Mapping[str, str] = {
    "ENOSPC": f"{_MADE} open openat creat write pwrite64 writev fsync fdatasync fallocate"
    f" inotify_add_watch {_XATTR}",
    "EIO": "read pread64 readv write pwrite64 writev close fsync fdatasync truncate ftruncate"
    f" rename renameat renameat2 unlink unlinkat getdents64 execve readlink readlinkat {_DRESSED}",
    "EROFS": f"{_NAMED} {_DRESSED} open openat creat bind fsync {_XATTR}",
    "EACCES": f"{_NAMED} open openat creat stat lstat newfstatat statx access faccessat faccessat2"
    " readlink readlinkat execve socket connect bind sendto sendmsg inotify_add_watch fcntl"
    " getxattr lgetxattr listxattr llistxattr statfs",
    "EMFILE": "open openat creat socket socketpair pipe pipe2 dup eventfd2 epoll_create1"
    " inotify_init inotify_init1 memfd_create accept4 execve",
    "EINTR": "open openat creat read pread64 readv write pwrite64 writev close fsync fdatasync"
    " truncate ftruncate flock fcntl connect accept4 recvfrom recvmsg sendto sendmsg poll ppoll"
    " epoll_wait wait4 statfs fallocate",
    "EAGAIN": "clone fork vfork clone3",
    SHORT: "write pwrite64 sendto",
}
ERRORS = tuple(_BY_ERROR)
_MAY_FAIL = {error: frozenset(words.split()) for error, words in _BY_ERROR.items()}

_CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_EMPTY_PATH = 0x1000  # AT_EMPTY_PATH: glibc's fstat()
_FILES_ALONE = ("ENOSPC", "EIO")  # for calls that take any descriptor
_OF_DESCRIPTOR = ("read", "pread64", "readv", "write", "pwrite64", "writev", "close", "fsync")
# Calls that name a path, in their first argument or their second one.
_PATH_FIRST = (
    *("open", "creat", "stat", "lstat", "access", "mkdir", "rename", "link", "unlink", "rmdir"),
    *("chmod", "chown", "execve", "readlink", "truncate", "getxattr", "listxattr", "statfs"),
)
_PATH_SECOND = (
    *("openat", "newfstatat", "statx", "faccessat", "faccessat2", "mkdirat", "renameat"),
    *("renameat2", "linkat", "unlinkat", "fchmodat", "fchownat", "utimensat", "readlinkat"),
    "inotify_add_watch",
)

_GETREGS, _SETREGS = 12, 13
_HARMLESS = 39  # getpid(2), which every system call filter allows


class _Registers(ctypes.Structure):
    """struct user_regs_struct of x86-64 (sys/user.h)."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx"),
            *("rdx", "rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base"),
            *("gs_base", "ds", "es", "fs", "gs"),
        )
    )


class _Injector(Tracer):
    """`points` are all calls that might have failed so, up to the end of the fault."""

    def __init__(self, pids: list[int], error: str, number: int, seconds: float, only: str) -> None:
        super().__init__(*pids)
        self._error, self._number, self._seconds, self._only = error, number, seconds, only
        self._points: list[tuple[str, str, str]] = []
        self._failed = 0
        self._is_over = False
        # The threads with a call in progress, and its result; None: its own result.
        self._under_way: set[int] = set()

    def entered(self, tid: int, info: CallInfo) -> None:
        name = _failing(tid, info, self._error, self.is_agent(tid))
        if name is None or self._is_over or self._only not in ("", name):
            return
        if not self._failed:
            self._points.append((name, self.who(tid), _on(tid, name, info)))
        if len(self._points) == self._number:
            if not self._failed:
                signal.setitimer(signal.ITIMER_REAL, self._seconds)  # 0: it never comes
            self._failed += 1
            self._is_over = self._is_over or not self._seconds
            self._under_way.add(tid)
            if self._error == SHORT:
                _change(tid, _halve)
            elif name != "close":  # Linux closes it whatever it returns (close(2))
                _change(tid, lambda registers: setattr(registers, "orig_rax", _HARMLESS))

    def left(self, tid: int) -> None:
        if tid not in self._under_way:
            return
        if self._error != SHORT:
            code = -getattr(errno, self._error) & (1 << 64) - 1
            _change(tid, lambda registers: setattr(registers, "rax", code))
        self._under_way.discard(tid)
        if self._is_over and not self._under_way:
            raise Enough

    def enough(self) -> None:
        """Finish a call that has begun: otherwise it would return what its replacement did."""
        self._is_over = True
        if not self._under_way:
            raise Enough

    def told(self) -> dict[str, Any]:
        return {"failed": self._failed, "points": self._points}


def _failing(tid: int, info: CallInfo, error: str, is_agent: bool) -> str | None:
    """Return the name of a call that may fail with this error; None for one that may not."""
    name = CALLS.get(info.number) or _READING.get(info.number)
    if name is None or name not in _MAY_FAIL[error]:
        return None
    if not is_agent and changing(tid, info) is None:
        return None
    if name in ("open", "openat"):
        flags = info.arguments[1 if name == "open" else 2]
        needed = {"ENOSPC": os.O_CREAT, "EROFS": _CHANGES}.get(error, 0)
        return name if not needed or flags & needed else None
    if name == "newfstatat":
        return name if not info.arguments[3] & _EMPTY_PATH else None
    if name in ("sendto", "sendmsg") and error == "EACCES":
        return name if _is_addressed(tid, name, info) else None
    if name == "sendto" and error == SHORT:
        is_whole = bool(info.arguments[4]) or _is_datagram(tid, info.arguments[0])
        return name if info.arguments[2] > 1 and not is_whole else None
    if name == "fcntl":
        return changing(tid, info)
    if name in _OF_DESCRIPTOR:
        return name if _is_fit(tid, name, info, error) else None
    return name


def _is_fit(tid: int, name: str, info: CallInfo, error: str) -> bool:
    """Whether the descriptor's file may fail so."""
    place = _target(tid, info.arguments[0])
    if error == SHORT:
        return info.arguments[2] > 1 and "eventfd" not in place
    if place.startswith("/") and not place.startswith(("/dev/", "/proc/")):
        return True
    return error not in _FILES_ALONE and name != "close" and "eventfd" not in place


def _target(tid: int, descriptor: int) -> str:
    with suppress(OSError):
        return os.readlink(f"/proc/{tid}/fd/{descriptor}")
    return ""


def _is_datagram(tid: int, descriptor: int) -> bool:
    """Whether a message is sent whole or not at all, by the list of sockets in proc(5)."""
    inode = _target(tid, descriptor).removeprefix("socket:[").removesuffix("]")
    with open(f"/proc/{tid}/net/unix") as listed:
        rows = [line.split() for line in listed]
    return any(row[6] == inode and row[4] != "0001" for row in rows[1:])


def _is_addressed(tid: int, name: str, info: CallInfo) -> bool:
    """Whether a message goes to a socket by name, as to journald; that may be forbidden."""
    if name == "sendto":
        return bool(info.arguments[4])
    return any(_memory(tid, info.arguments[1], 8))  # struct msghdr begins with the name


def _on(tid: int, name: str, info: CallInfo) -> str:
    """Return the subject of a call, for people: its path, or what its descriptor is."""
    with suppress(OSError, ValueError):
        if name in _OF_DESCRIPTOR or name in ("flock", "fcntl", "fchmod", "fchown", "ftruncate"):
            return _target(tid, info.arguments[0])
        if name in (*_PATH_FIRST, *_PATH_SECOND):
            address = info.arguments[0 if name in _PATH_FIRST else 1]
            return _memory(tid, address, 256).split(b"\0")[0].decode("utf-8", "replace")
    return ""


def _memory(tid: int, address: int, size: int) -> bytes:
    with open(f"/proc/{tid}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        return memory.read(size)


def _halve(registers: Any) -> None:
    registers.rdx //= 2  # the third argument: how many bytes


def _change(tid: int, change: Callable[[Any], None]) -> None:
    registers = _Registers()
    if ptrace(_GETREGS, tid, 0, ctypes.byref(registers)):
        change(registers)
        ptrace(_SETREGS, tid, 0, ctypes.byref(registers))


def main() -> int:
    """Return 0 once the fault is over, or all that was traced has ended."""
    pids, error, number, *more = sys.argv[1:]
    seconds, only = float(more[0]) if more else 0.0, more[1] if len(more) > 1 else ""
    injector = _Injector([*map(int, pids.split(","))], error, int(number), seconds, only)
    signal.signal(signal.SIGALRM, lambda *_: injector.enough())
    return trace(injector)


if __name__ == "__main__":
    sys.exit(main())
