"""What port 25 is to be asked, and from where, given the settings of its service: pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Final

from pf_agent.maincf.lists import words

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Which program reads which; the values are the service's, with its `-o` options.
_PROXY: Final = {
    "smtpd": "smtpd_upstream_proxy_protocol",
    "postscreen": "postscreen_upstream_proxy_protocol",
}
# The settings that determine how smtpd and postscreen greet, and which clients they trust.
NAMES: Final = (
    *("mynetworks", "smtpd_banner", "smtpd_enforce_tls", "smtpd_service_name"),
    *("smtpd_tls_security_level", "smtpd_tls_wrappermode", *_PROXY.values()),
)
_OPTIONAL_TLS: Final = ("none", "may")
_LOOPBACK: Final = ("loopback-only", "localhost")


def address(bound: str, interfaces: str, protocols: str) -> str:
    """Return an address of this host that Postfix listens on: postconf(5) inet_interfaces.

    `bound` is what precedes the port in master.cf, "" for all addresses. A name may be given as an
    address.
    """
    if bound:
        return bound
    loopback = "127.0.0.1" if _speaks(4, protocols) else "::1"
    names = [name.strip("[]") for name in words(interfaces)]
    if not names or {"all", loopback, *_LOOPBACK}.intersection(names):
        return loopback
    fitting = [name for name in names if _fits(name, protocols)]
    return (fitting or names)[0]


def wants_proxy(program: str, settings: Mapping[str, str]) -> bool:
    """Whether the service expects the PROXY protocol before it greets.

    postconf(5), smtpd_upstream_proxy_protocol and postscreen_upstream_proxy_protocol.
    """
    return settings.get(_PROXY.get(program, "")) == "haproxy"


def demands_tls(settings: Mapping[str, str]) -> bool:
    """Whether smtpd accepts mail inside TLS only: postconf(5) smtpd_tls_security_level.

    An unknown level counts as `encrypt` (smtpd/smtpd.c). The older smtpd_enforce_tls is used if no
    level is set.
    """
    level = settings.get("smtpd_tls_security_level", "").lower()
    if level:
        return level not in _OPTIONAL_TLS
    return settings.get("smtpd_enforce_tls", "").lower() == "yes"


def is_wrapped(program: str, settings: Mapping[str, str]) -> bool:
    """Whether TLS begins before the greeting: postconf(5) smtpd_tls_wrappermode."""
    return program == "smtpd" and settings.get("smtpd_tls_wrappermode", "").lower() == "yes"


def stranger(asked: str, interfaces: str, protocols: str, networks: str, own: Iterable[str]) -> str:
    """Return which of the host's `own` addresses to ask from as a stranger, "" for none.

    `asked` is the address that Postfix is asked at otherwise. If that one is outside mynetworks, it
    was asked as a stranger already; if Postfix only listens on loopback, there are no strangers.
    """
    here = _literal(asked)
    if here is not None and not _holds(networks, here):
        return ""
    if here is not None and here.is_loopback and _is_loopback_only(interfaces):
        return ""
    candidates = [a for a in map(_literal, own) if a is not None and _may_ask(a, protocols)]
    # The other IP version comes last; it will do if Postfix listens on all addresses.
    candidates.sort(key=lambda a: here is not None and a.version != here.version)
    if here is not None and list(words(interfaces)) not in ([], ["all"]):
        candidates = [a for a in candidates if a.version == here.version]
    return next((str(a) for a in candidates if not _holds(networks, a)), "")


def _may_ask(candidate: _Address, protocols: str) -> bool:
    is_near = candidate.is_loopback or candidate.is_link_local
    return not is_near and _speaks(candidate.version, protocols)


def _holds(networks: str, wanted: _Address) -> bool:
    """Whether `mynetworks` contains it, as far as its words tell. Files and tables do not.

    The first pattern that matches decides (postconf(5) mynetworks).
    """
    for word in words(networks):
        bare = word.lstrip("!")
        network = _network(bare)
        if network is not None and wanted in network:
            return (len(word) - len(bare)) % 2 == 0
    return False


def _is_loopback_only(interfaces: str) -> bool:
    names = [name.strip("[]") for name in words(interfaces)]
    literals = [_literal(name) for name in names]
    return bool(names) and all(
        name in _LOOPBACK or (literal is not None and literal.is_loopback)
        for name, literal in zip(names, literals, strict=True)
    )


def _fits(name: str, protocols: str) -> bool:
    literal = _literal(name)
    return literal is None or _speaks(literal.version, protocols)


def _speaks(version: int, protocols: str) -> bool:
    """postconf(5) inet_protocols: `all`, `ipv4`, `ipv6`, or a list of these."""
    return bool({"all", f"ipv{version}"}.intersection(words(protocols)))


def _literal(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _network(pattern: str) -> _Network | None:
    try:
        return ipaddress.ip_network(pattern.replace("[", "").replace("]", ""), strict=False)
    except ValueError:
        return None
