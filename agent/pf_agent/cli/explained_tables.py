"""What `explain` says of the indexed tables that a parameter names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

from pf_agent import names
from pf_agent.errors import HostError
from pf_agent.files.linux import stamp
from pf_agent.files.status_file import read_status
from pf_agent.maincf.indexed import Table, of_parameter
from pf_agent.words.status import status_from_dict


def table_states(name: str, main_cf: str, text: bytes, instance: str) -> list[str]:
    """Return a sentence for each: whether its index is up to date, or why it is not."""
    tables = of_parameter(name, text, os.path.dirname(main_cf))
    stale = _stale(instance) if tables else {}
    return [_state(table, stale) for table in tables]


def _state(table: Table, stale: Mapping[str, str]) -> str:
    """What the agent says about it, otherwise what the dates of the two files say."""
    source, index = stamp(table.path), stamp(table.source.database)
    if index is None:
        found = "there is no index" if source else "there is neither source nor index"
    elif source is None or source.modified <= index.modified:
        found = "up to date"
    else:
        found = "the index is older than its source"
    return stale.get(table.path, f"{table.path}: {found}")


def _stale(instance: str) -> Mapping[str, str]:
    with suppress(HostError, ValueError):
        found = read_status(names.RUN_DIRECTORY)
        if found is not None:
            status = status_from_dict(found)
            inner = status if instance == names.DEFAULT_INSTANCE else status.instances.get(instance)
            return {} if inner is None else inner.stale
    return {}
