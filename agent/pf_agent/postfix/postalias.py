"""Builds Postfix's alias databases, one by one, and outside the sandbox if that forbids it.

newaliases(1) is `postalias` with all words of alias_database (main() in sendmail.c), and the first
that fails ends it. Here each word gets a postalias of its own, run in parallel.

If the kernel refuses, the cause may be this unit's sandbox: a database below /usr or /home is
read-only only to this unit, and the unit cannot become the owner of a source. Then the same command
is run again outside of it (outside.py).

postalias writes as the owner of the source (postalias(1)). That alone is not enough (ways.py): so
it runs as that owner from the start.

Without a choice only those are built that are root's: a restart waits for them, and must not wait
for a file of somebody else, who may hold it up for as long as it likes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from pf_agent import names
from pf_agent.errors import HostError
from pf_agent.maincf.aliases import Built, Source, source_of, tables
from pf_agent.postfix import complaints, questions
from pf_agent.postfix.outside import becoming, outside
from pf_agent.postfix.postconf import POSTCONF
from pf_agent.postfix.programs import Answer, Program, run
from pf_agent.postfix.ways import is_anothers, way_of

POSTALIAS: Final = "/usr/sbin/postalias"
_NAMES: Final = ("alias_database", "default_database_type")
_DEBIAN_ALIASES: Final = "# See man 5 aliases for format\npostmaster:    root\n"
# The kernel's errors for what a sandbox may deny: a file that is read-only, another user's or
# missing (PrivateTmp=), and becoming another user (Postfix's set_eugid.c).
_REFUSED: Final = tuple(map(os.strerror, (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT)))


class AliasBuilder:
    """Builds the alias databases of the Postfix that uses the main.cf in `directory`."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def newaliases(self, databases: Sequence[str] = ()) -> tuple[Built, ...]:
        """Rebuild these databases; if none is given, those of alias_database that are root's.

        Return the result for each. Raises HostError if Postfix cannot say which there are.

        If Debian's alias file is missing, it is created as the package's postinst does: without its
        database local(8) defers all mail, and Debian 13 has none with "No configuration".
        """
        sources = {
            word: source
            for word, source in self._sources().items()
            if (source.database in databases if databases else not is_anothers(source.path))
        }
        if any(source.path == names.DEFAULT_ALIASES for source in sources.values()):
            _make_aliases(names.DEFAULT_ALIASES)
        programs = {
            word: Program(
                [*becoming(way_of(source.path).owner), POSTALIAS, "-c", self._directory, word]
            )
            for word, source in sources.items()
        }
        said = dict(zip(programs, run(list(programs.values())), strict=True))
        refused = [word for word, answer in said.items() if _is_refused(answer)]
        # If systemd-run itself failed, only what postalias said before can be reported.
        again = zip(refused, outside([programs[word] for word in refused]), strict=True)
        said |= {word: answer for word, answer in again if answer is not None}
        return tuple(_built(sources[word], word, answer) for word, answer in said.items())

    def _sources(self) -> dict[str, Source]:
        """Return the words of alias_database as Postfix itself reads them, and what each names."""
        (answer,) = run([Program([POSTCONF, "-c", self._directory, "-x", *_NAMES])])
        if answer.failed:
            why = complaints.unquoted(complaints.bounded(complaints.reason(answer.complaint)))
            raise HostError(f"newaliases: {why}; fix it and run newaliases")
        found = questions.settings(answer.output)
        kind = found.get("default_database_type", "")
        # For a type that has no database, postalias gives its own error message.
        return {
            word: source_of(word, kind) or Source(word, word)
            for word in tables(found.get("alias_database", ""))
        }


def _is_refused(answer: Answer) -> bool:
    return answer.failed and complaints.reason(answer.complaint).endswith(_REFUSED)


def _built(source: Source, word: str, answer: Answer) -> Built:
    if not answer.failed:
        return Built(source, "", complaints.doubts(answer.complaint))
    why = complaints.unquoted(complaints.bounded(complaints.reason(answer.complaint)))
    which = "" if source.path in why else f"{word}: "
    return Built(source, f"newaliases: {which}{why}; fix it and run newaliases")


def _make_aliases(path: str) -> None:
    # If this fails, postalias reports that the file does not exist.
    with suppress(OSError), open(path, "x", encoding="ascii") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(_DEBIAN_ALIASES)
