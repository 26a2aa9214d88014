"""Removes parameters from the desired state, in the drop-ins that are this host's own.

Those are the two that `set` writes. Any other file belongs to the administrator, or to a tool that
would write it again: what is only there is not removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pf_agent import names
from pf_agent.cli.subject import Subject, kept_wishes, placed_left
from pf_agent.cli.wish import (
    DROPINS,
    LOCAL,
    SITE,
    Wished,
    judge,
    locked,
    read_configuration,
    subject_of,
    write_configuration,
)
from pf_agent.config.dropin import removed, stated
from pf_agent.config.table import Source, shown_key
from pf_agent.errors import ConfigError
from pf_agent.files import configuration
from pf_agent.maincf.slips import nearest
from pf_agent.model import DesiredState, DriftKind, Wishes
from pf_agent.reconcile.drift import taken_apart
from pf_agent.reconcile.wishes import withdrawn


def unwish(instance: str, parameters: Sequence[str]) -> Wished:
    """Remove the parameters from the desired state; main.cf keeps their values.

    The returned warnings say of each what becomes of it. Raises ConfigError, and nothing is
    written, if one of them is in no file of ours, or if Postfix refuses what another file says of
    it. Raises HostError.
    """
    with locked():
        desired = configuration.load_desired(names.CONFIG_DIRECTORY)
        before = subject_of(instance, desired)
        sources = [
            Source(path, text) for path in (LOCAL, SITE) if (text := read_configuration(path))
        ]
        ours = {each.path: stated(each, instance).parameters() for each in sources}
        _refuse_foreign(before.desired, parameters, ours)
        gone = {path: tuple(n for n in parameters if n in ours[path]) for path in ours}
        files = [
            Source(each.path, removed(each, gone[each.path], instance).encode())
            for each in sources
            if gone[each.path]
        ]
        after = subject_of(instance, configuration.load_desired(names.CONFIG_DIRECTORY, files))
        says = {name: after.desired.settings.get(name) for name in parameters}
        doubts = judge(before, after, says, parameters)
        told = [_left(after, name) for name in parameters]
        for file in files:
            write_configuration(file.path, file.text)
    return Wished(after, {path: found for path, found in gone.items() if found}, (*told, *doubts))


def _refuse_foreign(
    desired: DesiredState, parameters: Sequence[str], ours: Mapping[str, frozenset[str]]
) -> None:
    """Raise ConfigError with all that are in none of our files."""
    problems = []
    for name in parameters:
        if name not in desired.parameters():
            meant = nearest(name, desired.parameters())
            hint = f"did you mean {meant}?" if meant else f"see `pf-agent explain {name}`"
            problems.append(f"unset {shown_key(name)}: it is not managed; {hint}")
        elif not any(name in found for found in ours.values()):
            place = desired.provenance[name]
            way_out = "remove it there"
            if not place.file.startswith(DROPINS) or place.file < LOCAL:
                way_out += f", or keep it at Postfix's own default: pf-agent unset --default {name}"
            problems.append(f"{place}: {name}: unset does not edit this file; {way_out}")
    if problems:
        raise ConfigError(*problems)


def _left(after: Subject, name: str) -> str:
    """Return what becomes of a removed parameter."""
    desired = after.desired
    if name in desired.parameters():
        return f"{desired.provenance[name]}: {name}: this file sets it too, and takes effect now"
    text = after.host.read().text
    if name in withdrawn(kept_wishes(after) or Wishes(), desired):
        what = "was never in use, so main.cf goes back to what it said before"
        return f"{name}: no longer managed; it {what}"
    parameter = taken_apart(desired.kind, text).get(name)
    if parameter is None:
        return f"{name}: no longer managed; main.cf does not set it"
    drift = after.plan().drift
    if any(each.parameter == name and each.kind is DriftKind.UNMANAGED for each in drift):
        return (
            f"{name}: no longer managed; it is commented out in main.cf, like everything unmanaged"
        )
    return placed_left(after, parameter)
