"""Build an index next to the one that Postfix reads, from a private copy of its source.

postmap(1) truncates the index first, and succeeds without a single valid line. So its result is
checked before the caller installs it. main.cf and master.cf say which tables can be built; the
caller can only choose one of those.

postmap, run by root, drops root's privileges for the owner of the source, but opens the source
before that, and follows links (ways.py). What is not only root's is therefore read, built and, in a
directory that others may write to, also installed by a process that is that owner from the start
(daemon/as_owner.py), in a transient unit (outside.py).
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import struct
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import BinaryIO, Final, NamedTuple

from pf_agent.errors import HostError
from pf_agent.maincf import table_text
from pf_agent.maincf.indexed import Draft, Table, drafted, indexed_in, not_exchanged
from pf_agent.model import OnWarning, Stamp
from pf_agent.postfix import complaints
from pf_agent.postfix.outside import becoming, outside
from pf_agent.postfix.postconf import broken
from pf_agent.postfix.programs import Answer, Program, of_the_host, run
from pf_agent.postfix.ways import Owner, opened_source, way_of
from pf_agent.words.sentences import printable

PROGRAMS: Final = "/usr/sbin"
_SECONDS: Final = 60.0
_AS_OWNER: Final = ("/usr/bin/python3", "-I", "-m", "pf_agent.daemon.as_owner")
_AS_OWNER_SECONDS: Final = 130
# Its owner may write it without end.
_AS_OWNER_LIMITS: Final = ("PrivateTmp=yes", "Nice=10")
_MOST_REMARKS: Final = 10
_LINK: Final = "there is a link where others than root may put one; name the file itself"
_MOST_CONFIGURATION: Final = 16 << 20
# Entries that postalias(1) adds, for sendmail and NIS (postalias/postalias.c).
_ADDED: Final = ("@:", "YP_LAST_MODIFIED:", "YP_MASTER_NAME:")
_UNSUPPORTED: Final = "unsupported "
# Types that Debian has a package for.
_PACKAGED: Final = ("cdb", "lmdb")


class Job(NamedTuple):
    """One table to build. `source` and `folder` are its and its index's, as `Way.straight`.

    `is_to_put`: also to install the index, if `rule` allows it.
    """

    directory: str
    table: Table
    source: str
    folder: str
    rule: OnWarning
    is_to_put: bool = False


def draft(
    directory: str,
    database: str,
    rule: OnWarning,
    programs: str = PROGRAMS,
    private: str | None = None,
) -> tuple[Draft, BinaryIO | None]:
    """Build the table whose index is `database`, and return the draft and its index, opened.

    The index is None if it could not be built, or is already installed. `rule` counts for what is
    installed here. Postfix's programs are in the directory `programs`; the draft is built below
    `private`, by default in the /tmp of our unit. Raises HostError if the configuration in
    `directory` names no such table, or postmap fails for a reason that is not in the source, and
    OSError if the draft cannot be tried.
    """
    table = _table(directory, database)
    source, folder = way_of(table.path), way_of(os.path.dirname(table.path))
    job = Job(directory, table, source.straight, folder.straight, rule, not folder.is_roots)
    if source.owner is None and source.is_roots and folder.is_roots:
        return built(job, programs, private)
    return _built_by(source.owner, job)


def built(
    job: Job, programs: str = PROGRAMS, private: str | None = None
) -> tuple[Draft, BinaryIO | None]:
    """Return what `draft` does, built by this process."""
    folder = tempfile.mkdtemp(prefix="table-", dir=private)
    try:
        return _Workshop(job, programs, os.path.join(folder, "table")).build()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _built_by(owner: Owner | None, job: Job) -> tuple[Draft, BinaryIO | None]:
    """Have it built as its owner, who gets a file of ours for the index."""
    with ExitStack() as stack:
        index = stack.enter_context(tempfile.TemporaryFile())
        command = [*becoming(owner), *_AS_OWNER, json.dumps(job)]
        program = Program(command, stdin=index.fileno())
        (answer,) = outside([program], _AS_OWNER_SECONDS, _AS_OWNER_LIMITS)
        if answer is None:
            raise HostError(f"{job.table.path}: systemd-run could not start it; run postmap")
        try:
            found = drafted(json.loads(answer.output))
        except (TypeError, ValueError):
            why = complaints.bounded(complaints.reason(answer.complaint))
            raise HostError(f"{job.table.path}: {why}; run postmap") from None
        # Whoever is that user may have had a hand in the answer.
        remarks = tuple(map(_fit, found.remarks[:_MOST_REMARKS]))
        uid, gid = owner or (0, 0)
        found = found._replace(trouble=_fit(found.trouble), remarks=remarks, owner=(uid, gid))
        if found.trouble or job.is_to_put:
            return found, None
        stack.pop_all()
        return found, index


def _fit(words: str) -> str:
    return printable(complaints.bounded(words))


def tried(
    directory: str,
    table: Table,
    text: bytes,
    programs: str = PROGRAMS,
    private: str | None = None,
) -> Draft:
    """Return what would become of a text as the source of a table; nothing is installed.

    The arguments are as in `draft`. Raises HostError if postmap fails for a reason that is not in
    the text, and OSError if it cannot be tried.
    """
    folder = tempfile.mkdtemp(prefix="table-", dir=private)
    try:
        copy = os.path.join(folder, "table")
        with open(copy, "xb") as file:
            file.write(text)
        job = Job(directory, table, copy, folder, OnWarning.KEEP)
        found, index = _Workshop(job, programs, copy).build_from_copy(Stamp(0, 0, 0, 0))
        if index is not None:
            index.close()
        return found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Workshop:
    """One table, and the path `copy` for a copy of its source."""

    def __init__(self, job: Job, programs: str, copy: str) -> None:
        self._command = [os.path.join(programs, job.table.program), "-c", job.directory]
        self._table = job.table
        self._source = job.source
        self._copy = copy

    def build(self) -> tuple[Draft, BinaryIO | None]:
        try:
            seen = _copied(self._source, self._copy)
        except OSError as error:
            why = _LINK if error.errno in (errno.ELOOP, errno.ENOTDIR) else error.strerror
            return Draft(f"{self._table.path}: {why}; fix the file"), None
        return self.build_from_copy(seen)

    def build_from_copy(self, seen: Stamp) -> tuple[Draft, BinaryIO | None]:
        """Build the index of what is in `copy`, which was the source as `seen`.

        Raises HostError if that fails for a reason that is not in the text.
        """
        table, copy = self._table, self._table._replace(path=self._copy)
        (answer,) = run([self._builds(self._copy)])
        if answer.failed:
            self._blame_the_host(answer)
            return Draft(self._trouble(answer), seen=seen), None
        if not_exchanged(table):
            return Draft(f"{table.path}: {not_exchanged(table)}; run {table.program}"), None
        with open(self._copy, "rb") as lines:
            text = table_text.read(lines, table)
        warned = table_text.warnings(_lines(answer), self._copy, text)
        before, after = self._counts([table, copy])
        remarks = table_text.told(table.path, [*warned, *text.never])
        index = open(copy.source.database, "rb")  # noqa: SIM115 - the caller's to close
        return Draft("", len(warned), remarks, before, after, seen), index

    def _builds(self, path: str) -> Program:
        said = self._table._replace(path=path).said
        return Program([*self._command, said], seconds=_SECONDS)

    def _blame_the_host(self, answer: Answer) -> None:
        """Raise HostError if the text is not why there is no index: it is not to be replaced."""
        if answer.mute:
            empty = os.path.join(os.path.dirname(self._copy), "empty")
            with open(empty, "xb"):
                (control,) = run([self._builds(empty)])
            if control.mute:
                raise broken(control.program, control.mute)
        fact = of_the_host(complaints.reason(answer.complaint))
        if fact:
            raise HostError(f"{self._table.path}: {self._table.program} in /tmp: {fact}")

    def _trouble(self, answer: Answer) -> str:
        """Why there is no index, without anything quoted, which may be a secret."""
        why = complaints.reason(answer.complaint).partition('"')[0].rstrip(" :")
        if why.startswith(_UNSUPPORTED):
            kind = self._table.kind
            way = f"install postfix-{kind}" if kind in _PACKAGED else "use one of `postconf -m`"
            return f"{self._table.path}: Postfix has no table type {kind}; {way}"
        why = complaints.bounded(why.replace(self._copy, self._table.path))
        where = "" if self._table.path in why else f"{self._table.path}: "
        return f"{where}{why}; fix it"

    def _counts(self, tables: Sequence[Table]) -> list[int | None]:
        """The number of entries of each, None if it cannot be read."""
        there = [table for table in tables if os.path.exists(table.source.database)]
        answers = run([Program([*self._command, "-s", t.said], seconds=_SECONDS) for t in there])
        found = dict(zip(there, answers, strict=True))
        return [self._count(table, found[table]) if table in found else 0 for table in tables]

    def _count(self, table: Table, answer: Answer) -> int | None:
        added = _ADDED if self._table.is_of_aliases else ()
        if answer.failed:  # Postfix 3.7 does not list a table of type cdb
            entries = _entries_of_cdb(table.source.database) if table.kind == "cdb" else None
            return None if entries is None else entries - len(added)
        lines = answer.output.split("\n")[:-1]
        return sum(not line.startswith(added) for line in lines)


def _entries_of_cdb(path: str) -> int | None:
    """Return what its head says: 256 places and sizes of tables, two slots an entry (cdb(5))."""
    with suppress(OSError, struct.error), open(path, "rb") as file:
        slots = sum(struct.unpack("<512I", file.read(2048))[1::2])
        return int(slots) // 2
    return None


def _lines(answer: Answer) -> list[str]:
    return complaints.Folders("/nowhere", "/nowhere").lines(answer.complaint)


def _table(directory: str, database: str) -> Table:
    main_cf = _read(os.path.join(directory, "main.cf"))
    master_cf = b""
    with suppress(FileNotFoundError):
        master_cf = _read(os.path.join(directory, "master.cf"))
    for table in indexed_in(main_cf, master_cf, directory):
        if table.source.database == database:
            return table
    raise HostError(f"{database}: main.cf and master.cf in {directory} name no such table")


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_MOST_CONFIGURATION)


def _copied(straight: str, copy: str) -> Stamp:
    """Copy a source and return its stamp. Raises OSError, also if it changed meanwhile."""
    with open(opened_source(straight), "rb") as source, open(copy, "xb") as target:
        if os.fstat(source.fileno()).st_uid not in (0, os.geteuid()):
            raise OSError(0, "it belongs to another user than its directory")
        before = _stamp(source)
        shutil.copyfileobj(source, target)
        if _stamp(source) != before:
            raise OSError(0, "it is being written")
    return before


def _stamp(file: BinaryIO) -> Stamp:
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode):
        raise OSError(0, "it is not a regular file")
    return Stamp(found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size)
