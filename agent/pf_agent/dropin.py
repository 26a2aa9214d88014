"""A drop-in's text with other wishes in it: comments, order and all other keys stay as they are.

tomlkit does it, imported where it is used: no other verb pays for it, or needs it installed. What
comes out is to be read by `desired.load` before anybody relies on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, cast

from pf_agent import desired, names, toml_table
from pf_agent.errors import ConfigError, HostError
from pf_agent.model import DesiredState
from pf_agent.toml_table import Source, shown_key

if TYPE_CHECKING:
    from tomlkit import TOMLDocument
    from tomlkit.items import Array, Item

# An integer that comes back as the same text.
_INTEGER = re.compile(r"0|[1-9][0-9]{0,17}")
_HEADER = re.compile(r"[ \t]*\[")
_LINE_WIDTH = 100


def edited(source: Source, wishes: Mapping[str, str | None], instance: str) -> str:
    """Return the text of `source` with each of `wishes` in it: a value, or None for the default.

    What says the same already stays as it is written. Raises ConfigError where `source` is faulty
    and HostError where tomlkit is not installed.
    """
    tomlkit = _tomlkit()
    before = desired.by_instance(desired.load([source])).get(instance, DesiredState({}, frozenset()))
    text = source.text.decode("utf-8-sig")
    document: TOMLDocument = tomlkit.parse(text)
    defaults = []
    for name, value in wishes.items():
        if value is None and name not in before.use_default:
            defaults.append(name)
            _drop_setting(document, instance, name)
        elif value is not None and before.settings.get(name) != value:
            _drop_default(document, instance, name)
            _settings(document, instance)[name] = tomlkit.value(written(value))
    if defaults:
        return _with_defaults(document, instance, defaults)
    return document.as_string()


def written(value: str) -> str:
    """Return a value as TOML has it: an integer, else a string, with as few escapes as can be."""
    if _INTEGER.fullmatch(value):
        return value
    if re.search(r'["\\]', value) and "'" not in value and value.isprintable():
        return f"'{value}'"
    return toml_table.string(value)


def _tomlkit() -> Any:
    try:
        import tomlkit
    except ImportError as error:
        raise HostError("tomlkit is missing, which keeps comments; install python3-tomlkit") from error
    return tomlkit
