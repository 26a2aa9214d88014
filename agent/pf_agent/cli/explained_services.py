"""What `explain` says of a service of master.cf, or of one of its options."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pf_agent.cli.tables import print_fields
from pf_agent.cli.verbs_look import print_json
from pf_agent.errors import HostError
from pf_agent.files.whole import read_whole
from pf_agent.maincf.document import MainCf
from pf_agent.maincf.master_cf import MasterCf
from pf_agent.maincf.slips import nearest
from pf_agent.maincf.values import description
from pf_agent.words.outgoing import PROCESS
from pf_agent.words.sentences import printable
from pf_agent.words.services import (
    Beside,
    entry_dict,
    entry_of,
    option_rows,
    place,
    service_dict,
    service_rows,
)


def explain_service(
    name: str, main_cf: str, text: bytes, defaults: Mapping[str, str], is_json: bool
) -> None:
    """Print all that is known about `submission/inet`, or `submission/inet/PARAMETER`.

    `text` is that of `main_cf`, which master.cf stands beside. Raises HostError.
    """
    path = os.path.join(os.path.dirname(main_cf), "master.cf")
    master_cf, beside = _read(path), Beside(MainCf.parse(text), defaults)
    full_name, parameter = _taken_apart(name, master_cf)
    entry, is_commented = entry_of(master_cf, full_name)
    found: dict[str, Any] = {"service": printable(full_name), "file": path, "did_you_mean": None}
    found |= entry_dict(master_cf, entry, is_commented, beside)
    service = None if entry is None else entry.found.service
    rows: list[tuple[str, str]] = []
    if service is None:
        found["did_you_mean"] = nearest(full_name, _known(master_cf)) or None
    elif parameter:
        option = beside.option(parameter, service.options().get(parameter))
        found |= {**option, "type": description(parameter)}
        if all(option[key] is None for key in ("value", "main_cf", "default")):
            found["did_you_mean"] = nearest(parameter, [*service.options(), *defaults]) or None
        rows += option_rows(found)
    else:
        found |= service_dict(service, beside)
        rows += service_rows(service, found)
    if is_json:
        print_json(found)
        return
    print(printable(name))
    meant = [("meant", f"did you mean {found['did_you_mean']}?")] if found["did_you_mean"] else []
    wrong = [("problem", problem) for problem in found["problems"]]
    print_fields([("master.cf", place(found)), *rows, *meant, *wrong])


def _read(path: str) -> MasterCf:
    try:
        data = read_whole(path, is_followed=True)
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}; Postfix cannot start without it") from error
    PROCESS.read_master_cf(data)
    return MasterCf.parse(data)


def _taken_apart(name: str, master_cf: MasterCf) -> tuple[str, str]:
    """Return the name of a service, and that of a parameter, if there is one behind it."""
    whose = [known for known in _known(master_cf) if f"{name}/".startswith(f"{known}/")]
    if whose:
        longest = max(whose, key=len)
        return longest, name[len(longest) + 1 :]
    service, _, parameter = name.rpartition("/")
    return (service, parameter) if "/" in service else (name, "")


def _known(master_cf: MasterCf) -> list[str]:
    entries = (*master_cf.entries, *master_cf.commented)
    found = (entry.found.service for entry in entries)
    return list(dict.fromkeys(service.full_name for service in found if service is not None))
