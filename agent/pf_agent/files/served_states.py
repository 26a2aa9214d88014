"""The states that Postfix was last seen to serve with, for every instance that has one."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace

from pf_agent import names
from pf_agent.config.desired import instance_fault
from pf_agent.config.entries import is_table
from pf_agent.errors import HostError
from pf_agent.files.cycles import INSTANCES
from pf_agent.files.store import FileStore
from pf_agent.model import DesiredState, DocumentKind

_MASTER_CF = DocumentKind.MASTER_CF.value


def served_of_all(directory: str, run_directory: str) -> dict[str, DesiredState]:
    """Return the state that Postfix was last seen to serve with, for each instance that has one."""
    found = [names.DEFAULT_INSTANCE]
    with suppress(OSError):
        found += sorted(os.listdir(os.path.join(directory, INSTANCES)))
    stores = {name: FileStore.of_instance(name, directory, run_directory) for name in found}
    served = {name: _whole(store) for name, store in stores.items()}
    return {
        name: desired
        for name, desired in served.items()
        if desired is not None and _is_of(name, desired)
    }


def _whole(store: FileStore) -> DesiredState | None:
    """Return the state of main.cf, with those of the other documents."""
    found = _served(store)
    if found is None:
        return None
    documents: dict[str, DesiredState] = {}
    with suppress(HostError):
        for name in store.documents():
            inner = _served(store.of_document(name, _unread))
            if inner is not None and (is_table(name) or name == _MASTER_CF):
                documents[name] = inner
    return replace(found, documents=documents)


def _unread(_lines: bytes | None) -> None:
    """What is secret in a document depends on main.cf, and is learned when both are read."""


def _served(store: FileStore) -> DesiredState | None:
    with suppress(HostError):  # the first look reports it
        return store.wishes().served
    return None


def _is_of(name: str, desired: DesiredState) -> bool:
    """Whether a kept state can be this instance's: no two may have the same main.cf."""
    is_default = name == names.DEFAULT_INSTANCE
    is_name = is_default or instance_fault(name) is None
    return is_name and (desired.config_directory is None) is is_default
