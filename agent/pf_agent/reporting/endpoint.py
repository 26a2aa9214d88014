"""GET /metrics on a socket that already listens: a thread that no client can hold up.

The standard library parses the request and composes the answer; the connections are handled here,
since a thread of socketserver's waits for its client at each read, and its shutdown for that
thread. Any process on this machine may connect: each connection has a few seconds from first to
last, their number is limited, and the oldest one makes room.
"""

from __future__ import annotations

import io
import ipaddress
import selectors
import socket
import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from pf_agent.errors import HostError, no_thread
from pf_agent.reporting.exposition import OPEN_METRICS, PLAIN

_PATH = "/metrics"
# From the connection to the last byte of the answer. Prometheus itself gives up after 10 s.
_CLIENT_SECONDS = 5.0
_MOST_CLIENTS = 32
_MOST_BYTES = 16 * 1024
_CLOSE_SECONDS = 0.3
_PAUSE_SECONDS = 0.1
# Names that mean loopback everywhere (RFC 6761, 6.3), and those in Debian's /etc/hosts.
_LOCAL = frozenset({"localhost", "ip6-localhost", "ip6-loopback", "localhost.localdomain"})


class Endpoint:
    """The thread and its clients.

    `texts` is the answer, by content type; replaced whole by the acting thread.
    """

    def __init__(self, listener: socket.socket, client_seconds: float = _CLIENT_SECONDS) -> None:
        """A connection lasts so long at most. Raises HostError if no thread can be started."""
        self.texts: Mapping[str, bytes] = {}
        self.port: int = listener.getsockname()[1]
        self._listener = listener
        self._client_seconds = client_seconds
        self._fault: Exception | None = None
        self._is_over = False
        self._bell, self._rope = socket.socketpair()
        self._clients: dict[socket.socket, _Client] = {}
        for each in (listener, self._bell, self._rope):
            each.setblocking(False)
        self._thread = threading.Thread(target=self._serve, name="metrics", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self._hang_up()
            raise HostError(f"[metrics] listen: {no_thread(error)}") from error

    def raise_fault(self) -> None:
        """Raise HostError for what went wrong in the serving thread, once."""
        fault, self._fault = self._fault, None
        if fault is not None:
            raise HostError(
                f"GET {_PATH} could not be answered ({fault!r}); please report this"
            ) from fault

    def close(self) -> None:
        """Close all connections, and stop listening."""
        self._rope.send(b".")  # before the flag: the thread closes the rope once it sees that
        self._is_over = True
        self._thread.join(_CLOSE_SECONDS)

    # --- in the thread of this module -----------------------------------------------------------

    def _serve(self) -> None:
        with selectors.DefaultSelector() as ready:
            ready.register(self._bell, selectors.EVENT_READ)
            ready.register(self._listener, selectors.EVENT_READ)
            while not self._is_over:
                try:
                    self._turn(ready)
                except Exception as error:  # noqa: BLE001 - the acting thread reports it
                    self._fault = error
                    time.sleep(_PAUSE_SECONDS)
        self._hang_up()

    def _turn(self, ready: selectors.BaseSelector) -> None:
        ends = [client.until for client in self._clients.values()]
        patience = max(0.0, min(ends) - time.monotonic()) if ends else None
        for key, _events in ready.select(patience):
            if key.fileobj is self._listener:
                self._accept(ready)
            elif key.fileobj in self._clients:
                self._heed(ready, self._clients[key.fileobj])
        now = time.monotonic()
        for client in tuple(self._clients.values()):
            if client.until <= now:
                self._drop(ready, client)

    def _accept(self, ready: selectors.BaseSelector) -> None:
        if len(self._clients) >= _MOST_CLIENTS:
            self._drop(ready, next(iter(self._clients.values())))
        try:
            link, _address = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # the client has left already
        link.setblocking(False)
        self._clients[link] = _Client(link, time.monotonic() + self._client_seconds)
        ready.register(link, selectors.EVENT_READ)

    def _heed(self, ready: selectors.BaseSelector, client: _Client) -> None:
        """Take a step with a client; drop one that is done, hangs up or does not speak HTTP."""
        is_done = True
        try:
            was_asking = client.is_asking
            is_done = client.step(self.texts)
            if was_asking and not client.is_asking and not is_done:
                ready.modify(client.link, selectors.EVENT_WRITE)
        except OSError:
            return  # the client hung up, which is no fault of ours
        finally:
            if is_done:
                self._drop(ready, client)

    def _drop(self, ready: selectors.BaseSelector, client: _Client) -> None:
        del self._clients[client.link]
        ready.unregister(client.link)
        client.link.close()

    def _hang_up(self) -> None:
        for link in (*self._clients, self._listener, self._bell, self._rope):
            link.close()


class _Client:
    """One connection: its request so far, then the rest of the answer."""

    def __init__(self, link: socket.socket, until: float) -> None:
        self.link = link
        self.until = until
        self.is_asking = True
        self._asked = b""
        self._answer = memoryview(b"")

    def step(self, texts: Mapping[str, bytes]) -> bool:
        """Read or write what is possible without waiting; return whether all is done.

        Raises OSError.
        """
        if self.is_asking:
            try:
                data = self.link.recv(_MOST_BYTES)
            except BlockingIOError:
                return False
            self._asked += data
            if data and not _is_whole(self._asked):
                return False
            self.is_asking = False
            place = self.link.getsockname()[0]
            self._answer = memoryview(_Answer(self._asked, texts, place).said())
        try:
            self._answer = self._answer[self.link.send(self._answer) :]
        except BlockingIOError:
            return False
        return not self._answer


def _is_whole(asked: bytes) -> bool:
    return b"\n\r\n" in asked or b"\n\n" in asked or len(asked) > _MOST_BYTES


class _Answer(BaseHTTPRequestHandler):
    """The standard library's parser for a request that is here already, and our answer to it."""

    server_version = "pf-agent"
    sys_version = ""

    def __init__(self, asked: bytes, texts: Mapping[str, bytes], place: str) -> None:
        # Without the base class's __init__, which would read from a connection.
        self._texts, self._place = texts, place
        self._is_too_long = len(asked) > _MOST_BYTES
        self.rfile = io.BytesIO(asked)
        self._said = io.BytesIO()
        self.wfile = self._said
        self.handle_one_request()

    def said(self) -> bytes:
        return self._said.getvalue()

    def do_GET(self) -> None:
        hosts = self.headers.get_all("Host", [])
        kind = OPEN_METRICS if _wants_open_metrics(self.headers.get("Accept", "")) else PLAIN
        body = self._texts.get(kind)
        if self._is_too_long:
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif len(hosts) > 1 or (not hosts and self.request_version == "HTTP/1.1"):
            self.send_error(HTTPStatus.BAD_REQUEST, "HTTP/1.1 requires one Host header")
        elif not all(is_ours(host, self._place) for host in hosts):
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "ask for localhost")
        elif self.path.partition("?")[0] != _PATH:
            self.send_error(HTTPStatus.NOT_FOUND, f"there is only {_PATH}")
        elif body is None:
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "the agent has just started")
        else:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing: a scrape is not worth a line on standard error."""


def _wants_open_metrics(accept: str) -> bool:
    return OPEN_METRICS.partition(";")[0] in accept


def is_ours(host: str, place: str) -> bool:
    """Whether a Host header names this machine, or the address that was connected to.

    A web page can have its own name resolve to 127.0.0.1 and then read what is served there, from
    the browser that shows the page; the name in the header is still the page's (DNS rebinding).
    """
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    if name in _LOCAL or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address == ipaddress.ip_address(place)
