"""Programs run side by side: by an absolute path, without a shell, each within a time limit.

Every subprocess of the agent starts here, in `run`: with a clean environment, in a process group of
its own that is killed as a whole. Postfix's are listened to for the line that says why they end.
"""

from __future__ import annotations

import errno
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import IO, NamedTuple

from pf_agent.errors import HostError
from pf_agent.postfix import complaints

_COMMAND_SECONDS = 30.0
_CLEAN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_PIPE_BYTES = 1 << 16
# Three times what postconf prints of a main.cf as large as may be. One that never ends its output
# must not take the agent's memory.
MOST_BYTES = 64 << 20
# What keeps a program from being started.
_CURES = {
    errno.ENOENT: "install the package postfix",
    errno.EMFILE: "see LimitNOFILE= in systemd.exec(5)",
    errno.ENFILE: "raise fs.file-max",
    errno.EAGAIN: "see TasksMax= in systemd.resource-control(5)",
    errno.ENOMEM: "free memory",
    errno.EIO: "look at the disk",
}


class Order(NamedTuple):
    """A program to run. `is_optional`: where it does not end in time, it has said nothing."""

    command: Sequence[str]
    environment: Mapping[str, str] = {}
    seconds: float = _COMMAND_SECONDS
    is_optional: bool = False
    most_bytes: int = MOST_BYTES


class Answer(NamedTuple):
    """What a program wrote; `failed`: it ended, and not well.

    `mute` is how it ended where that was not well, and without a word of Postfix's own on why.
    """

    program: str
    failed: bool
    output: str
    complaint: str
    mute: str = ""


def _pipe(ours: ExitStack, its: ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    """A pipe: the end to read from and the one to write to, each closed with its stack."""
    reading, writing = os.pipe()
    return ours.enter_context(open(reading, "rb")), its.enter_context(open(writing, "wb"))


class _Running:
    """A program that runs, and what it has written so far."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.deadline = time.monotonic() + order.seconds
        self.is_doomed = False
        self.given_up = ""
        self._searched = 0
        # Not Popen's own pipes: where it cannot get both, it leaves the first one open for ever.
        with ExitStack() as ours, ExitStack() as its:
            try:
                (output, to_output), (self._stderr, to_stderr) = (
                    _pipe(ours, its) for _ in range(2)
                )
                self._process = subprocess.Popen(
                    order.command,
                    stdin=subprocess.DEVNULL,
                    stdout=to_output,
                    stderr=to_stderr,
                    cwd="/",
                    env={**_CLEAN, **order.environment},
                    start_new_session=True,
                )
            except OSError as error:
                cure = _CURES.get(error.errno or 0, "look at what stands there")
                raise HostError(f"{order.command[0]}: {error.strerror}; {cure}") from error
            self.written = {output: bytearray(), self._stderr: bytearray()}
            ours.pop_all()

    def hear(self, pipe: IO[bytes]) -> bool:
        """Take what stands in `pipe`; tell whether more may come."""
        heard = os.read(pipe.fileno(), _PIPE_BYTES)
        written = self.written[pipe]
        written += heard
        if len(written) > self.order.most_bytes:
            self.give_up(f"more than {self.order.most_bytes} bytes of output")
            return False
        if pipe is self._stderr:
            whole_lines = written.rfind(b"\n") + 1
            if complaints.FATAL.search(written, self._searched, whole_lines):
                # The reason is there; what is left is the second of sleep of msg_fatal().
                self._kill()
                self.is_doomed = True
            self._searched = whole_lines
        return bool(heard)

    def give_up(self, why: str = "") -> None:
        """Hear no more of it; where no reason is given, since its time is over."""
        self._kill()
        self.given_up = why or f"no end after {self.order.seconds:.0f} s"

    def answer(self) -> Answer:
        """What it came to. What is optional and was given up has said nothing."""
        program = self.order.command[0]
        # One that has closed its pipes may go on all the same.
        if not self.given_up and not self._ends_in_time():
            self.give_up()
        if self.given_up and self.order.is_optional:
            return Answer(program, False, "", "")
        if self.given_up:
            name = os.path.basename(program)
            complaint = f"{name}: fatal: {self.given_up}, {name} was killed\n"
            return Answer(program, True, "", complaint, self.given_up)
        output, complaint = (
            text.decode("utf-8", "backslashreplace") for text in self.written.values()
        )
        code = self._process.returncode
        has_said_why = complaints.FATAL.search(self.written[self._stderr])
        mute = "" if code == 0 or has_said_why else _ending(code, complaint)
        if code < 0 and not self.is_doomed:
            complaint += _killed(program, -code)
        return Answer(program, code != 0, output, complaint, mute)

    def _ends_in_time(self) -> bool:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(self.deadline - time.monotonic(), 0.0))
        return self._process.returncode is not None

    def _kill(self) -> None:
        # Until it was waited for, the number is its own. What it started goes with it.
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        """Leave nothing of it behind."""
        self._kill()
        self._process.wait()
        for pipe in self.written:
            pipe.close()


def _ending(code: int, complaint: str) -> str:
    """How a program ended of which nothing else is known."""
    how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    last = complaint.strip().rpartition("\n")[2]
    return f"{how}, {last}" if last else how


def _killed(program: str, number: int) -> str:
    """What a program that crashed would have said: postconf does where a value needs itself."""
    name = os.path.basename(program)
    return (
        f"\n{name}: fatal: {name} was ended by {signal.Signals(number).name}; does a value of"
        " main.cf stand for itself?\n"
    )


def run(orders: Sequence[Order]) -> list[Answer]:
    """Run programs side by side; one that does not end in time has failed.

    Raises HostError where one is missing.
    """
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        running = []
        for order in orders:
            program = _Running(order)
            stack.callback(program.end)
            running.append(program)
            for pipe in program.written:
                selector.register(pipe, selectors.EVENT_READ, (program, pipe))
        while open_pipes := [key.data for key in selector.get_map().values()]:
            left = min(program.deadline for program, _ in open_pipes) - time.monotonic()
            for key, _ in selector.select(max(left, 0.0)):
                program, pipe = key.data
                if not program.hear(pipe):
                    selector.unregister(pipe)
                    open_pipes.remove((program, pipe))
            # What is optional is not waited for where the verdict is there without it.
            is_decided = any(program.is_doomed for program in running)
            for program, pipe in open_pipes:
                if program.deadline < time.monotonic() or (
                    is_decided and program.order.is_optional and not program.is_doomed
                ):
                    program.give_up()
                    selector.unregister(pipe)
        return [program.answer() for program in running]
