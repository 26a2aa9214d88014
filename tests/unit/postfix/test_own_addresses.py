"""The host's own addresses; that they are all there is seen on a machine."""

from __future__ import annotations

import ipaddress

from pf_agent.postfix.own_addresses import own_addresses


def test_what_the_kernel_tells_is_addresses_and_none_of_loopback() -> None:
    found = [ipaddress.ip_address(address) for address in own_addresses()]
    assert not [a for a in found if a.is_link_local or a == ipaddress.ip_address("127.0.0.1")]
