"""The desired state to JSON and back: it survives a faulty desired.toml."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from pf_agent import names
from pf_agent.config.desired import instance_fault
from pf_agent.config.readback import Members, count_of, or_none, table_of, text_of, texts_of
from pf_agent.config.values import name_fault, path_fault, value_fault
from pf_agent.maincf.entries import folded
from pf_agent.maincf.entry_faults import entry_fault, key_fault
from pf_agent.model import BLANKS, DesiredState, DocumentKind, Place, Unmanaged

_OF_ENTRIES = (DocumentKind.TABLE, DocumentKind.ALIASES)
# Where the state is written, not what it says.
_PLACES = ("provenance", "place")
_MEMBERS = (
    *("settings", "use_default", "template", "provenance", "unmanaged", "ignore"),
    *("config_directory", "place"),
)


def to_json(states: Mapping[str, DesiredState]) -> dict[str, Any]:
    """Return the states of all instances for json.dumps; `from_json` reads them back."""
    return {name: members_of(state) for name, state in states.items()}


def members_of(desired: DesiredState) -> dict[str, Any]:
    """Return one state for json.dumps; `saved_state` reads it back."""
    members = {
        "settings": dict(desired.settings),
        "use_default": sorted(desired.use_default),
        "template": desired.template,
        "provenance": {name: _place(place) for name, place in desired.provenance.items()},
        "unmanaged": desired.unmanaged.value,
        "ignore": list(desired.ignore),
        "config_directory": desired.config_directory,
        "place": None if desired.place is None else _place(desired.place),
    }
    # main.cf's has none: the versions before knew no other document, and must be able to read it.
    return (
        members if desired.kind is DocumentKind.MAIN_CF else {**members, "kind": desired.kind.value}
    )


def digests(states: Mapping[str, DesiredState]) -> dict[str, str]:
    """Return a short digest of each desired state, whichever files its parts are in."""
    found = {}
    for name, members in to_json(states).items():
        kept = {key: value for key, value in members.items() if key not in _PLACES}
        text = json.dumps(kept, sort_keys=True).encode()
        found[name] = hashlib.sha256(text).hexdigest()[:16]
    return found


def from_json(document: object) -> dict[str, DesiredState]:
    """Return the states that `to_json` wrote. Raises ValueError if it could not have."""
    return table_of(document, _instance)


def saved_state(document: object) -> DesiredState:
    """Return the state that `members_of` wrote. Raises ValueError if it could not have."""
    saved = Members(document, _MEMBERS, ("kind",))
    kind = saved.get("kind", DocumentKind, DocumentKind.MAIN_CF)
    desired = DesiredState(
        settings=saved.get("settings", lambda found: table_of(found, partial(_setting, kind))),
        use_default=frozenset(saved.get("use_default", partial(_names, kind))),
        template=saved.get("template", or_none(_path)),
        provenance=saved.get("provenance", lambda found: table_of(found, _place_of)),
        unmanaged=saved.get("unmanaged", Unmanaged),
        ignore=saved.get("ignore", texts_of),
        config_directory=saved.get("config_directory", or_none(_path)),
        place=saved.get("place", or_none(lambda found: _place_of("place", found))),
        kind=kind,
    )
    if not desired.use_default.isdisjoint(desired.settings):
        raise ValueError("a parameter is both set and at its default")
    if not desired.parameters() >= desired.provenance.keys():
        raise ValueError("provenance names an unknown parameter")
    return desired


def _instance(name: str, value: object) -> DesiredState:
    is_default = name == names.DEFAULT_INSTANCE
    if not is_default and instance_fault(name) is not None:
        raise ValueError("it is not an instance")
    state = saved_state(value)
    if (state.config_directory is None) is not is_default:
        raise ValueError("it has a wrong config_directory")
    return state


def _setting(kind: DocumentKind, name: str, value: object) -> str:
    text = text_of(value)
    if not _is_name(kind, name):
        raise ValueError("it is not a parameter's name")
    fault = entry_fault(kind, name, text) if kind in _OF_ENTRIES else value_fault(text)
    if text != text.strip(BLANKS) or fault:
        raise ValueError("it has no usable value")
    return text


def _names(kind: DocumentKind, value: object) -> tuple[str, ...]:
    found = texts_of(value)
    if not all(_is_name(kind, name) for name in found):
        raise ValueError("it contains something that is not a parameter's name")
    return found


def _is_name(kind: DocumentKind, name: str) -> bool:
    if kind in _OF_ENTRIES:
        return key_fault(kind, name) is None and folded(name) == name
    return name_fault(name) is None


def _path(value: object) -> str:
    path = text_of(value)
    if path_fault(path) is not None:
        raise ValueError("it is not an absolute path")
    return path


def _place(place: Place) -> dict[str, Any]:
    return {"file": place.file, "line": place.line}


def _place_of(_name: str, value: object) -> Place:
    place = Members(value, ("file", "line"))
    return Place(place.get("file", text_of), place.get("line", or_none(_line)))


def _line(value: object) -> int:
    line = count_of(value)
    if line == 0:
        raise ValueError("it counts from 1")
    return line
