"""What can go wrong, and the exit code that says so."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What `pf-agent` ends with (DESIGN, section 2)."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    DRIFT = 3


class PfAgentError(Exception):
    """Base of every error that is shown to people: one line with place, fact and remedy."""

    exit_code = ExitCode.FAILURE


class ConfigError(PfAgentError):
    """The configuration cannot be used; nothing changes until a person fixes it.

    `problems` holds one line for each fault: place, fact, remedy. A fault of a directory affects
    every file in it, and is reported once.
    """

    exit_code = ExitCode.USAGE

    def __init__(self, *problems: str) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        super().__init__("\n".join(self.problems))


class HostError(PfAgentError):
    """The machine refused or failed; worth a retry after a while."""


class NotBegun(HostError):
    """The machine refused, or was never reached: nothing of what was asked for has begun."""


class GaveWay(HostError):
    """A call was broken off because main.cf needs the thread that was in it. Nothing has failed."""


def is_no_thread(error: RuntimeError) -> bool:
    """Tell whether the machine could not start a thread: Python has no exception class for that."""
    return "start new thread" in str(error)


def no_thread(error: RuntimeError) -> str:
    """Say that the machine could not start a thread (pthread_create(3), EAGAIN), and a remedy."""
    return f"{error}: not enough memory or tasks; raise its limits (MemoryMax=, TasksMax=)"
