"""The metrics over HTTP: what is answered, to whom, and that no client holds anybody up."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from pf_agent.errors import HostError
from pf_agent.model import Phase, Status
from pf_agent.reporting.courier import Courier
from pf_agent.reporting.endpoint import Endpoint, is_ours
from pf_agent.reporting.exposition import OPEN_METRICS, PLAIN
from pf_agent.reporting.metrics import Metrics

PATIENCE = 30.0


def listening(place: str) -> socket.socket:
    host, _, port = place.rpartition(":")
    family = socket.AF_INET6 if "[" in host else socket.AF_INET
    return socket.create_server((host.strip("[]"), int(port)), family=family)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    served = Endpoint(listening("127.0.0.1:0"), client_seconds=PATIENCE)
    yield served
    served.close()


def asked(
    port: int, method: str = "GET", path: str = "/metrics", accept: str = "*/*"
) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, headers={"Accept": accept})
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type", ""), answer.read()
    finally:
        connection.close()


def test_a_scrape_gets_the_format_that_it_asks_for(endpoint: Endpoint) -> None:
    endpoint.texts = {PLAIN: b"plain", OPEN_METRICS: b"open"}
    assert asked(endpoint.port) == (200, PLAIN, b"plain")
    # As Prometheus 2.42 asks.
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    assert asked(endpoint.port, accept=accept) == (200, OPEN_METRICS, b"open")


def test_there_is_nothing_else(endpoint: Endpoint) -> None:
    endpoint.texts = {PLAIN: b"plain", OPEN_METRICS: b"open"}
    assert asked(endpoint.port, path="/")[0] == 404
    assert asked(endpoint.port, path="/metrics/../etc/shadow")[0] == 404
    for method in ("HEAD", "POST", "PUT", "DELETE"):
        assert asked(endpoint.port, method)[0] == 501


def test_before_the_first_look_there_is_nothing_to_say(endpoint: Endpoint) -> None:
    assert asked(endpoint.port)[0] == 503


def test_a_client_that_hangs_up_stops_nobody(
    endpoint: Endpoint, capfd: pytest.CaptureFixture[str]
) -> None:
    endpoint.texts = {PLAIN: b"x" * 10_000_000, OPEN_METRICS: b"open"}
    with socket.create_connection(("127.0.0.1", endpoint.port)) as hasty:
        hasty.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    assert len(asked(endpoint.port)[2]) == 10_000_000
    endpoint.raise_fault()
    assert capfd.readouterr() == ("", "")


@contextmanager
def slow_clients(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Clients that have begun a request, and say a byte now and then if they are told to."""
    with ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.settimeout(PATIENCE)
            client.sendall(b"GET /metrics HTTP/1.0\r\nX: ")
            clients.append(client)
        yield clients


def test_a_client_that_never_ends_its_request_makes_nobody_wait(endpoint: Endpoint) -> None:
    endpoint.texts = {PLAIN: b"plain"}
    with slow_clients(endpoint.port, 1) as (slow,):
        assert asked(endpoint.port)[2] == b"plain"
        slow.sendall(b"y")  # it is still there
        slow.sendall(b"\r\n\r\n")
        assert slow.recv(4096).startswith(b"HTTP/1.0 200 ")


def test_a_client_has_one_time_for_all_that_it_says() -> None:
    endpoint = Endpoint(listening("127.0.0.1:0"), client_seconds=2.0)
    with slow_clients(endpoint.port, 1) as (slow,):
        with pytest.raises(ConnectionError):
            drip(slow)
        assert asked(endpoint.port)[0] == 503
    endpoint.close()


def drip(client: socket.socket) -> None:
    """Say a byte now and then, for much longer than anybody listens."""
    never = threading.Event()
    for _ in range(600):
        client.sendall(b"y")
        never.wait(0.1)


def test_a_client_that_reads_nothing_makes_nobody_wait(endpoint: Endpoint) -> None:
    endpoint.texts = {PLAIN: b"x" * 10_000_000}
    with socket.create_connection(("127.0.0.1", endpoint.port)) as deaf:
        deaf.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert len(asked(endpoint.port)[2]) == 10_000_000


def test_who_has_been_there_longest_makes_room(endpoint: Endpoint) -> None:
    endpoint.texts = {PLAIN: b"plain"}
    with slow_clients(endpoint.port, 100) as clients:
        assert asked(endpoint.port)[2] == b"plain"
        assert clients[0].recv(1) == b""
        clients[-1].sendall(b"\r\n\r\n")
        assert clients[-1].recv(4096).startswith(b"HTTP/1.0 200 ")


def test_its_end_waits_for_no_client() -> None:
    endpoint = Endpoint(listening("127.0.0.1:0"), client_seconds=2 * PATIENCE)
    with slow_clients(endpoint.port, 5) as clients:
        endpoint.close()
        endpoint._thread.join(PATIENCE)
        assert not endpoint._thread.is_alive()
        with pytest.raises(ConnectionRefusedError):
            asked(endpoint.port)
        for client in clients:
            with suppress(ConnectionResetError):
                assert client.recv(1) == b""


class _Outrun(Endpoint):
    """One that is busy, whose thread goes first as soon as it may see that it is over."""

    def _turn(self, _ready: object) -> None:
        time.sleep(0.001)

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "_is_over" and value:
            self._thread.join(PATIENCE)


def test_it_ends_while_it_is_busy() -> None:
    endpoint = _Outrun(listening("127.0.0.1:0"))
    endpoint.close()
    assert not endpoint._thread.is_alive()


def test_an_endless_request_is_refused(endpoint: Endpoint) -> None:
    with socket.create_connection(("127.0.0.1", endpoint.port), timeout=PATIENCE) as client:
        client.sendall(b"GET /metrics HTTP/1.0\r\n" + b"X: y\r\n" * 3000)
        assert client.recv(100).startswith(b"HTTP/1.0 431 ")


# --- whose name is asked for ----------------------------------------------------------------------


def spoken(port: int, request: bytes) -> bytes:
    """The first line of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        client.sendall(request)
        return client.recv(4096).partition(b"\r\n")[0]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (b"GET /metrics HTTP/1.0\r\n\r\n", b"503"),
        (b"GET /metrics HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", b"503"),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"421"),
        (b"GET /metrics HTTP/1.0\r\nhOsT: evil.example:9825\r\n\r\n", b"421"),
        (b"GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
    ],
)
def test_a_page_that_calls_itself_localhost_is_not_told(
    endpoint: Endpoint, request_: bytes, code: bytes
) -> None:
    assert spoken(endpoint.port, request_).split()[1] == code


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST:9825", "localhost.", "mx.localhost", "ip6-localhost"),
        *("127.0.0.1", "127.0.0.1:9825", "[::1]", "[::1]:9825", "127.0.0.9", "192.0.2.7"),
    ],
)
def test_names_of_this_machine(host: str) -> None:
    assert is_ours(host, "192.0.2.7")


@pytest.mark.parametrize(
    "host",
    [
        *("", "evil.example", "localhost.evil.example", "evil-localhost", "127.0.0.1.evil.example"),
        *("0.0.0.0", "192.0.2.8", "[::1", "127.1", "2130706433", "localhost@evil.example", ":80"),
    ],
)
def test_names_of_others(host: str) -> None:
    assert not is_ours(host, "192.0.2.7")


def test_what_goes_wrong_while_it_is_served_reaches_the_loop(endpoint: Endpoint) -> None:
    endpoint.texts = {PLAIN: "no bytes"}  # type: ignore[dict-item]
    with pytest.raises((http.client.HTTPException, OSError)):
        asked(endpoint.port)
    assert asked(endpoint.port, path="/")[0] == 404  # the one before is over
    with pytest.raises(HostError, match="could not be answered"):
        endpoint.raise_fault()
    endpoint.raise_fault()


def test_metrics_over_http_alone_and_their_end() -> None:
    courier = Courier("no textfile", pytest.fail)
    metrics = Metrics("", "127.0.0.1:0", dict, listening, lambda *_: None, courier)
    assert metrics.endpoint is not None
    port = metrics.endpoint.port
    metrics.publish(Status(Phase.IN_SYNC, 0.0, version="1.2.3"))
    status, _, body = asked(port)
    assert status == 200
    assert b"pf_agent_up 1\n" in body
    metrics.close()
    with pytest.raises(ConnectionRefusedError):
        asked(port)


def test_ipv6() -> None:
    try:
        served = Endpoint(listening("[::1]:0"))
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    try:
        with socket.create_connection(("::1", served.port), timeout=PATIENCE) as client:
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.0 503 ")
    finally:
        served.close()
