"""What builds a table that is not only root's: run as the owner of its source (postmap.py).

It installs the index, too, if others than root may change the names in its directory. Whatever they
put in the way, this process has no more rights than they have; and it follows no link of theirs,
since a directory may be shared by several users.

The table comes as JSON in the first argument; the answer is a draft as JSON. An index that is
not installed here is written to the standard input, a file of the caller's.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, BinaryIO

from pf_agent.errors import HostError
from pf_agent.files.indexes import put_index
from pf_agent.files.linux import fill
from pf_agent.maincf.aliases import Source
from pf_agent.maincf.indexed import Draft, Table, not_built
from pf_agent.model import OnWarning
from pf_agent.postfix.postmap import PROGRAMS, Job, built
from pf_agent.postfix.ways import opened_folder

_PIECE = 1 << 20


def main(said: str, programs: str = PROGRAMS) -> str:
    """Build the table with the Postfix whose programs are there, and return the draft."""
    return json.dumps(_built(_job(json.loads(said)), programs))


def _job(said: Any) -> Job:
    directory, table, source, folder, rule, is_to_put = said
    return Job(directory, Table(*table), source, folder, OnWarning(rule), is_to_put)


def _built(job: Job, programs: str) -> Draft:
    try:
        draft, index = built(job, programs)
        if index is None:
            return draft
        with index:
            if not job.is_to_put:
                _hand_over(index)
            elif not not_built(draft, job.rule):
                return draft._replace(is_put=_put(job, draft, index))
            return draft
    except OSError as error:
        return Draft(f"{job.table.path}: {error.strerror}; fix the file or its directory")
    except HostError as error:
        return Draft(str(error))


def _hand_over(index: BinaryIO) -> None:
    while piece := index.read(_PIECE):
        fill(0, piece)


def _put(job: Job, draft: Draft, index: BinaryIO) -> bool:
    """Install the index in the directory as it was opened, wherever its name leads by now."""
    handle = opened_folder(job.folder)
    try:
        os.fchdir(handle)
    finally:
        os.close(handle)
    here = Source(*(os.path.join(".", os.path.basename(path)) for path in job.table.source))
    try:
        return put_index(here, draft.seen, index.fileno(), (os.geteuid(), os.getegid()))
    except HostError as error:
        real = os.path.dirname(job.table.path)
        raise HostError(str(error).replace("./", f"{real}/", 1)) from error


if __name__ == "__main__":
    fill(1, main(sys.argv[1]).encode())
