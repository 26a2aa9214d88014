"""What master(8) or a service would refuse in a master.cf that postconf(1) accepts. Pure.

Measured on 3.7 and 3.10, which are the same in all of this. postconf and `postfix check` accept
each of these; then master ends as it starts, or the service's program ends with each client.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from pf_agent.maincf import values
from pf_agent.maincf.master_cf import Entry, MasterCf
from pf_agent.maincf.service import Service
from pf_agent.model import Fault, Listener

_PORTS: Final = range(1, 1 << 16)
_NUMBER: Final = re.compile("[0-9]{1,9}")
_INTERFACES: Final = {"all": ("0.0.0.0", "::"), "loopback-only": ("127.0.0.1", "::1")}
_Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"


@dataclass(frozen=True)
class Surroundings:
    """What a master.cf is judged with.

    `settings` are main.cf's, expanded. `has` tells whether a file exists, None if unknown.
    `port_of` returns the number of a named port, None if services(5) has none. `is_own` tells
    whether an address is the host's own. `taken` are the ports that other programs listen on.
    """

    settings: Mapping[str, str]
    has: Callable[[str], bool | None]
    port_of: Callable[[str], int | None]
    is_own: Callable[[str], bool]
    taken: Collection[Listener] = ()


def faults(master_cf: MasterCf, around: Surroundings) -> tuple[Fault, ...]:
    """Return what would be refused, each fault under the name of a part, in order.

    Of services of one name only the last is judged, which master uses.
    """
    last = {e.found.service.full_name: e for e in master_cf.entries if e.found.service}
    found = [fault for name, entry in last.items() for fault in _of(name, entry, around)]
    return (*found, *_doubles([e.found.service for e in last.values() if e.found.service], around))


def ports_of(master_cf: MasterCf, port_of: Callable[[str], int | None]) -> frozenset[int]:
    """Return the ports that master listens on with this master.cf."""
    services = (service for service in master_cf.services if service.type == "inet")
    return frozenset(port for s in services if (port := _port(s, port_of)) is not None)


def _of(name: str, entry: Entry, around: Surroundings) -> Iterator[Fault]:
    service = entry.found.service
    assert service is not None
    for remark in entry.found.remarks:
        yield Fault(name, remark)
    if service.type == "inet":
        yield from _inet(name, service, around)
    elif "/" in service.name:
        public = "public" if service.private == "n" else "private"
        folder = f"{around.settings.get('queue_directory', '')}/{public}/{service.name}"
        if around.has(folder.rpartition("/")[0]) is False:
            yield Fault(name, f"bind: {public}/{service.name}: No such file or directory")
    program = f"{around.settings.get('daemon_directory', '')}/{service.command}"
    if around.has(program) is False:
        yield Fault(f"{name}/command", f"exec {program}: No such file or directory")
    for option, value in service.options().items():
        readers = values.readers(option)
        is_read = service.command in readers or "global" in readers
        if is_read and "$" not in value and (why := values.fault(option, value)):
            yield Fault(f"{name}/{option}", why)


def _inet(name: str, service: Service, around: Surroundings) -> Iterator[Fault]:
    """master_ent.c, and inet_addr_host() and bind(2) behind it."""
    if service.private != "n":
        yield Fault(f"{name}/private", "inet service cannot be private; - means y, too")
    port = _port(service, around.port_of)
    if port is None:
        yield Fault(name, f"{service.port}: there is no such port in services(5)")
    elif port not in _PORTS:
        yield Fault(name, f"{service.port} is not a port; they are 1 to {_PORTS[-1]}")
    if _literal(service.address) and not around.is_own(service.address):
        port_text = f"bind {service.address} port {service.port}"
        yield Fault(name, f"{port_text}: the host has no such address")
    elif any(found.port == port and _collides(service, found, around) for found in around.taken):
        yield Fault(name, f"another program listens on port {port}; `ss -Hltnp` shows which")


def _collides(service: Service, found: Listener, around: Surroundings) -> bool:
    """Whether master cannot bind(2) to an address of the service beside that listener.

    Of master's own sockets, those for IPv6 take no IPv4 (IPV6_V6ONLY, util/inet_listen.c).
    """
    theirs = ipaddress.ip_address(found.address)
    for own in _addresses(service, around):
        if own.version == theirs.version:
            overlaps = own == theirs or own.is_unspecified or theirs.is_unspecified
        else:
            overlaps = own.version == 4 and theirs.is_unspecified and not found.is_v6_only
        if overlaps:
            return True
    return False


def _addresses(service: Service, around: Surroundings) -> Iterator[_Address]:
    """Yield where master listens for the service, as far as no name is to be looked up."""
    if service.address:
        named = [service.address]
    else:
        said = around.settings.get("inet_interfaces", "all").replace(",", " ").split()
        named = [address for each in said for address in _INTERFACES.get(each.lower(), (each,))]
    protocols = around.settings.get("inet_protocols", "all").replace(",", " ").split()
    for address in named:
        found = _literal(address.strip("[]"))
        if found is not None and {"all", f"ipv{found.version}"} & {*protocols}:
            yield found


def _doubles(services: Collection[Service], around: Surroundings) -> Iterator[Fault]:
    """Two names of one port: master takes them for one service, and uses the last."""
    taken: dict[tuple[str, int], Service] = {}
    for service in services:
        port = _port(service, around.port_of) if service.type == "inet" else None
        if port is None:
            continue
        place = (service.address, port)
        if place in taken:
            first = taken[place].full_name
            yield Fault(first, f"{service.full_name} has the same port, {port}, and is used")
        taken[place] = service


def _port(service: Service, port_of: Callable[[str], int | None]) -> int | None:
    return int(service.port) if _NUMBER.fullmatch(service.port) else port_of(service.port)


def _literal(address: str) -> _Address | None:
    try:
        return ipaddress.ip_address(address)
    except ValueError:
        return None
