"""The desired state to JSON and back: it outlives a desired.toml that somebody has broken."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pf_agent import names
from pf_agent.config.desired import BLANKS, instance_fault, name_fault, path_fault, value_fault
from pf_agent.config.table import shown_key
from pf_agent.errors import ConfigError
from pf_agent.model import DesiredState, Place, Unmanaged

# Not what is desired, but where it is written.
_PLACES = ("provenance", "place")
_MEMBERS = (
    *("settings", "use_default", "template", "provenance", "unmanaged", "ignore"),
    *("config_directory", "place"),
)


def to_json(states: Mapping[str, DesiredState]) -> dict[str, Any]:
    """Return the states of all instances as json.dumps takes them; `from_json` reads them back."""
    return {name: members_of(state) for name, state in states.items()}


def members_of(desired: DesiredState) -> dict[str, Any]:
    """Return one state as json.dumps takes it; `saved_state` reads it back."""
    return {
        "settings": dict(desired.settings),
        "use_default": sorted(desired.use_default),
        "template": desired.template,
        "provenance": {name: _place(place) for name, place in desired.provenance.items()},
        "unmanaged": desired.unmanaged.value,
        "ignore": list(desired.ignore),
        "config_directory": desired.config_directory,
        "place": None if desired.place is None else _place(desired.place),
    }


def digests(states: Mapping[str, DesiredState]) -> dict[str, str]:
    """Return a short digest of each desired state, whatever file its parts stand in."""
    found = {}
    for name, members in to_json(states).items():
        kept = {key: value for key, value in members.items() if key not in _PLACES}
        text = json.dumps(kept, sort_keys=True).encode()
        found[name] = hashlib.sha256(text).hexdigest()[:16]
    return found


def from_json(document: object) -> dict[str, DesiredState]:
    """Return the states that `to_json` wrote. Raises ConfigError where it could not have."""
    states = {}
    for name, saved in _members(document, "the whole").items():
        is_default = name == names.DEFAULT_INSTANCE
        _require(is_default or instance_fault(name) is None, f"{shown_key(name)} is no instance")
        states[name] = state = saved_state(saved, f"instance {shown_key(name)}")
        has_folder = state.config_directory is not None
        _require(has_folder is not is_default, f"{shown_key(name)} has a wrong config_directory")
    return states


def saved_state(document: object, name: str) -> DesiredState:
    """Return the state that `members_of` wrote. Raises ConfigError, which speaks of `name`."""
    saved = _members(document, name, _MEMBERS)
    places = _members(saved["provenance"], "provenance")
    unmanaged = saved["unmanaged"]
    _require(unmanaged in [choice.value for choice in Unmanaged], "unmanaged has an unknown value")
    desired = DesiredState(
        settings=_saved_settings(saved["settings"]),
        use_default=frozenset(_saved_names(saved["use_default"])),
        template=_saved_path(saved, "template"),
        provenance={name: _saved_place(name, place) for name, place in places.items()},
        unmanaged=Unmanaged(unmanaged),
        ignore=tuple(_saved_strings(saved["ignore"], "ignore")),
        config_directory=_saved_path(saved, "config_directory"),
        place=None if saved["place"] is None else _saved_place("place", saved["place"]),
    )
    apart = desired.use_default.isdisjoint(desired.settings)
    _require(apart, "a parameter is both set and at its default")
    _require(desired.parameters() >= places.keys(), "provenance names a parameter not spoken of")
    return desired


def _saved_settings(value: object) -> dict[str, str]:
    settings = _members(value, "settings")
    for name, text in settings.items():
        _require(name_fault(name) is None, f"settings {shown_key(name)} is no parameter's name")
        fault = not isinstance(text, str) or text != text.strip(BLANKS) or value_fault(text)
        _require(not fault, f"settings {shown_key(name)} has no usable value")
    return settings


def _saved_names(value: object) -> list[str]:
    found = _saved_strings(value, "use_default")
    good = all(name_fault(name) is None for name in found)
    _require(good, "use_default holds what is no parameter's name")
    return found


def _saved_strings(value: object, name: str) -> list[str]:
    _require(isinstance(value, list), f"{name} is not an array")
    found: list[str] = value if isinstance(value, list) else []
    _require(all(isinstance(item, str) for item in found), f"{name} holds what is no string")
    return found


def _saved_path(saved: Mapping[str, Any], key: str) -> str | None:
    path = saved[key]
    good = path is None or (isinstance(path, str) and path_fault(path) is None)
    _require(good, f"{key} is not an absolute path")
    return None if path is None else str(path)


def _place(place: Place) -> dict[str, Any]:
    return {"file": place.file, "line": place.line}


def _require(fact: bool, otherwise: str) -> None:
    if not fact:
        problem = f"the saved desired state cannot be used: {otherwise}"
        raise ConfigError(f"{problem}; the next good desired.toml replaces it")


def _members(value: object, name: str, keys: Sequence[str] | None = None) -> dict[str, Any]:
    good = isinstance(value, dict) and all(isinstance(key, str) for key in value)
    _require(good, f"{name} is not an object")
    members: dict[str, Any] = dict(value) if isinstance(value, dict) else {}
    _require(keys is None or set(members) == set(keys), f"{name} has other members than it should")
    return members


def _saved_place(name: str, value: object) -> Place:
    place = _members(value, f"provenance {shown_key(name)}", ("file", "line"))
    file, line = place["file"], place["line"]
    _require(isinstance(file, str), f"provenance {shown_key(name)} names no file")
    countable = line is None or (isinstance(line, int) and not isinstance(line, bool) and line > 0)
    _require(countable, f"provenance {shown_key(name)} has no usable line")
    return Place(file, line)
