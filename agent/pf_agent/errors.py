"""What can go wrong, and the exit code that says so."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What `pf-agent` ends with (DESIGN, section 2)."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    DRIFT = 3


class PfAgentError(Exception):
    """Base of every error that is meant for people: one line, place, fact, way out."""

    exit_code = ExitCode.FAILURE


class ConfigError(PfAgentError):
    """The configuration cannot be used; nothing changes until a person mends it.

    `problems` holds one line for each fault: place, fact, way out.
    """

    exit_code = ExitCode.USAGE

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class HostError(PfAgentError):
    """The machine would not; worth another try after a while."""


def is_no_thread(error: RuntimeError) -> bool:
    """Tell whether the machine granted no thread: Python has no error of its own for that."""
    return "start new thread" in str(error)


def no_thread(error: RuntimeError) -> str:
    """Say that the machine granted no thread (pthread_create(3), EAGAIN), and the way out."""
    return f"{error}: too little memory, or too few tasks; raise its limits (MemoryMax=, TasksMax=)"
