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
