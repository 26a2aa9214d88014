"""Judges a candidate for master.cf: Postfix's programs read it, and what they miss is added."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from pf_agent.errors import HostError
from pf_agent.maincf import master_faults
from pf_agent.maincf.document import MainCf
from pf_agent.maincf.listeners import enabled
from pf_agent.maincf.master_cf import MasterCf
from pf_agent.maincf.references import absences, named_services, references
from pf_agent.maincf.service import Service
from pf_agent.model import Fault, Judgement, Listener, Reference
from pf_agent.postfix import complaints, questions
from pf_agent.postfix.candidates import Candidates
from pf_agent.postfix.judge import SMTPD_SECONDS, Tools, fit, inventory, told
from pf_agent.postfix.listening import listeners
from pf_agent.postfix.own_addresses import port_of
from pf_agent.postfix.postconf import Postconf
from pf_agent.postfix.presence import has_file, is_own
from pf_agent.postfix.programs import Answer, Program, run

# Each is a program that runs; more is not asked of one text.
_MOST_SERVERS: Final = 16


class ServiceJury:
    """Postfix's own programs, which together judge a text for the master.cf in `directory`."""

    def __init__(
        self, directory: str, candidates: Candidates, postconf: Postconf, tools: Tools
    ) -> None:
        self._directory = directory
        self._candidates = candidates
        self._postconf = postconf
        self._tools = tools

    def judge(self, text: bytes, served: Sequence[bytes] = ()) -> Judgement:
        """Have Postfix's programs read `text` beside the host's own main.cf. Raises HostError.

        `served` are texts that Postfix may be running with: it listens on their ports itself.

        `postconf -M` checks the fields, and a stand-alone smtpd for each service of it all that
        would make it exit before it greets. What master would refuse is in master_faults.py. A
        fault has the name of a part as its parameter. What defaults name counts as absent if the
        host's own master.cf has it.
        """
        main = self._candidates.main_cf()
        main_cf, master_cf = MainCf.parse(main), MasterCf.parse(text)
        with self._candidates.holding(main, text) as (folder, _):
            said = complaints.Folders(folder, self._directory)
            servers = self._servers(main_cf, master_cf)
            fields, syntax = run([self._postconf_of(folder, flag) for flag in ("-M", "-x")])
            # Each in turn, 5 ms: of several at once the rest is ended when one has failed.
            others = [run([self._smtpd(s, main_cf, folder)])[0] for s in servers]
            types = None if syntax.failed else self._postconf.table_types(folder)
        for answer in (fields, syntax):
            if answer.failed:
                return Judgement(told(complaints.reason(answer.complaint, said)))
        effective = self._postconf.parameters(said.named(syntax.output))
        taken = self._taken(served)
        around = master_faults.Surroundings(effective, has_file, port_of, is_own, taken)
        found = master_faults.faults(master_cf, around)
        found += tuple(_exits(dict(zip(servers, others, strict=True)), found, said))
        here = inventory(effective, types, text)
        absent = absences(references(main_cf.parameters(), here))
        lost = self._lost(effective, types, text)
        return Judgement(
            warnings=tuple(map(told, complaints.warnings(said.lines(fields.complaint), {}, ()))),
            faults=tuple(replace(fault, reason=told(fault.reason)) for fault in found),
            absent=fit(dict.fromkeys((*absent, *lost))),
        )

    def _taken(self, served: Sequence[bytes]) -> list[Listener]:
        """Return the ports that other programs listen on: those that no text of Postfix's has.

        Not which program it is: that takes CAP_SYS_PTRACE.
        """
        known = [MasterCf.parse(text) for text in served]
        with suppress(HostError):
            known.append(self._candidates.master_cf())
        own = frozenset().union(*(master_faults.ports_of(each, port_of) for each in known))
        return [found for found in listeners() if found.port not in own]

    def _lost(
        self, effective: Mapping[str, str], types: frozenset[str] | None, text: bytes
    ) -> list[Reference]:
        """Return the services that parameters name by default, and only the former text has."""
        try:
            former = self._candidates.master_cf().render()
        except HostError:
            return []  # it is destroyed: what it had is no reason against a text that is not
        before = inventory(effective, types, former)
        there = set(absences(named_services(effective, before)))
        now = absences(named_services(effective, inventory(effective, types, text)))
        return [each for each in now if each not in there]

    def _postconf_of(self, folder: str, flag: str) -> Program:
        command = [self._tools.postconf, "-c", folder, flag]
        return Program(command, seconds=self._tools.seconds)

    def _servers(self, main_cf: MainCf, master_cf: MasterCf) -> list[Service]:
        """Return the smtpd services that are on, if the installed program is the one they run."""
        explicit = main_cf.parameters()
        installed = self._postconf.defaults()["daemon_directory"]
        is_own = explicit.get("daemon_directory", installed) == installed
        if not is_own or not os.access(os.path.join(installed, "smtpd"), os.X_OK):
            return []
        last = {service.full_name: service for service in master_cf.services}
        on = enabled(last.values(), explicit.get("master_service_disable", ""))
        return [service for service in on if service.command == "smtpd"][:_MOST_SERVERS]

    def _smtpd(self, service: Service, main_cf: MainCf, folder: str) -> Program:
        program = os.path.join(self._postconf.defaults()["daemon_directory"], "smtpd")
        arguments = questions.smtpd_arguments(service, main_cf.parameters(), self._directory)
        environment = {"MAIL_CONFIG": folder, **questions.UNLOGGED}
        return Program([program, *arguments], environment, SMTPD_SECONDS, is_optional=True)


def _exits(
    answers: Mapping[Service, Answer], known: Collection[Fault], said: complaints.Folders
) -> Iterator[Fault]:
    """Yield why a service's smtpd exits before it greets, if no fault of its parts says so."""
    for service, answer in answers.items():
        why = complaints.reason(answer.complaint, said) if answer.failed else ""
        is_told = any(fault.parameter.startswith(service.full_name) for fault in known)
        if why and not questions.served_nobody(why) and not is_told:
            yield Fault(service.full_name, why)
