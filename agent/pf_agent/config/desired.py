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
from pf_agent.config import services
from pf_agent.config.entries import read_tables
from pf_agent.config.layer import Layer
from pf_agent.config.table import Source, Table, parse, shown, shown_key
from pf_agent.config.values import name_fault, path_fault, value_of
from pf_agent.errors import ConfigError
from pf_agent.model import DesiredState, DocumentKind, Unmanaged

_TOP_LEVEL = (
    *("ignore", "instances", "services", "settings", "tables", "template", "unmanaged"),
    "use_default",
)
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
        # Below [settings] it would be written as a parameter, and nobody would notice.
        way = "move it to the top of the file, above [settings]"
        misplaced = f"{name} is not a parameter; {way}" if name in _TOP_LEVEL else ""
        value = value_of(section, name, misplaced)
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
        services=services.read(table.table("services")),
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
    main_cfs = [posixpath.normpath(main_cf_of(name, state)) for name, state in states.items()]
    master_cf = DocumentKind.MASTER_CF.value
    known = {posixpath.join(posixpath.dirname(path), master_cf): "" for path in main_cfs}
    known |= dict.fromkeys(main_cfs, "")
    for state in states.values():
        for name, document in state.documents.items():
            if document.kind is DocumentKind.MASTER_CF:
                continue
            path = posixpath.normpath(name.partition(":")[2])
            if path in known:
                other = known[path]
                fact = f"{other} is the same file; keep one of the two"
                home = "services" if path.endswith(master_cf) else "settings"
                own = f"it is {posixpath.basename(path)}, which belongs in [{home}]"
                fact = fact if other else own
                yield f"{document.place}: [tables] {shown(name)}: {fact}"
            known.setdefault(path, f"{shown(name)} ({document.place})")
