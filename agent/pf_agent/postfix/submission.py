"""What each smtpd of master.cf must show at its port, given its settings: pure.

A desired state that names a service is kept when the service is seen to serve as it says: at its
port, with STARTTLS offered or not, and AUTH before TLS, within it, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from pf_agent.maincf.lists import words
from pf_agent.maincf.service import Service
from pf_agent.model import Greeting
from pf_agent.postfix import port_25

# The settings that determine what smtpd offers in its answer to EHLO, beside port_25.NAMES.
NAMES: Final = (
    *("smtpd_sasl_auth_enable", "smtpd_sasl_exceptions_networks", "smtpd_tls_auth_only"),
    *("smtpd_discard_ehlo_keywords", "smtpd_discard_ehlo_keyword_address_maps", "smtpd_use_tls"),
)


def servers(services: Iterable[Service], managed: Collection[str]) -> tuple[Service, ...]:
    """Return the smtpd services on a port among `managed`, names as `submission/inet`.

    Of several of one name the last, which master uses.
    """
    last = {service.full_name: service for service in services}
    return tuple(
        service
        for name, service in last.items()
        if name in managed and service.type == "inet" and service.command == "smtpd"
    )


def greeting(
    service: Service,
    settings: Mapping[str, str],
    main: Mapping[str, str],
    port_of: Callable[[str], int | None],
) -> Greeting | None:
    """Return what the service must show; None if services(5) does not know its port.

    `settings` are the service's, with its options; `main` has main.cf's inet_interfaces and
    inet_protocols, which options do not change.
    """
    port = int(service.port) if service.port.isdecimal() else port_of(service.port)
    if port is None:
        return None
    asked = port_25.address(service.address, main["inet_interfaces"], main["inet_protocols"])
    is_wrapped = port_25.is_wrapped(service.command, settings)
    starttls = None if is_wrapped else _offers_starttls(settings)
    auth = _offers_auth(settings)
    return Greeting(
        asked,
        port,
        " ".join(settings["smtpd_banner"].split()),
        proxy=port_25.wants_proxy(service.command, settings),
        tls=port_25.demands_tls(settings),
        wrapped=is_wrapped,
        starttls=starttls,
        auth=None if is_wrapped or auth is None else auth and not _only_in_tls(settings),
        auth_in_tls=auth if is_wrapped or starttls else None,
    )


def _offers_starttls(settings: Mapping[str, str]) -> bool | None:
    """postconf(5), smtpd_tls_security_level; None if some clients are not told."""
    if _is_discarded("starttls", settings):
        return None
    level = settings.get("smtpd_tls_security_level", "").lower()
    if level:
        return level != "none"
    return settings.get("smtpd_use_tls", "").lower() == "yes" or port_25.demands_tls(settings)


def _offers_auth(settings: Mapping[str, str]) -> bool | None:
    """postconf(5), smtpd_sasl_auth_enable; None if some clients are not told."""
    if settings.get("smtpd_sasl_auth_enable", "").lower() != "yes":
        return False
    exempt = settings.get("smtpd_sasl_exceptions_networks", "")
    return None if exempt or _is_discarded("auth", settings) else True


def _only_in_tls(settings: Mapping[str, str]) -> bool:
    """postconf(5): `smtpd_tls_security_level = encrypt` implies smtpd_tls_auth_only."""
    only = settings.get("smtpd_tls_auth_only", "").lower() == "yes"
    return only or port_25.demands_tls(settings)


def _is_discarded(keyword: str, settings: Mapping[str, str]) -> bool:
    if settings.get("smtpd_discard_ehlo_keyword_address_maps", ""):
        return True
    listed = words(settings.get("smtpd_discard_ehlo_keywords", ""))
    return keyword in (word.lower() for word in listed)
