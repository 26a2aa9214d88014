"""What an administrator wishes of a table's entries: tried first, then written to a drop-in.

In the files in which wish.py writes the parameters, and by its rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pf_agent import names
from pf_agent.cli import documents
from pf_agent.cli.subject import Subject
from pf_agent.cli.wish import (
    LOCAL,
    SITE,
    Wished,
    head_of,
    home_of,
    locked,
    read_configuration,
    refuse_vain,
    subject_of,
    write_configuration,
)
from pf_agent.config import dropin_entries, dropin_services
from pf_agent.config.dropin import Wishes
from pf_agent.config.table import Source, shown_key
from pf_agent.errors import ConfigError
from pf_agent.files import configuration
from pf_agent.files.other_documents import OtherDocument
from pf_agent.model import DesiredState


def wish_entries(instance: str, document: str, wishes: Wishes) -> Wished:
    """Make the entries part of the desired state; None: no such entry. See `wish.wish`.

    Raises ConfigError, and nothing is written, if Postfix could not read one, or refuses the
    resulting table. Raises HostError.
    """
    with locked():
        subject = subject_of(instance, configuration.load_desired(names.CONFIG_DIRECTORY))
        before = documents.as_it_is(subject, document)
        folded = {documents.key_of(before, key): value for key, value in wishes.items()}
        new = {key: value for key, value in folded.items() if not _is_desired(before, key, value)}
        if not new:
            return Wished(subject, {}, ())
        homes = {key: home_of(before.desired, key) for key in new}

        def edited(path: str) -> Source:
            here = {key: new[key] for key in new if homes[key] == path}
            old = Source(path, head_of(path))
            if document == documents.MASTER_CF:
                return Source(path, dropin_services.edited(old, here, instance).encode())
            text = dropin_entries.edited(old, here, instance, document)
            return Source(path, text.encode())

        after, doubts = _written(subject, document, sorted(set(homes.values())), edited, homes)
    written = {path: tuple(k for k in new if homes[k] == path) for path in set(homes.values())}
    return Wished(after, written, doubts)


def unwish_entries(instance: str, document: str, keys: Sequence[str]) -> Wished:
    """Take entries out of the desired state; the table keeps them. Raises like `wish_entries`."""
    with locked():
        subject = subject_of(instance, configuration.load_desired(names.CONFIG_DIRECTORY))
        before = documents.as_it_is(subject, document)
        folded = [documents.key_of(before, key) for key in keys]
        texts = {path: read_configuration(path) for path in (LOCAL, SITE)}
        sources = [Source(path, text) for path, text in texts.items() if text]
        ours = {s.path: _stated(s, instance, document).parameters() for s in sources}
        _refuse_foreign(before, folded, ours)
        gone = {path: tuple(k for k in folded if k in found) for path, found in ours.items()}
        by_path = {each.path: each for each in sources}

        def edited(path: str) -> Source:
            if document == documents.MASTER_CF:
                text = dropin_services.removed(by_path[path], gone[path], instance)
            else:
                text = dropin_entries.removed(by_path[path], gone[path], instance, document)
            return Source(path, text.encode())

        changed = [path for path in gone if gone[path]]
        after, doubts = _written(subject, document, changed, edited, {})
    left = tuple(
        f"{document}: {key}: no longer managed; the file keeps it"
        for key in folded
        if key in before.desired.settings
    )
    return Wished(after, {path: gone[path] for path in changed}, (*left, *doubts))


def _written(
    before: Subject,
    document: str,
    paths: Sequence[str],
    edited: Callable[[str], Source],
    homes: Mapping[str, str],
) -> tuple[Subject, tuple[str, ...]]:
    """Write the files, if Postfix accepts what they come to; return that, and its warnings."""
    files = [edited(path) for path in paths]
    desired = configuration.load_desired(names.CONFIG_DIRECTORY, files)
    after = subject_of(before.name, desired)
    found = documents.named(after, document)
    refuse_vain(found.desired, homes)
    why, doubts = documents.verdict(after, found)
    if why:
        raise ConfigError(f"{why}; nothing was written")
    for file in files:
        # What is removed puts no value into it.
        write_configuration(file.path, file.text, found.desired.is_secret and bool(homes))
    return after, doubts


def _stated(source: Source, instance: str, document: str) -> DesiredState:
    if document == documents.MASTER_CF:
        return dropin_services.stated(source, instance)
    return dropin_entries.stated(source, instance, document)


def _is_desired(found: OtherDocument, key: str, value: str | None) -> bool:
    if value is None:
        return key in found.desired.use_default
    return found.desired.settings.get(key) == value


def _refuse_foreign(
    found: OtherDocument, keys: Sequence[str], ours: Mapping[str, frozenset[str]]
) -> None:
    """Raise ConfigError with all that are in none of our files."""
    problems = []
    for key in keys:
        place = found.desired.provenance.get(key)
        if place is None:
            problems.append(f"unset {shown_key(key)}: it is not managed; see `pf-agent diff`")
        elif not any(key in mine for mine in ours.values()):
            problems.append(f"{place}: {key}: unset does not edit this file; remove it there")
    if problems:
        raise ConfigError(*problems)
