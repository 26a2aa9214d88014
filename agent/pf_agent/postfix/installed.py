"""The installed Postfix: what the main.cf that is there tells it, and its word on another text."""

from __future__ import annotations

from pf_agent.errors import HostError
from pf_agent.maincf import master_cf
from pf_agent.maincf.master_cf import Service
from pf_agent.model import Greeting, Judgement, MailLog, Reference
from pf_agent.postfix import port_25, questions
from pf_agent.postfix.candidates import Candidates
from pf_agent.postfix.judge import TOOLS, Jury, Tools
from pf_agent.postfix.master import lives
from pf_agent.postfix.own_addresses import own_addresses
from pf_agent.postfix.postconf import Postconf

# What master reads itself: the `-o` options of a service do not change it.
_MASTER_NAMES = ("inet_interfaces", "inet_protocols", "master_service_disable")
_SMTP_PORT = 25


class Postfix:
    """The Postfix that obeys the main.cf in `directory`; candidates lie below `run_directory`."""

    def __init__(self, directory: str, run_directory: str, tools: Tools = TOOLS) -> None:
        self._directory = directory
        self._postconf = Postconf(directory, tools.postconf)
        self._candidates = Candidates(directory, run_directory)
        self._jury = Jury(directory, self._candidates, self._postconf, tools)

    def judge(self, text: bytes) -> Judgement:
        """Return what Postfix's own programs say of `text`. Raises HostError."""
        return self._jury.judge(text)

    def references(self, text: bytes) -> tuple[Reference, ...]:
        """Return what the values of `text` name, and whether it is there. Raises HostError."""
        return self._jury.references(text)

    def tidy(self) -> None:
        """Remove the candidates that a crash left; to be called before the first judgement.

        Raises HostError.
        """
        self._candidates.tidy()

    def greeting(self) -> Greeting | None:
        """Return what port 25 must say, where Postfix has an SMTP service there; else None.

        master.cf names it, and `master_service_disable` may switch it off, as it does in a new
        instance of postmulti(1). The `-o` options of the service count. Raises HostError.
        """
        listed, told = self._postconf.ask(["-M"], ["-x", *_MASTER_NAMES])
        found = questions.settings(told)
        running = master_cf.enabled(master_cf.parse(listed), found["master_service_disable"])
        service = master_cf.on_port_25(running)
        if service is None:
            return None
        outer = inner = self._settings_of(service)
        smtpd = master_cf.behind(service, running, outer["smtpd_service_name"])
        if smtpd is not service:
            inner = self._settings_of(smtpd)
        interfaces, protocols = found["inet_interfaces"], found["inet_protocols"]
        asked = port_25.address(service.address, interfaces, protocols)
        return Greeting(
            asked,
            _SMTP_PORT,
            " ".join(inner["smtpd_banner"].split()),
            proxy=port_25.wants_proxy(service.program, outer),
            tls=port_25.demands_tls(inner),
            stranger=port_25.stranger(
                asked,
                service.address or interfaces,
                protocols,
                inner["mynetworks"],
                own_addresses(),
            ),
            wrapped=port_25.is_wrapped(service.program, outer),
        )

    def _settings_of(self, service: Service) -> dict[str, str]:
        """What the service is told, its options over main.cf. Raises HostError."""
        options = [word for setting in service.overrides() for word in ("-o", setting)]
        (told,) = self._postconf.ask(["-x", *options, *port_25.NAMES])
        return questions.settings(told)

    def lives(self) -> bool:
        """Tell whether Postfix's master runs, whoever started it. Raises HostError.

        It is looked for at the queue that main.cf names now.
        """
        (told,) = self._postconf.ask(["-xh", "queue_directory"])
        return lives(told.strip())

    def mail_log(self) -> MailLog:
        """Where it logs, by the main.cf that is there; the default where that cannot be told."""
        try:
            (told,) = self._postconf.ask(["-x", "maillog_file", "syslog_name", "mail_owner"])
        except HostError:
            return MailLog()
        found = questions.settings(told)
        return MailLog(found["maillog_file"], found["syslog_name"], found["mail_owner"])
