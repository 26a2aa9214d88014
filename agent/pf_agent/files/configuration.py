"""The configuration files, read from disk: what is desired, and how the agent is to behave."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from pf_agent import names
from pf_agent.config import desired, options
from pf_agent.config.table import Source
from pf_agent.errors import ConfigError
from pf_agent.files.kept_options import KeptOptions
from pf_agent.files.readable import is_for_everybody
from pf_agent.files.trusted import owners_of, read_source
from pf_agent.model import AgentOptions, DesiredState, Mode
from pf_agent.words.outgoing import PROCESS

Fingerprint = tuple[tuple[str, int, int, int], ...]


def load_desired(directory: str, edited: Sequence[Source] = ()) -> DesiredState:
    """Read desired.toml and its drop-ins; an `edited` source replaces its file, existing or not.

    Raises ConfigError with every problem.
    """
    path = os.path.join(directory, names.DESIRED_TOML)
    paths = _desired_paths(directory)
    if edited:
        found = {*paths, *(source.path for source in edited)}
        paths = sorted(found, key=lambda each: (each != path, each))
    if not paths:
        raise ConfigError(f"{path}: no such file; `pf-agent check` tells when it is valid again")
    return _load_files(paths, edited, is_guarded=True)


def load_desired_file(path: str) -> DesiredState:
    """Read a single file. Raises ConfigError with every problem."""
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
    PROCESS.read_desired(found)
    return found


def load_options(directory: str) -> AgentOptions:
    """Read agent.toml; without it, the defaults apply. Raises ConfigError with every problem."""
    return options.load(_options_source(directory))


def only_observing(directory: str) -> str:
    """Return what is reported if agent.toml is faulty and no valid version is known."""
    path = os.path.join(directory, names.AGENT_TOML)
    return f"{path}: no valid version is known, so main.cf is only observed; fix the error"


def _options_source(directory: str) -> Source | None:
    path = os.path.join(directory, names.AGENT_TOML)
    return read_source(path, True) if os.path.lexists(path) else None


def _desired_paths(directory: str) -> list[str]:
    main = os.path.join(directory, names.DESIRED_TOML)
    dropins = os.path.join(directory, names.DESIRED_DROPINS)
    paths = [main] if os.path.lexists(main) else []
    try:
        found = sorted(os.listdir(dropins))
    except (FileNotFoundError, NotADirectoryError):
        return paths
    except OSError as error:
        raise ConfigError(f"{dropins}: {error.strerror}; make it readable by root") from error
    # A leading dot marks an editor's temporary file, which is not meant to take effect yet.
    shown = [name for name in found if name.endswith(".toml") and not name.startswith(".")]
    return paths + [os.path.join(dropins, name) for name in shown]


class Configuration:
    """The desired states and options: read again if a file changed; a faulty one changes nothing.

    `asked` holds the state of each instance by name. If no file has been valid since the process
    started, that is `kept`, with which Postfix was last seen to serve; an instance that never had a
    good state is missing from it. Which state is in force is decided elsewhere (wishes.py).
    `options` are those of agent.toml in the same way; if there has never been a good one, the mode
    is observe. `is_public`: every user may read all of the files.
    """

    def __init__(
        self,
        directory: str,
        kept: Mapping[str, DesiredState],
        kept_options: KeptOptions,
        report: Callable[[str], None],
    ) -> None:
        """Read agent.toml. `report` gets each problem, once, but not from here."""
        self._directory = directory
        self._report = report
        self._seen: Fingerprint | None = None
        self._kept_options = kept_options
        self._good_options: bytes | None = None
        known = kept_options.load()
        self._is_known = known is not None
        self.options = known or AgentOptions(mode=Mode.OBSERVE)
        with suppress(ConfigError):  # reported at the first look
            self._read_options()
        self.asked = kept
        self.problems: tuple[str, ...] = ()
        self.is_public = False

    def refresh(self, again: bool = False) -> bool:
        """Read what changed on disk; `again` reads and reports everything, changed or not.

        Return whether anything was read. Problems are only reported, each of them once.
        """
        if again:
            self._seen, self.problems = None, ()
        if self._good_options is not None:
            self._kept_options.keep(self._good_options)
        seen = self._fingerprint()
        if seen == self._seen:
            return False
        self._seen = seen
        self.is_public = self._is_public()
        problems: list[str] = []
        try:
            self._read_options()
        except ConfigError as error:
            problems.extend(error.problems)
            if not self._is_known:
                problems.append(only_observing(self._directory))
        try:
            self.asked = desired.by_instance(load_desired(self._directory))
        except ConfigError as error:
            problems.extend(error.problems)
        told = tuple(dict.fromkeys(problems))  # a directory's fault may concern agent.toml as well
        for problem in told:
            if problem not in self.problems:
                self._report(problem)
        self.problems = told
        return True

    def _read_options(self) -> None:
        """Read agent.toml. Raises ConfigError; the options in force then stay."""
        source = _options_source(self._directory)
        self.options = options.load(source)
        self._good_options = b"" if source is None else source.text
        self._kept_options.keep(self._good_options)
        self._is_known = True

    def _is_public(self) -> bool:
        try:
            return all(map(is_for_everybody, _desired_paths(self._directory)))
        except ConfigError:
            return False

    def _fingerprint(self) -> Fingerprint:
        paths = [os.path.join(self._directory, names.AGENT_TOML)]
        try:
            paths += _desired_paths(self._directory)
        except ConfigError as error:
            return ((str(error), 0, 0, 0),)
        # The owners of the directories count too: a file refused because of them is read again.
        return (*map(_fingerprint_of, paths), *owners_of(paths))


def _fingerprint_of(path: str) -> tuple[str, int, int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return path, 0, 0, 0
    return path, found.st_ctime_ns, found.st_ino, found.st_size
