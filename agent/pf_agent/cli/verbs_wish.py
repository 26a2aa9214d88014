"""The verbs that change the desired state as their arguments say: set, unset, init."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Final

from pf_agent import names
from pf_agent.cli import documents
from pf_agent.cli.on_record import put_on_record
from pf_agent.cli.unwish import unwish
from pf_agent.cli.verbs_look import print_json
from pf_agent.cli.who import who_asks
from pf_agent.cli.wish import (
    LOCAL,
    Wished,
    read_configuration,
    require_root,
    wish,
    write_configuration,
)
from pf_agent.cli.wish_entries import unwish_entries, wish_entries
from pf_agent.config.dropin import Wishes
from pf_agent.config.dropin_services import part_value
from pf_agent.config.entries import is_table
from pf_agent.config.table import shown_key
from pf_agent.config.values import name_fault, value_fault
from pf_agent.errors import ConfigError, ExitCode, HostError, PfAgentError
from pf_agent.files.status_file import read_status
from pf_agent.maincf.secrets import masked
from pf_agent.model import BLANKS, Event
from pf_agent.words import orders
from pf_agent.words.outgoing import PROCESS
from pf_agent.words.sentences import printable

READY_MADE: Final = "/usr/share/pf-agent/desired"


def cmd_set(arguments: argparse.Namespace) -> ExitCode:
    """Make each NAME=VALUE part of the desired state."""
    document, settings = documents.taken_apart("set", arguments.settings)
    if document:
        return _set_entries(arguments, document, settings)
    wishes = _given(settings)
    require_root("set")
    wished = wish(arguments.instance, wishes, wishes if arguments.unknown else ())
    record_order(Event.SET, arguments.instance, wished)
    tell(arguments, wishes, wished, wished.warnings)
    tell_of_apply(arguments)
    return ExitCode.OK


def _set_entries(arguments: argparse.Namespace, document: str, settings: Sequence[str]) -> ExitCode:
    wishes: Wishes = _given(settings, document)
    if document == documents.MASTER_CF:
        wishes = {name: part_value(name, value or "") for name, value in wishes.items()}
    require_root("set")
    wished = wish_entries(arguments.instance, document, wishes)
    record_order(Event.SET, arguments.instance, wished, document=document)
    tell(arguments, wishes, wished, wished.warnings, document)
    tell_of_apply(arguments)
    return ExitCode.OK


def _unset_entries(arguments: argparse.Namespace, document: str, keys: Sequence[str]) -> ExitCode:
    if not keys:
        raise ConfigError(f"unset {document}: no key given; name the entries")
    require_root("unset")
    if arguments.default:
        none: Wishes = dict.fromkeys(keys)
        wished = wish_entries(arguments.instance, document, none)
        tell(arguments, none, wished, wished.warnings, document)
        tell_of_apply(arguments)
    else:
        wished = unwish_entries(arguments.instance, document, keys)
        _tell_removed(arguments, keys, wished)
    record_order(Event.UNSET, arguments.instance, wished, document=document)
    return ExitCode.OK


def cmd_unset(arguments: argparse.Namespace) -> ExitCode:
    """Remove each parameter from the desired state, or ask for Postfix's own default."""
    document, keys = documents.taken_apart("unset", arguments.parameters)
    if document:
        stored = (documents.stored_key(document, key) for key in keys)
        return _unset_entries(arguments, document, tuple(dict.fromkeys(stored)))
    parameters = tuple(dict.fromkeys(arguments.parameters))
    require_names("unset", parameters)
    require_root("unset")
    if arguments.default:
        defaults: Wishes = dict.fromkeys(parameters)
        wished = wish(arguments.instance, defaults)
        record_order(Event.UNSET, arguments.instance, wished)
        tell(arguments, defaults, wished, wished.warnings)
        tell_of_apply(arguments)
        return ExitCode.OK
    wished = unwish(arguments.instance, parameters)
    record_order(Event.UNSET, arguments.instance, wished)
    _tell_removed(arguments, parameters, wished)
    return ExitCode.OK


def _tell_removed(arguments: argparse.Namespace, parameters: Sequence[str], wished: Wished) -> None:
    if arguments.json:
        found = {"files": wished.written, "instance": arguments.instance}
        print_json(found | {"parameters": parameters, "warnings": wished.warnings})
        return
    for file, gone in wished.written.items():
        print(f"{file}: removed {', '.join(map(printable, gone))}")
    _warn(wished.warnings)


def tell_of_apply(arguments: argparse.Namespace) -> None:
    """Say how to change the files if no daemon is running."""
    if not arguments.json and read_status(names.RUN_DIRECTORY) is None:
        print("the daemon is not running; `pf-agent apply` changes main.cf")


def cmd_init(arguments: argparse.Namespace) -> ExitCode:
    """Make a ready-made desired state this host's own, or list them."""
    offered = _ready_made()
    if arguments.list:
        _list(offered, arguments.json)
        return ExitCode.OK
    name = arguments.ready_made
    if name not in offered:
        known = ", ".join(offered)
        raise ConfigError(f"init --from {shown_key(name)}: no such desired state; choose {known}")
    require_root("init")
    path = os.path.join(names.CONFIG_DIRECTORY, names.DESIRED_TOML)
    if os.path.islink(path):
        raise PfAgentError(f"{path}: it is a symbolic link; remove it first")
    before = read_configuration(path)
    if before is not None and before not in offered.values():
        raise PfAgentError(
            f"{path}: it was edited, and this would be lost; move it away first, and your"
            f" own settings to {os.path.dirname(LOCAL)}"
        )
    changed = before != offered[name]
    if changed:
        write_configuration(path, offered[name])
        put_on_record(names.DEFAULT_INSTANCE, orders.initialized(who_asks(), path, name))
    if arguments.json:
        print_json({"file": path, "from": name, "changed": changed})
    else:
        print(f"{path}: {'now' if changed else 'already'} the same as {READY_MADE}/{name}.toml")
    return ExitCode.OK


def _given(settings: Sequence[str], document: str = "") -> dict[str, str]:
    """Split each NAME=VALUE, or KEY=VALUE of a document. Raises ConfigError with all problems."""
    found: dict[str, str] = {}
    problems = []
    if not settings:
        raise ConfigError("set: no entry given; write KEY=VALUE")
    _note_typed(settings)
    for setting in settings:
        name, equals, value = (part.strip(BLANKS) for part in setting.partition("="))
        name = documents.stored_key(document, name) if document else name
        fault = value_fault(value) if document else name_fault(name) or value_fault(value)
        if not equals:
            fault = f"no value given; write {'KEY' if is_table(document) else 'NAME'}=VALUE"
        elif name in found:
            fault = "given twice; keep one of the two"
        if fault:
            problems.append(f"set {shown_key(name)}: {fault}")
        found[name] = value
    if problems:
        raise ConfigError(*problems)
    return found


def _note_typed(settings: Sequence[str]) -> None:
    for setting, following in zip(settings, (*settings[1:], ""), strict=True):
        name, equals, value = setting.partition("=")
        # If the `=` is missing, the secret was typed all the same.
        PROCESS.read_settings({name: value if equals else following})


def require_names(verb: str, parameters: Iterable[str]) -> None:
    """Raise ConfigError with all that cannot be parameter names."""
    faults = {name: name_fault(name) for name in parameters}
    problems = [f"{verb} {shown_key(name)}: {fault}" for name, fault in faults.items() if fault]
    if problems:
        raise ConfigError(*problems)


def record_order(
    event: Event, instance: str, wished: Wished, cycle: int | None = None, document: str = ""
) -> None:
    """Record who changed which parameters; nothing if nothing changed."""
    changed = [name for written in wished.written.values() for name in written]
    if changed:
        put_on_record(instance, orders.order(event, who_asks(), changed, cycle, document))


def tell(
    arguments: argparse.Namespace,
    wishes: Wishes,
    wished: Wished,
    warnings: Sequence[str],
    document: str = "",
) -> None:
    """Print the parameters, and the files that they were written to."""
    if arguments.json:
        settings = {n: masked(n, value) for n, value in wishes.items() if value is not None}
        defaults = [name for name, value in wishes.items() if value is None]
        print_json(
            {"files": wished.written, "instance": arguments.instance}
            | {"document": document or "main.cf"}
            | {"settings": settings, "use_default": defaults, "warnings": list(warnings)}
        )
        return
    changed = [name for written in wished.written.values() for name in written]
    already = [name for name in wishes if name not in changed]
    for file, written in wished.written.items():
        print(f"{file}: {', '.join(map(printable, written))}")
    if already:
        print(f"already desired: {', '.join(map(printable, already))}")
    if not wishes:
        print("nothing was adopted")
    _warn(warnings)


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        print(f"{names.PROGRAM}: warning: {warning}", file=sys.stderr)


def _list(offered: Mapping[str, bytes], as_json: bool) -> None:
    told = {name: _first_sentence(text) for name, text in offered.items()}
    if as_json:
        print_json(told)
        return
    width = max(map(len, told), default=0)
    for name, sentence in told.items():
        print(printable(f"{name:<{width}}  {sentence}"))


def _first_sentence(text: bytes) -> str:
    """Return a file's description from its first lines, without references to further reading."""
    lines = (line.removeprefix("#").strip() for line in text.decode("utf-8", "replace").split("\n"))
    head = " ".join(takewhile(bool, lines))
    return head.partition(" See ")[0]


def _ready_made() -> Mapping[str, bytes]:
    """Return the ready-made desired states by name. Raises HostError."""
    try:
        files = sorted(name for name in os.listdir(READY_MADE) if name.endswith(".toml"))
    except OSError as error:
        raise HostError(f"{READY_MADE}: {error.strerror}; reinstall pf-agent") from error
    texts = {name: read_configuration(os.path.join(READY_MADE, name)) for name in files}
    return {name.removesuffix(".toml"): text for name, text in texts.items() if text is not None}
