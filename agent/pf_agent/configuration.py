"""The configuration files: read from disk, and the last good desired state kept in force."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from pf_agent import desired, desired_json, names, options
from pf_agent.errors import ConfigError
from pf_agent.model import AgentOptions, DesiredState
from pf_agent.toml_table import Source
from pf_agent.trust import owners_of, read_source

Fingerprint = tuple[tuple[str, int, int, int], ...]


class Kept(Protocol):
    """Where the last good desired state is kept, as `state.State` does."""

    def desired(self) -> object: ...
    def keep_desired(self, desired: Mapping[str, Any]) -> None: ...


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
    """What is in force: read again when a file changed; a faulty file changes nothing.

    `desired` holds the state of each instance by name; an instance is missing in it where there
    never was a good one. What Postfix itself refuses is a fault like any other, but it shows at
    the first cycle only: `approve` and `fall_back` tell.
    """

    def __init__(self, directory: str, kept: Kept, report: Callable[[str], None]) -> None:
        """Read agent.toml. `report` gets each problem, once. Raises ConfigError."""
        self._directory = directory
        self._kept = kept
        self._report = report
        self._seen: Fingerprint | None = None
        self.options = load_options(directory)
        self._approved = _last_good(kept)
        self.desired: Mapping[str, DesiredState] = dict(self._approved)
        self._loaded: Mapping[str, DesiredState] | None = None
        self._faults: tuple[str, ...] = ()
        self._refusals: Mapping[str, str] = {}

    @property
    def problems(self) -> tuple[str, ...]:
        """The faults of the files as they are, and what Postfix refuses of what they ask for."""
        return (*self._faults, *self._refusals.values())

    def refresh(self, again: bool = False) -> bool:
        """Read what changed on disk; `again` reads and reports all, changed or not.

        Returns whether anything was read. Problems are only reported, and each of them once.
        """
        if again:
            self._seen, self._loaded, self._faults = None, None, ()
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
            self._put_in_force(desired.by_instance(load_desired(self._directory)))
        except ConfigError as error:
            problems.extend(error.problems)
        for problem in problems:
            if problem not in self._faults:
                self._report(problem)
        self._faults = tuple(problems)
        return True

    def _put_in_force(self, loaded: Mapping[str, DesiredState]) -> None:
        """A file that was touched, or read while it was written, may ask for what it asked before:
        what Postfix refused of it is refused still."""
        if loaded != self._loaded:
            self.desired = self._loaded = loaded
            self._refusals = {}

    def approve(self, instance: str) -> None:
        """The state in force for `instance` works: it is the one to fall back on.

        Raises HostError.
        """
        works = self.desired.get(instance)
        if works is not None and works != self._approved.get(instance):
            known = {name: state for name, state in self._approved.items() if name in self.desired}
            self._approved = {**known, instance: works}
            self._kept.keep_desired(desired_json.to_json(self._approved))

    def fall_back(self, instance: str, problem: str) -> DesiredState | None:
        """Put the last approved state of `instance` in force; return it, None: there is no other.

        The files are read again when one changes, or when `refresh` is told to; `reconsider` puts
        what they ask for in force once Postfix takes it.
        """
        approved = self._approved.get(instance)
        if approved is None or approved == self.desired.get(instance):
            return None
        self.desired = {**self.desired, instance: approved}
        self._refusals = {**self._refusals, instance: problem}
        return approved

    def refused(self, instance: str) -> DesiredState | None:
        """Return what the files ask for and Postfix refused, so that it is not in force."""
        loaded = self._loaded or {}
        return loaded.get(instance) if instance in self._refusals else None

    def reconsider(self, instance: str) -> None:
        """Put in force what `refused` returns: Postfix takes it by now."""
        state = self.refused(instance)
        if state is not None:
            self.desired = {**self.desired, instance: state}
            self._refusals = {n: why for n, why in self._refusals.items() if n != instance}

    def _fingerprint(self) -> Fingerprint:
        paths = [os.path.join(self._directory, names.AGENT_TOML)]
        try:
            paths += _desired_paths(self._directory)
        except ConfigError as error:
            return ((str(error), 0, 0, 0),)
        # Whose the folders are counts too: a file that was refused for them is read again.
        return (*map(_stamp, paths), *owners_of(paths))


def _stamp(path: str) -> tuple[str, int, int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return path, 0, 0, 0
    return path, found.st_ctime_ns, found.st_ino, found.st_size


def _last_good(kept: Kept) -> Mapping[str, DesiredState]:
    document = kept.desired()
    if document is None:
        return {}
    try:
        return desired_json.from_json(document)
    except ConfigError:
        return {}  # damaged, or of another version: as if there had been none
