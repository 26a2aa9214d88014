"""Postfix as the daemon has it: what starts a program or opens a connection, another unit does.

pf-agent.service has no network, starts no program and reads no log. errands_unit.py does that for
it, in pf-agent-errands.service, which systemd starts at the first call (systemd.socket(5)). Root
alone can call. There is one connection for each errand, and a JSON object each way.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pf_agent.errors import HostError
from pf_agent.model import Fault, Greeting, Judgement

# Within so many seconds somebody takes the call (Python starts first where the unit does not run),
# and within so many more the errand is done: that is longer than a program or the probe may take.
_PATIENCE = (10.0, 40.0)
# The log is asked for in the same turn as a judgement, and both stay below the unit's WatchdogSec=.
_LOG_PATIENCE = (5.0, 4.0)
_READ_BYTES = 1 << 16
_WAY_OUT = "see `systemctl status pf-agent-errands.socket pf-agent-errands`"
_UNCLEAR = "an answer that makes no sense"
_DATABASE_ENDS = (".db", ".lmdb", ".cdb")

Fingerprint = tuple[int, int, int]
Said = TypeVar("Said")


class Errands:
    """The Postfix that obeys the main.cf in `directory`, asked by the way of a socket."""

    def __init__(self, directory: str, path: str) -> None:
        self._directory = directory
        self._path = path
        self._built_from: dict[str, Fingerprint] = {}

    def judge(self, text: bytes) -> Judgement:
        """Have Postfix's own programs read `text`, as `Postfix.judge` does. Raises HostError."""
        return self._ask(_judgement, errand="judge", text=text.decode("latin-1"))

    def newaliases(self, path: str) -> tuple[str, ...]:
        """Rebuild the alias databases, as `Postfix.newaliases` does. Raises HostError."""
        found = _fingerprint(path)
        doubts = self._ask(_lines, errand="newaliases", path=path)
        if found is not None:
            self._built_from[path] = found
        return doubts

    def aliases_are_stale(self, path: str) -> bool:
        """Tell whether `path` changed since its database was last built.

        By the database's own date at first, then by what the file was at our last `newaliases`:
        `mv` brings a file that is older than the database. A database of the future was made
        before the clock was set back, and proves nothing.
        """
        now = _fingerprint(path)
        if now is None:
            return False
        if path in self._built_from:
            return self._built_from[path] != now
        built = [_fingerprint(path + end) for end in _DATABASE_ENDS]
        dates = [database[0] for database in built if database is not None]
        return not any(now[0] <= date <= time.time_ns() for date in dates)

    def greeting(self) -> Greeting | None:
        """Return what port 25 must say, None where there is no SMTP service. Raises HostError."""
        return self._ask(_greeting, errand="greeting")

    def probe(self, greeting: Greeting) -> str:
        """Say what is wrong with Postfix at its port, "" when nothing is. Raises HostError."""
        members = [greeting.address, greeting.port, greeting.banner]
        return self._ask(str, errand="probe", greeting=members)

    def log_tail(self, units: Sequence[str], since: float) -> tuple[str, ...]:
        """Return the end of Postfix's log, as `postfix_log.log_tail` does. () without an answer."""
        try:
            return self._ask(_lines, _LOG_PATIENCE, errand="log", units=list(units), since=since)
        except HostError:
            return ()

    def _ask(
        self,
        read: Callable[[Any], Said],
        patience: tuple[float, float] = _PATIENCE,
        **errand: object,
    ) -> Said:
        said, _ = _call(self._path, {"directory": self._directory, **errand}, patience)
        try:
            return read(said)
        except (TypeError, ValueError) as error:
            raise HostError(f"{self._path}: {_UNCLEAR} ({error}); {_WAY_OUT}") from error


def listening(place: str, path: str) -> socket.socket:
    """Return a socket that listens at `place`, an address of loopback. Raises HostError."""
    _, found = _call(path, {"errand": "listen", "place": place})
    if found is None:
        raise HostError(f"{path}: {_UNCLEAR} (no socket came); {_WAY_OUT}")
    return found


def _call(
    path: str, errand: Mapping[str, object], patience: tuple[float, float] = _PATIENCE
) -> tuple[Any, socket.socket | None]:
    """Return what the errand came to, and the socket that came with it. Raises HostError."""
    begin_seconds, done_seconds = patience
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(begin_seconds)
            client.connect(path)
            client.sendall(json.dumps(errand).encode())
            client.shutdown(socket.SHUT_WR)
            is_taken = client.recv(1)
            client.settimeout(done_seconds)
            found, data = _heard(client)
        if not is_taken or not data:
            raise ConnectionAbortedError("it broke off")
        reply = json.loads(data)
        if "failure" in reply:
            raise HostError(str(reply["failure"]))
        return reply["done"], found
    except OSError as error:
        why = error.strerror or str(error)
        raise HostError(f"{path}: no answer ({why}); {_WAY_OUT}") from error
    except (LookupError, TypeError, ValueError) as error:
        raise HostError(f"{path}: {_UNCLEAR} ({error}); {_WAY_OUT}") from error


def _heard(client: socket.socket) -> tuple[socket.socket | None, bytes]:
    heard, handles, _, _ = socket.recv_fds(client, _READ_BYTES, 1)
    found = socket.socket(fileno=handles[0]) if handles else None
    parts = [heard]
    while heard:
        heard = client.recv(_READ_BYTES)
        parts.append(heard)
    return found, b"".join(parts)


def _judgement(said: Any) -> Judgement:
    fatal, warnings, faults = said
    found = tuple(Fault(str(parameter), str(reason)) for parameter, reason in faults)
    return Judgement(str(fatal), tuple(map(str, warnings)), found)


def _greeting(said: Any) -> Greeting | None:
    if said is None:
        return None
    address, port, banner = said
    return Greeting(str(address), int(port), str(banner))


def _lines(said: Any) -> tuple[str, ...]:
    return tuple(map(str, said))


def _fingerprint(path: str) -> Fingerprint | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
