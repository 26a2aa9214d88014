"""The installed Postfix: what its main.cf tells it, and its judgement of another text."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pf_agent.errors import HostError
from pf_agent.maincf.listeners import behind, enabled, on_port_25
from pf_agent.maincf.service import Service
from pf_agent.model import Greeting, Heard, Judgement, MailLog, Reference
from pf_agent.postfix import port_25, probe, questions, submission
from pf_agent.postfix.candidates import Candidates
from pf_agent.postfix.judge import TOOLS, Jury, Remarks, Tools
from pf_agent.postfix.judge_services import ServiceJury
from pf_agent.postfix.master import lives
from pf_agent.postfix.own_addresses import own_addresses, port_of
from pf_agent.postfix.postconf import Postconf

# master reads these itself: `-o` options of a service do not change them.
_MASTER_NAMES = ("inet_interfaces", "inet_protocols", "master_service_disable")
_SMTP_PORT = 25


class Postfix:
    """The Postfix that uses the main.cf in `directory`; candidates are below `run_directory`."""

    def __init__(self, directory: str, run_directory: str, tools: Tools = TOOLS) -> None:
        self._directory = directory
        self._postconf = Postconf(directory, tools.postconf)
        self._candidates = Candidates(directory, run_directory)
        self._jury = Jury(directory, self._candidates, self._postconf, tools)
        self._service_jury = ServiceJury(directory, self._candidates, self._postconf, tools)

    def judge(self, text: bytes) -> Judgement:
        """Return the verdict of Postfix's own programs on `text`. Raises HostError."""
        return self._jury.judge(text)

    def judge_services(self, text: bytes, served: Sequence[bytes] = ()) -> Judgement:
        """Return the verdict on `text` as the master.cf beside main.cf. Raises HostError.

        `served` is as in `ServiceJury.judge`.
        """
        return self._service_jury.judge(text, served)

    def references(self, text: bytes) -> tuple[Reference, ...]:
        """Return what the values of `text` name, and whether it exists. Raises HostError."""
        return self._jury.references(text)

    def remarks(self, text: bytes, asked: Collection[str] = ()) -> Remarks:
        """Return names that Postfix does not use, and what may harm mail. Raises HostError."""
        return self._jury.remarks(text, asked)

    def tidy(self) -> None:
        """Remove candidates left by a crash; to be called before the first judgement.

        Raises HostError.
        """
        self._candidates.tidy()

    def greeting(self) -> Greeting | None:
        """Return what port 25 must say if Postfix has an SMTP service there; else None.

        master.cf names the service, and `master_service_disable` may turn it off, as it does in a
        new instance of postmulti(1). The service's `-o` options count. Raises HostError.
        """
        services = self._candidates.master_cf().services
        (told,) = self._postconf.ask(["-x", *_MASTER_NAMES])
        found = questions.settings(told)
        running = enabled(services, found["master_service_disable"])
        service = on_port_25(running)
        if service is None:
            return None
        outer = inner = self._settings_of(service)
        smtpd = behind(service, running, outer["smtpd_service_name"])
        if smtpd is not service:
            inner = self._settings_of(smtpd)
        interfaces, protocols = found["inet_interfaces"], found["inet_protocols"]
        asked = port_25.address(service.address, interfaces, protocols)
        return Greeting(
            asked,
            _SMTP_PORT,
            " ".join(inner["smtpd_banner"].split()),
            proxy=port_25.wants_proxy(service.command, outer),
            tls=port_25.demands_tls(inner),
            stranger=port_25.stranger(
                asked,
                service.address or interfaces,
                protocols,
                inner["mynetworks"],
                own_addresses(),
            ),
            wrapped=port_25.is_wrapped(service.command, outer),
        )

    def ask_services(self, managed: Collection[str]) -> Heard:
        """Return what the first of these services answers that does not serve as it should.

        If all do, no trouble. Raises HostError.
        """
        for greeting in self.service_greetings(managed):
            heard = probe.probe(greeting)
            if heard.trouble:
                return heard
        return Heard()

    def service_greetings(self, managed: Collection[str]) -> tuple[Greeting, ...]:
        """Return what each smtpd of master.cf that is among `managed` must show at its port.

        Names are those of postconf(1), `submission/inet`. Not what `master_service_disable` turns
        off. Raises HostError.
        """
        (told,) = self._postconf.ask(["-x", *_MASTER_NAMES])
        main = questions.settings(told)
        services = enabled(self._candidates.master_cf().services, main["master_service_disable"])
        found = (
            submission.greeting(service, self._settings_of(service), main, port_of)
            for service in submission.servers(services, managed)
        )
        return tuple(greeting for greeting in found if greeting is not None)

    def _settings_of(self, service: Service) -> dict[str, str]:
        """Return the service's settings, its options over main.cf. Raises HostError."""
        options = [w for n, v in service.options().items() for w in ("-o", f"{n}={v}")]
        (told,) = self._postconf.ask(["-x", *options, *port_25.NAMES, *submission.NAMES])
        return questions.settings(told)

    def lives(self) -> bool:
        """Tell whether Postfix's master runs, whichever process started it. Raises HostError.

        It is looked for in the queue directory that main.cf names now.
        """
        (told,) = self._postconf.ask(["-xh", "queue_directory"])
        return lives(told.strip())

    def mail_log(self) -> MailLog:
        """Return where it logs according to its main.cf; the default if that cannot be told.

        Also notes the secrets in Postfix's files, since the log that is about to be read may quote
        them.
        """
        self._candidates.note_secrets()
        try:
            (told,) = self._postconf.ask(["-x", "maillog_file", "syslog_name", "mail_owner"])
        except HostError:
            return MailLog()
        found = questions.settings(told)
        return MailLog(found["maillog_file"], found["syslog_name"], found["mail_owner"])
