"""What an administrator wishes for: judged first, then written to a drop-in of desired.d.

That is 50-local.toml. A parameter last set in 50-site.toml is changed there: the answers given at
installation are this host's own, too. Any other file that is read later belongs to another tool,
which would write it again; a wish that it overrides is refused.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from pf_agent import names
from pf_agent.cli.subject import Subject, findings_of
from pf_agent.config.desired import by_instance, main_cf_of
from pf_agent.config.dropin import Wishes, edited
from pf_agent.config.table import Source, shown_key
from pf_agent.errors import ConfigError, HostError
from pf_agent.files import configuration, whole
from pf_agent.files.exchange import MainCfFile
from pf_agent.files.trusted import require_guarded
from pf_agent.model import DesiredState
from pf_agent.reconcile.refusal import refusal, refusal_sentence, told, warnings
from pf_agent.reconcile.wishes import unsaid
from pf_agent.words import sentences

DROPINS: Final = os.path.join(names.CONFIG_DIRECTORY, names.DESIRED_DROPINS)
LOCAL: Final = os.path.join(DROPINS, "50-local.toml")
SITE: Final = os.path.join(DROPINS, "50-site.toml")
_MODE: Final = 0o644
_HEAD: Final = b"""\
# What `pf-agent set` and `pf-agent adopt` wrote. Edit it as you like: comments stay.
"""


@dataclass(frozen=True)
class Wished:
    """The result: the parameters written to each file, and what else is to be reported."""

    subject: Subject
    written: Mapping[str, tuple[str, ...]]
    warnings: tuple[str, ...]


def subject_of(instance: str, desired: DesiredState) -> Subject:
    """Return one instance of the host. Raises ConfigError if there is none of that name."""
    state = by_instance(desired).get(instance)
    if state is None:
        raise ConfigError(
            f"instance {shown_key(instance)}: not configured; see /etc/pf-agent/desired.toml"
        )
    return Subject(instance, state, MainCfFile(main_cf_of(instance, state)), True)


def wish(instance: str, wishes: Wishes, may_be_unknown: Collection[str] = ()) -> Wished:
    """Make the wishes part of the desired state; what it says already is not written again.

    `may_be_unknown` are written even if Postfix does not use them.

    Raises ConfigError, and nothing is written, if a later file overrides a wish or Postfix refuses
    the resulting main.cf. Raises HostError.
    """
    with locked():
        before = subject_of(instance, configuration.load_desired(names.CONFIG_DIRECTORY))
        new = {n: value for n, value in wishes.items() if not _is_desired(before.desired, n, value)}
        if not new:
            return Wished(before, {}, ())
        homes = {name: home_of(before.desired, name) for name in new}
        files = [
            _edited(path, {name: new[name] for name in new if homes[name] == path}, instance)
            for path in sorted(set(homes.values()))
        ]
        desired = configuration.load_desired(names.CONFIG_DIRECTORY, files)
        after = subject_of(instance, desired)
        refuse_vain(after.desired, homes)
        doubts = judge(before, after, new, may_be_unknown)
        for file in files:
            write_configuration(file.path, file.text)
    written = {file.path: tuple(n for n in new if homes[n] == file.path) for file in files}
    return Wished(after, written, doubts)


def home_of(desired: DesiredState, name: str) -> str:
    """Return the file in which a part is to be written."""
    place = desired.provenance.get(name)
    return SITE if place is not None and place.file == SITE else LOCAL


def _edited(path: str, wishes: Wishes, instance: str) -> Source:
    return Source(path, edited(Source(path, head_of(path)), wishes, instance).encode())


def head_of(path: str) -> bytes:
    """Return what a file of ours says, or with what a new one begins. Raises HostError."""
    old = read_configuration(path)
    return _HEAD if old is None else old


def _is_desired(desired: DesiredState, name: str, value: str | None) -> bool:
    if value is None:
        return name in desired.use_default
    return desired.settings.get(name) == value


def refuse_vain(desired: DesiredState, homes: Mapping[str, str]) -> None:
    """Refuse a wish without effect, which a later drop-in overrides."""
    places = {name: desired.provenance[name] for name in homes}
    problems = [
        f"{place}: {name}: this file is read after {homes[name]} and wins; change it there"
        for name, place in places.items()
        if place.file != homes[name]
    ]
    if problems:
        raise ConfigError(*problems)


def judge(
    before: Subject, after: Subject, wishes: Wishes, may_be_unknown: Collection[str]
) -> tuple[str, ...]:
    """Return what is only reported about these wishes. Raises ConfigError if they are refused.

    What was refused before, for another reason than a wish, is reported and does not refuse more:
    otherwise two faults could not be fixed one by one. Faults in main.cf as it is now are reported.
    """
    found = findings_of(after, asked=wishes)
    _refuse_unknown(wishes, found.remarks.unknown, may_be_unknown)
    desired, judgement, runs = after.desired, found.judgement, found.runs
    new = unsaid(desired.kind, wishes, after.host.read().text)
    said = (*warnings(desired, judgement, new, runs), *found.remarks.doubts)
    doubts = [told(desired, text) for text in said if _named(wishes, text)]
    refused = refusal(desired, judgement, new, runs)
    if refused:
        blamed = _named(wishes, f"{refused.parameter} {refused.why}")
        if blamed or not refusal(before.desired, findings_of(before).judgement):
            what, end = ", ".join(blamed or wishes), "nothing was written"
            if not refused.is_ours:
                end = f"{end}, choose another value (postconf(5))"
            raise ConfigError(f"{what}: {refused.who} refuses it: {refused.why}; {end}")
        doubts.append(refusal_sentence(desired, refused))
    return tuple(doubts)


def _refuse_unknown(
    wishes: Wishes, unknown: Mapping[str, str], may_be_unknown: Collection[str]
) -> None:
    """Refuse names that Postfix does not use: each of them is most likely a slip."""
    problems = []
    for name in (name for name in unknown if name not in may_be_unknown):
        meant = unknown[name]
        way_out = f"did you mean {meant}?" if meant else "postconf(1) -d lists all"
        if wishes[name] is not None:
            way_out += " (`pf-agent set --unknown` writes it anyway)"
        fact = "unknown Postfix parameter, so nothing was written"
        problems.append(f"{shown_key(name)}: {fact}; {way_out}")
    if problems:
        raise ConfigError(*problems)


def _named(wishes: Wishes, text: str) -> list[str]:
    words = re.findall(r"[^\s\"',:;=]+", text)
    return [name for name in wishes if name in words]


def leftovers(wished: Wished, parameters: Sequence[str]) -> tuple[str, ...]:
    """Return what in main.cf still differs for these parameters, and will be corrected."""
    drift = (d for d in wished.subject.plan().drift if d.parameter in parameters)
    return tuple(sentences.drift_sentence(each) for each in drift)


# --- files ---------------------------------------------------------------------------------------


def require_root(verb: str) -> None:
    """Raise HostError if this process may not change the configuration."""
    if os.geteuid() != 0:
        raise HostError(f"{verb}: {names.CONFIG_DIRECTORY} belongs to root; run as root")


def read_configuration(path: str) -> bytes | None:
    """Return a file's bytes, None if there is none. Raises HostError."""
    try:
        return whole.read_whole(path, is_followed=True)
    except FileNotFoundError:
        return None
    except whole.Unfit as error:
        raise HostError(f"{path}: {error.strerror}; move it away") from error
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}; run as root") from error


def write_configuration(path: str, data: bytes, is_secret: bool = False) -> None:
    """Replace the file by `data` in one step and durably; a symbolic link remains one.

    A new file is readable by all; an existing one keeps its mode. One that `is_secret` is closed to
    all but its owner. Raises HostError, and ConfigError if others may change the file: it would not
    be obeyed.
    """
    require_guarded(path)
    target = os.path.realpath(path)
    mode = _MODE
    try:
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        with suppress(FileNotFoundError):
            mode = stat.S_IMODE(os.stat(target).st_mode)
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}; fix the directory") from error
    whole.write_whole(target, data, mode & 0o600 if is_secret else mode, durable=True)


@contextmanager
def locked() -> Iterator[None]:
    """Keep two `set` commands from overwriting each other's changes.

    Any user can open /etc/pf-agent, and hold a lock on it forever; this directory is root's alone.
    """
    folder = names.STATE_DIRECTORY
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"{folder}: {error.strerror}; create the directory") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
