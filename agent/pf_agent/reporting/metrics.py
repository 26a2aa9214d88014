"""The metrics' two outlets: a file for node_exporter's textfile collector, and HTTP on loopback.

Both publish a text that the acting thread made: it proves that the loop turns. Publishing it is
left to other threads, which a client or a file system may hold up for any time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from socket import socket
from typing import TYPE_CHECKING

from pf_agent.errors import HostError
from pf_agent.model import Record, Status
from pf_agent.reporting.courier import Courier
from pf_agent.reporting.exposition import OPEN_METRICS, PLAIN, text_of
from pf_agent.reporting.tally import Tally

if TYPE_CHECKING:
    from pf_agent.reporting.endpoint import Endpoint

# What only increases is written no more often than this; what changed, at once.
_HEARTBEAT_SECONDS = 15.0


class Metrics:
    """An outlet that counts records and publishes the counts.

    `textfile` and `listen` (as in agent.toml) may be empty. `publish` is to be called at each turn
    of the loop, even if nothing changed: the age of its last call shows a monitoring system that
    the agent is alive.
    """

    def __init__(
        self,
        textfile: str,
        listen: str,
        digests: Callable[[], Mapping[str, str]],
        listening: Callable[[str], socket],
        write: Callable[[str, bytes], None],
        courier: Courier,
    ) -> None:
        """Raises HostError if `listen` cannot be listened at.

        `digests` tells desired states apart, by instance; `listening` makes the socket, `write`
        puts the file in place, in the thread of `courier`.
        """
        self._textfile = textfile
        self._digests = digests
        self._write_file = write
        self._courier = courier
        self._tally = Tally()
        self._is_written = False
        self._written_at = 0.0
        self._stood: object = None
        self._told = ""
        self._version = ""
        self.endpoint = _endpoint(listening(listen)) if listen else None

    def note(self, record: Record) -> None:
        """Count a record."""
        self._tally.note(record)
        self._is_written = False

    def publish(self, status: Status) -> None:
        """Publish the status. Raises HostError for what went wrong at the address."""
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
        """Stop serving, and say in the file that the agent has stopped."""
        if self.endpoint is not None:
            self.endpoint.close()
        if self._textfile:
            self._write(text_of(self._tally.last_words(self._version)).encode())

    def _write(self, text: bytes) -> None:
        self._courier.give(self._textfile, partial(self._put, text))

    def _put(self, text: bytes) -> None:
        """Write the file. Raises HostError, once for as long as a fault lasts."""
        try:
            self._write_file(self._textfile, text)
        except HostError as error:
            if str(error) != self._told:
                self._told = str(error)
                raise
        else:
            self._told = ""


def _endpoint(listener: socket) -> Endpoint:
    # Imported here: a textfile needs no HTTP, and that is 1.4 MiB of memory.
    from pf_agent.reporting.endpoint import Endpoint

    return Endpoint(listener)


def _stands(status: Status) -> object:
    """Return what in a status is worth writing the file as soon as it changes."""
    stands = (status, *status.instances.values())
    return [(stand.phase, stand.suspension, stand.problems, stand.parameters) for stand in stands]
