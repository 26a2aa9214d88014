"""Kills a process, its threads and its children at the N-th system call that changes something.

    python3 tracer.py PID N [VICTIM]

It seizes PID (ptrace(2)), resumes it if it was stopped, follows all that it starts, and counts, in
a single sequence, the entries into the calls below, by any process. The N-th one is not made: at
that moment all that is traced gets SIGKILL, or only VICTIM if it is given (a machine's first
process takes all others with it). strace's own injection counts for each thread separately, and
only kills that thread's process. It runs on the host, so that the agent stays in its unit's
sandbox. It prints `ready`, and at the end, which SIGTERM also causes, one line of JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

# Linux's numbers on x86-64 (asm/unistd_64.h).
MACHINE = "x86_64"
CALLS = {
    **{1: "write", 18: "pwrite64", 20: "writev", 296: "pwritev", 40: "sendfile"},
    **{2: "open", 85: "creat", 257: "openat", 76: "truncate", 77: "ftruncate", 285: "fallocate"},
    **{326: "copy_file_range", 74: "fsync", 75: "fdatasync", 162: "sync", 306: "syncfs"},
    **{82: "rename", 264: "renameat", 316: "renameat2", 86: "link", 265: "linkat"},
    **{87: "unlink", 263: "unlinkat", 88: "symlink", 266: "symlinkat", 84: "rmdir"},
    **{83: "mkdir", 258: "mkdirat", 90: "chmod", 91: "fchmod", 268: "fchmodat", 452: "fchmodat2"},
    **{92: "chown", 93: "fchown", 94: "lchown", 260: "fchownat", 132: "utime", 235: "utimes"},
    **{280: "utimensat", 188: "setxattr", 189: "lsetxattr", 190: "fsetxattr"},
    **{56: "clone", 57: "fork", 58: "vfork", 435: "clone3", 59: "execve", 322: "execveat"},
    **{42: "connect", 49: "bind", 44: "sendto", 46: "sendmsg", 307: "sendmmsg"},
    **{62: "kill", 234: "tgkill", 73: "flock", 72: "fcntl", 231: "exit_group"},
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_LOCKING = (6, 7, 37, 38)  # fcntl(2): F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW
# GLib's threads wake each other through one; it changes nothing outside of the process.
_WAKING = "anon_inode:[eventfd]"

_CONT_TO_NEXT_CALL = 24
_SEIZE = 0x4206
_INTERRUPT = 0x4207
_LISTEN = 0x4208
_GET_SYSCALL_INFO = 0x420E
# TRACESYSGOOD, TRACEFORK, TRACEVFORK, TRACECLONE, TRACEEXEC
_OPTIONS = 0x1 | 0x2 | 0x4 | 0x8 | 0x10
_EVENT_STOP = 128
_SYSCALL_STOP = signal.SIGTRAP | 0x80
_WALL = 0x40000000
_ENTRY, _EXIT = 1, 2
_STOPS = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long


class CallInfo(ctypes.Structure):
    """struct ptrace_syscall_info, as it is at the entry into a call."""

    _fields_ = (
        ("op", ctypes.c_uint8),
        ("_pad", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("_pointers", ctypes.c_uint64 * 2),
        ("number", ctypes.c_uint64),
        ("arguments", ctypes.c_uint64 * 6),
    )


class Enough(Exception):
    """What is traced goes on by itself."""


def ptrace(request: int, tid: int, address: object = None, data: object = None) -> bool:
    """Tell whether the request was done; it is not if the thread was killed meanwhile."""
    pointers = [ctypes.c_void_p(a) if isinstance(a, int) else a for a in (address, data)]
    return int(_libc.ptrace(ctypes.c_long(request), ctypes.c_long(tid), *pointers)) >= 0


class Tracer:
    """The traced processes; subclasses say what is done at their calls.

    The first process is the agent, a second one its errands unit.
    """

    def __init__(self, *pids: int) -> None:
        self.pids = pids
        self.traced: set[int] = set()

    def entered(self, tid: int, info: CallInfo) -> None:
        """A call is about to be made."""
        raise NotImplementedError

    def left(self, tid: int) -> None:
        """A call was made."""

    def enough(self) -> None:
        """SIGTERM was received. Raises Enough."""
        raise Enough

    def told(self) -> dict[str, Any]:
        """Return what to print at the end."""
        raise NotImplementedError

    def seize(self) -> None:
        """Attach to every thread; one may start another meanwhile."""
        while new := self._threads() - self.traced:
            for tid in new:
                if ptrace(_SEIZE, tid, 0, _OPTIONS):
                    ptrace(_INTERRUPT, tid)
                self.traced.add(tid)

    def _threads(self) -> set[int]:
        return {int(tid) for pid in self.pids for tid in os.listdir(f"/proc/{pid}/task")}

    def follow(self) -> None:
        """Follow them until none is left."""
        while stopped := _stopped():
            for tid, status in stopped.items():
                if os.WIFSTOPPED(status):
                    self.traced.add(tid)
                    self._go_on(tid, os.WSTOPSIG(status), status >> 16)
                else:
                    self.traced.discard(tid)

    def _go_on(self, tid: int, number: int, event: int) -> None:
        if event == _EVENT_STOP and number in _STOPS:
            ptrace(_LISTEN, tid)
            return
        if number == _SYSCALL_STOP:
            self._pass(tid)
        delivers = not event and number != _SYSCALL_STOP
        ptrace(_CONT_TO_NEXT_CALL, tid, 0, number if delivers else 0)

    def _pass(self, tid: int) -> None:
        info = CallInfo()
        size = ctypes.sizeof(info)
        if ptrace(_GET_SYSCALL_INFO, tid, size, ctypes.byref(info)):
            if info.op == _ENTRY:
                self.entered(tid, info)
            elif info.op == _EXIT:
                self.left(tid)

    def who(self, tid: int) -> str:
        """Return which process makes a call, in words."""
        if tid == self.pids[0]:
            return "the agent"
        if self.is_agent(tid):
            return "a thread" if self._is_of(self.pids[0], tid) else "the errands"
        name = Path(f"/proc/{tid}/comm").read_text().strip()
        return "a new child" if name == "pf-agent" else name

    def is_agent(self, tid: int) -> bool:
        """Whether it is a thread of the given processes, the first one or another."""
        return any(self._is_of(pid, tid) for pid in self.pids)

    def _is_of(self, pid: int, tid: int) -> bool:
        return os.path.exists(f"/proc/{pid}/task/{tid}")


def _stopped() -> dict[int, int]:
    """Wait until any has stopped or ended; return all that have, and how. Empty: none is left.

    wait(2) reports the threads seized last first. If each were resumed at once, a few that make one
    call after the other would be reported again and again, and the rest would stand still.
    """
    found: dict[int, int] = {}
    with suppress(ChildProcessError):
        tid, status = os.waitpid(-1, _WALL)
        while tid:
            found[tid] = status
            tid, status = os.waitpid(-1, _WALL | os.WNOHANG)
    return found


class _Killer(Tracer):
    """Kills at the N-th call; keeps the points that were passed."""

    def __init__(self, pid: int, number: int, victim: int | None) -> None:
        super().__init__(pid)
        self._number = number
        self._victim = victim
        self._points: list[tuple[str, str]] = []
        self._has_killed = False

    def entered(self, tid: int, info: CallInfo) -> None:
        name = changing(tid, info)
        if name is None or self._has_killed:
            return
        self._points.append((name, self.who(tid)))
        if len(self._points) == self._number:
            self._has_killed = True
            for victim in (self._victim,) if self._victim else tuple(self.traced):
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)

    def told(self) -> dict[str, Any]:
        return {"killed": self._has_killed, "points": self._points}


def changing(tid: int, info: CallInfo) -> str | None:
    """Return the name of a call that counts, None for one that changes nothing."""
    name = CALLS.get(info.number)
    if name in ("open", "openat"):
        flags = info.arguments[1 if name == "open" else 2]
        return name if flags & _WRITING else None
    if name == "write":
        with suppress(OSError):
            return name if os.readlink(f"/proc/{tid}/fd/{info.arguments[0]}") != _WAKING else None
    if name == "fcntl":
        return name if info.arguments[1] in _LOCKING else None
    return name


def trace(tracer: Tracer) -> int:
    """Return 0 when all that is traced has ended, or on SIGTERM; print the tracer's result."""
    if platform.machine() != MACHINE:
        print(f"the numbers of the system calls are {MACHINE}'s", file=sys.stderr)
        return 2

    def enough(_signal: int, _frame: FrameType | None) -> None:
        tracer.enough()

    signal.signal(signal.SIGTERM, enough)
    try:
        tracer.seize()
        for pid in tracer.pids:
            os.kill(pid, signal.SIGCONT)
        print("ready", flush=True)
        tracer.follow()
    except Enough:
        pass
    # The process that ends us sees at the same time as we do that what is traced is gone; and it
    # may do so while this is printed.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(json.dumps(tracer.told()))
    return 0


def main() -> int:
    """Return 0 at the end of what was traced, killed or not."""
    victim = int(sys.argv[3]) if len(sys.argv) > 3 else None
    return trace(_Killer(int(sys.argv[1]), int(sys.argv[2]), victim))


if __name__ == "__main__":
    sys.exit(main())
