"""Runs in the machine: lets a file of Postfix drift, and times when it is right and in use again.

    python3 drifts.py REQUEST       (a JSON object, see `Request`)

Prints a JSON object for each drift. It waits in inotify(7) and in short sleeps, without threads:
both CPUs of a small machine are left to the program being measured.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import random
import re
import select
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

MASTER_PID = "/var/spool/postfix/pid/master.pid"

# IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE (inotify(7)).
_MASK = 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100
_LIBC = ctypes.CDLL(None, use_errno=True)
_POLL_SECONDS = 0.001
_GREETING_SECONDS = 20.0


@dataclass(frozen=True)
class File:
    """A file with one value that drifts, which the only group of `line` finds.

    `port` shows whether Postfix runs with the right one, by its greeting and, with `is_extended`,
    by what it offers after that.
    """

    path: str
    line: bytes
    drifted: bytes
    port: int
    is_extended: bool

    def value(self, text: bytes) -> list[bytes]:
        return re.findall(self.line, text, re.MULTILINE)

    def with_value(self, text: bytes, value: bytes) -> bytes:
        found = re.search(self.line, text, re.MULTILINE)
        assert found is not None, f"{self.path} has no such value"
        return text[: found.start(1)] + value + text[found.end(1) :]


_FILES = {
    "main.cf": File(
        "/etc/postfix/main.cf", rb"^mynetworks[ \t]*=[ \t]*(.*)$", b"0.0.0.0/0", 25, False
    ),
    "master.cf": File(
        "/etc/postfix/master.cf", rb"^[^#\n]*smtpd_tls_security_level=(.*)$", b"none", 587, True
    ),
    # Each edit has an entry of its own, and any is right.
    "table": File("/etc/postfix/recipients", rb"^probe@.*(edit .*)$", b"", 25, False),
}


@dataclass(frozen=True)
class Request:
    """What is to be done; times in seconds.

    `file` is a name of `_FILES`. `way`: "single", one drift after the other; "fresh", each with a
    new text; "during", each with a second one while Postfix is being restarted; "storm", all at
    once; "restart", none at all; "used", one edit of a table after the other.
    `command` is run as the drift is written. `settle` is a shell script that ends when all is
    settled. Between drifts there is a quiet time between `least` and `most`.
    """

    file: str
    way: str
    count: int
    command: list[str]
    settle: str
    least: float
    most: float
    give_up: float


class Ear:
    """Waits for changes beside a file, at no cost in between."""

    def __init__(self, path: str) -> None:
        self._handle = _LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        folder = os.path.dirname(path).encode()
        if self._handle < 0 or _LIBC.inotify_add_watch(self._handle, folder, _MASK) < 0:
            raise OSError(ctypes.get_errno(), "inotify")
        self._poll = select.poll()
        self._poll.register(self._handle, select.POLLIN)

    def empty(self) -> None:
        try:
            while os.read(self._handle, 65536):
                pass
        except BlockingIOError:
            return

    def wait(self, seconds: float) -> None:
        self._poll.poll(max(0, int(seconds * 1000)))
        self.empty()


def master() -> str:
    try:
        with open(MASTER_PID) as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def said(port: int, *commands: str) -> str:
    """Return what a port says first, then to each command; "" if nothing listens."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_GREETING_SECONDS) as talk:
            lines = talk.makefile("r", encoding="utf-8", errors="replace")
            found = lines.readline().strip()
            for command in commands:
                talk.sendall(command.encode() + b"\r\n")
                line = lines.readline()
                while line[3:4] == "-":
                    found, line = found + line, lines.readline()
                found += line
            return found
    except OSError:
        return ""


class Bench:
    """The good text, and how long it takes to come back."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._file = _FILES[request.file]
        self._ear = Ear(self._file.path)
        self._good = self.read()
        self._wanted = self._file.value(self._good)
        self._greeting = self.greeting()
        self._number = 0

    def read(self) -> bytes:
        try:
            with open(self._file.path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return b""

    def write(self, text: bytes) -> float:
        """Rename a new text over the file, as an editor does; return the time."""
        path = self._file.path
        with open(f"{path}.drift", "wb") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
        at = time.monotonic()
        os.rename(f"{path}.drift", path)
        return at

    def greeting(self) -> str:
        """Return what shows at the port."""
        return said(self._file.port, *["EHLO localhost"][: self._file.is_extended])

    def drifted(self, value: bytes) -> bytes:
        text = self._file.with_value(self._good, value)
        if self._request.way == "fresh":
            # A parameter that nothing manages, with another value each time.
            self._number += 1
            text += b"header_size_limit = %d\n" % (102400 + os.getpid() + self._number)
        return text

    def wait_right(self, since: float) -> float | None:
        """Return the seconds until the file was right; None if it was not in time."""
        while self._file.value(self.read()) != self._wanted:
            left = since + self._request.give_up - time.monotonic()
            if left <= 0:
                return None
            self._ear.wait(left)
        return time.monotonic() - since

    def wait_gone(self, old: str, since: float) -> bool:
        """Wait until the old master has ended."""
        while os.path.exists(f"/proc/{old}"):
            if time.monotonic() > since + self._request.give_up:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def wait_greeting(self, old: str, since: float) -> float | None:
        """Return the seconds until another master's smtpd greets correctly; None if it does not."""
        while time.monotonic() < since + self._request.give_up:
            if master() not in ("", old) and self.greeting() == self._greeting:
                return time.monotonic() - since
            time.sleep(_POLL_SECONDS)
        return None

    def settle(self) -> None:
        self.leave()
        subprocess.run(["sh", "-c", self._request.settle], check=True, timeout=300)
        time.sleep(random.uniform(self._request.least, self._request.most))
        self._ear.empty()

    def leave(self) -> None:
        """Remove what nothing manages."""
        if self.read() != self._good:
            self.write(self._good)

    def repair(self) -> None:
        """Write the good text, if no peer did."""
        self.write(self._good)
        subprocess.run(["systemctl", "restart", "postfix.service"], check=True, timeout=120)

    def single(self) -> dict[str, float | None]:
        """Write one drift; if asked for, a second one as soon as the old master has ended."""
        self.settle()
        old = master()
        at = self.write(self.drifted(self._file.drifted))
        running = self.beside()
        found = {"right": self.wait_right(at), "greets": None, "during": None}
        if self._request.way == "during" and found["right"] and self.wait_gone(old, at):
            found["during"] = self.wait_right(self.write(self.drifted(b"10.0.0.0/8")))
        if found["right"]:
            found["greets"] = self.wait_greeting(old, at)
        if running is not None:
            running.wait(timeout=120)
        if None in (found["right"], found["greets"]) or self.read() == b"":
            self.repair()
        return found

    def beside(self) -> subprocess.Popen[bytes] | None:
        """Start the command at the same moment, like a person at the keyboard."""
        command = self._request.command
        return subprocess.Popen(command, stdout=subprocess.DEVNULL) if command else None

    def used(self) -> dict[str, float | None]:
        """Edit an entry of a table, until Postfix answers with it."""
        self.settle()
        self._number += 1
        entry = f"edit {os.getpid()}-{self._number}"
        self._good = self._file.with_value(self._good, entry.encode())
        at = self.write(self._good)
        running = self.beside()
        found = self.wait_answer(entry, at)
        if running is not None:
            running.wait(timeout=120)
        return {"used": found}

    def wait_answer(self, entry: str, since: float) -> float | None:
        """Return the seconds until the entry is in the answer; None if it was not in time."""
        commands = ("EHLO localhost", "MAIL FROM:<>", "RCPT TO:<probe@mail.example.test>")
        while time.monotonic() < since + self._request.give_up:
            if said(self._file.port, *commands).rstrip().endswith(entry):
                return time.monotonic() - since
            time.sleep(_POLL_SECONDS)
        return None

    def restart(self) -> dict[str, float | None]:
        """Run only the command, with a main.cf that is right."""
        self.settle()
        old, at = master(), time.monotonic()
        subprocess.run(self._request.command, check=True, timeout=120)
        return {"greets": self.wait_greeting(old, at)}

    def storm(self, drifts: int, seconds: float) -> dict[str, float | None]:
        """Write that many drifts in that many seconds, each with another text."""
        self.settle()
        begin = at = time.monotonic()
        for number in range(drifts):
            time.sleep(max(0.0, begin + number * seconds / drifts - time.monotonic()))
            at = self.write(self.drifted(b"10.%d.%d.0/24" % divmod(number, 256)))
        return {"right": self.wait_right(at)}


def main() -> None:
    request = Request(**json.loads(sys.argv[1]))
    bench = Bench(request)
    gc.disable()
    if request.way == "storm":
        print(json.dumps(bench.storm(request.count, 2.0)), flush=True)
        return
    once = {"restart": bench.restart, "used": bench.used}.get(request.way, bench.single)
    for _ in range(request.count):
        print(json.dumps(once()), flush=True)
    bench.leave()


if __name__ == "__main__":
    main()
