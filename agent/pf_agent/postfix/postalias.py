"""Build Postfix's alias databases, each by itself, and outside the sandbox where that forbids it.

newaliases(1) is `postalias` with all words of alias_database (main() of sendmail.c), and the first
that fails ends it. Here each word gets a postalias of its own, side by side.

Where the kernel refuses a file, it may be this unit's sandbox that refuses: a database below /usr
or /home is read-only to it alone. Then systemd runs the same command once more, as a transient unit
without that sandbox (systemd-run(1)): as root, in systemd's clean environment, with a time limit,
and of root's rights with those over files and to become the owner of the source. Its exit code and
its complaint come back through systemd-run. A packaged template unit would do as well, but what to
build would have to go in by its instance's name, and the complaint to come back by a file.

That is safe, since nothing in the command comes from who asks: the programs are fixed, the folder
is that of one of Postfix's own instances (errands_unit.py), and the words are those that Postfix's
own postconf reads in alias_database there. Who asks can only choose among them. To write main.cf
takes root, who may run newaliases anyhow; and postalias writes as the owner of the source
(postalias(1)), so that somebody else's source is no way to write root's files.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from pf_agent import names
from pf_agent.errors import HostError
from pf_agent.maincf.aliases import Built, Source, source_of, tables
from pf_agent.postfix import complaints, questions
from pf_agent.postfix.postconf import POSTCONF
from pf_agent.postfix.programs import Answer, Order, run

POSTALIAS: Final = "/usr/sbin/postalias"
_SYSTEMD_RUN: Final = "/usr/bin/systemd-run"
_SECONDS: Final = 30
_NAMES: Final = ("alias_database", "default_database_type")
_DEBIAN_ALIASES: Final = "# See man 5 aliases for format\npostmaster:    root\n"
# What the kernel says of a file that a sandbox may keep from us: read-only, of another owner, not
# there (PrivateTmp=).
_REFUSED: Final = tuple(map(os.strerror, (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT)))
_TRANSIENT: Final = (
    *(_SYSTEMD_RUN, "--quiet", "--wait", "--pipe", "--collect", "--no-ask-password"),
    *("--description=Make an alias database for pf-agent", "--service-type=exec"),
    *("--setenv=LC_ALL=C", f"--property=RuntimeMaxSec={_SECONDS}", "--property=MemoryMax=1G"),
    "--property=NoNewPrivileges=yes",
    "--property=CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_SETGID CAP_SETUID",
    "--",
)


class AliasBuilder:
    """What makes the alias databases of the Postfix that obeys the main.cf in `directory`."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def newaliases(self, databases: Sequence[str] = ()) -> tuple[Built, ...]:
        """Rebuild these databases, or all that alias_database names where none is given.

        Return what became of each. Raises HostError where Postfix cannot say which there are.

        Where Debian's alias file is missing, it is made as the package's postinst makes it: without
        its database local(8) defers all mail, and Debian 13 under "No configuration" has none.
        """
        sources = self._sources()
        if databases:
            sources = {word: s for word, s in sources.items() if s.database in databases}
        if any(source.path == names.DEFAULT_ALIASES for source in sources.values()):
            _make_aliases(names.DEFAULT_ALIASES)
        orders = {word: Order([POSTALIAS, "-c", self._directory, word]) for word in sources}
        said = dict(zip(orders, run(list(orders.values())), strict=True))
        refused = [word for word, answer in said.items() if _is_refused(answer)]
        said |= _outside({word: orders[word] for word in refused})
        return tuple(_built(sources[word], word, answer) for word, answer in said.items())

    def _sources(self) -> dict[str, Source]:
        """The words of alias_database, as Postfix itself reads them, and what each names."""
        (answer,) = run([Order([POSTCONF, "-c", self._directory, "-x", *_NAMES])])
        if answer.failed:
            why = complaints.unquoted(complaints.bounded(complaints.reason(answer.complaint)))
            raise HostError(f"newaliases: {why}; mend it and run newaliases")
        found = questions.settings(answer.output)
        kind = found.get("default_database_type", "")
        # Of what no database is made, postalias says so in its own words.
        return {
            word: source_of(word, kind) or Source(word, word)
            for word in tables(found.get("alias_database", ""))
        }


def _outside(orders: Mapping[str, Order]) -> dict[str, Answer]:
    """What the same programs come to outside the sandbox; without those that could not be run."""
    transient = [
        Order([*_TRANSIENT, *order.command], seconds=_SECONDS + 2.0) for order in orders.values()
    ]
    try:
        answers = run(transient)
    except HostError:
        return {}  # there is no systemd-run
    # Where systemd-run itself failed, what postalias said before is all that there is to tell.
    return {
        word: answer
        for word, answer in zip(orders, answers, strict=True)
        if not answer.failed or complaints.FATAL.search(answer.complaint.encode())
    }


def _is_refused(answer: Answer) -> bool:
    return answer.failed and complaints.reason(answer.complaint).endswith(_REFUSED)


def _built(source: Source, word: str, answer: Answer) -> Built:
    if not answer.failed:
        return Built(source, "", complaints.doubts(answer.complaint))
    why = complaints.unquoted(complaints.bounded(complaints.reason(answer.complaint)))
    which = "" if source.path in why else f"{word}: "
    return Built(source, f"newaliases: {which}{why}; mend it and run newaliases")


def _make_aliases(path: str) -> None:
    # Where that fails, postalias tells that it is not there.
    with suppress(OSError), open(path, "x", encoding="ascii") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(_DEBIAN_ALIASES)
