"""A target takes any bytes and raises where a parser breaks a promise.

No exception other than the project's own may leave a parser, and what it returns must be true.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

from pf_agent.config import desired, options, saved
from pf_agent.config.desired import main_cf_of
from pf_agent.config.dropin import edited
from pf_agent.config.table import Source
from pf_agent.errors import ConfigError, HostError
from pf_agent.files.served_states import served_of_all
from pf_agent.files.status_file import read_status
from pf_agent.files.store import FileStore
from pf_agent.maincf import aliases, known_secrets
from pf_agent.maincf.document import MainCf
from pf_agent.maincf.entry_faults import entry_fault
from pf_agent.maincf.grammar import grammar_of
from pf_agent.maincf.listeners import enabled, on_port_25, smtp_server
from pf_agent.maincf.master_cf import MasterCf
from pf_agent.maincf.secrets import masked_lines
from pf_agent.maincf.values import fault, pair_faults, same
from pf_agent.model import ActualState, DesiredState, DocumentKind, Event, FileKind, Unmanaged
from pf_agent.postfix import complaints
from pf_agent.reconcile.drift import corrected, damage, find_drift, unmanaged_drift
from pf_agent.reconcile.wishes import put_back, taken_back
from pf_agent.watch.writers import events
from pf_agent.words import history, sentences
from pf_agent.words.diffs import unified_diff
from pf_agent.words.fields import drift_dict
from pf_agent.words.history import Entry
from pf_agent.words.status import status_from_dict

Target = Callable[[bytes], None]

_COMMENTED = Unmanaged.COMMENT_OUT
_DESIRED = (
    DesiredState({}, frozenset()),
    DesiredState({"a": "1", "mynetworks": "127.0.0.0/8 [::1]/128"}, frozenset({"b"})),
    DesiredState({"a": ""}, frozenset({"b", "c"}), unmanaged=_COMMENTED, ignore=("x*",)),
    DesiredState(
        {"biff": "no", "queue_run_delay": "300s"}, frozenset(), unmanaged=Unmanaged.REPORT
    ),
)


def main_cf(data: bytes) -> None:
    """main.cf: lossless; what was corrected is right, and is not corrected again."""
    state, text = _DESIRED[data[0] % len(_DESIRED)] if data else _DESIRED[0], data[1:]
    document = MainCf.parse(text)
    assert document.render() == text
    actual = ActualState(text, FileKind.REGULAR, 0, 0, 0o644)
    drift = find_drift(state, actual)
    for each in (*drift, *unmanaged_drift(state, document)):
        sentences.drift_sentence(each)
        json.dumps(drift_dict(each))
    fixed = corrected(document, state)
    after = fixed.render()
    assert find_drift(state, ActualState(after, FileKind.REGULAR, 0, 0, 0o644)) == ()
    assert corrected(MainCf.parse(after), state).render() == after
    assert drift or after == text
    damage(text, state, after)
    diff = unified_diff(text, after, "main.cf")
    assert bool(diff) == (text != after)
    _values(document)


def _values(document: MainCf) -> None:
    found = document.parameters()
    for name, value in found.items():
        assert same(name, value, value)
        fault(name, value)
    pair_faults(found)
    aliases.faults(found, lambda _path: False)
    aliases.buildable(found, lambda _path: True)


_ENTRIES = (
    DesiredState({}, frozenset()),
    DesiredState({"a": "x, y", "example.org": "OK"}, frozenset({"b"})),
    DesiredState({"a": "x"}, frozenset({"b", "c"}), unmanaged=_COMMENTED, ignore=("x*",)),
)


def table(data: bytes) -> None:
    """A table's source: as `_entries`."""
    _entries(DocumentKind.TABLE, data)


def aliases_file(data: bytes) -> None:
    """An alias file: as `_entries`; what is read of a value can be asked for."""
    _entries(DocumentKind.ALIASES, data)


def _entries(kind: DocumentKind, data: bytes) -> None:
    """Lossless; corrected it is right, and not corrected again; what was taken out comes back."""
    state, text = _ENTRIES[data[0] % len(_ENTRIES)] if data else _ENTRIES[0], data[1:]
    state = replace(state, kind=kind)
    grammar = grammar_of(kind)
    document = grammar.parse(text)
    assert document.render() == text
    found = document.parameters()
    assert all(grammar.name(name) == name for name in found)
    fixed = corrected(document, state)
    actual = ActualState(fixed.render(), FileKind.REGULAR, 0, 0, 0o644)
    assert find_drift(state, actual) == ()
    assert corrected(grammar.parse(fixed.render()), state).render() == fixed.render()
    for name in list(found)[:3]:
        edit = grammar.edit(document)
        for place in document.occurrences(name):
            edit.comment_out(place)
        again = put_back(kind, edit.result().render(), {name: document.lines_of(name)})
        assert grammar.parse(again).parameters() == found
        entry_fault(kind, name, found[name])


def master_cf(data: bytes) -> None:
    """master.cf: lossless; a line belongs to one service, and its options are in its arguments."""
    document = MasterCf.parse(data)
    assert document.render() == data
    rows = [row for each in (*document.entries, *document.commented) for row in each.rows]
    assert len(set(rows)) == len(rows)
    for service in document.services:
        for name, value in service.options().items():
            assert any(name in word and value in word for word in service.arguments)
    for line, why in document.refused():
        assert why
        assert line <= len(document.lines)
    on_port_25(enabled(document.services, data[:20].decode("latin-1")))
    smtp_server(document.services)
    for secret in known_secrets.of_master_cf(data):
        known_secrets.spellings(secret)


def toml(data: bytes) -> None:
    """desired.toml and agent.toml: read, kept as JSON, and edited, or refused with a reason."""
    source = Source("f.toml", data)
    try:
        options.load(source)
    except ConfigError as error:
        _refusal(error)
    try:
        states = desired.by_instance(desired.load([source]))
    except ConfigError as error:
        _refusal(error)
        return
    kept = json.loads(json.dumps(saved.to_json(states)))
    assert saved.from_json(kept) == states
    for wishes in ({"a": "x y"}, {"a": None}, {"b": '"', "c": "7"}):
        try:
            text = edited(source, wishes).encode()
        except ConfigError as error:
            _refusal(error)
            continue
        after = desired.load([Source("f.toml", text)])
        for name, value in wishes.items():
            assert (name in after.use_default) if value is None else after.settings[name] == value


def _refusal(error: ConfigError) -> None:
    """Each problem is a line with its place."""
    assert error.problems
    for problem in error.problems:
        assert problem.startswith("f.toml:"), problem
        assert "\n" not in problem, problem


_STATE_FILES = (
    "pending.json",
    "wishes.json",
    "suspension.json",
    "suspension-alone.json",
    "desired.json",
    "cycle",
    "last-good.main.cf",
)
_RUN_FILES = ("status.json", "restarts.json", "drifts.json")


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="fuzz-")


def state(data: bytes) -> None:
    """What files/store.py reads back: any of its files may be damaged, and none stops the agent."""
    folder = _folder().name
    kept = FileStore(os.path.join(folder, "lib"), os.path.join(folder, "run"))
    kept.prepare()
    names = [os.path.join(kept.directory, name) for name in _STATE_FILES]
    names += [os.path.join(kept.run_directory, name) for name in _RUN_FILES]
    path = names[data[0] % len(names)] if data else names[0]
    with open(path, "wb") as file:
        file.write(_damaged(data[1:3], data[3:]))
    try:
        _read_back(kept)
    finally:
        os.unlink(path)


# What may stand where another value is expected.
STRANGERS: tuple[Any, ...] = (
    None, True, -1, 10**400, 1e300, -1e300, float("nan"), "", "x", [], [1], {}, {"a": []}
)  # fmt: skip


def _damaged(choice: bytes, text: bytes) -> bytes:
    """The text; where it is JSON, with one value of it, chosen by two bytes, replaced."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return text
    places = list(places_of(document))
    if not places or len(choice) < 2:
        return text
    inside, key = places[choice[0] % len(places)]
    inside[key] = STRANGERS[choice[1] % len(STRANGERS)]
    return json.dumps(document).encode()


def places_of(document: Any) -> Iterator[tuple[Any, Any]]:
    """Each value of a JSON document: what it lies in, and where."""
    keys: Iterable[Any] = ()
    if isinstance(document, dict):
        keys = list(document)
    elif isinstance(document, list):
        keys = range(len(document))
    for key in keys:
        yield document, key
        yield from places_of(document[key])


def _read_back(kept: FileStore) -> None:
    kept.pending()
    taken_back(DocumentKind.MAIN_CF, b"a = 2\nb = 3\n", kept.wishes())
    kept.suspended.suspension()
    kept.suspended_alone.suspension()
    kept.restarts()
    kept.drifts()
    assert kept.next_cycle() <= 10**12
    for name, found_state in served_of_all(kept.directory, kept.run_directory).items():
        assert main_cf_of(name, found_state)
    try:
        found = read_status(kept.run_directory)
    except HostError:
        return
    if found is not None:
        _status(found)


def _status(found: dict[str, Any]) -> None:
    try:
        status = status_from_dict(found)
    except ValueError:
        return  # what `pf-agent status` expects of it
    sentences.summary(status, 0.0)


def words(data: bytes) -> None:
    """What other programs say: complaints, records of the journal, events."""
    text = data.decode("utf-8", "backslashreplace")
    lines = complaints.Folders("/run/x", "/etc/postfix").lines(text)
    assert complaints.reason(text)
    complaints.warnings(lines, {"a": 1}, ("mynetworks", "myorigin"))
    assert len(masked_lines(lines)) == len(lines)
    fields = dict(line.partition("=")[::2] for line in text.split("\n"))
    found_cycles = history.cycles([Entry(1.0, Event.DRIFT_DETECTED, text, fields)])
    for past in found_cycles:
        history.cycle_dict(past, "17")
        history.cycle_row(history.name_of(past, found_cycles), past)
    for _pid, handle, name in events(data):
        assert len(handle) + len(name) <= len(data)


_ALL: tuple[Target, ...] = (main_cf, table, aliases_file, master_cf, toml, state, words)
TARGETS: dict[str, Target] = {each.__name__: each for each in _ALL}
