"""What is asked after a start: port 25, and the ports of the services that are looked after."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from pf_agent.activation.inquiry import ask_port, inquire
from pf_agent.model import Greeting, Heard

SILENT = Heard("127.0.0.1:587: no greeting for 10 s", greeted=False)
AWAY = Heard("127.0.0.1:25: no connection", greeted=False)
GREETING = Greeting("127.0.0.1", 25, "mail.example.org ESMTP")
MANAGED = ("submission/inet",)


@dataclass
class Answering:
    """A Postfix that answers so at port 25, and at those of its services."""

    at_25: Heard = field(default_factory=Heard)
    at_others: Heard = field(default_factory=Heard)
    is_on_25: bool = True
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def greeting(self) -> Greeting | None:
        return GREETING if self.is_on_25 else None

    def probe(self, greeting: Greeting) -> Heard:
        assert greeting == GREETING
        return self.at_25

    def ask_services(self, managed: Collection[str]) -> Heard:
        self.asked.append(tuple(managed))
        return self.at_others

    def lives(self) -> bool:
        return False

    def log_tail(self, units: Sequence[str], since: float) -> tuple[str, ...]:
        return (f"{units} since {since}",)

    def fatal_lines(self, units: Sequence[str], since: float) -> tuple[str, ...]:
        return (*units, "fatal: x")


def test_without_services_nothing_else_is_asked() -> None:
    postfix = Answering(at_others=SILENT)
    assert ask_port(postfix) == Heard()
    assert postfix.asked == []


def test_services_are_asked_once_port_25_serves() -> None:
    postfix = Answering(at_others=SILENT)
    assert ask_port(postfix, MANAGED) == SILENT
    assert postfix.asked == [MANAGED]


def test_services_are_asked_where_there_is_no_port_25() -> None:
    assert ask_port(Answering(at_others=SILENT, is_on_25=False), MANAGED) == SILENT


def test_what_is_wrong_at_port_25_comes_first() -> None:
    postfix = Answering(AWAY, SILENT)
    assert ask_port(postfix, MANAGED) == AWAY
    assert postfix.asked == []


def test_the_cause_is_looked_for_where_a_service_is_silent() -> None:
    found = inquire(Answering(at_others=SILENT), ["postfix.service"], 7.0, managed=MANAGED)
    assert (found.heard, found.lives) == (SILENT, False)
    assert found.log == ("['postfix.service'] since 7.0",)
    assert found.fatal == ("postfix.service", "fatal: x")


def test_where_all_serve_nothing_is_looked_for() -> None:
    found = inquire(Answering(), ["postfix.service"], 7.0, managed=MANAGED)
    assert (found.heard, found.lives, found.log) == (Heard(), True, ())
