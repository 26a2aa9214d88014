"""desired.toml and its drop-ins -> the DesiredState; and that state to JSON and back.

The later file wins, parameter by parameter: a name that it puts into `use_default` takes away
what an earlier file set, and the other way round. Nothing here knows Postfix's parameters: which
there are is a matter of the Postfix installed.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

from pf_agent.errors import ConfigError
from pf_agent.model import DesiredState, Place
from pf_agent.toml_table import INT64, Source, Table, parse, quoting, shown, shown_key

# The six bytes that Postfix takes for white space (isspace(3) in the C locale).
_BLANKS = " \t\n\v\f\r"
_TOP_LEVEL = ("settings", "template", "use_default")
_EMPTY = DesiredState(settings={}, use_default=frozenset())


def load(sources: Sequence[Source]) -> DesiredState:
    """Return the desired state that `sources`, in their order, add up to.

    No sources, or none that says anything, make an empty state. Raises ConfigError with all
    problems of all sources.
    """
    layers: list[DesiredState] = []
    problems: list[str] = []
    for source in sources:
        try:
            layers.append(_read(parse(source)))
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(*problems)
    return functools.reduce(_laid_over, layers, _EMPTY)


def to_json(desired: DesiredState) -> dict[str, Any]:
    """Return the state as values that json.dumps takes; `from_json` reads them back."""
    return {
        "settings": dict(desired.settings),
        "use_default": sorted(desired.use_default),
        "template": desired.template,
        "provenance": {
            name: {"file": place.file, "line": place.line}
            for name, place in desired.provenance.items()
        },
    }


def from_json(document: object) -> DesiredState:
    """Return the state that `to_json` wrote. Raises ConfigError where it could not have."""
    saved = _members(document, "the whole", ("settings", "use_default", "template", "provenance"))
    settings = _members(saved["settings"], "settings")
    for name, value in settings.items():
        _require(name_fault(name) is None, f"settings {shown_key(name)} is no parameter's name")
        fault = not isinstance(value, str) or value != value.strip(_BLANKS) or value_fault(value)
        _require(not fault, f"settings {shown_key(name)} has no usable value")
    use_default = saved["use_default"]
    _require(isinstance(use_default, list), "use_default is not an array")
    for name in use_default:
        good = isinstance(name, str) and name_fault(name) is None
        _require(good, "use_default holds what is no parameter's name")
    template = saved["template"]
    good = template is None or (isinstance(template, str) and _template_fault(template) is None)
    _require(good, "template is not an absolute path")
    places = _members(saved["provenance"], "provenance")
    desired = DesiredState(
        settings=settings,
        use_default=frozenset(use_default),
        template=template,
        provenance={name: _saved_place(name, place) for name, place in places.items()},
    )
    _require(desired.use_default.isdisjoint(settings), "a parameter is both set and at its default")
    _require(desired.parameters() >= places.keys(), "provenance names a parameter not spoken of")
    return desired


def name_fault(name: str) -> str | None:
    """Return why Postfix could not read this name in main.cf (postconf(5), "File format")."""
    if not name:
        return "a parameter's name may not be empty; write one or take it out"
    if name.startswith("#"):
        return 'a parameter\'s name may not begin with "#", which starts a comment; take it out'
    if any(blank in name for blank in _BLANKS):
        return "a parameter's name may not contain a blank; take it out"
    if "=" in name:
        return 'a parameter\'s name may not contain "="; take it out'
    return _unwritable("a parameter's name", name)


def value_fault(value: str) -> str | None:
    """Return why this value could not stand in main.cf on the line of its parameter."""
    if "\n" in value:
        return "a value may not contain a line break; put it on one line"
    return _unwritable("a value", value)


def _unwritable(what: str, text: str) -> str | None:
    if "\0" in text:
        return f"{what} may not contain a NUL; take it out"
    if re.search("[\ud800-\udfff]", text):
        return f"{what} may contain only what UTF-8 can write; take out the lone surrogate"
    return None


def _template_fault(path: str) -> str | None:
    if not path.startswith("/"):
        return f"expected an absolute path, got {shown(path)}; begin it with /"
    if "\n" in path:
        return "a path may not contain a line break; put it on one line"
    return _unwritable("a path", path)


def _read(table: Table) -> DesiredState:
    """Return what one file says. Raises ConfigError with all problems of the file."""
    template = table.string("template")
    if template is not None and (fault := _template_fault(template)):
        table.note("template", fault)
    use_default = table.strings("use_default")
    for name in use_default:
        if fault := name_fault(name):
            table.note("use_default", f"{shown(name)}: {fault}")
    section = table.table("settings")
    settings = {}
    for name in section:
        value = _value(section, name)
        if name in use_default:
            line = table.place("use_default").line
            also = "use_default" if line is None else f"use_default, line {line}"
            section.note(name, f"it stands in {also}, too; keep one of the two")
        if value is not None:
            settings[name] = value
    table.refuse_unknown("a parameter of Postfix belongs under [settings]")
    if table.problems:
        raise ConfigError(*table.problems)
    places = {name: table.place("use_default") for name in use_default}
    places |= {name: section.place(name) for name in settings}
    return DesiredState(settings, frozenset(use_default), template, places)


def _value(section: Table, name: str) -> str | None:
    """Return a setting's value as main.cf has it; None, and a problem noted, if it has none."""
    value = section.value(name)
    fault = name_fault(name)
    if name in _TOP_LEVEL:
        # Whoever writes it below [settings] has written a parameter, and would never know.
        fault = f"{name} is no parameter; move it to the top of the file, above [settings]"
    if isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, str):
        text = value.strip(_BLANKS)
    elif isinstance(value, int) and value in INT64:
        text = str(value)
    elif isinstance(value, list) and all(isinstance(item, str) for item in value):
        text = " ".join(value).strip(_BLANKS)
    else:
        section.note(name, fault or _wrong_type(name, value))
        return None
    if fault := fault or value_fault(text):
        section.note(name, fault)
        return None
    return text


def _wrong_type(name: str, value: object) -> str:
    if isinstance(value, list):
        number, item = next(pair for pair in enumerate(value, 1) if not isinstance(pair[1], str))
        fact = f"expected an array of strings, but item {number} is {shown(item)}"
        return f"{fact}; {quoting(item)}"
    fact = f"expected a string, an integer, true, false or an array of strings, got {shown(value)}"
    if isinstance(value, dict):
        inner: object = value
        while isinstance(inner, dict) and inner:
            key, inner = next(iter(inner.items()))
            name = f"{name}.{key}"
        return f"{fact}; write one string, or a name that has a dot in quotes: {shown(name)} = ..."
    return f"{fact}; {quoting(value)}"


def _laid_over(lower: DesiredState, upper: DesiredState) -> DesiredState:
    """Return both states in one; where they speak of the same parameter, `upper` holds."""
    kept = {name: value for name, value in lower.settings.items() if name not in upper.use_default}
    return DesiredState(
        settings={**kept, **upper.settings},
        use_default=lower.use_default.difference(upper.settings) | upper.use_default,
        template=lower.template if upper.template is None else upper.template,
        provenance={**lower.provenance, **upper.provenance},
    )


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
