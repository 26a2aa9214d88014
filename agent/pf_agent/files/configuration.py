"""The configuration files, read from disk: what is asked for, and how the agent is to behave."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from pf_agent import names
from pf_agent.config import desired, options
from pf_agent.config.table import Source
from pf_agent.errors import ConfigError
from pf_agent.files.trusted import owners_of, read_source
from pf_agent.model import AgentOptions, DesiredState

Fingerprint = tuple[tuple[str, int, int, int], ...]


def load_desired(directory: str, edited: Sequence[Source] = ()) -> DesiredState:
    """Read desired.toml and its drop-ins; what is `edited` stands in for its file, there or not.

    Raises ConfigError with every problem.
    """
    path = os.path.join(directory, names.DESIRED_TOML)
    paths = _desired_paths(directory)
    if edited:
        found = {*paths, *(source.path for source in edited)}
        paths = sorted(found, key=lambda each: (each != path, each))
    if not paths:
        raise ConfigError(f"{path}: no such file; `pf-agent check` tells when it is right again")
    return _load_files(paths, edited, is_guarded=True)


def load_desired_file(path: str) -> DesiredState:
    """Read one file alone. Raises ConfigError with every problem."""
    return _load_files([path])


def _load_files(
    paths: list[str], edited: Sequence[Source] = (), is_guarded: bool = False
) -> DesiredState:
    in_hand = {source.path: source for source in edited}
    sources: list[Source] = []
    problems: list[str] = []
    for path in paths:
        try:
            sources.append(in_hand.get(path) or read_source(path, is_guarded))
        except ConfigError as error:
            problems.extend(error.problems)
    try:
        found = desired.load(sources)
    except ConfigError as error:
        problems.extend(error.problems)
    if problems:
        raise ConfigError(*problems)
    return found


def load_options(directory: str) -> AgentOptions:
    """Read agent.toml; its absence means the defaults. Raises ConfigError with every problem."""
    path = os.path.join(directory, names.AGENT_TOML)
    return options.load(read_source(path, True) if os.path.lexists(path) else None)


def _desired_paths(directory: str) -> list[str]:
    main = os.path.join(directory, names.DESIRED_TOML)
    dropins = os.path.join(directory, names.DESIRED_DROPINS)
    paths = [main] if os.path.lexists(main) else []
    try:
        found = sorted(os.listdir(dropins))
    except (FileNotFoundError, NotADirectoryError):
        return paths
    except OSError as error:
        raise ConfigError(f"{dropins}: {error.strerror}; make it readable for root") from error
    # A leading dot is an editor's own file, not yet the administrator's word.
    shown = [name for name in found if name.endswith(".toml") and not name.startswith(".")]
    return paths + [os.path.join(dropins, name) for name in shown]


class Configuration:
    """What the files ask for: read again when one changed; a faulty file changes nothing.

    `asked` holds the state of each instance by name. Where no file was right since the process
    began, that is `kept`, which Postfix was last seen to serve with; an instance is missing in it
    where there never was a good one. Which state is in force is not told here (wishes.py).
    """

    def __init__(
        self, directory: str, kept: Mapping[str, DesiredState], report: Callable[[str], None]
    ) -> None:
        """Read agent.toml. `report` gets each problem, once. Raises ConfigError."""
        self._directory = directory
        self._report = report
        self._seen: Fingerprint | None = None
        self.options = load_options(directory)
        self.asked = kept
        self.problems: tuple[str, ...] = ()

    def refresh(self, again: bool = False) -> bool:
        """Read what changed on disk; `again` reads and reports all, changed or not.

        Returns whether anything was read. Problems are only reported, and each of them once.
        """
        if again:
            self._seen, self.problems = None, ()
        seen = self._fingerprint()
        if seen == self._seen:
            return False
        self._seen = seen
        problems: list[str] = []
        try:
            self.options = load_options(self._directory)
        except ConfigError as error:
            problems.extend(error.problems)
        try:
            self.asked = desired.by_instance(load_desired(self._directory))
        except ConfigError as error:
            problems.extend(error.problems)
        for problem in problems:
            if problem not in self.problems:
                self._report(problem)
        self.problems = tuple(problems)
        return True

    def _fingerprint(self) -> Fingerprint:
        paths = [os.path.join(self._directory, names.AGENT_TOML)]
        try:
            paths += _desired_paths(self._directory)
        except ConfigError as error:
            return ((str(error), 0, 0, 0),)
        # Whose the folders are counts too: a file that was refused for them is read again.
        return (*map(_fingerprint_of, paths), *owners_of(paths))


def _fingerprint_of(path: str) -> tuple[str, int, int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return path, 0, 0, 0
    return path, found.st_ctime_ns, found.st_ino, found.st_size
