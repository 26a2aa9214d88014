"""Runs in the machine: lets main.cf drift, and times when it is right and Postfix greets again.

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

MAIN_CF = "/etc/postfix/main.cf"
MASTER_PID = "/var/spool/postfix/pid/master.pid"
OPEN_RELAY = b"0.0.0.0/0"

# IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE (inotify(7)).
_MASK = 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100
_VALUE = re.compile(rb"^mynetworks[ \t]*=[ \t]*(.*)$", re.MULTILINE)
_LIBC = ctypes.CDLL(None, use_errno=True)
_POLL_SECONDS = 0.001
_GREETING_SECONDS = 20.0


@dataclass(frozen=True)
class Request:
    """What is to be done; times in seconds.

    `way`: "single", one drift after the other; "fresh", each with a new text; "during", each with a
    second one while Postfix is being restarted; "storm", all at once; "restart", none at all.
    `command` is run as the drift is written. `settle` is a shell script that ends when all is
    settled. Between drifts there is a quiet time between `least` and `most`.
    """

    way: str
    count: int
    command: list[str]
    settle: str
    least: float
    most: float
    give_up: float


class Ear:
    """Waits for changes beside main.cf, at no cost in between."""

    def __init__(self) -> None:
        self._handle = _LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        folder = os.path.dirname(MAIN_CF).encode()
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


def read() -> bytes:
    try:
        with open(MAIN_CF, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def write(text: bytes) -> float:
    """Rename a new text over main.cf, as an editor does; return the time."""
    with open(f"{MAIN_CF}.drift", "wb") as file:
        file.write(text)
        os.fchmod(file.fileno(), 0o644)
    at = time.monotonic()
    os.rename(f"{MAIN_CF}.drift", MAIN_CF)
    return at


def master() -> str:
    try:
        with open(MASTER_PID) as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def greeting() -> str:
    """Return what port 25 says first; "" if nothing listens."""
    try:
        with socket.create_connection(("127.0.0.1", 25), timeout=_GREETING_SECONDS) as talk:
            return talk.makefile("r", encoding="utf-8", errors="replace").readline().strip()
    except OSError:
        return ""


class Bench:
    """The good text, and how long it takes to come back."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._ear = Ear()
        self._good = read()
        self._wanted = _VALUE.findall(self._good)
        self._greeting = greeting()
        self._number = 0

    def drifted(self, value: bytes) -> bytes:
        text = _VALUE.sub(b"mynetworks = " + value, self._good)
        if self._request.way == "fresh":
            # A parameter that nothing manages, with another value each time.
            self._number += 1
            text += b"header_size_limit = %d\n" % (102400 + os.getpid() + self._number)
        return text

    def wait_right(self, since: float) -> float | None:
        """Return the seconds until main.cf was right; None if it was not in time."""
        while _VALUE.findall(read()) != self._wanted:
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
            if master() not in ("", old) and greeting() == self._greeting:
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
        if read() != self._good:
            write(self._good)

    def repair(self) -> None:
        """Write the good text, if no peer did."""
        write(self._good)
        subprocess.run(["systemctl", "restart", "postfix.service"], check=True, timeout=120)

    def single(self) -> dict[str, float | None]:
        """Write one drift; if asked for, a second one as soon as the old master has ended."""
        self.settle()
        old, command = master(), self._request.command
        at = write(self.drifted(OPEN_RELAY))
        # Like a person at the keyboard: started at the same moment.
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL) if command else None
        found = {"right": self.wait_right(at), "greets": None, "during": None}
        if self._request.way == "during" and found["right"] and self.wait_gone(old, at):
            found["during"] = self.wait_right(write(self.drifted(b"10.0.0.0/8")))
        if found["right"]:
            found["greets"] = self.wait_greeting(old, at)
        if running is not None:
            running.wait(timeout=120)
        if None in (found["right"], found["greets"]) or read() == b"":
            self.repair()
        return found

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
            at = write(self.drifted(b"10.%d.%d.0/24" % divmod(number, 256)))
        return {"right": self.wait_right(at)}


def main() -> None:
    request = Request(**json.loads(sys.argv[1]))
    bench = Bench(request)
    gc.disable()
    if request.way == "storm":
        print(json.dumps(bench.storm(request.count, 2.0)), flush=True)
        return
    once = bench.restart if request.way == "restart" else bench.single
    for _ in range(request.count):
        print(json.dumps(once()), flush=True)
    bench.leave()


if __name__ == "__main__":
    main()
