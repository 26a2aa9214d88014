"""Judge a candidate: Postfix's own programs read it, and what they say is put together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from pf_agent.maincf import master_cf
from pf_agent.maincf.document import MainCf
from pf_agent.maincf.inventory import Inventory
from pf_agent.maincf.references import absences, references
from pf_agent.maincf.secrets import secrets, without
from pf_agent.model import Judgement, Reference
from pf_agent.postfix import complaints, questions
from pf_agent.postfix.candidates import Candidates
from pf_agent.postfix.postconf import POSTCONF, Postconf, broken
from pf_agent.postfix.presence import has_file
from pf_agent.postfix.programs import MOST_BYTES, Answer, Order, run

POSTMAP = "/usr/sbin/postmap"

# Where a value is made to be expanded to gigabytes, a judgement has no end by itself.
_JUDGE_SECONDS = 10.0
# smtpd has no verdict where a table makes it wait; it is not worth more of the correction's time.
_SMTPD_SECONDS = 2.0
# Of all arguments of a program; execve(2) takes no more than twice that for one.
_MOST_ARGUMENTS = 1 << 16


class Tools(NamedTuple):
    """Two of the programs that judge, how long they may take, and how much each may say."""

    postconf: str = POSTCONF
    postmap: str = POSTMAP
    seconds: float = _JUDGE_SECONDS
    most_bytes: int = MOST_BYTES


TOOLS = Tools()


class Jury:
    """Postfix's own programs, which judge a text together for the main.cf in `directory`."""

    def __init__(
        self, directory: str, candidates: Candidates, postconf: Postconf, tools: Tools
    ) -> None:
        self._directory = directory
        self._candidates = candidates
        self._postconf = postconf
        self._tools = tools

    def judge(self, text: bytes) -> Judgement:
        """Have Postfix's own programs read `text` in a private folder; raises HostError.

        Three at once, 8 ms (docs/judging.md has the figures). `postconf -x` judges grammar,
        `$` and names, any postmap call the global values (mail_params_init() in
        global/mail_params.c), a stand-alone smtpd all that it would die of before it greets. What
        other daemons read, no program judges before they run: values.py does. aliases.py looks for
        the files of the aliases.
        """
        main_cf = MainCf.parse(text)
        with self._candidates.holding(text) as (folder, master):
            said = complaints.Folders(folder, self._directory)
            answers = run(self._questions(main_cf, folder, master))
            types = None if answers[0].failed else self._postconf.table_types(folder)
        if any(answer.mute for answer in answers):
            self._prove_sound(answers)
        syntax, *others = answers
        told = _teller(main_cf)
        if syntax.failed:
            return Judgement(told(complaints.reason(syntax.complaint, said)))
        effective = self._postconf.parameters(said.named(syntax.output))
        inventory = _inventory(effective, types, master)
        absent = absences(references(main_cf.parameters(), inventory))
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
            _fit(absent, told),
        )

    def references(self, text: bytes) -> tuple[Reference, ...]:
        """Return what the values of `text` name, and the options in master.cf; raises HostError.

        Nothing where Postfix's programs cannot read it: `judge` says why.
        """
        main_cf = MainCf.parse(text)
        with self._candidates.holding(text) as (folder, master):
            command = [self._tools.postconf, "-c", folder, "-x"]
            (syntax,) = run([Order(command, seconds=self._tools.seconds)])
            types = None if syntax.failed else self._postconf.table_types(folder)
        if syntax.failed:
            return ()
        said = complaints.Folders(folder, self._directory)
        effective = self._postconf.parameters(said.named(syntax.output))
        found = references(main_cf.parameters(), _inventory(effective, types, master))
        return _fit(found, _teller(main_cf))

    def _questions(self, main_cf: MainCf, folder: str, master: str) -> list[Order]:
        tools = self._tools
        table = ["-q", "x", "static:y"]
        orders = [
            Order([tools.postconf, "-c", folder, "-x"], seconds=tools.seconds),
            Order([tools.postmap, "-c", folder, *table], questions.UNLOGGED, tools.seconds),
        ]
        smtpd = self._smtpd(main_cf, master, folder)
        if smtpd is not None:
            orders.append(smtpd)
        return [order._replace(most_bytes=tools.most_bytes) for order in orders]

    def _prove_sound(self, answers: Sequence[Answer]) -> None:
        """Raise HostError where a program fails in the same way on an empty main.cf.

        One that crashed, or found no library while its package is being replaced, says nothing of
        the text: that must not be refused for it.
        """
        with self._candidates.holding(b"") as (folder, master):
            controls = run(self._questions(MainCf.parse(b""), folder, master))
        for answer, control in zip(answers, controls, strict=False):
            if answer.mute and control.mute:
                raise broken(control.program, control.mute)

    def _smtpd(self, main_cf: MainCf, master: str, folder: str) -> Order | None:
        """How to ask smtpd; None where master.cf runs none, or it cannot be told which it is.

        It is the installed Postfix's own: a text does not say which program root runs.
        """
        explicit = main_cf.parameters()
        disabled = explicit.get("master_service_disable", "")
        service = master_cf.smtp_server(master_cf.enabled(master_cf.parse(master), disabled))
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
        return Order([program, *arguments], environment, _SMTPD_SECONDS, is_optional=True)

    def _warnings(self, main_cf: MainCf, lines: Sequence[str]) -> list[str]:
        places = {
            logical.parameter.name: logical.line
            for logical in main_cf.logical_lines
            if logical.parameter is not None
        }
        known = self._postconf.defaults() if complaints.has_unknown(lines) else ()
        return complaints.warnings(lines, places, known)


def _teller(main_cf: MainCf) -> Callable[[str], str]:
    """How what is said of main.cf may be told: without its secrets, and at no great length."""
    hidden = secrets(main_cf.parameters().items())
    return lambda words: complaints.bounded(without(words, hidden))


def _fit(found: Iterable[Reference], told: Callable[[str], str]) -> tuple[Reference, ...]:
    """What may be told of them: a table may hold a password, `static:anna:secret`."""
    return tuple(replace(each, name=told(each.name), why=told(each.why)) for each in found)


def _inventory(
    effective: Mapping[str, str], types: frozenset[str] | None, master: str
) -> Inventory:
    return Inventory(effective, types, master_cf.parse(master) or None, has_file)


def _is_told(line: str, absent: Sequence[Reference]) -> bool:
    """Whether what a program says is an absence that is told already."""
    return any(
        (a.place.startswith("/") and f"{a.place}:" in line)
        or (
            a.kind == "parameter" and line.endswith(f"undefined parameter: {a.name.strip('${()}')}")
        )
        for a in absent
    )
