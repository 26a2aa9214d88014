"""The metrics' two ways out: a file for node_exporter's textfile collector, and HTTP on loopback.

Both hand out text that the acting thread made: a turn of its loop is what they prove. The HTTP
server is the standard library's, imported only where agent.toml asks for it, so nothing has to be
installed. It serves one request at a time: whoever is on this machine may at most make another
wait, never make a process of root's grow.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from pf_agent.errors import HostError
from pf_agent.model import Record, Status
from pf_agent.reporting.exposition import OPEN_METRICS, PLAIN, text_of
from pf_agent.reporting.tally import Tally

_PATH = "/metrics"
# What only moves on is written no more often than this; what changed, at once.
_HEARTBEAT_SECONDS = 15.0
# A client that says nothing for so long is hung up on.
_CLIENT_SECONDS = 2.0


class Metrics:
    """A sink that counts records and hands the counts out.

    `textfile` and `listen` (as agent.toml has them) may be empty. `publish` wants to be called at
    each turn of the loop, also where nothing changed: the age of its last call is how a monitoring
    system sees that the agent is alive.
    """

    def __init__(
        self,
        textfile: str,
        listen: str,
        digests: Callable[[], Mapping[str, str]],
        listening: Callable[[str], socket.socket],
        write: Callable[[str, bytes], None],
    ) -> None:
        """`digests` tells desired states apart, by instance; `listening` makes the socket, `write`
        puts the file in place. Raises HostError where `listen` cannot be listened at."""
        self._textfile = textfile
        self._digests = digests
        self._write_file = write
        self._tally = Tally()
        self._is_written = False
        self._written_at = 0.0
        self._stood: object = None
        self._told = ""
        self._version = ""
        self.endpoint = Endpoint(listening(listen)) if listen else None

    def note(self, record: Record) -> None:
        """Count a record in."""
        self._tally.note(record)
        self._is_written = False

    def publish(self, status: Status) -> None:
        """Hand out how things stand. Raises HostError, once for as long as a fault lasts."""
        now = time.time()
        self._version = status.version
        families = self._tally.families(status, self._digests(), now)
        if self.endpoint is not None:
            self.endpoint.texts = {
                PLAIN: text_of(families).encode(),
                OPEN_METRICS: text_of(families, open_metrics=True).encode(),
            }
            self.endpoint.raise_fault()
        ticks, stands = time.monotonic(), _stands(status)
        is_due = ticks >= self._written_at + _HEARTBEAT_SECONDS
        if self._textfile and (is_due or not self._is_written or stands != self._stood):
            self._stood, self._written_at, self._is_written = stands, ticks, True
            self._write(text_of(families).encode())

    def close(self) -> None:
        """Serve no more, and leave word in the file that nobody looks. Raises HostError."""
        if self.endpoint is not None:
            self.endpoint.close()
        if self._textfile:
            self._write(text_of(self._tally.last_words(self._version)).encode())

    def _write(self, text: bytes) -> None:
        try:
            self._write_file(self._textfile, text)
        except HostError as error:
            if str(error) != self._told:
                self._told = str(error)
                raise
        else:
            self._told = ""


def _stands(status: Status) -> object:
    """What of a status is worth a file of its own as soon as it changes."""
    stands = (status, *status.instances.values())
    return [(stand.phase, stand.suspension, stand.problems, stand.parameters) for stand in stands]


class Endpoint:
    """GET /metrics on a socket that listens already, in a thread of its own.

    `texts` is what it answers, by content type; replaced whole by the acting thread.
    """

    def __init__(self, listener: socket.socket) -> None:
        self.texts: Mapping[str, bytes] = {}
        self._fault: BaseException | None = None
        self._server = _server(listener, lambda: self.texts, self._note_fault)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="metrics", daemon=True
        )
        self._thread.start()

    def raise_fault(self) -> None:
        """Raise HostError for what went wrong in the thread that serves, once."""
        fault, self._fault = self._fault, None
        if fault is not None:
            raise HostError(
                f"GET {_PATH} could not be answered ({fault!r}); please report this"
            ) from fault

    def _note_fault(self, fault: BaseException | None) -> None:
        self._fault = fault

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _server(
    listener: socket.socket,
    texts: Callable[[], Mapping[str, bytes]],
    note_fault: Callable[[BaseException | None], None],
) -> Any:
    import socketserver

    # Not http.server's own server: that asks DNS for the host's name before it listens.
    class Server(socketserver.TCPServer):
        def __init__(self) -> None:
            # TCPServer's own makes a socket, which the agent's unit may not.
            socketserver.BaseServer.__init__(self, listener.getsockname(), _handler(texts))
            self.socket = listener

        def handle_error(self, *_: object) -> None:
            # One that hung up is no fault of ours; socketserver would print a traceback.
            fault = sys.exc_info()[1]
            if not isinstance(fault, OSError):
                note_fault(fault)

    return Server()


def _handler(texts: Callable[[], Mapping[str, bytes]]) -> Any:
    from http.server import BaseHTTPRequestHandler

    class Answer(BaseHTTPRequestHandler):
        timeout = _CLIENT_SECONDS
        server_version = "pf-agent"
        sys_version = ""

        def do_GET(self) -> None:
            kind = OPEN_METRICS if _wants_open_metrics(self.headers.get("Accept", "")) else PLAIN
            body = texts().get(kind)
            if self.path.partition("?")[0] != _PATH:
                self.send_error(404, f"there is only {_PATH}")
            elif body is None:
                self.send_error(503, "the agent has just started")
            else:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Who scrapes is not worth a line on standard error."""

    return Answer


def _wants_open_metrics(accept: str) -> bool:
    return OPEN_METRICS.partition(";")[0] in accept
