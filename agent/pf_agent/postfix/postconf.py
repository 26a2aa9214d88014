"""What postconf says: about an existing main.cf, and about the installed Postfix's parameters."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from pf_agent import names
from pf_agent.errors import HostError
from pf_agent.postfix import complaints, questions
from pf_agent.postfix.programs import Program, run

POSTCONF = "/usr/sbin/postconf"
# Debian's meta_directory, where packages register the table types that they add.
_TYPES_DIRECTORY = os.path.dirname(names.MAIN_CF)


class Postconf:
    """postconf(1), for the main.cf in `directory`."""

    def __init__(self, directory: str, program: str = POSTCONF) -> None:
        self._directory = directory
        self._program = program
        self._defaults: dict[str, str] = {}
        self._defaults_of: tuple[int, int] | None = None
        self._types: frozenset[str] = frozenset()
        self._types_of: tuple[object, ...] = ()

    def defaults(self) -> Mapping[str, str]:
        """Return the installed Postfix's parameters with their defaults, asked once per version.

        Raises HostError.
        """
        now = self.version()
        if not self._defaults or now != self._defaults_of:
            self._defaults = self.parameters(self.ask(["-d"])[0])
            self._defaults_of = now
        return self._defaults

    def version(self) -> tuple[int, int] | None:
        """Return what differs once another postconf is installed."""
        return _version(self._program)

    def table_types(self, folder: str) -> frozenset[str] | None:
        """Return the available table types, asked again once they may have changed.

        postconf reads a main.cf for it: the one in `folder`. None if it does not answer; that is
        not a verdict on the text.
        """
        places = [
            os.path.join(_TYPES_DIRECTORY, name) for name in ("dynamicmaps.cf", "dynamicmaps.cf.d")
        ]
        now = tuple(map(_version, [self._program, *places]))
        if not self._types or now != self._types_of:
            (answer,) = run([Program([self._program, "-c", folder, "-m"])])
            self._types = frozenset() if answer.failed else frozenset(answer.output.split())
            self._types_of = now
        return self._types or None

    def parameters(self, output: str) -> dict[str, str]:
        """Return the settings of all parameters in its output. Raises HostError if it has none."""
        found = questions.settings(output)
        if "mail_version" not in found:
            raise broken(self._program, "it printed no parameters")
        return found

    def ask(self, *asked: Sequence[str]) -> list[str]:
        """Return its output for each set of arguments. Raises HostError."""
        answers = run([Program([self._program, "-c", self._directory, *words]) for words in asked])
        for answer in answers:
            if answer.mute:
                raise broken(self._program, answer.mute)
            if answer.failed:
                why = complaints.unquoted(complaints.bounded(complaints.reason(answer.complaint)))
                raise HostError(f"postconf: {why}")
        return [answer.output for answer in answers]


def broken(program: str, how: str) -> HostError:
    """Return the error for a program that always fails: no text is to blame."""
    return HostError(f"{program}: it fails whatever it reads: {how}; reinstall postfix")


def _version(program: str) -> tuple[int, int] | None:
    try:
        found = os.stat(program)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
