"""desired.toml and its drop-ins -> the DesiredState.

The later file wins, parameter by parameter: a name in its `use_default` overrides a setting of an
earlier file, and the other way round. The same holds within each instance. Nothing here knows
Postfix's parameters: which exist depends on the installed Postfix.
"""

from __future__ import annotations

import functools
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pf_agent import names
from pf_agent.config.entries import read_tables
from pf_agent.config.layer import Layer
from pf_agent.config.table import INT64, Source, Table, parse, quoting, shown, shown_key
from pf_agent.errors import ConfigError
from pf_agent.model import BLANKS, DesiredState, Unmanaged

_TOP_LEVEL = ("ignore", "instances", "settings", "tables", "template", "unmanaged", "use_default")
# It becomes the name of a directory of ours and, after the "@", of a unit (systemd.unit(5)).
_INSTANCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,60}")


def load(sources: Sequence[Source]) -> DesiredState:
    """Return the desired state that `sources` result in, in this order.

    Without sources, or if none says anything, the state is empty. Raises ConfigError with all
    problems of all sources.
    """
    layers: list[Layer] = []
    problems: list[str] = []
    for source in sources:
        try:
            layers.append(_read(parse(source)))
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(*problems)
    desired = _state(functools.reduce(Layer.under, layers, Layer()))
    problems = [*_shared_folders(desired), *_shared_files(desired)]
    if problems:
        raise ConfigError(*problems)
    return desired


def by_instance(desired: DesiredState) -> dict[str, DesiredState]:
    """Return the states of all instances by name, the default one first."""
    return {names.DEFAULT_INSTANCE: replace(desired, instances={}), **desired.instances}


def main_cf_of(instance: str, desired: DesiredState) -> str:
    """Return the path of the instance's main.cf."""
    if instance == names.DEFAULT_INSTANCE or desired.config_directory is None:
        return names.MAIN_CF
    return posixpath.join(desired.config_directory, posixpath.basename(names.MAIN_CF))


def name_fault(name: str) -> str | None:
    """Return why Postfix could not read this name in main.cf (postconf(5), "File format")."""
    if not name:
        return "a parameter's name may not be empty; write one or remove it"
    if name.startswith("#"):
        return 'a parameter\'s name may not begin with "#", which starts a comment; remove it'
    if any(blank in name for blank in BLANKS):
        return "a parameter's name may not contain whitespace; remove it"
    if "=" in name:
        return 'a parameter\'s name may not contain "="; remove it'
    return _unwritable("a parameter's name", name)


def value_fault(value: str) -> str | None:
    """Return why this value could not be in main.cf on its parameter's line."""
    if "\n" in value:
        return "a value may not contain a line break; put it on one line"
    return _unwritable("a value", value)


def _unwritable(what: str, text: str) -> str | None:
    if "\0" in text:
        return f"{what} may not contain a NUL; remove it"
    if re.search("[\ud800-\udfff]", text):
        return f"{what} must be valid UTF-8; remove the lone surrogate"
    return None


def path_fault(path: str) -> str | None:
    """Return why the agent could not open this path."""
    if not path.startswith("/"):
        return f"expected an absolute path, got {shown(path)}; start it with /"
    if "\n" in path:
        return "a path may not contain a line break; put it on one line"
    return _unwritable("a path", path)


def instance_fault(name: str) -> str | None:
    """Return why an instance cannot have this name."""
    if _INSTANCE_NAME.fullmatch(name):
        return None
    return "an instance's name is letters, digits, and . _ - after the first; write another one"


def _read(table: Table) -> Layer:
    """Return what one file says. Raises ConfigError with all problems of the file."""
    layer = _read_instance(table)
    section = table.table("instances")
    instances = {}
    for name in section:
        if fault := instance_fault(name):
            section.note(name, fault)
        inner = section.table(name)
        folder = _path(inner, "config_directory")
        found = replace(_read_instance(inner), config_directory=folder, place=section.place(name))
        inner.refuse_unknown(f"a Postfix parameter belongs under [instances.{name}.settings]")
        instances[name] = found
    table.refuse_unknown("a Postfix parameter belongs under [settings]")
    if table.problems:
        raise ConfigError(*table.problems)
    return replace(layer, instances=instances)


def _read_instance(table: Table) -> Layer:
    """Return what the table says about one instance; problems are noted in the table."""
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
            section.note(name, f"it is also in {also}; keep one of the two")
        if value is not None:
            settings[name] = value
    places = {name: table.place("use_default") for name in use_default}
    places |= {name: section.place(name) for name in settings}
    return Layer(
        settings,
        frozenset(use_default),
        _path(table, "template"),
        places,
        _unmanaged(table),
        table.strings("ignore"),
        documents=read_tables(table),
    )


def _path(table: Table, key: str) -> str | None:
    path = table.string(key)
    if path is not None and (fault := path_fault(path)):
        table.note(key, fault)
    return path


def _unmanaged(table: Table) -> Unmanaged | None:
    if table.value("unmanaged") is None:
        return None
    choices = [choice.value for choice in Unmanaged]
    return Unmanaged(table.choice("unmanaged", choices, Unmanaged.KEEP.value))


def _value(section: Table, name: str) -> str | None:
    """Return a setting's value as in main.cf; None, with a problem noted, if it has none."""
    value = section.value(name)
    fault = name_fault(name)
    if name in _TOP_LEVEL:
        # Below [settings] it would be written as a parameter, and nobody would notice.
        fault = f"{name} is not a parameter; move it to the top of the file, above [settings]"
    if isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, str):
        text = value.strip(BLANKS)
    elif isinstance(value, int) and value in INT64:
        text = str(value)
    elif isinstance(value, list) and all(isinstance(item, str) for item in value):
        text = " ".join(value).strip(BLANKS)
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
        return f"{fact}; write one string, or quote a name that contains a dot: {shown(name)} = ..."
    return f"{fact}; {quoting(value)}"


def _state(layer: Layer) -> DesiredState:
    instances = {
        name: inner.state(inner.config_directory or _folder_of(name))
        for name, inner in layer.instances.items()
    }
    return replace(layer.state(), instances=instances)


def _folder_of(name: str) -> str:
    """Return Debian's directory of the instance: /etc/postfix-NAME, like postmulti(1)'s names."""
    return f"/etc/{name}" if name.startswith("postfix-") else f"/etc/postfix-{name}"


def _shared_folders(desired: DesiredState) -> Sequence[str]:
    """Return the problems of instances that would share one main.cf."""
    owners = {posixpath.dirname(names.MAIN_CF): "the default instance"}
    problems = []
    for name, state in desired.instances.items():
        folder = posixpath.normpath(state.config_directory or "")
        if folder in owners:
            fact = f"{folder} is already the config_directory of {owners[folder]}"
            where = "" if state.place is None else f"{state.place}: "
            key = f"[instances] {shown_key(name)}"
            problems.append(f"{where}{key}: {fact}; give each instance its own")
        owners.setdefault(folder, f"instance {name}")
    return problems


def _shared_files(desired: DesiredState) -> Iterator[str]:
    """Yield a problem for each table whose file another one, or main.cf, is: they would contend."""
    states = by_instance(desired)
    known = {posixpath.normpath(main_cf_of(name, state)): "" for name, state in states.items()}
    for state in states.values():
        for name, document in state.documents.items():
            path = posixpath.normpath(name.partition(":")[2])
            if path in known:
                other = known[path]
                fact = f"{other} is the same file; keep one of the two"
                fact = fact if other else "it is main.cf; its parameters belong in [settings]"
                yield f"{document.place}: [tables] {shown(name)}: {fact}"
            known.setdefault(path, f"{shown(name)} ({document.place})")
