"""Judges a candidate: Postfix's own programs read it, and their messages are combined."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from pf_agent.maincf.document import MainCf, encoded
from pf_agent.maincf.doubts import doubts
from pf_agent.maincf.inventory import Inventory
from pf_agent.maincf.listeners import enabled, smtp_server
from pf_agent.maincf.master_cf import MasterCf
from pf_agent.maincf.references import absences, references
from pf_agent.maincf.secrets import masked
from pf_agent.maincf.slips import nearest
from pf_agent.model import Judgement, Reference
from pf_agent.postfix import complaints, questions
from pf_agent.postfix.candidates import Candidates
from pf_agent.postfix.postconf import POSTCONF, Postconf, broken
from pf_agent.postfix.presence import has_file
from pf_agent.postfix.programs import MOST_BYTES, Answer, Program, run
from pf_agent.words.outgoing import PROCESS

POSTMAP = "/usr/sbin/postmap"

# A value may be written to expand to gigabytes, so a judgement needs a limit.
_JUDGE_SECONDS = 10.0
# smtpd gives no verdict while a table makes it wait; a correction does not wait longer than this.
SMTPD_SECONDS = 2.0
# For all arguments of a program; execve(2) allows no more than twice that for one of them.
_MOST_ARGUMENTS = 1 << 16


class Tools(NamedTuple):
    """Two of the programs that judge, their time limits, and the most that each may print."""

    postconf: str = POSTCONF
    postmap: str = POSTMAP
    seconds: float = _JUDGE_SECONDS
    most_bytes: int = MOST_BYTES


TOOLS = Tools()


class Remarks(NamedTuple):
    """Names that Postfix does not use, with the nearest real one ("" for none), and doubts."""

    unknown: Mapping[str, str] = {}
    doubts: tuple[str, ...] = ()


class Jury:
    """Postfix's own programs, which together judge a text for the main.cf in `directory`."""

    def __init__(
        self, directory: str, candidates: Candidates, postconf: Postconf, tools: Tools
    ) -> None:
        self._directory = directory
        self._candidates = candidates
        self._postconf = postconf
        self._tools = tools
        # By one assignment: each errand has a thread of its own.
        self._known: tuple[object, Mapping[str, str]] = (None, {})

    def judge(self, text: bytes) -> Judgement:
        """Have Postfix's own programs read `text` in a private directory. Raises HostError.

        Three at once, 8 ms (docs/judging.md has the figures). `postconf -x` checks grammar, `$` and
        names; any postmap call the global values (mail_params_init() in global/mail_params.c); a
        stand-alone smtpd all that would make it exit before it greets. What other daemons read, no
        program checks before they run: values.py does. aliases.py checks the alias files.
        """
        main_cf = MainCf.parse(text)
        with self._candidates.holding(text) as (folder, master):
            said = complaints.Folders(folder, self._directory)
            answers = run(self._questions(main_cf, folder, master))
            types = None if answers[0].failed else self._postconf.table_types(folder)
        if any(answer.mute for answer in answers):
            self._prove_sound(answers)
        syntax, *others = answers
        if syntax.failed:
            return Judgement(told(complaints.reason(syntax.complaint, said)))
        effective = self._postconf.parameters(said.named(syntax.output))
        known = inventory(effective, types, master)
        absent = absences(references(main_cf.parameters(), known))
        faults = questions.faults(main_cf, effective, os.path.exists)
        lines = said.lines(syntax.complaint)
        for answer in others[1:] if not others[0].failed else ():
            heard = said.lines(answer.complaint)
            lines += questions.told_by_smtpd(heard, effective, faults, os.path.exists)
        reasons = [complaints.reason(a.complaint, said) for a in others if a.failed]
        fatal = next((why for why in reasons if not questions.served_nobody(why)), "")
        others_said = [line for line in lines if line != fatal and not _is_told(line, absent)]
        warnings = self._warnings(main_cf, others_said)
        return Judgement(
            told(fatal),
            tuple(map(told, warnings)),
            tuple(replace(fault, reason=told(fault.reason)) for fault in faults),
            fit(absent),
        )

    def references(self, text: bytes) -> tuple[Reference, ...]:
        """Return what the values of `text` name, and the options in master.cf. Raises HostError.

        Nothing if Postfix's programs cannot read it: `judge` says why.
        """
        main_cf = MainCf.parse(text)
        with self._candidates.holding(text) as (folder, master):
            effective = self._effective(text, folder, master)
            types = self._postconf.table_types(folder) if effective else None
        found = references(main_cf.parameters(), inventory(effective, types, master))
        return fit(found) if effective else ()

    def _effective(self, text: bytes, folder: str, master: bytes) -> Mapping[str, str]:
        """Return the settings of all parameters with `text`; none if postconf refuses it.

        It is asked again only for another text: the same one is looked at several times while
        Postfix restarts, each time to see whether what it names is there.
        """
        seen = (text, master, os.uname().nodename, self._postconf.version())
        known_of, effective = self._known
        if known_of != seen:
            command = [self._tools.postconf, "-c", folder, "-x"]
            (syntax,) = run([Program(command, seconds=self._tools.seconds)])
            if syntax.failed:
                return {}
            said = complaints.Folders(folder, self._directory)
            effective = self._postconf.parameters(said.named(syntax.output))
            self._known = (seen, effective)
        return effective

    def remarks(self, text: bytes, asked: Collection[str] = ()) -> Remarks:
        """Return what to say about `text` before a person installs it. Raises HostError.

        Nothing if Postfix's programs cannot read it: `judge` says why. postconf decides which of
        the names in `asked` Postfix would use: also those that come from master.cf's services, that
        a value refers to, or that a table or a restriction class defines.
        """
        main_cf = MainCf.parse(text)
        explicit = main_cf.parameters()
        doubtful = [name for name in asked if name not in self._postconf.defaults()]
        added = "".join(f"\n{name} =" for name in doubtful if name not in explicit)
        with self._candidates.holding(text + encoded(f"{added}\n" if added else "")) as (folder, _):
            command = [self._tools.postconf, "-c", folder, "-x"]
            (syntax,) = run([Program(command, seconds=self._tools.seconds)])
        if syntax.failed:
            return Remarks()
        effective = self._postconf.parameters(syntax.output)
        unknown = {n: nearest(n, effective) for n in doubtful if n not in effective}
        return Remarks(unknown, tuple(map(told, doubts(explicit, effective))))

    def _questions(self, main_cf: MainCf, folder: str, master: bytes) -> list[Program]:
        tools = self._tools
        table = ["-q", "x", "static:y"]
        programs = [
            Program([tools.postconf, "-c", folder, "-x"], seconds=tools.seconds),
            Program([tools.postmap, "-c", folder, *table], questions.UNLOGGED, tools.seconds),
        ]
        smtpd = self._smtpd(main_cf, master, folder)
        if smtpd is not None:
            programs.append(smtpd)
        return [program._replace(most_bytes=tools.most_bytes) for program in programs]

    def _prove_sound(self, answers: Sequence[Answer]) -> None:
        """Raise HostError if a program fails in the same way on an empty main.cf.

        One that crashed, or lacks a library while its package is being replaced, says nothing about
        the text, which must not be refused for it.
        """
        with self._candidates.holding(b"") as (folder, master):
            controls = run(self._questions(MainCf.parse(b""), folder, master))
        for answer, control in zip(answers, controls, strict=False):
            if answer.mute and control.mute:
                raise broken(control.program, control.mute)

    def _smtpd(self, main_cf: MainCf, master: bytes, folder: str) -> Program | None:
        """Return how to run smtpd; None if master.cf runs none, or it is unclear which one it is.

        It is the installed Postfix's own: a text does not choose which program root runs.
        """
        explicit = main_cf.parameters()
        disabled = explicit.get("master_service_disable", "")
        service = smtp_server(enabled(MasterCf.parse(master).services, disabled))
        if service is None:
            return None
        installed = self._postconf.defaults()["daemon_directory"]
        program = os.path.join(installed, "smtpd")
        is_own = explicit.get("daemon_directory", installed) == installed
        if not is_own or not os.access(program, os.X_OK):
            return None
        arguments = questions.smtpd_arguments(service, explicit, self._directory)
        if sum(map(len, arguments)) > _MOST_ARGUMENTS:
            return None
        environment = {"MAIL_CONFIG": folder, **questions.UNLOGGED}
        return Program([program, *arguments], environment, SMTPD_SECONDS, is_optional=True)

    def _warnings(self, main_cf: MainCf, lines: Sequence[str]) -> list[str]:
        places = {
            logical.parameter.name: logical.line
            for logical in main_cf.logical_lines
            if logical.parameter is not None
        }
        known = self._postconf.defaults() if complaints.has_unknown(lines) else ()
        return complaints.warnings(lines, places, known)


def told(words: str) -> str:
    """Return a message, masked before it is cut: half a secret would not be recognised."""
    return complaints.bounded(PROCESS.text(words))


def fit(found: Iterable[Reference]) -> tuple[Reference, ...]:
    """Return the references fit to be shown: a table may hold a password, `static:anna:secret`."""
    return tuple(
        replace(each, name=told(masked(each.parameter, each.name)), why=told(each.why))
        for each in found
    )


def inventory(
    effective: Mapping[str, str], types: frozenset[str] | None, master: bytes
) -> Inventory:
    """Return what exists for values to name, with the services of a master.cf."""
    return Inventory(effective, types, MasterCf.parse(master).services or None, has_file)


def _is_told(line: str, absent: Sequence[Reference]) -> bool:
    """Whether a program's message is about an absence that is already reported."""
    return any(
        (a.place.startswith("/") and f"{a.place}:" in line)
        or (
            a.kind == "parameter" and line.endswith(f"undefined parameter: {a.name.strip('${()}')}")
        )
        for a in absent
    )
