"""Which services of master.cf are on, and which of them takes in mail. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from pf_agent.maincf.service import Service

_SMTP: Final = ("smtp", "25")


def enabled(services: Iterable[Service], disable: str) -> tuple[Service, ...]:
    """Return those that `master_service_disable` leaves on: `inet`, `smtp/inet`, `!smtp/inet`.

    The first pattern that matches decides, ignoring case (global/match_service.c).
    """
    patterns = disable.replace(",", " ").split()
    return tuple(service for service in services if not _fits(service, patterns))


def on_port_25(services: Iterable[Service]) -> Service | None:
    """Return the service on the SMTP port; if there are several, one not bound to an address."""
    found = [service for service in services if _is_on_port_25(service)]
    return min(found, key=lambda service: bool(service.address), default=None)


def behind(service: Service, services: Iterable[Service], name: str) -> Service:
    """Return the smtpd to which postscreen(8) hands clients, `name` in master.cf; or `service`."""
    handed = [s for s in services if s.type == "pass" and s.name == name]
    return handed[0] if handed and service.command == "postscreen" else service


def smtp_server(services: Iterable[Service]) -> Service | None:
    """Return the smtpd that receives mail from the network: on port 25 or behind postscreen."""
    servers = [s for s in services if s.command == "smtpd" and s.type in ("inet", "pass")]
    return min(servers, key=lambda s: (not _is_on_port_25(s), s.type == "inet"), default=None)


def _is_on_port_25(service: Service) -> bool:
    return service.type == "inet" and service.port in _SMTP


def _fits(service: Service, patterns: Sequence[str]) -> bool:
    for pattern in patterns:
        bare = pattern.lstrip("!")
        whole = service.full_name if "/" in bare else service.type
        if whole.lower() == bare.lower():
            return (len(pattern) - len(bare)) % 2 == 0
    return False
