"""Whether a file, a server or an address is there: asked of the real machine, on loopback."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_agent.postfix.presence import has_file, is_there


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with closing(socket.create_server(("127.0.0.1", 0))) as found:
        yield found


def port_of(server: socket.socket) -> int:
    port: int = server.getsockname()[1]
    return port


def test_a_file_is_there_when_it_is(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    assert not is_there(str(path))
    path.touch()
    assert is_there(str(path))
    assert is_there(str(tmp_path))


def test_a_dangling_link_is_no_file(tmp_path: Path) -> None:
    link = tmp_path / "key.pem"
    link.symlink_to("/nonexistent/key.pem")
    assert not is_there(str(link))


def test_a_server_is_there_while_it_takes_connections(server: socket.socket) -> None:
    thing = f"inet:127.0.0.1:{port_of(server)}"
    assert is_there(thing)
    server.close()
    assert not is_there(thing)


def test_a_server_on_any_address_of_a_name_is_there(server: socket.socket) -> None:
    """localhost is ::1 first on many hosts, and this one listens on 127.0.0.1 alone."""
    assert is_there(f"inet:localhost:{port_of(server)}")


def test_a_server_on_ipv6() -> None:
    try:
        server = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    with closing(server):
        assert is_there(f"inet:[::1]:{port_of(server)}")


def test_a_socket_is_there_while_somebody_listens(tmp_path: Path) -> None:
    path = str(tmp_path / "milter")
    assert not is_there(f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        assert not is_there(f"unix:{path}")
        server.listen()
        assert is_there(f"unix:{path}")
    assert os.path.exists(path)
    assert not is_there(f"unix:{path}"), "who listened has left its file behind"


def test_an_address_is_there_where_it_is_the_hosts_own_and_free() -> None:
    assert not is_there("192.0.2.9")
    assert not is_there("[2001:db8::9]")
    assert is_there("127.0.0.9")


def test_an_address_whose_port_25_another_has_is_not_there() -> None:
    try:
        server = socket.create_server(("127.0.0.10", 25))
    except OSError:
        pytest.skip("port 25 cannot be had here")
    with closing(server):
        assert not is_there("127.0.0.10")
    with suppress(OSError):
        assert is_there("127.0.0.10")


STRANGE = (
    *("", ":", "inet:", "inet::", "inet:a..b:25", f"inet:{'a' * 70}:25", "inet:localhost:"),
    *("inet:localhost:no-such-service", "inet:localhost:99999999999999", "inet:127.0.0.1:-1"),
    *(f"unix:/{'x' * 200}", "unix:", "unix:/a\0b", "/a\0b", "not an address", "fe80::1%nowhere"),
    *("inet:\udcff:25", "/\udcff", "unix:/\udcff"),
)


@pytest.mark.parametrize("thing", STRANGE)
def test_what_names_nothing_is_not_there(thing: str) -> None:
    assert is_there(thing) is False


@given(st.text(alphabet="unix:/.[]\0\udcff 1"))
def test_whatever_is_asked_for_is_answered(thing: str) -> None:
    assert is_there(thing) in (True, False)


def test_a_file_is_there_or_not_or_that_cannot_be_told(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("")
    assert has_file("/etc/passwd") is True
    assert has_file("/etc/passwd/nothing") is False
    assert has_file("/etc/nothing such") is False
    assert has_file(str(there)) is True
    # Our unit has a /tmp of its own, and sees no other.
    assert has_file("/tmp/nothing such") is None
    assert has_file("/etc/" + "n" * 5000) is None
    assert has_file("/etc/\0") is None
