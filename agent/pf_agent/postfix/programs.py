"""Runs programs in parallel: by absolute path, without a shell, each with a time limit.

Every subprocess of the agent starts here, in `run`: with a clean environment, in a process group of
its own that is killed as a whole. Postfix's output is watched for the line that says why it exits.
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
# Three times what postconf prints for the largest main.cf allowed. A program with endless output
# must not use up the agent's memory.
MOST_BYTES = 64 << 20
# Remedies for what keeps a program from starting, or ends it.
_CURES = {
    errno.ENOENT: "install the package postfix",
    errno.EMFILE: "see LimitNOFILE= in systemd.exec(5)",
    errno.ENFILE: "raise fs.file-max",
    errno.EAGAIN: "see TasksMax= in systemd.resource-control(5)",
    errno.ENOMEM: "free memory",
    errno.EIO: "check the disk",
    errno.ENOSPC: "make room",
    errno.EDQUOT: "raise the quota",
    errno.EROFS: "make its file system writable",
}
# No text that a program reads is the cause of these.
_OF_THE_HOST = {
    os.strerror(number): number for number in _CURES.keys() - {errno.ENOENT, errno.EAGAIN}
}


class Program(NamedTuple):
    """A program to run. `is_optional`: if it does not end in time, its answer is empty.

    `stdin` is a file descriptor, open.
    """

    command: Sequence[str]
    environment: Mapping[str, str] = {}
    seconds: float = _COMMAND_SECONDS
    is_optional: bool = False
    most_bytes: int = MOST_BYTES
    stdin: int = subprocess.DEVNULL


class Answer(NamedTuple):
    """What a program wrote; `failed`: it ended with an error.

    `mute` says how it ended, if that was with an error and without a message of Postfix's own.
    """

    program: str
    failed: bool
    output: str
    complaint: str
    mute: str = ""


def _pipe(ours: ExitStack, its: ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    """Return a pipe: the end to read and the end to write, each closed with its stack."""
    reading, writing = os.pipe()
    return ours.enter_context(open(reading, "rb")), its.enter_context(open(writing, "wb"))


def of_the_host(why: str) -> str:
    """Return the kernel's words and a remedy if no text can be the reason why a program exited.

    Return "" if one can.
    """
    said = why.rpartition(": ")[2]
    number = _OF_THE_HOST.get(said)
    return "" if number is None else f"{said}; {_CURES[number]}"


class _Running:
    """A running program, and what it has written so far."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.deadline = time.monotonic() + program.seconds
        self.is_doomed = False
        self.given_up = ""
        self._searched = 0
        # Not Popen's own pipes: if it cannot create both, it leaves the first one open forever.
        with ExitStack() as ours, ExitStack() as its:
            try:
                (output, to_output), (self._stderr, to_stderr) = (
                    _pipe(ours, its) for _ in range(2)
                )
                self._process = subprocess.Popen(
                    program.command,
                    stdin=program.stdin,
                    stdout=to_output,
                    stderr=to_stderr,
                    cwd="/",
                    env={**_CLEAN, **program.environment},
                    start_new_session=True,
                )
            except OSError as error:
                cure = _CURES.get(error.errno or 0, "check what is at that path")
                raise HostError(f"{program.command[0]}: {error.strerror}; {cure}") from error
            self.written = {output: bytearray(), self._stderr: bytearray()}
            ours.pop_all()

    def hear(self, pipe: IO[bytes]) -> bool:
        """Read what is in `pipe`; tell whether more may come."""
        heard = os.read(pipe.fileno(), _PIPE_BYTES)
        written = self.written[pipe]
        written += heard
        if len(written) > self.program.most_bytes:
            self.give_up(f"printed more than {self.program.most_bytes} bytes")
            return False
        if pipe is self._stderr:
            whole_lines = written.rfind(b"\n") + 1
            if complaints.FATAL.search(written, self._searched, whole_lines):
                # The reason is known; only the one-second sleep of msg_fatal() is left.
                self._kill()
                self.is_doomed = True
            self._searched = whole_lines
        return bool(heard)

    def give_up(self, why: str = "") -> None:
        """Stop reading; if no reason is given, because its time is up."""
        self._kill()
        self.given_up = why or f"did not finish within {self.program.seconds:.0f} s"

    def answer(self) -> Answer:
        """Return its result. An optional program that was given up has an empty answer."""
        path = self.program.command[0]
        # A program that has closed its pipes may still be running.
        if not self.given_up and not self._ends_in_time():
            self.give_up()
        if self.given_up and self.program.is_optional:
            return Answer(path, False, "", "")
        if self.given_up:
            name = os.path.basename(path)
            complaint = f"{name}: fatal: {self.given_up}; {name} was killed\n"
            return Answer(path, True, "", complaint, self.given_up)
        output, complaint = (
            text.decode("utf-8", "backslashreplace") for text in self.written.values()
        )
        code = self._process.returncode
        has_said_why = complaints.FATAL.search(self.written[self._stderr])
        mute = "" if code == 0 or has_said_why else _ending(code, complaint)
        if code < 0 and not self.is_doomed:
            complaint += _killed(path, -code)
        return Answer(path, code != 0, output, complaint, mute)

    def _ends_in_time(self) -> bool:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(self.deadline - time.monotonic(), 0.0))
        return self._process.returncode is not None

    def _kill(self) -> None:
        # Until it is waited for, its process ID cannot be reused. Its children are killed with it.
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        """Leave nothing of it running or open."""
        self._kill()
        self._process.wait()
        for pipe in self.written:
            pipe.close()


def _ending(code: int, complaint: str) -> str:
    """Describe how a program ended if nothing else is known."""
    how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    last = complaint.strip().rpartition("\n")[2]
    return f"{how}, {last}" if last else how


def _killed(program: str, number: int) -> str:
    """Return what a crashed program would have said: postconf crashes if a value needs itself."""
    name = os.path.basename(program)
    return (
        f"\n{name}: fatal: {name} was ended by {signal.Signals(number).name}; does a value of"
        " main.cf refer to itself?\n"
    )


def run(programs: Sequence[Program]) -> list[Answer]:
    """Run programs in parallel; one that does not end in time has failed.

    Raises HostError if one is missing.
    """
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        running = []
        for program in programs:
            begun = _Running(program)
            stack.callback(begun.end)
            running.append(begun)
            for pipe in begun.written:
                selector.register(pipe, selectors.EVENT_READ, (begun, pipe))
        while open_pipes := [key.data for key in selector.get_map().values()]:
            left = min(begun.deadline for begun, _ in open_pipes) - time.monotonic()
            for key, _ in selector.select(max(left, 0.0)):
                begun, pipe = key.data
                if not begun.hear(pipe):
                    selector.unregister(pipe)
                    open_pipes.remove((begun, pipe))
            # Optional programs are not waited for once the verdict is certain without them.
            is_decided = any(begun.is_doomed for begun in running)
            for begun, pipe in open_pipes:
                if begun.deadline < time.monotonic() or (
                    is_decided and begun.program.is_optional and not begun.is_doomed
                ):
                    begun.give_up()
                    selector.unregister(pipe)
        return [begun.answer() for begun in running]
