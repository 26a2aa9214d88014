"""The ports that programs listen on, by the real kernel."""

from __future__ import annotations

import socket

import pytest

from pf_agent.model import Listener
from pf_agent.postfix.listening import listeners


def test_a_port_is_listed_while_a_program_listens_on_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert Listener("127.0.0.1", port, False) in listeners()
        with socket.create_connection(("127.0.0.1", port)):
            assert [found.port for found in listeners()].count(port) == 1
    assert port not in [found.port for found in listeners()]


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
@pytest.mark.parametrize("is_v6_only", [True, False])
def test_a_port_for_ipv6_says_whether_it_takes_ipv4_too(is_v6_only: bool) -> None:
    family, dual = socket.AF_INET6, not is_v6_only
    with socket.create_server(("::", 0), family=family, dualstack_ipv6=dual) as server:
        assert Listener("::", server.getsockname()[1], is_v6_only) in listeners()


def test_a_port_that_is_only_bound_is_not_listened_on() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert bound.getsockname()[1] not in [found.port for found in listeners()]
